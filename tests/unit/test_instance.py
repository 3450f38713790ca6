"""One instance: the life of a ``TritonPythonModel``."""

import json
import sys
import threading

import numpy as np
import pytest
from instances import Lines, execute, loaded, model_class, new_instance, request

from triton_stub.errors import InferenceError, LoadError, StatusCode
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.instance import InstanceSpec

ANSWER = "[pb_utils.InferenceResponse([pb_utils.Tensor('A', np.full(1, {}))]) for _ in requests]"


@pytest.fixture
def log():
    return Lines()


def outputs(instance, count=1):
    responses = instance.execute([request("A") for _ in range(count)])
    return [response.output_tensors()[0].as_numpy().tolist() for response in responses]


def load_error(folder, code):
    with pytest.raises(LoadError) as caught:
        new_instance(folder, code).load()
    return caught.value


def execute_error(instance):
    with pytest.raises(InferenceError) as caught:
        instance.execute([request("A")])
    return str(caught.value)


# Loading


def test_initialize_gets_seven_texts(tmp_path):
    spec = InstanceSpec(
        model_name="m",
        model_version="3",
        model_file=tmp_path / "m" / "3" / "model.py",
        model_config='{"name":"m"}',
        instance_name="m_0_1",
        kind="GPU",
        device_id=2,
    )
    assert spec.args() == {
        "model_config": '{"name":"m"}',
        "model_instance_kind": "GPU",
        "model_instance_name": "m_0_1",
        "model_instance_device_id": "2",
        "model_repository": str(tmp_path / "m"),
        "model_version": "3",
        "model_name": "m",
    }


def test_what_initialize_is_told(tmp_path, log):
    body = """
        def initialize(self, args):
            pb_utils.Logger.log_info(pb_utils.json.dumps(args))
    """
    instance = loaded(tmp_path, model_class(body), log)
    assert json.loads(log.messages[0]) == instance.spec.args()


def test_a_model_needs_no_initialize(tmp_path):
    instance = loaded(tmp_path, execute(f"return {ANSWER.format(7)}"))
    assert outputs(instance) == [[7]]


def test_an_initialize_that_cannot_be_asked_for_is_none(tmp_path):
    body = f"""
        @property
        def initialize(self): raise RuntimeError
        def execute(self, requests): return {ANSWER.format(7)}
    """
    assert outputs(loaded(tmp_path, model_class(body))) == [[7]]


def test_while_it_loads_a_model_finds_its_modules_in_any_way(tmp_path):
    code = model_class(
        f"""
        def initialize(self, args):
            self.helper = importlib.import_module("helper")
            self.saved = pickle.loads(pickle.dumps(Point()))
            assert sys.modules[__name__].Point is Point
        def execute(self, requests): return {ANSWER.format("self.helper.value")}
        """,
        "import importlib, pickle, sys\nclass Point: pass",
    )
    instance = loaded(tmp_path, {"1/model.py": code, "1/helper.py": "value = 7"})
    assert outputs(instance) == [[7]]
    assert not {"1.model", "helper", "triton_python_backend_utils"} & set(sys.modules)


def test_an_initialize_that_raises(tmp_path):
    error = load_error(tmp_path, model_class("def initialize(self, args): raise OSError('no')"))
    assert str(error).startswith("OSError: no\n\nAt:\n")
    assert isinstance(error.__cause__, OSError)
    assert error.code is StatusCode.INTERNAL


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(2)",
        "raise KeyboardInterrupt",
        model_class("def __init__(self): raise SystemExit(2)"),
        model_class("def initialize(self, args): raise KeyboardInterrupt"),
    ],
)
def test_a_model_that_wants_to_end_the_process_does_not_load(tmp_path, code):
    assert isinstance(load_error(tmp_path, code).__cause__, SystemExit | KeyboardInterrupt)


def test_no_file(tmp_path):
    (tmp_path / "1").mkdir()
    error = load_error(tmp_path, {})
    assert str(error).startswith(f"Python model file not found in '{tmp_path}/1/model.py': the")
    assert "Add the model's code there" in str(error)


def test_a_file_that_is_no_python(tmp_path):
    (tmp_path / "model.txt").touch()
    spec = InstanceSpec("m", "1", tmp_path / "model.txt", "{}", "m_0")
    instance = new_instance(tmp_path, "")
    instance.spec = spec
    with pytest.raises(LoadError) as caught:
        instance.load()
    assert str(caught.value) == ("Model name must end with '.py'. Model name is \"model.txt\".")


def test_an_instance_does_not_ask_the_model_to_complete_its_configuration(tmp_path):
    body = "@staticmethod\ndef auto_complete_config(config): raise AssertionError"
    new_instance(tmp_path, model_class(body)).load()


def test_a_model_that_did_not_load_may_load_later(tmp_path):
    instance = new_instance(tmp_path, "import missing")
    with pytest.raises(LoadError):
        instance.load()
    new_instance(tmp_path, execute(f"return {ANSWER.format(7)}"))
    instance.load()
    assert outputs(instance) == [[7]]


# Executing


