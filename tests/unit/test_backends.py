"""What runs a model: the Python backend, or one that is written in Python."""

import numpy as np
import pytest
from model_files import CONFIG, DOUBLE, write_model

from triton_stub import LoadError, Server
from triton_stub import config as model_config
from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository.backends import find_code
from triton_stub.errors import StatusCode, UnsupportedFeatureError

IN = np.ones(1, np.float32)


@pytest.fixture
def backends(tmp_path):
    folder = tmp_path / "backends"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "model.py").write_text(DOUBLE)
    return folder


def found(directory, text, backends=None):
    config = model_config.parse(f'name: "m" {text}')
    server = ServerHost(Log(), backend_directory=backends)
    return find_code(config, directory, 1, server), config


@pytest.mark.parametrize(
    "text", ['backend: "python"', 'backend: "python" runtime: "libtriton_python.so"']
)
def test_a_model_with_code_of_its_own(tmp_path, text):
    code, config = found(tmp_path, text)
    assert code is None
    assert config == model_config.parse(f'name: "m" {text}')


@pytest.mark.parametrize("runtime", ["", 'runtime: "model.py"'])
def test_a_backend_in_python(tmp_path, backends, runtime):
    code, config = found(tmp_path, f'backend: "mine" {runtime}', backends)
    assert code == backends / "mine" / "model.py"
    assert config.runtime == "model.py"


def test_the_environment_of_a_backend(tmp_path, backends):
    environment = backends / "mine" / "pb_exec_env_model.py.tar.gz"
    environment.touch()
    _, config = found(tmp_path, 'backend: "mine"', backends)
    assert config.parameters["EXECUTION_ENV_PATH"].string_value == str(environment)
    own = 'backend: "mine" parameters { key: "EXECUTION_ENV_PATH" value { string_value: "own" } }'
    _, config = found(tmp_path, own, backends)
    assert config.parameters["EXECUTION_ENV_PATH"].string_value == "own"


@pytest.mark.parametrize(
    ("text", "told", "code"),
    [
        ('backend: "nosuch"', "backend library for backend 'nosuch', try", StatusCode.INVALID_ARG),
        (
            'backend: "nosuch" runtime: "model.py"',
            "Python backend based backend library 'model.py' for model 'm'",
            StatusCode.INVALID_ARG,
        ),
        (
            'backend: "python" runtime: "libother.so"',
            "unable to find backend library 'libother.so' for model 'm', searched: '",
            StatusCode.INVALID_ARG,
        ),
        ('backend: "mine" runtime: "model.txt"', "invalid ELF header", StatusCode.NOT_FOUND),
    ],
)
def test_nothing_that_runs_a_model(tmp_path, backends, text, told, code):
    (backends / "mine" / "model.txt").write_text("no library")
    with pytest.raises(LoadError) as caught:
        found(tmp_path, text, backends)
    assert told in caught.value.message
    assert caught.value.code == code


def test_a_library(tmp_path, backends):
    (backends / "mine" / "libtriton_mine.so").write_bytes(b"\x7fELF..")
    with pytest.raises(UnsupportedFeatureError, match="--triton-engine=native"):
        found(tmp_path, 'backend: "mine"', backends)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_models_of_one_backend(tmp_path, backends, isolation):
    for name in ("a", "b"):
        folder = write_model(tmp_path / "models", name, "1 / 0", f'backend: "mine" {CONFIG}')
        (folder / "1" / "model.py").unlink()
    (backends / "mine" / "helper.py").write_text("VALUE = 7\n")
    code = DOUBLE.replace("2 * array", "helper.VALUE * array")
    (backends / "mine" / "model.py").write_text(f"import helper\n{code}")
    with Server(tmp_path / "models", backend_directory=backends, isolation=isolation) as server:
        assert server.model("a")(IN=IN)["OUT"].tolist() == [7]
        assert server.model("b")(IN=IN)["OUT"].tolist() == [7]
        config = server.model("a").config()
        assert (config["runtime"], config["default_model_filename"]) == ("model.py", "")
