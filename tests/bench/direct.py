"""Batches that ``serving.py`` saw, given to the model without a server: the bound of serving.

``Direct`` runs as many processes as the model has instances, with the Python and the packages of
the real server's environment. Each makes the instance as the server does, and then calls its
``classify`` with batches of the sizes that were served. The lower half of this file is what such a
process runs: it has neither this project's packages nor its own.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

MOST = 500  # batches of a round, which then starts anew
HEAD_START = 0.2  # seconds until all processes begin


class Direct:
    """The instances of a model, each in a process, without a server.

    Args:
        python: the interpreter of the environment that has what the model imports.
        variables: environment variables of the processes.
        version: the folder that ``model.py`` is in.
        config: the model's configuration as the server tells it.
    """

    def __init__(
        self, python: Path, variables: Mapping[str, str], version: Path, config: dict[str, Any]
    ) -> None:
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        groups = config["instance_group"]
        kinds = [group["kind"] for group in groups for _ in range(group["count"])]
        try:
            for number, kind in enumerate(kinds):
                start = {
                    "folder": str(version),
                    "args": {
                        "model_config": json.dumps(config),
                        "model_instance_kind": kind.removeprefix("KIND_"),
                        "model_instance_device_id": "0",
                        "model_instance_name": f"{config['name']}_0_{number}",
                        "model_repository": str(version.parent),
                        "model_version": version.name,
                        "model_name": config["name"],
                    },
                }
                command = [str(python), __file__, json.dumps(start), str(number)]
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                    env=dict(variables),
                    # As the server: where other work goes on, Linux shares the processors between
                    # sessions, so that whoever has more of them would get more.
                    start_new_session=True,
                )  # fmt: skip
                self._processes.append(self._stack.enter_context(process))
            for process in self._processes:
                self._hear(process)
        except BaseException:
            self.close()
            raise

    def run(self, sizes: Mapping[int, int], seconds: float) -> float:
        """Images a second, all processes together, with batches in those proportions."""
        begin = time.perf_counter() + HEAD_START
        task = {"sizes": list(sizes.items()), "begin": begin, "end": begin + seconds}
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        return sum(self._hear(process) for process in self._processes)

    def close(self) -> None:
        """End the processes."""
        self._stack.close()

    def _hear(self, process: subprocess.Popen[str]) -> float:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the model ended with status {process.wait(60)}; it says why above")
        told: float = json.loads(line)
        return told


def main() -> None:
    """One instance: ready when it prints a line, and then images a second for every task."""
    start, number = json.loads(sys.argv[1]), int(sys.argv[2])
    import numpy as np

    sys.modules["triton_python_backend_utils"] = utilities()
    sys.path[0] = start["folder"]  # as the server has it: model.py may have files beside it
    out, sys.stdout = sys.stdout, sys.stderr  # what the model prints is not for serving.py
    model = importlib.import_module("model").TritonPythonModel()
    model.initialize(start["args"])
    generator = np.random.default_rng(number)
    print(0, file=out, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        sizes, counts = (np.array(each) for each in zip(*task["sizes"], strict=True))
        total = min(MOST, int(counts.sum()))
        batches = generator.choice(sizes, total, p=counts / counts.sum())
        shape = (1, *model.image_shape)
        images = [generator.random(shape, np.float32) for _ in range(max(sizes))]
        images = [image.astype(model.image_dtype) for image in images]
        time.sleep(max(0.0, task["begin"] - time.perf_counter()))
        begun, done, calls = time.perf_counter(), 0, 0
        while (now := time.perf_counter()) < task["end"] or not calls:
            size = int(batches[calls % total])
            if len(model.classify(images[:size])) != size:
                raise RuntimeError(f"classify gave no logits for each of {size} images")
            done, calls = done + size, calls + 1
        now = time.perf_counter()
        print(done / (now - begun), file=out, flush=True)
    model.finalize()


def utilities() -> types.ModuleType:
    """As much of Triton's module as a model needs that gets no request."""
    module = types.ModuleType("triton_python_backend_utils")

    class Logger:
        @staticmethod
        def log_error(text):
            print(text)

        @staticmethod
        def log_info(text):
            """Nobody reads it."""

        log_warn, log_verbose = log_error, log_info

    def find(config, group, name):
        return next((each for each in config[group] if each["name"] == name), None)

    module.Logger = Logger
    module.TritonModelException = type("TritonModelException", (Exception,), {})
    module.get_input_config_by_name = lambda config, name: find(config, "input", name)
    module.get_output_config_by_name = lambda config, name: find(config, "output", name)
    return module


if __name__ == "__main__":
    main()