def test_execute_gets_all_requests_at_once(tmp_path):
    instance = loaded(tmp_path, execute(f"return {ANSWER.format('len(requests)')}"))
    assert outputs(instance, 3) == [[3], [3], [3]]


def test_a_model_reads_its_inputs(tmp_path):
    instance = loaded(tmp_path, execute("""
        [one] = requests
        x = pb_utils.get_input_tensor_by_name(one, "X").as_numpy()
        return [pb_utils.InferenceResponse([pb_utils.Tensor("A", 2 * x)])]
    """))  # fmt: skip
    [response] = instance.execute([request("A", X=np.arange(3))])
    assert response.output_tensors()[0].as_numpy().tolist() == [0, 2, 4]


def test_an_exception_fails_the_batch_and_is_logged(tmp_path, log):
    instance = loaded(tmp_path, execute("raise ValueError('boom')"), log)
    text = execute_error(instance)
    assert text == (
        f"Failed to process the request(s) for model '{tmp_path.name}_0', message: "
        f"ValueError: boom\n\nAt:\n  {tmp_path}/1/model.py(6): execute\n"
    )
    assert [record[:2] for record in log.records] == [(LogLevel.ERROR, text)]


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "ValueError"])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_instance_survives_any_exception(tmp_path, name, is_async):
    body = f"""
        if self.calls:
            return {ANSWER.format("self.calls.pop()")}
        self.calls.append(7)
        raise {name}
    """
    instance = loaded(tmp_path, execute(body, is_async=is_async) + "    calls = []\n")
    assert name in execute_error(instance)
    assert outputs(instance) == [[7]]
    instance.unload()


def test_what_execute_returns_is_checked(tmp_path):
    assert execute_error(loaded(tmp_path, execute("return ()"))) == (
        f"Failed to process the request(s) for model '{tmp_path.name}_0', message: "
        "Expected a list in the execute return, found type '<class 'tuple'>'."
    )


@pytest.mark.parametrize(
    "body", ["pass", "@property\ndef execute(self): raise RuntimeError"], ids=["none", "odd"]
)
def test_a_model_without_execute_loads(tmp_path, body):
    assert execute_error(loaded(tmp_path, model_class(body))) == (
        f"Failed to process the request(s) for model '{tmp_path.name}_0', message: "
        f"Python model {tmp_path}/1/model.py does not implement `execute` method."
    )


def test_an_async_execute_runs_in_one_loop_of_its_own(tmp_path):
    body = f"""
        await asyncio.sleep(0)
        self.seen.append((asyncio.get_running_loop(), threading.current_thread()))
        return {ANSWER.format("len(set(self.seen))")}
    """
    code = execute(body, "import asyncio, threading", is_async=True) + "    seen = []\n"
    before = set(threading.enumerate())
    instance = loaded(tmp_path, code)
    assert [outputs(instance), outputs(instance)] == [[[1]], [[1]]]
    [thread] = set(threading.enumerate()) - before
    instance.unload()
    thread.join(60)
    assert not thread.is_alive()


def test_an_async_execute_that_raises(tmp_path):
    text = execute_error(loaded(tmp_path, execute("raise ValueError('boom')", is_async=True)))
    assert "message: ValueError: boom\n\nAt:\n" in text
    assert f"  {tmp_path}/1/model.py(6): execute\n" in text


# The end


def test_finalize_runs_once(tmp_path, log):
    body = "def finalize(self): pb_utils.Logger.log_info('bye')"
    instance = loaded(tmp_path, model_class(body), log)
    instance.unload()
    instance.unload()
    assert log.messages == ["bye"]


@pytest.mark.parametrize("name", ["ValueError", "SystemExit"])
def test_a_finalize_that_raises_is_logged(tmp_path, log, name):
    instance = loaded(tmp_path, model_class(f"def finalize(self): raise {name}('boom')"), log)
    instance.unload()
    [(level, message, _, _)] = log.records
    assert level is LogLevel.INFO
    assert message.startswith(f"{name}: boom\n\nAt:\n")


def test_a_model_that_did_not_load_is_not_finalized(tmp_path, log):
    body = """
        def initialize(self, args): raise ValueError
        def finalize(self): pb_utils.Logger.log_info('bye')
    """
    instance = new_instance(tmp_path, model_class(body), log)
    with pytest.raises(LoadError):
        instance.load()
    instance.unload()
    assert log.messages == []


def test_tasks_that_a_model_leaves_behind_are_cancelled_before_finalize(tmp_path):
    body = """
        async def forever():
            try:
                await asyncio.Event().wait()
            finally:
                self.seen.append("cancelled")

        self.task = asyncio.create_task(forever())
        await asyncio.sleep(0)
    """
    code = execute(body, "import asyncio", is_async=True)
    code += "    seen = []\n    def finalize(self):\n        self.seen.append('finalized')\n"
    instance = loaded(tmp_path, code)
    seen = instance._model.seen
    threads = threading.active_count()
    instance.execute([])
    assert threading.active_count() == threads + 1
    instance.unload()
    assert threading.active_count() == threads
    assert seen == ["cancelled", "finalized"]
