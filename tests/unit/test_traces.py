"""Traces, and the settings that say which requests are traced."""

import json
import pickle

import numpy as np
import pytest

from triton_stub.core.clock import ManualClock
from triton_stub.core.log import Log
from triton_stub.core.request import InferenceResponse
from triton_stub.core.statistics import BatchTimes
from triton_stub.core.tensor import Tensor
from triton_stub.core.trace import TraceLevel
from triton_stub.core.trace_settings import Tracer, TraceSettings, from_config
from triton_stub.errors import InferenceError

TIMES = BatchTimes(1, 2, 3, 4)
STAMPS = TraceLevel.TIMESTAMPS


def tracer(folder, **settings):
    given = {"level": STAMPS, "rate": 1, "log_frequency": 1, **settings}
    return Tracer(TraceSettings(file=str(folder / "t"), **given), Log(), ManualClock())


def answer(*tensors, final=True):
    return InferenceResponse(model_name="m", model_version="1", tensors=tensors, final=final)


def serve(trace, *, inputs=(), outputs=(), request_id=""):
    """What happens to a request that is executed."""
    trace.queued("m", 1, request_id, inputs, 0)
    trace.served(answer(*outputs), TIMES)


def written(folder, name="t.0"):
    return json.loads((folder / name).read_text())


def names(records):
    return [each["timestamps"][0]["name"] for each in records if "timestamps" in each]


def test_a_request(tmp_path):
    trace = tracer(tmp_path).sample("m")
    trace.received(0)
    serve(trace, request_id="id")
    assert not (tmp_path / "t.0").exists()
    trace.sent(5)
    records = written(tmp_path)
    assert {"id": 1, "model_name": "m", "model_version": 1, "request_id": "id"} in records
    assert names(records) == [
        *("HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START", "QUEUE_START"),
        *("INFER_RESPONSE_COMPLETE", "COMPUTE_START", "COMPUTE_INPUT_END"),
        *("COMPUTE_OUTPUT_START", "COMPUTE_END", "REQUEST_END"),
        *("HTTP_SEND_START", "HTTP_SEND_END"),
    ]


def test_a_request_that_is_answered_after_its_execution(tmp_path):
    trace = tracer(tmp_path).sample("m")
    trace.queued("m", 1, "", (), 0)
    trace.served(None, TIMES)
    trace.done()
    assert not (tmp_path / "t.0").exists()
    trace.responded(answer(final=False))
    trace.responded(answer())
    trace.responded(answer())
    assert names(written(tmp_path))[-3:] == ["REQUEST_END", *2 * ["INFER_RESPONSE_COMPLETE"]]


def test_a_request_that_is_executed_twice(tmp_path):
    trace = tracer(tmp_path).sample("m")
    trace.queued("m", 1, "", (), 0)
    trace.served(None, TIMES, ended=False)
    trace.served(answer(), TIMES)
    trace.done()
    assert names(written(tmp_path)).count("COMPUTE_START") == 2
    assert names(written(tmp_path)).count("REQUEST_END") == 1


def test_requests_that_are_sent_because_of_another(tmp_path):
    trace = tracer(tmp_path).sample("m")
    trace.queued("m", 1, "", (), 0)
    child = trace.spawn()
    serve(child)
    trace.served(answer(), TIMES)
    trace.done()
    records = written(tmp_path)
    assert records[0] == {"id": 2, "model_name": "m", "model_version": 1, "parent_id": 1}
    assert names(records)[:2] == ["REQUEST_START", "QUEUE_START"]
    assert [each["id"] for each in records] == [2] * 8 + [1] * 9


def test_a_request_that_is_refused(tmp_path):
    traces = tracer(tmp_path)
    trace = traces.sample("m")
    trace.received(0)
    trace.abandon()
    trace.sent(0)
    traces.close()
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_refused_is_not_waited_for(tmp_path):
    trace = tracer(tmp_path).sample("m")
    trace.spawn().abandon()
    serve(trace)
    trace.done()
    assert written(tmp_path)


def test_of_another_process_nothing_is_seen(tmp_path):
    assert pickle.loads(pickle.dumps(tracer(tmp_path).sample("m"))) is None


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([True, False]), "1,0"),
        (np.array([65, 66], np.uint8), "A,B"),
        (np.array([65], np.int8), "A"),
        (np.array([-3, 4], np.int64), "-3,4"),
        (np.array([1.5, 1e10, 1 / 3], np.float32), "1.5,1e+10,0.333333"),
        (np.array([1.5], np.float16), ""),
        (np.array([b"a", b""], object), '"a",""'),
        (np.zeros((0,), np.int32), ""),
    ],
)
def test_values_of_tensors(tmp_path, array, text):
    trace = tracer(tmp_path, level=TraceLevel.TENSORS).sample("m")
    tensor = Tensor.from_numpy("x", array)
    serve(trace, inputs=[tensor], outputs=[tensor])
    trace.sent(0)
    first, last = written(tmp_path)
    shape = ",".join(map(str, array.shape))
    assert first["tensor"] == {
        "name": "x", "data": text, "shape": shape, "dtype": tensor.datatype.name
    }  # fmt: skip
    assert [first["activity"], last["activity"]] == ["TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_OUTPUT"]


