"""Repositories that change while both engines serve them: a folder each, and what is told."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from broken_models import CONFIG
from instances import write_files

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError, ServerError

IN = np.ones(1, np.float32)
ALL = CONFIG + "version_policy { all { } }"
# Adds a number to IN.
ADD = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]
    def answer(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + NUMBER)])
"""
BROKEN = "raise ValueError('broken')\n"
_TENSORS = CONFIG.replace('backend: "python"', "")
# What comes and goes, and why not; only of some models.
_LINES = re.compile(
    r"loading: |successfully loaded |failed to load |failed to poll |ensemble |"
    r"circular dependency |in ensemble |Request for unknown model"
)


def add(number: int = 1) -> str:
    """The text of a ``model.py`` that adds a number."""
    return ADD.replace("NUMBER", str(number))


def write(folder: Path, name: str, config: str = CONFIG, **versions: str) -> None:
    """Write a model; its versions by names such as ``v1``, one that adds 1 if none is given."""
    code = versions or {"v1": add()}
    files = {f"{version[1:]}/model.py": text for version, text in code.items()}
    write_files(folder / name, {"config.pbtxt": config, **files})


def write_ensemble(
    folder: Path, name: str, *steps: str, config: str = "", inside: str = ""
) -> None:
    """Write an ensemble of models in a row, each by name, or by ``name:version``."""
    tensors = ["IN", *(f"T{number}" for number in range(1, len(steps))), "OUT"]
    text = ""
    for number, step in enumerate(steps):
        model, _, version = step.partition(":")
        text += (
            f'step {{ model_name: "{model}" model_version: {version or -1} '
            f'input_map {{ key: "IN" value: "{tensors[number]}" }} '
            f'output_map {{ key: "OUT" value: "{tensors[number + 1]}" }} }} '
        )
    text = f'platform: "ensemble" {_TENSORS} {config} ensemble_scheduling {{ {text} {inside} }}'
    write_files(folder / name, {"config.pbtxt": text})
    (folder / name / "1").mkdir(exist_ok=True)


def post(engine: Engine, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a POST request."""
    connection = http.client.HTTPConnection(engine.http_url or "", timeout=60)
    try:
        connection.request("POST", path, json.dumps(body or {}))
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def index(engine: Engine, *, ready: bool = False) -> list[dict[str, str]]:
    """The index of the repository. What the real server still unloads counts as unloaded."""
    _, rows = post(engine, "/v2/repository/index", {"ready": True} if ready else None)
    for row in rows:
        if row.get("state") == "UNLOADING":
            row |= {"state": "UNAVAILABLE", "reason": "unloaded"}
    return list(rows)


def control(engine: Engine, action: str, name: str, **parameters: Any) -> str | tuple[int, str]:
    """Load or unload a model; what the server says against it, "" if nothing."""
    if isinstance(engine, StubEngine):
        try:
            if action == "load":
                engine.server.load(name, parameters or None)
            else:
                engine.server.unload(name, **parameters, wait_until_unloaded=True)
        except ServerError as error:
            return error.code.http_status, getattr(error, "told", error.message)
        return ""
    status, told = post(
        engine, f"/v2/repository/models/{name}/{action}", {"parameters": parameters}
    )
    return "" if status == 200 else (status, told["error"])


def seen(engine: Engine, names: Sequence[str]) -> dict[str, Any]:
    """What the index says of models, and what each of their versions answers."""
    told: dict[str, Any] = {name: [] for name in names}
    for row in index(engine):
        name = row.get("name", "")
        if name not in told:
            continue
        version = row.get("version", "")
        state, reason = row.get("state"), row.get("reason", "")
        answer: Any = None
        if state == "READY" and version.isdecimal():
            try:
                answer = engine.infer(name, IN=IN, model_version=version)["OUT"].tolist()
            except InferenceError as error:  # it may have gone meanwhile
                answer = error.message
        told[name].append((version, state, reason.partition("\n")[0], answer))
    return told


class Two(NamedTuple):
    """Both engines, and the folder of each."""

    stub: Engine
    native: Engine
    stub_folder: Path
    native_folder: Path

    def same(self, body: Callable[[Engine, Path], Any]) -> Any:
        """Run ``body`` on both, and compare what comes out."""
        stub = body(self.stub, self.stub_folder)
        native = body(self.native, self.native_folder)
        told = _without(stub, self.stub_folder), _without(native, self.native_folder)
        assert told[0] == told[1], f"stub: {told[0]}\nnative: {told[1]}"
        return stub


@contextmanager
def two_engines(
    folder: Path,
    fill: Callable[[Path], object],
    *,
    options: Sequence[str] = (),
    explicit: bool = True,
    strict: bool = True,
    more: bool = False,
    **stub_options: Any,
) -> Iterator[Two]:
    """Both engines with a folder of its own each; ``explicit`` if no model is loaded at first.

    ``strict``: models do not complete their configuration, which is faster. With ``more`` each has
    a second repository beside its folder, which is called like that and ``_more``.
    """
    stub_folder, native_folder = folder / "stub", folder / "native"
    for each in (stub_folder, native_folder):
        each.mkdir()
        fill(each)
    models = [] if explicit else None
    native_options = ["--exit-on-error=false", "--exit-timeout-secs=3", *options]
    if strict:
        native_options.append("--disable-auto-complete-config")
    stub_folders, native_folders = (
        [each, each.parent / f"{each.name}_more"] if more else [each]
        for each in (stub_folder, native_folder)
    )
    with (
        NativeEngine(native_folders, models=models, options=native_options) as native,
        StubEngine(
            stub_folders,
            models=models,
            exit_on_error=False,
            strict_model_config=strict,
            **stub_options,
        ) as stub,
    ):
        yield Two(stub, native, stub_folder, native_folder)


def lines(engine: Engine, names: Sequence[str], before: str) -> list[str]:
    """What the log has said of models since it was ``before``, in alphabetical order."""
    found = []
    for line in engine.log()[len(before) :].splitlines():
        text = line.partition("] ")[2].strip('"')
        if _LINES.search(text) and any(f"'{name}'" in text or f" {name}" in text for name in names):
            found.append(text.partition("\\n")[0])
    return sorted(found)


def _without(value: Any, folder: Path) -> Any:
    return json.loads(json.dumps(value).replace(str(folder), "…"))
