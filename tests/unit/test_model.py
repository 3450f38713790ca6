"""A loaded version of a model: requests in, answers out, and an end that leaves nobody waiting."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from gates import GATES
from model_files import BATCHED, BROKEN, CONFIG, DOUBLE, GATED, write_model

from triton_stub import config as model_config
from triton_stub.core.backend_model import BackendModel
from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.model import metadata
from triton_stub.core.repository.loading import Settings
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.errors import InferenceError, LoadError, StatusCode, UnsupportedFeatureError

ONE = np.array([[1]], np.float32)
TIMEOUT = 60


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def make(tmp_path, log):
    """Write a model, load it, and unload it in the end."""
    models = []

    def make_model(code=DOUBLE, config=CONFIG, *, name="model", load=True):
        directory = write_model(tmp_path, name, code, config)
        settings = Settings.of(model_config.load(directory))
        model = BackendModel(directory, 1, settings, ServerHost(log))
        models.append(model)
        if load:
            model.load()
        return model

    yield make_model
    for model in models:
        model.unload()


@pytest.fixture
def gated(make, tmp_path):
    """A model that waits in ``execute`` for its gate, and the gate."""
    gate = GATES[tmp_path.name]
    yield make(GATED, BATCHED, name=tmp_path.name), gate
    gate.opened.set()


def request(array=ONE, name="IN", **fields):
    return InferenceRequest(model_name="model", inputs=[Tensor.from_numpy(name, array)], **fields)


def ask(model, array=ONE, **fields):
    """The result of one request."""
    return model.submit(request(array, **fields)).result(TIMEOUT).result()


def messages(log):
    """What is logged, but for the line of every instance."""
    texts = [record.message for record in log.records()]
    return [text for text in texts if not text.startswith("TRITONBACKEND_")]


def running(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_a_request_is_answered(make):
    result = ask(make(config=BATCHED), ONE, request_id="x7")
    assert result["OUT"].tolist() == [[2]]
    assert (result.model_name, result.model_version, result.request_id) == ("model", "1", "x7")


def test_a_refused_request_never_gets_to_the_model(make):
    model = make()
    with pytest.raises(InferenceError, match="unexpected inference input"):
        model.submit(request(name="NO"))
    counts = model.statistics.to_dict()
    assert counts["execution_count"] == 0
    assert counts["inference_stats"]["fail"]["count"] == 0


@pytest.mark.parametrize("size", [0, 1, 5])
def test_arrays_of_any_size(make, size):
    assert ask(make(), np.ones(size, np.float32))["OUT"].tolist() == [2] * size


def test_requests_of_one_batch(make):
    model = make(config=BATCHED)
    arrays = [np.full((rows, 2), rows, np.float32) for rows in (1, 2, 3)]
    answers = model.submit_batch([request(array) for array in arrays])
    results = [answer.result(TIMEOUT).result()["OUT"] for answer in answers]
    assert all((result == 2 * array).all() for result, array in zip(results, arrays, strict=True))
    counts = model.statistics.to_dict()
    assert (counts["execution_count"], counts["inference_count"]) == (1, 6)


def test_no_requests_make_no_call(make):
    model = make(config=BATCHED)
    assert model.submit_batch([]) == []
    assert model.statistics.to_dict()["execution_count"] == 0


def test_one_refused_request_keeps_the_batch_from_running(make):
    model = make(config=BATCHED)
    with pytest.raises(InferenceError, match="unexpected inference input"):
        model.submit_batch([request(), request(name="NO")])
    assert model.statistics.to_dict()["execution_count"] == 0


def test_an_error_of_one_request_leaves_its_neighbours(make):
    model = make(config=BATCHED)
    answers = model.submit_batch([request(ONE), request(-14 * ONE), request(3 * ONE)])
    first, second, third = (answer.result(TIMEOUT) for answer in answers)
    assert second.error.message == "minus fourteen"
    assert second.error.code is StatusCode.INTERNAL
    assert first.result()["OUT"].tolist() == [[2]]
    assert third.result()["OUT"].tolist() == [[6]]
    stats = model.statistics.to_dict()["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 0)


def test_an_exception_answers_the_whole_batch_and_the_next_call_is_served(make):
    model = make(config=BATCHED)
    answers = model.submit_batch([request(ONE), request(-13 * ONE)])
    for answer in answers:
        error = answer.result(TIMEOUT).error
        assert "ValueError: minus thirteen" in error.message
        assert isinstance(error.__cause__, ValueError)
    stats = model.statistics.to_dict()["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (0, 2)
    assert ask(model)["OUT"].tolist() == [[2]]


SPOILER = DOUBLE.replace(
    "return pb_utils.InferenceResponse([pb",
    "array *= 2; array = array / 2\n        return pb_utils.InferenceResponse([pb",
)


def test_a_model_never_changes_the_clients_array(make):
    array = np.ones((2, 2), np.float32)
    assert (ask(make(SPOILER, BATCHED), array)["OUT"] == 2).all()
    assert (array == 1).all()


def test_a_model_gets_what_it_can_write_to(make):
    array = np.ones((2, 2), np.float32)
    array.flags.writeable = False
    assert (ask(make(SPOILER, BATCHED), array)["OUT"] == 2).all()


REUSER = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.buffer = np.zeros(1, np.float32)

    def execute(self, requests):
        self.buffer += 1
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self.buffer)])]
"""


