"""Loading with parameters, loading again, and models that load models, through ``Server``."""

import json

import numpy as np
import pytest
from instances import model_class
from model_files import CONFIG, DOUBLE, write_model

from triton_stub import Server
from triton_stub.errors import LoadError, ServerError

JSON = json.dumps(
    {
        "backend": "python",
        "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]}],
        "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]}],
    }
)
IN = np.ones(1, np.float32)
READS = "import pathlib\n" + model_class(
    "def execute(self, requests):\n"
    "    text = pathlib.Path(pb_utils.get_model_dir(), 'a.txt').read_text()\n"
    "    out = pb_utils.Tensor('OUT', np.array([float(text)], np.float32))\n"
    "    return [pb_utils.InferenceResponse([out]) for _ in requests]\n"
)


@pytest.fixture
def server(tmp_path):
    write_model(tmp_path, "model", DOUBLE, CONFIG)
    with Server(tmp_path, model_control_mode="explicit") as server:
        yield server


def test_files_that_come_with_the_call(server):
    files = {"config": JSON, "file:1/model.py": READS.encode(), "file:1/a.txt": b"7"}
    assert server.load("new", files)(IN=IN)["OUT"] == [7]
    server.load("model", files)
    assert server.model("model")(IN=IN)["OUT"] == [7]
    server.load("model")
    assert server.model("model")(IN=IN)["OUT"] == [2]


def test_a_model_that_has_not_changed_goes_on(server):
    server.load("model")
    before = server.find("model")
    server.load("model")
    assert server.find("model") is before
    server.unload("model")
    server.load("model")
    assert server.find("model") is not before


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"file:1/model.py": b""}, "must be specified for model file override"),
        ({"file:../a": b"", "config": JSON}, "must stay within model directory"),
        ({"file:1/model.py": "text", "config": JSON}, "must have bytes type"),
        ({"x": 3}, "Unrecognized load parameter 'x' with type 'INT'"),
        ({"config": b"{}"}, "Unrecognized load parameter 'config' with type 'BYTES'"),
        ({"config": "{"}, "Invalid config override"),
    ],
)
def test_parameters_that_are_refused(server, parameters, told):
    with pytest.raises(LoadError) as caught:
        server.load("model", parameters)
    assert told in caught.value.message
    # A client of the server is told less.
    assert caught.value.told == "failed to load 'model', failed to poll from model repository"


@pytest.mark.parametrize("name", ["", " ", "..", "a/b"])
def test_names_that_are_refused(server, name):
    with pytest.raises(LoadError, match=r"name"):
        server.load(name)


def test_metrics_of_a_server(tmp_path):
    body = (
        "def initialize(self, args):\n"
        "    self.f = pb_utils.MetricFamily('loads', 'd', pb_utils.MetricFamily.COUNTER)\n"
        "    self.f.Metric().increment(1)\n"
    )
    write_model(tmp_path, "model", model_class(body), CONFIG)
    with Server(tmp_path, model_control_mode="explicit") as server:
        assert "\nloads " not in server.metrics()
        for count in (1, 2):
            server.load("model")
            assert f"\nloads {count}\n" in server.metrics()
            server.unload("model", wait_until_unloaded=True)


def test_models_are_not_loaded_while_the_server_starts_or_stops(tmp_path):
    body = (
        "def initialize(self, args):\n    self.ask()\n"
        "def finalize(self):\n    self.ask()\n"
        "def ask(self):\n"
        "    try:\n        pb_utils.load_model('model')\n"
        "    except pb_utils.TritonModelException as error:\n"
        "        pb_utils.Logger.log_info(str(error))\n"
    )
    write_model(tmp_path, "model", model_class(body), CONFIG)
    with Server(tmp_path) as server:
        pass
    assert str(server.log()).count("message: Server not ready") == 2


def test_without_explicit_control(tmp_path):
    write_model(tmp_path, "model", DOUBLE, CONFIG)
    with Server(tmp_path) as server, pytest.raises(ServerError, match="explicit model load"):
        server.load("model")
