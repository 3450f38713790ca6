"""A model that gets other instances while it serves, and notes what happens to each of them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from patience import wait_until
from repositories import control, index, write
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.errors import InferenceError

# Tells who it is, which call it is, and how many instances its configuration has. Given a folder,
# it enters that, and waits for so many to be there. A file with its name keeps it from loading.
CODE = """
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_instance_name"]
        self.place = args["model_repository"] + " "
        self.told = f"{args['model_version']} {self.name} {args['model_instance_kind']}"
        groups = json.loads(args["model_config"])["instance_group"]
        self.count = sum(group["count"] for group in groups)
        self.calls = 0
        if os.path.exists(self.place + self.name):
            raise ValueError("no " + self.name)
        self.note("begins")

    def note(self, what):
        with open(self.place + "events", "a") as file:
            file.write(self.told + " " + what + "\\n")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        folder, count = given.reshape(-1)
        self.calls += 1
        told = json.dumps([self.name, self.calls, self.count])
        if folder:
            name = f"{self.name} {time.monotonic_ns()}"
            open(os.path.join(folder.decode(), name), "w").close()
            until = time.monotonic() + 20
            while len(os.listdir(folder)) < int(count) and time.monotonic() < until:
                time.sleep(0.005)
        array = np.full(given.shape, told.encode(), object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])

    def finalize(self):
        self.note(f"ends after {self.calls}")
"""
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_STRING dims: [ 2 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ 2 ] }
"""


class World:
    """A model of an engine, and what has happened to it."""

    def __init__(self, engine: Engine, folder: Path, name: str, config: str = "") -> None:
        self.engine = engine
        self.folder = folder
        self.name = name
        self._config = config
        self._seen = 0

    def beside(self, name: str) -> Path:
        return self.folder / f"{self.name} {name}"

    def update(self, groups: str, versions: str = "1", config: str | None = None) -> Any:
        """What is said of loading it with these instances."""
        config = self._config if config is None else config
        codes = {f"v{version}": CODE for version in versions}
        path = self.folder / self.name
        if path.exists():
            (path / "config.pbtxt").write_text(CONFIG + config + groups)
        else:
            write(self.folder, self.name, CONFIG + config + groups, **codes)
        return self.load()

    def load(self) -> Any:
        if not isinstance(self.engine, NativeEngine):
            return control(self.engine, "load", self.name)
        # By gRPC: while a load waits, the thread that it has of the HTTP endpoint answers nobody.
        with InferenceServerClient(self.engine.grpc_url) as client:
            try:
                client.load_model(self.name)
            except InferenceServerException as error:
                return 400, error.message()
        return ""

    def unload(self) -> None:
        control(self.engine, "unload", self.name)

    def happened(self, count: int | None = None) -> list[str]:
        """What instances have noted since the last time; waits for so many notes, if told."""

        def notes() -> list[str]:
            path = self.beside("events")
            return path.read_text().splitlines()[self._seen :] if path.exists() else []

        if count is not None:
            wait_until(lambda: len(notes()) >= count)
        found = notes()
        self._seen += len(found)
        return sorted(found)

    def ask(self, folder: Path | None = None, count: int = 0, **request: Any) -> Any:
        given = np.array([str(folder or ""), str(count)], object)
        if "max_batch_size" in self._config:
            given = given[None]
        try:
            answer = self.engine.infer(self.name, IN=given, **request)
        except InferenceError as error:
            return error.message
        return json.loads(answer["OUT"].reshape(-1)[0])

    def everyone(self, count: int) -> list[Any]:
        """What so many instances tell, each of which is asked once."""
        with Meeting(self, count, count) as meeting:
            pass
        return meeting.told

    def groups(self, version: str = "") -> list[Any]:
        groups = self.engine.config(self.name, version)["instance_group"]
        return [(group["name"], group["count"], group["kind"]) for group in groups]

    def state(self) -> list[dict[str, str]]:
        return [row for row in index(self.engine) if row["name"] == self.name]


class Meeting:
    """Requests that are executed until so many are, or until the end."""

    def __init__(self, world: World, requests: int, count: int = 50) -> None:
        self.world, self.count = world, count
        number = len(list(world.folder.glob(f"{world.name} meeting*")))
        self.folder = world.beside(f"meeting{number}")
        self.folder.mkdir()
        self.told: list[Any] = []
        self._pool = ThreadPoolExecutor(requests + 4)
        self._sent = [self.send() for _ in range(requests)]

    def send(self) -> Any:
        return self._pool.submit(self.world.ask, self.folder, self.count)

    def entered(self, count: int) -> list[str]:
        """Who executes them, as soon as so many do."""
        wait_until(lambda: len(list(self.folder.iterdir())) >= count)
        return sorted(path.name.split()[0] for path in self.folder.iterdir())

    def end(self) -> None:
        for number in range(self.count):
            (self.folder / f"x{number}").touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.count == 50:
            self.end()
        self.told = sorted(each.result() for each in self._sent)
        self._pool.shutdown()