def request(traces, model="m"):
    """True if a request is traced."""
    trace = traces.sample(model)
    if trace is not None:
        serve(trace)
        trace.done()
    return trace is not None


def test_every_third_request(tmp_path):
    traces = tracer(tmp_path, rate=3)
    assert [request(traces) for _ in range(7)] == [False, False, True, False, False, True, False]


def test_a_count_of_requests(tmp_path):
    traces = tracer(tmp_path, count=2, log_frequency=0)
    assert request(traces)
    assert not list(tmp_path.iterdir())
    assert traces.get().count == 1
    assert [request(traces) for _ in range(3)] == [True, False, False]
    assert len(names(written(tmp_path))) == 16
    assert traces.get().count == 0


def test_a_file_for_so_many_traces_and_one_for_the_rest(tmp_path):
    traces = tracer(tmp_path, log_frequency=2)
    for _ in range(5):
        request(traces)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.0", "t.1"]
    traces.close()
    assert len(names(written(tmp_path, "t.2"))) == 8


def test_one_file_when_the_server_stops(tmp_path):
    traces = tracer(tmp_path, log_frequency=0)
    request(traces)
    traces.update("", {"rate": 2})
    for _ in range(4):
        request(traces)
    traces.close()
    assert len(names(written(tmp_path, "t"))) == 3 * 8


def test_what_is_under_way_belongs_to_the_old_settings(tmp_path):
    traces = tracer(tmp_path, log_frequency=0)
    trace = traces.sample("m")
    traces.update("", {"level": TraceLevel.OFF})
    assert not request(traces)
    serve(trace)
    trace.done()
    traces.close()
    assert len(names(written(tmp_path, "t"))) == 8


def test_a_model_has_what_was_given_and_the_server_s_for_the_rest(tmp_path):
    traces = tracer(tmp_path)
    traces.update("m", {"rate": 5})
    traces.update("", {"count": 9, "rate": 7})
    assert (traces.get("m").rate, traces.get("m").count) == (5, 9)
    assert (traces.get("other").rate, traces.get().rate) == (7, 7)
    traces.update("m", {"rate": None})
    assert traces.get("m").rate == 7
    traces.update("", {"rate": None})
    assert traces.get("m") == traces.get()
    assert traces.get().rate == 1


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        ({}, {"rate": 0}, "sample rate must be non-zero"),
        ({}, {"count": 0}, ""),
        ({"level": TraceLevel.OFF, "file": ""}, {"level": STAMPS}, "trace file name is not given"),
    ],
)
def test_settings_that_are_refused(tmp_path, settings, changes, reason):
    given = {"level": STAMPS, "rate": 1, "file": str(tmp_path / "t"), **settings}
    traces = Tracer(TraceSettings(**given), Log())
    before = traces.get()
    with pytest.raises(
        InferenceError, match=f"^Attempting to set invalid trace setting :{reason}$"
    ):
        traces.update("", changes)
    assert traces.get() == before


def test_a_file_that_cannot_be_written_is_in_the_log(tmp_path):
    log = Log()
    traces = Tracer(TraceSettings(STAMPS, 1, -1, 1, str(tmp_path / "none" / "t")), log)
    request(traces)
    assert "failed creating trace file" in str(log)


def test_options_of_the_command_line(tmp_path):
    found = from_config(
        {"level": ["timestamps", "TENSORS"], "rate": "5", "count": 3, "file": tmp_path / "t"}
    )
    assert found == TraceSettings(STAMPS | TraceLevel.TENSORS, 5, 3, 0, str(tmp_path / "t"))
    assert found.to_dict()["trace_level"] == ["TIMESTAMPS", "TENSORS"]
    assert from_config({}).to_dict()["trace_level"] == ["OFF"]


@pytest.mark.parametrize("config", [{"mode": "opentelemetry"}, {"levels": "OFF"}, {"level": "x"}])
def test_options_that_there_are_not(config):
    with pytest.raises(ValueError, match="trace"):
        from_config(config)


def test_a_folder_that_is_gone_in_the_end_is_in_the_log(tmp_path):
    log, folder = Log(), tmp_path / "folder"
    folder.mkdir()
    traces = Tracer(TraceSettings(STAMPS, 1, -1, 0, str(folder / "t")), log)
    request(traces)
    traces.update("", {"rate": 2})  # what there is is written
    (folder / "t").unlink()
    folder.rmdir()
    traces.close()
    assert "failed creating trace file" in str(log)