def test_an_answer_stays_as_it_was_when_the_model_reuses_its_buffer(make):
    model = make(REUSER)
    array = np.zeros(1, np.float32)
    results = [ask(model, array)["OUT"] for _ in range(3)]
    assert [result.tolist() for result in results] == [[1], [2], [3]]
    results[2][:] = 9
    assert ask(model, array)["OUT"].tolist() == [4]


RESHAPED = """
max_batch_size: {max_batch_size}
input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ -1, 2, -1 ]
           reshape {{ shape: [ 1, -1, 2, -1, 1 ] }} }} ]
output [ {{ name: "OUT" data_type: TYPE_FP32 dims: [ -1, 1, 2, -1 ]
            reshape {{ shape: [ 1, -1, 2, -1, 1 ] }} }} ]
"""


@pytest.mark.parametrize(("max_batch_size", "batch"), [(0, ()), (4, (3,))])
def test_reshape_both_ways(make, max_batch_size, batch):
    model = make(config=RESHAPED.format(max_batch_size=max_batch_size))
    array = np.arange(np.prod((*batch, 5, 2, 7)), dtype=np.float32).reshape(*batch, 5, 2, 7)
    out = ask(model, array)["OUT"]
    assert out.shape == (*batch, 5, 1, 2, 7)
    assert (out.ravel() == 2 * array.ravel()).all()


SCALAR = """
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] reshape { } } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] reshape { } } ]
"""


def test_reshape_to_nothing(make):
    assert ask(make(config=SCALAR), np.ones((3, 1), np.float32))["OUT"].shape == (3, 1)


ECHO = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(request.inputs()) for request in requests]
"""


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("STRING", np.array([[b"a", b"\xff"], [b"", b"xyz"]], object)),
        ("BF16", np.array([[1.5, -2], [0, 3]], ml_dtypes.bfloat16)),
        ("FP32", np.zeros((0, 3), np.float32)),
        ("STRING", np.zeros((2, 0), object)),
        ("INT16", np.arange(6, dtype=">i2").reshape(2, 3).T),
        ("BOOL", np.array([[True, False]])),
    ],
    ids=["bytes", "bfloat16", "no rows", "no bytes", "big-endian and transposed", "bool"],
)
def test_what_a_model_sends_back_is_what_came(make, datatype, array):
    entry = f'[ {{ name: "IN" data_type: TYPE_{datatype} dims: [ -1, -1 ] }} ]'
    out = ask(make(ECHO, f"input {entry} output {entry}"), array)["IN"]
    assert out.shape == array.shape
    assert out.dtype == array.dtype.newbyteorder("=")
    assert (out == array).all()


ROWS = """
import numpy as np
import triton_python_backend_utils as pb_utils

OUTPUTS = {
    "strided": np.arange(6, dtype=np.float32)[::2],
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7, np.float32),
    "bytes": np.array([[b"a", "b"]], object),
    "short": np.array([b"ab", b"c"]),
}


class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.Tensor(name, array) for name, array in OUTPUTS.items()]
        return [pb_utils.InferenceResponse(tensors)]
