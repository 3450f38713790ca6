"""The stub behind the face of all engines: the same answers as over its own HTTP port."""

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

from triton_stub import InferenceError, LoadError, ServerError, StatusCode
from triton_stub.endpoints.clients import connect
from triton_stub.engines.engine import Engine
from triton_stub.engines.http import HttpEngine
from triton_stub.engines.stub import StubEngine

CONFIG = """
max_batch_size: 4
dynamic_batching { }
input [
  { name: "x" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "outputs" data_type: TYPE_FP32 dims: [ -1 ] optional: true }
]
output [
  { name: "y" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "z" data_type: TYPE_FP32 dims: [ -1 ] }
]
"""
MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.version = int(args["model_version"])
        pb_utils.Logger.log_info(f"{args['model_name']} is here")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if (x == 7).any():
            raise ValueError("no sevens")
        more = pb_utils.get_input_tensor_by_name(request, "outputs")
        y = x * self.version if more is None else x + more.as_numpy()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("y", y), pb_utils.Tensor("z", -x)]
        )

    def finalize(self):
        pb_utils.Logger.log_info("gone")
"""
BROKEN = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        pb_utils.Logger.log_info("looking for weights")
        raise OSError("no weights")
"""
X = np.array([[1, 2, 3]], np.float32)


def write_model(repository, name, source=MODEL, versions=(1,)):
    for version in versions:
        folder = repository / name / str(version)
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(source)
    (repository / name / "config.pbtxt").write_text(CONFIG + "version_policy: { all: {} }")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "good", versions=(1, 3))
    write_model(folder, "other")
    return folder


@pytest.fixture(scope="module")
def engine(repository):
    with StubEngine(repository) as engine:
        yield engine


@pytest.fixture(scope="module")
def over_http(engine):
    with HttpEngine(engine.http_url) as http:
        yield http


@pytest.fixture
def broken(tmp_path):
    write_model(tmp_path, "good")
    write_model(tmp_path, "bad", BROKEN)
    return tmp_path


def count_threads(name):
    return sum(name in thread.name for thread in threading.enumerate())


def outcome(call):
    try:
        value = call()
    except ServerError as error:
        return error.message, error.code.http_status
    if hasattr(value, "outputs"):
        arrays = {name: (str(value[name].dtype), value[name].tolist()) for name in value}
        return arrays, value.model_name, value.model_version, value.request_id
    return value


def test_it_has_the_face_of_an_engine(engine):
    offered: Engine = engine
    names = [name for name in dir(Engine) if not name.startswith("_")]
    assert len(names) > 5
    assert [name for name in names if not hasattr(offered, name)] == []
    assert engine.name == "stub"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda engine: engine.infer("good", x=X), id="keywords"),
        pytest.param(lambda engine: engine.infer("good", {"x": X, "outputs": X}), id="mapping"),
        pytest.param(lambda engine: engine.infer("good", {"outputs": X}, x=X), id="both"),
        pytest.param(lambda engine: engine.infer("good", x=X, outputs=["z"]), id="one output"),
        pytest.param(lambda engine: engine.infer("good", x=X, outputs=[]), id="no outputs named"),
        pytest.param(lambda engine: engine.infer("good", x=X, model_version="1"), id="version"),
        pytest.param(lambda engine: engine.infer("good", x=X, request_id="seven"), id="id"),
        pytest.param(lambda engine: engine.infer("good", x=X, parameters={"a": 1}), id="parameter"),
        pytest.param(lambda engine: engine.infer("good", x=X + 6), id="the model raises"),
        pytest.param(lambda engine: engine.infer("good"), id="no input"),
        pytest.param(lambda engine: engine.infer("good", x=X[0]), id="no batch"),
        pytest.param(lambda engine: engine.infer("good", x=X.astype(int)), id="wrong datatype"),
        pytest.param(lambda engine: engine.infer("good", x=X, outputs=["no"]), id="unknown output"),
        pytest.param(lambda engine: engine.infer("nobody", x=X), id="unknown model"),
        pytest.param(lambda engine: engine.infer("good", x=X, model_version="2"), id="no version"),
        pytest.param(
            lambda engine: engine.infer("good", x=X, parameters={"priority": 1}), id="reserved"
        ),
        pytest.param(
            lambda engine: engine.infer("good", x=X, parameters={"triton_a": 1}), id="prefix"
        ),
        pytest.param(lambda engine: engine.server_metadata(), id="server metadata"),
        pytest.param(lambda engine: engine.metadata("good"), id="metadata"),
        pytest.param(lambda engine: engine.metadata("good", "3"), id="metadata of a version"),
        pytest.param(lambda engine: engine.metadata("nobody"), id="metadata of nobody"),
        pytest.param(lambda engine: engine.config("good"), id="config"),
        pytest.param(lambda engine: engine.config("nobody"), id="config of nobody"),
        pytest.param(lambda engine: engine.statistics(), id="all statistics"),
        pytest.param(lambda engine: engine.statistics("good"), id="statistics"),
        pytest.param(lambda engine: engine.statistics("good", "1"), id="statistics of a version"),
        pytest.param(lambda engine: engine.statistics("nobody"), id="statistics of nobody"),
        pytest.param(lambda engine: engine.ready(), id="ready"),
        pytest.param(lambda engine: engine.ready("good"), id="model ready"),
        pytest.param(lambda engine: engine.ready("good", "2"), id="version not ready"),
        pytest.param(lambda engine: engine.ready("good", "x"), id="no version ready"),
        pytest.param(lambda engine: engine.ready("nobody"), id="nobody ready"),
        *[
            pytest.param(
                lambda engine, value=value: engine.infer("good", x=X, parameters={"p": value}),
                id=f"parameter {value!r}",
            )
            for value in (1, True, 1.5, "a", "a\0b", b"a", 2**70, [1], None, {"a": 1})
        ],
    ],
)
def test_it_answers_as_its_http_port_does(engine, over_http, body):
    assert outcome(lambda: body(engine)) == outcome(lambda: body(over_http))


