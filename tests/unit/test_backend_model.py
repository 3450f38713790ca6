"""A model that gets other instances while it serves."""

import threading

import pytest
from instances import write_files
from patience import wait_until

from triton_stub.errors import LoadError
from triton_stub.server.server import Server

START, END = 1, 2
CONFIG = 'backend: "python" output { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } '
CODE = """
import os, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.place, self.name = args["model_repository"] + " ", args["model_instance_name"]
        if os.path.exists(self.place + "broken"):
            raise ValueError(self.name)
        self.note("begins")

    def note(self, what):
        with open(self.place + "events", "a") as file:
            file.write(f"{self.name} {what}\\n")

    def execute(self, requests):
        self.note("executes")
        while os.path.exists(self.place + "closed"):
            time.sleep(0.005)
        out = pb_utils.Tensor("OUT", np.array([self.name.encode()], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]

    def finalize(self):
        self.note("ends")
"""


@pytest.fixture(params=["thread", "process"])
def served(request, tmp_path):
    (tmp_path / "models").mkdir()
    served = Served(tmp_path / "models")
    served.write("count: 1")
    options = {"isolation": request.param, "strict_model_config": True}
    with Server(served.folder, model_control_mode="explicit", **options) as server:
        served.server = server
        server.load("m")
        yield served


class Served:
    def __init__(self, folder):
        self.folder = folder
        self.scheduling = ""
        self.seen = 0

    def write(self, group):
        config = f"{CONFIG} {self.scheduling} instance_group {{ {group} }}"
        write_files(self.folder / "m", {"config.pbtxt": config})
        if not (self.folder / "m" / "1").exists():
            write_files(self.folder / "m", {"1/model.py": CODE})

    def update(self, group):
        self.write(group)
        self.server.load("m")

    def beside(self, name):
        return self.folder / f"m {name}"

    def happened(self):
        """What is new; the file is only read, because an instance may be writing to it."""
        path = self.beside("events")
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line.rstrip() for line in lines if line.endswith("\n")]
        found, self.seen = whole[self.seen :], len(whole)
        return sorted(found)

    def reason(self):
        (state,) = self.server.index()
        return state.state, state.reason


def test_instances_come_and_go(served):
    assert served.happened() == ["m_0_0 begins"]
    served.update("count: 2")
    assert served.happened() == ["m_0_1 begins"]
    served.update("count: 1")
    assert served.happened() == ["m_0_0 ends"]  # the last one is kept
    served.update("count: 1 kind: KIND_MODEL")
    assert served.happened() == ["m_0_0 begins", "m_0_1 ends"]


def test_one_that_fails_changes_nothing(served):
    served.beside("broken").touch()
    with pytest.raises(LoadError, match="ValueError: m_0_1"):
        served.update("count: 2")
    state, reason = served.reason()
    assert state == "READY"
    assert "ValueError: m_0_1" in reason
    assert served.happened() == ["m_0_0 begins"]
    served.beside("broken").unlink()
    served.server.load("m")
    assert served.happened() == ["m_0_1 begins"]
    assert served.reason() == ("READY", "")


def test_one_too_many_finishes_what_it_does(served):
    served.beside("closed").touch()
    model = served.server.model("m")
    answers = []
    asking = threading.Thread(target=lambda: answers.append(model()))
    asking.start()
    wait_until(lambda: served.beside("events").read_text().count("executes") == 1)
    served.write("count: 1 kind: KIND_MODEL")
    loading = threading.Thread(target=served.server.load, args=("m",))
    loading.start()
    wait_until(lambda: model.config()["instance_group"][0]["kind"] == "KIND_MODEL")
    assert loading.is_alive()
    served.beside("closed").unlink()
    loading.join()
    asking.join()
    assert answers[0]["OUT"][0] == b"m_0_0"
    assert "m_0_0 ends" in served.happened()


@pytest.mark.parametrize("strategy", ["direct", "oldest"])
def test_one_too_many_ends_after_its_sequences(served, strategy):
    served.scheduling = f"sequence_batching {{ {strategy} {{ }} }}"
    served.update("count: 2")
    model = served.server.model("m")

    def ask(sequence, flags=0):
        (response,) = model.infer(correlation_id=sequence, flags=flags)
        return response.result()["OUT"][0]

    assert [ask(1, START), ask(2, START)] == [b"m_0_0", b"m_0_1"]
    served.happened()
    served.update("count: 1")
    assert [ask(1), ask(2)] == [b"m_0_0", b"m_0_1"]
    assert "m_0_0 ends" not in served.happened()
    assert ask(1, END) == b"m_0_0"
    seen = []
    wait_until(lambda: seen.extend(served.happened()) or "m_0_0 ends" in seen)
