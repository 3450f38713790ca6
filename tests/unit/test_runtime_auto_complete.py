"""``auto_complete_config``: how a model is asked, and what becomes of its answer."""

import json
import threading

import pytest
from instances import model_class, write_files
from model_files import write_model

from triton_stub import config as model_config
from triton_stub.core.host import InstanceHost, ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository.loading import complete
from triton_stub.errors import ConfigError, LoadError, StatusCode
from triton_stub.runtime.auto_complete import auto_complete

PATIENCE = 60.0
TEXT = '{"name":"model","max_batch_size":0,"input":[],"output":[]}'
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
"""


@pytest.fixture
def server():
    return ServerHost(Log())


def completing(body):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return model_class(f"@staticmethod\ndef auto_complete_config(c):\n{lines}")


def asked(folder, server, code):
    file = write_files(folder, {"1/model.py": code}) / "model.py"
    host = InstanceHost(server, "model", "model")
    return auto_complete(file, TEXT, host, load_timeout=PATIENCE, exit_timeout=PATIENCE)


def completed(folder, server, code, config=CONFIG):
    """A model with this code, loaded with this configuration; None is no config.pbtxt."""
    directory = write_model(folder, code=code, config=config or "")
    if config is None:
        (directory / "config.pbtxt").unlink()
    polled = model_config.poll(directory, strict=server.strict_model_config)
    return complete(directory, 1, polled, server)


def messages(server):
    return [record.message for record in server.log.records()]


# How a model is asked


def test_a_model_gets_its_configuration_and_gives_it_back(tmp_path, server):
    told = asked(tmp_path, server, completing("c.set_max_batch_size(3)\nreturn c"))
    assert json.loads(told) == {**json.loads(TEXT), "max_batch_size": 3}


def test_a_model_without_it_is_only_imported(tmp_path, server):
    assert json.loads(asked(tmp_path, server, model_class("pass"))) == json.loads(TEXT)
    with pytest.raises(LoadError, match="ZeroDivisionError"):
        asked(tmp_path, server, "1 / 0")


def test_it_runs_in_a_thread_and_a_scope_of_its_own(tmp_path, server):
    body = "import threading\nraise ValueError(threading.current_thread().name)"
    with pytest.raises(LoadError) as caught:
        asked(tmp_path, server, completing(body))
    assert "ValueError: model auto_complete_config\n" in caught.value.message
    names = [thread.name for thread in threading.enumerate()]
    assert "model auto_complete_config" not in names


@pytest.mark.parametrize("value", ["None", "{}", "c.as_dict()", "type(c)"])
def test_what_it_returns_must_be_the_object(tmp_path, server, value):
    with pytest.raises(LoadError) as caught:
        asked(tmp_path, server, completing(f"return {value}"))
    assert caught.value.message == (
        "auto_complete_config function in model 'model' must return a valid pb.ModelConfig object."
    )


@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_what_it_raises_fails_the_load(tmp_path, server, line):
    with pytest.raises(LoadError) as caught:
        asked(tmp_path, server, completing(line))
    assert f"\n\nAt:\n  {tmp_path}/1/model.py(" in caught.value.message
    assert caught.value.__cause__ is not None


def test_the_helper_shows_in_the_trace_as_the_backend_s(tmp_path, server):
    with pytest.raises(LoadError) as caught:
        asked(tmp_path, server, completing("c.add_input({'name': 'A', 'x': 1})"))
    first, second = caught.value.message.partition("\nAt:\n")[2].splitlines()
    assert first.startswith("  /opt/tritonserver/backends/python/triton_python_backend_utils.py(")
    assert first.endswith(": add_input")
    assert second.endswith(": auto_complete_config")


def test_a_coroutine_is_no_configuration(tmp_path, server):
    code = completing("return c").replace("def auto", "async def auto")
    with pytest.raises(LoadError, match="must return a valid"):
        asked(tmp_path, server, code)


def test_there_is_no_server_yet(tmp_path, server):
    for line in ("pb_utils.is_model_ready('a')", "pb_utils.load_model('a')"):
        with pytest.raises(LoadError, match="Do it in initialize"):
            asked(tmp_path, server, completing(line))
    asked(tmp_path, server, completing("pb_utils.Logger.log_verbose('a\"b')\nreturn c"))
    (line,) = str(server.log).splitlines()
    assert line.endswith(']  a"b')


# What the server makes of it


def test_what_is_taken_over(tmp_path, server):
    code = completing(
        "c.set_max_batch_size(4)\nc.set_dynamic_batching()\n"
        "c.add_input({'name': 'A', 'data_type': 'TYPE_INT8', 'dims': (2,)})\n"
        "c.as_dict()['parameters'] = {'a': {'string_value': 'b'}}\nreturn c"
    )
    settings = completed(tmp_path, server, code, None)
    told = json.loads(settings.told)
    assert told == model_config.to_dict(settings.config)
    assert told["dynamic_batching"]["preferred_batch_size"] == [4]
    assert told["input"][0]["dims"] == [2]
    assert told["parameters"] == {}


def test_a_strict_server_does_not_ask(tmp_path):
    server = ServerHost(Log(), strict_model_config=True)
    settings = completed(tmp_path, server, "1 / 0")
    assert settings.config.input[0].name == "IN"
    with pytest.raises(ConfigError, match="failed to open text file for read"):
        completed(tmp_path / "another", server, "1 / 0", None)


def test_what_is_no_configuration_is_ignored_and_said_to_be(tmp_path, server):
    code = completing("c.as_dict().update(max_batch_size=7, nonsense=1)\nreturn c")
    settings = completed(tmp_path, server, code)
    assert settings.config.max_batch_size == 0
    assert json.loads(settings.told)["max_batch_size"] == 7
    (message,) = messages(server)
    assert "is ignored as the real server ignores it: there is no field nonsense" in message


def test_without_a_file_there_is_then_no_configuration(tmp_path, server):
    with pytest.raises(LoadError, match="not provided for model 'model'") as caught:
        completed(tmp_path, server, completing("c.as_dict()['x'] = 1\nreturn c"), None)
    assert caught.value.code is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("c.as_dict()['x'] = float('nan')", "Failed to accept document, invalid JSON."),
        ("c._model_config = [1]", "attempt to access non-existing object member "
         "'default_model_filename'"),
        ("c.as_dict().update(default_model_filename=1, x=1)", "attempt to access JSON non-string "
         "as string"),
        ("c.as_dict()['max_batch_size'] = -1", "'max_batch_size' must be non-negative value for "
         "model"),
        ("c.as_dict()['input'][0]['dims'] = []", "model input 'IN' must specify 'dims' for model"),
    ],
)  # fmt: skip
def test_a_configuration_that_fails_the_load(tmp_path, server, body, message):
    with pytest.raises(LoadError) as caught:
        completed(tmp_path, server, completing(f"{body}\nreturn c"))
    assert caught.value.message == message


def test_a_decoupled_that_is_no_bool(tmp_path, server):
    code = completing("c.set_model_transaction_policy({'decoupled': 1})\nreturn c")
    with pytest.raises(LoadError, match="the real server ends, with all of its models"):
        completed(tmp_path, server, code)


# Parameters


def parameter(name, value):
    return f'{CONFIG} parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/nope", "/nope"),
        ("/a/../nope", "/nope"),
        ("$$TRITON_MODEL_DIRECTORY/nope", "{directory}/nope"),
    ],
)
def test_an_environment_that_is_not_there(tmp_path, server, value, path):
    with pytest.raises(LoadError) as caught:
        completed(tmp_path, server, "1 / 0", parameter("EXECUTION_ENV_PATH", value))
    path = path.format(directory=tmp_path / "model")
    assert caught.value.message == f"Failed to get the canonical path for {path}."
    assert messages(server) == [f"Using Python execution env {path}"]


@pytest.mark.parametrize("value", ["yes", "no"])
def test_input_tensors_are_on_the_cpu_anyhow(tmp_path, server, value):
    completed(tmp_path, server, "x = 1\nclass TritonPythonModel: pass",
              parameter("FORCE_CPU_ONLY_INPUT_TENSORS", value))  # fmt: skip
    assert "CPU" in messages(server)[0]


def test_another_value_is_refused(tmp_path, server):
    with pytest.raises(LoadError) as caught:
        completed(tmp_path, server, "1 / 0", parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "maybe"))
    assert caught.value.message == ("Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: maybe'")
    assert caught.value.code is StatusCode.UNSUPPORTED