@pytest.mark.parametrize("inputs", [X, [X], []])
def test_inputs_have_names(engine, over_http, inputs):
    told = r'such as \{"IN": array\}; got (ndarray|list)'
    for each in (engine, over_http):
        with pytest.raises(TypeError, match=told):
            each.infer("good", inputs)
    with pytest.raises(TypeError, match=told):
        list(engine.stream("good", inputs))


@pytest.mark.parametrize("version", ["x", "-1", "1.0", " 1"])
def test_a_version_that_is_no_number(engine, version):
    with pytest.raises(InferenceError, match="expected a whole number such as '1'"):
        engine.infer("good", x=X, model_version=version)


def test_reserved_parameters_are_those_of_the_real_client(engine):
    for name in ("sequence_id", "sequence_start", "binary_data_output", "triton_enable"):
        with pytest.raises(InferenceServerException) as client:
            InferenceServerClient.generate_request_body([], parameters={name: 1})
        with pytest.raises(InferenceError) as stub:
            engine.infer("good", x=X, parameters={name: 1})
        assert stub.value.message == client.value.message()
        assert stub.value.code is StatusCode.INVALID_ARG


def test_an_error_shows_the_line_of_the_model(engine, repository):
    with pytest.raises(InferenceError) as caught:
        engine.infer("good", x=X + 6)
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    assert frame.filename == str(repository / "good" / "3" / "model.py")
    assert frame.line == 'raise ValueError("no sevens")'


def test_the_servers_own_handles(engine):
    assert engine.model("good").version == engine.server.model("good").version
    first, second = engine.model("good", "1").execute([{"x": X}, {"x": 2 * X}])
    assert (second["y"] == 2 * first["y"]).all()


def test_a_port_is_opened_for_those_who_ask(repository):
    ports = count_threads("http")
    with StubEngine(repository, models=["good"]) as engine:
        engine.infer("good", x=X)
        engine.metadata("good")
        assert count_threads("http") == ports
        with ThreadPoolExecutor(8) as threads:
            urls = set(threads.map(lambda _: engine.http_url, range(32)))
        assert urls == {engine.http_url}
        assert count_threads("http") == ports + 1
        with engine.client() as first, engine.client() as second:
            assert first.is_server_ready()
            assert second.is_model_ready("good")
        with connect("grpc", engine.grpc_url) as client:
            assert client.is_model_ready("good")
    with HttpEngine(*urls) as http:
        assert not http.ready()


def test_only_the_named_models_are_loaded(repository):
    with StubEngine(repository, models=["other"]) as engine:
        assert (engine.ready("other"), engine.ready("good")) == (True, False)
    with StubEngine(repository, models=[]) as engine:
        assert engine.ready()
        assert not engine.ready("other")


def test_several_repositories(repository, tmp_path):
    write_model(tmp_path, "third")
    with StubEngine([repository, tmp_path]) as engine:
        assert all(engine.ready(model) for model in ("good", "other", "third"))


def test_a_broken_model_says_why(broken):
    instances = count_threads("good")
    with pytest.raises(LoadError, match="no weights") as caught:
        StubEngine(broken)
    assert isinstance(caught.value.__cause__, OSError)
    (note,) = caught.value.__notes__
    assert note.startswith("the end of the stub's log:\n")
    assert '"looking for weights"' in note
    assert count_threads("good") == instances


def test_an_interrupt_while_it_starts(tmp_path):
    write_model(tmp_path, "early")
    write_model(
        tmp_path,
        "late",
        "import signal\nimport threading\n\n\nclass TritonPythonModel:\n"
        "    def initialize(self, args):\n        signal.raise_signal(signal.SIGINT)\n"
        "        threading.Event().wait(0.2)\n",
    )
    instances = count_threads("early")
    with pytest.raises(KeyboardInterrupt):
        StubEngine(tmp_path)
    assert count_threads("early") == instances


def test_a_model_that_is_not_there(repository):
    with pytest.raises(LoadError, match=r"there are: good, other\.") as caught:
        StubEngine(repository, models=["nobody"])
    assert caught.value.__cause__ is None


def test_the_good_models_of_a_broken_repository(broken):
    with StubEngine(broken, exit_on_error=False) as engine:
        assert (engine.infer("good", x=X)["y"] == X).all()
        assert list(engine.server.load_errors) == ["bad"]
        assert not engine.ready()


def test_the_log_outlives_the_engine(repository):
    engine = StubEngine(repository, models=["other"])
    assert '"other is here"' in engine.log()
    engine.stop()
    engine.stop()
    assert '"gone"' in engine.log()
    assert not engine.ready()
    with pytest.raises(InferenceError, match="Server not started"):
        engine.infer("other", x=X)


def test_verbose_lines_are_kept_on_request(tmp_path):
    write_model(tmp_path, "chatty", MODEL.replace("log_info(f", "log_verbose(f"))
    with StubEngine(tmp_path) as engine:
        assert "is here" not in engine.log()
    with StubEngine(tmp_path, log_verbose=True) as engine:
        assert "is here" in engine.log()


def test_repr(repository):
    with StubEngine(str(repository), models=[]) as engine:
        assert repr(engine) == f"StubEngine({str(repository)!r})"
