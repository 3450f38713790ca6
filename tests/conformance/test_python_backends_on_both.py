"""What runs a model: the Python backend, or a backend that is itself written in Python."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_models import CONFIG, both_engines, write_models
from comparing import Engines
from instances import write_files
from probing import marked

from triton_stub.engines.engine import Engine
from triton_stub.engines.environment import NativeEnvironment

TENSORS = CONFIG.replace('backend: "python"', "")
# Fails with all that it finds out.
TELL = """
import sys
import triton_python_backend_utils as pb_utils
from helper import VALUE

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(4)
        return config

    def initialize(self, args):
        raise ValueError(repr([
            sorted(args.items()), __name__, __package__, __file__, sys.path[-2], VALUE,
            pb_utils.get_model_dir(),
        ]))
"""
OWN = f'import sys; sys.modules["helper"] = sys; sys.VALUE = "own"\n{TELL}'
ENVIRONMENT = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/nothing.tar.gz" } }'


def with_config(text: str, **files: str) -> dict[str, str]:
    """A model; without a file it has an empty folder."""
    named = {f"1/{name.replace('_', '.')}": content for name, content in files.items()}
    return {"config.pbtxt": f"{text} {TENSORS}", "1/weights": "", **named}


MODELS = {
    "plain": with_config('backend: "mine"'),
    "own_code": with_config('backend: "mine"', model_py=OWN),
    "file_name": with_config('backend: "mine" default_model_filename: "weights"'),
    "python_file_name": with_config(
        'backend: "mine" default_model_filename: "code.py"', code_py=OWN
    ),
    "runtime": with_config('backend: "mine" runtime: "model.py"'),
    "environment": with_config(f'backend: "mine" {ENVIRONMENT}'),
    "no_backend": with_config('backend: "nobody"'),
    "empty_backend": with_config('backend: "empty"'),
    "empty_runtime": with_config('backend: "empty" runtime: "model.py"'),
    "text_runtime": with_config('backend: "text" runtime: "code.py"'),
    "python_runtime": with_config('backend: "python" runtime: "libtriton_python.so"', model_py=OWN),
    "python_model_py": with_config('backend: "python" runtime: "model.py"', model_py=OWN),
    "python_other": with_config('backend: "python" runtime: "libother.so"', model_py=OWN),
    "onnx": with_config('backend: "onnxruntime"'),
    "platform": with_config('platform: "onnxruntime_onnx"', model_py=OWN),
    "platform_and_backend": with_config('platform: "other" backend: "python"', model_py=OWN),
    "onnx_file": {"1/model.onnx": ""},
    "name.mine": {"config.pbtxt": TENSORS, "1/weights": ""},
}
RULES = {
    "4.11-python-backend": "plain own_code file_name python_file_name environment name.mine",
    "4.11-runtime": "runtime empty_runtime text_runtime python_runtime python_model_py "
    "python_other",
    "4.11-backend": "no_backend empty_backend onnx platform platform_and_backend onnx_file",
    "4.13-backend": "platform onnx_file name.mine",
}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends")
    (folder / "python").mkdir()
    # Links would lead out of it, which the server does not allow.
    for file in NativeEnvironment.find().backend_files:
        if file.is_file():
            shutil.copy(file, folder / "python")
    write_files(folder, {"mine/model.py": TELL, "mine/helper.py": "VALUE = 'beside'\n"})
    write_files(folder, {"text/code.py": TELL, "empty/nothing": ""})
    return folder


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, backends: Path
) -> Iterator[tuple[Engines, dict[str, Any], dict[str, Any]]]:
    """Both engines, and what each says of its models."""
    repository = tmp_path_factory.mktemp("python_backends")
    write_models(repository, MODELS, TENSORS)
    (repository / "onnx_file" / "config.pbtxt").unlink()
    options = [f"--backend-directory={backends}"]
    with both_engines(repository, options=options, backend_directory=backends) as engines:
        yield engines, reasons(engines.stub, backends), reasons(engines.native, backends)


def reasons(engine: Engine, backends: Path) -> dict[str, Any]:
    with engine.client() as client:
        index = client.get_model_repository_index()
    # Where a model's own folders are the last but one entry is, else that of the backend's names.
    return {row["name"]: comparable(row.get("reason", ""), backends) for row in index}


def comparable(text: str, backends: Path) -> str:
    """A reason without the place of the server's own backend, where another looks elsewhere."""
    text = text.replace(str(backends), "…")
    return re.sub(r"'\S*/default/backends", "'…", text)


@pytest.mark.parametrize("name", marked(MODELS, RULES))
def test_what_runs_a_model(told: tuple[Engines, dict[str, Any], dict[str, Any]], name: str) -> None:
    _, stub, native = told
    assert stub[name] == native[name]
    assert native[name]


@pytest.mark.rule("4.11-python-backend")
def test_several_models_of_one_backend(tmp_path: Path, backends: Path) -> None:
    code = """
        import numpy as np
        import triton_python_backend_utils as pb_utils
        from helper import VALUE
        COUNT = []

        class TritonPythonModel:
            def initialize(self, args):
                self.name = args["model_name"]
            def execute(self, requests):
                COUNT.append(1)
                told = np.array([f"{self.name} {VALUE} {len(COUNT)}".encode()], object)
                return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", told)])] * len(requests)
    """
    write_files(backends, {"counting/model.py": code, "counting/helper.py": "VALUE = 'both'\n"})
    write_models(tmp_path, {name: with_config('backend: "counting"') for name in ("a", "b")})
    options = [f"--backend-directory={backends}"]
    with both_engines(tmp_path, options=options, backend_directory=backends) as engines:

        def ask(engine: Engine) -> list[Any]:
            from repositories import IN

            answers = [engine.infer(name, IN=IN)["OUT"] for name in ("a", "a", "b")]
            config = json.dumps(engine.config("a"), sort_keys=True)
            return [*answers, config, engine.metadata("a")]

        engines.same(ask)