"""
ROWS_OUTPUTS = ("strided", "transposed", "empty", "scalar", "bytes", "short")


def test_outputs_of_every_shape_and_layout(make):
    entries = ", ".join(
        f'{{ name: "{name}" data_type: TYPE_FP32 dims: [ -1 ] }}' for name in ROWS_OUTPUTS
    )
    result = ask(
        make(ROWS, f"{CONFIG.partition('output')[0]} output [ {entries} ]"), np.ones(1, "f")
    )
    assert list(result) == list(ROWS_OUTPUTS)
    assert result["strided"].tolist() == [0, 2, 4]
    assert result["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert result["empty"].shape == (0, 4)
    assert result["scalar"].shape == ()
    assert result["bytes"].tolist() == [[b"a", b"b"]]
    assert result["short"].tolist() == [b"ab", b"c"]


def test_every_instance_loads_and_ends(make):
    config = f"{BATCHED} instance_group [ {{ count: 3 }} ]"
    model = make(GATED, config, name="three")
    assert len(running("three_0")) == 3
    assert model.unload()
    assert running("three_0") == []


def test_instances_work_side_by_side(make):
    code = GATED.replace("self.gate.pass_through()", "self.gate.wait()").replace(
        'gates.GATES[args["model_name"]]', "gates.BARRIER"
    )
    import gates

    gates.BARRIER = threading.Barrier(2)
    model = make(code, f"{CONFIG} instance_group [ {{ count: 2 }} ]", name="pair")
    answers = [model.submit(request(ONE[0])) for _ in range(2)]
    assert all(answer.result(TIMEOUT).error is None for answer in answers)


def test_a_model_that_fails_leaves_nothing_running(make, log):
    code = GATED.replace(
        "        self.gate =",
        '        if args["model_instance_name"].endswith("_1"):\n'
        '            raise OSError("no weights")\n'
        "        self.gate =",
    )
    model = make(code, f"{CONFIG} instance_group [ {{ count: 3 }} ]", name="broken", load=False)
    with pytest.raises(LoadError, match="OSError: no weights") as caught:
        model.load()
    assert isinstance(caught.value.__cause__, OSError)
    assert running("broken") == []
    assert messages(log).count("finalized") == 2


def test_a_defect_while_loading_is_told_and_leaves_nothing_running(make, monkeypatch):
    monkeypatch.setattr("triton_stub.core.executor.Instance.load", lambda self: 1 / 0)
    model = make(load=False)
    with pytest.raises(ZeroDivisionError):
        model.load()
    assert running("model_0") == []


def test_what_is_queued_is_answered_before_the_end(gated, log):
    model, gate = gated
    answers = [model.submit(request())]
    gate.wait_for_somebody()
    answers += [model.submit(request()) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        unloaded = pool.submit(model.unload)
        gate.opened.set()
        assert unloaded.result(TIMEOUT)
    assert all(answer.result(TIMEOUT).error is None for answer in answers)
    assert messages(log) == ["finalized"]


def test_an_unloaded_model_takes_nothing(make):
    model = make()
    model.unload()
    with pytest.raises(InferenceError, match="has stopped accepting") as caught:
        model.submit(request(ONE[0]))
    assert caught.value.code is StatusCode.UNAVAILABLE


def test_unloading_twice_is_no_harm(make, log):
    model = make(GATED)
    assert model.unload()
    assert model.unload()
    assert messages(log) == ["finalized"]


def test_a_model_that_blocks_is_given_up_and_nobody_waits(gated, log):
    model, gate = gated
    stuck = model.submit(request())
    gate.wait_for_somebody()
    queued = model.submit(request(request_id="x7"))
    assert not model.unload(timeout=0.01)
    responses = [stuck.result(TIMEOUT), queued.result(TIMEOUT)]
    for response in responses:
        error = response.error
        assert error.code is StatusCode.UNAVAILABLE
        assert "did not stop within 0.01 s" in error.message
    assert responses[1].request_id == "x7"
    assert "in wait_and_answer" in messages(log)[0]
    gate.opened.set()
    for thread in running(model.name):
        thread.join(TIMEOUT)
    assert running(model.name) == []


def test_what_is_cancelled_in_a_batch_that_waits_is_executed(gated):
    model, gate = gated
    first = model.submit(request())
    gate.wait_for_somebody()
    cancelled = model.submit(request(2 * ONE))
    cancelled.cancel()
    gate.opened.set()
    first.result(TIMEOUT)
    assert cancelled.result(TIMEOUT).result()["OUT"].tolist() == [[4]]


def test_what_is_cancelled_behind_the_batches_that_wait_is_not_executed(gated):
    model, gate = gated
    model.submit(request())
    gate.wait_for_somebody()
    for _ in range(2):  # batches as large as they can be
        model.submit(request(np.ones((8, 1), np.float32)))
    cancelled, kept = model.submit(request(request_id="x7")), model.submit(request(3 * ONE))
    cancelled.cancel()
    gate.opened.set()
    assert kept.result(TIMEOUT).result()["OUT"].tolist() == [[6]]
    response = cancelled.result(TIMEOUT)
    assert (response.error.message, response.error.code) == ("", StatusCode.CANCELLED)
    assert response.request_id == "x7"
    model.unload()
    counts = model.statistics.to_dict()
    assert counts["inference_count"] == 18
    assert counts["inference_stats"]["fail"]["count"] == 1


def test_a_defect_of_ours_is_an_answer(make, log, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("of all things")

    model = make(config=BATCHED)
    monkeypatch.setattr("triton_stub.core.conversion.Conversion.to_model", fail)
    answers = model.submit_batch([request(), request()])
    for answer in answers:
        error = answer.result(TIMEOUT).error
        assert "This is a defect of triton_stub" in error.message
        assert isinstance(error.__cause__, ZeroDivisionError)
    assert "of all things" in str(log)
    monkeypatch.undo()
    assert ask(model)["OUT"].tolist() == [[2]]


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ('parameters { key: "TRITON_BATCH_STRATEGY_PATH" }', "TRITON_BATCH_STRATEGY_PATH"),
        ('model_repository_agents { agents [ { name: "a" } ] }', "model_repository_agents"),
    ],
)
def test_what_is_not_imitated_is_refused(make, text, feature):
    model = make(config=f"{CONFIG} {text}", load=False)
    with pytest.raises(UnsupportedFeatureError, match=feature):
        model.load()
    assert running("model_0") == []


def test_what_is_ignored_is_said_to_be(make, log):
    environment = 'key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" }'
    make(config=f"{CONFIG} parameters {{ {environment} }}")
    assert messages(log) == [
        "model 'model': EXECUTION_ENV_PATH is ignored: the model runs in the environment of this "
        "process",
    ]


PASSIVE = 'instance_group [ { name: "p" passive: true count: 2 }, { name: "a" } ]'


def test_passive_instances_are_loaded_and_idle(make):
    model = make(config=f"{BATCHED} {PASSIVE}")
    assert len(running("p_")) == 2
    assert [host.instance_name for host in model.hosts()] == ["a_0"]
    assert [ask(model)["OUT"].tolist() for _ in range(4)] == [[[2]]] * 4
    assert model.unload()
    assert running("p_") == []


def test_nobody_executes_where_all_are_passive(make):
    model = make(config=f"{BATCHED} instance_group {{ passive: true }}")
    with pytest.raises(InferenceError, match="all instance groups of model 'model' are passive"):
        ask(model)


def test_a_model_file_of_another_name(make):
    model = make(config=f'{CONFIG} default_model_filename: "other.py"', load=False)
    with pytest.raises(LoadError, match=r"other\.py': .* Add the model's code there"):
        model.load()


def test_a_broken_model_has_its_exception_as_cause(make):
    model = make(BROKEN, load=False)
    with pytest.raises(LoadError, match="OSError: no weights") as caught:
        model.load()
    assert isinstance(caught.value.__cause__, OSError)


ARGUMENTS = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.args = {key: value for key, value in args.items() if key != "model_config"}

    def execute(self, requests):
        text = np.array([json.dumps(self.args)], object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", text)])]
"""


def test_what_an_instance_is_told(make, tmp_path):
    groups = 'instance_group [ { name: "g" kind: KIND_GPU gpus: [ 3 ] } ]'
    model = make(ARGUMENTS, f"{CONFIG} {groups}")
    (text,) = ask(model, ONE[0])["OUT"]
    assert json.loads(text) == {
        "model_instance_kind": "GPU",
        "model_instance_name": "g_0",
        "model_instance_device_id": "3",
        "model_repository": str(tmp_path / "model"),
        "model_version": "1",
        "model_name": "model",
    }


@pytest.mark.parametrize(("max_batch_size", "batch"), [(0, []), (4, [-1])])
def test_metadata(make, max_batch_size, batch):
    model = make(config=f"max_batch_size: {max_batch_size} {CONFIG}", load=False)
    assert metadata(model, [1, 3]) == {
        "name": "model",
        "versions": ["1", "3"],
        "platform": "python",
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [*batch, -1]}],
        "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [*batch, -1]}],
    }
