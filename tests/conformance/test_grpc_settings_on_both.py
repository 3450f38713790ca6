"""gRPC: settings of traces and of the log, and regions of shared memory, on both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comparing import Engines
from grpc_asking import Failure, call, request, same, stub_of
from patience import PATIENCE, wait_until
from tritonclient.grpc import service_pb2 as pb

from triton_stub.engines.engine import Engine


def trace(grpc_engines: Engines, model: str = "", **settings: list[str]) -> Any:
    """What both tell, but for where they write."""
    message = pb.TraceSettingRequest(model_name=model)
    for key, values in settings.items():
        message.settings[key].value.extend(values)
    stub, native = (call(engine, "TraceSetting", message) for engine in grpc_engines)
    for answer in (stub, native):
        if not isinstance(answer, Failure):
            (file,) = answer["settings"].pop("trace_file")["value"]
            assert Path(file).parent.is_dir()
    assert stub == native
    return native


TRACES: dict[str, dict[str, list[str]]] = {
    "level": {"trace_level": ["TIMESTAMPS", "TENSORS"]},
    "level unknown": {"trace_level": ["X"]},
    "level off": {"trace_level": ["OFF"]},
    "level off and more": {"trace_level": ["TENSORS", "OFF"]},
    "level given up": {"trace_level": []},
    "rate": {"trace_rate": ["3"]},
    "rate with a tail": {"trace_rate": [" 4x"]},
    "rate of two": {"trace_rate": ["3", "4"]},
    "rate, no number": {"trace_rate": ["x"]},
    "rate too large": {"trace_rate": ["4294967296"]},
    "rate beyond 32 bits signed": {"trace_rate": ["2147483648"]},
    "negative rate": {"trace_rate": ["-1"]},
    "rate given up": {"trace_rate": []},
    "count": {"trace_count": ["5"]},
    "count without end": {"trace_count": ["-1"]},
    "count too small": {"trace_count": ["-2"]},
    "count of two": {"trace_count": ["1", "2"]},
    "count, no number": {"trace_count": [""]},
    "count too large": {"trace_count": ["2147483648"]},
    "count given up": {"trace_count": []},
    "frequency": {"log_frequency": ["9"]},
    "frequency, no number": {"log_frequency": ["-"]},
    "frequency of two": {"log_frequency": ["-", "1"]},
    "frequency too large": {"log_frequency": ["99999999999"]},
    "frequency given up": {"log_frequency": []},
    "file": {"trace_file": ["x"]},
    "file and a rate": {"trace_file": ["x"], "trace_rate": ["9"]},
    "mode": {"trace_mode": ["opentelemetry"]},
    "unknown": {"foo": ["bar"]},
    "good and bad": {"trace_rate": ["11"], "trace_count": ["x"]},
}


@pytest.mark.rule("5.2-trace")
@pytest.mark.parametrize("model", ["", "echo"])
@pytest.mark.parametrize("settings", TRACES.values(), ids=TRACES)
def test_trace_settings(grpc_engines: Engines, settings: dict[str, list[str]], model: str) -> None:
    trace(grpc_engines, model, **settings)
    trace(grpc_engines)
    trace(grpc_engines, "echo")


@pytest.mark.rule("5.2-trace")
@pytest.mark.parametrize("model", ["nope", "broken", "echo\0x"])
def test_trace_settings_of_odd_models(grpc_engines: Engines, model: str) -> None:
    trace(grpc_engines, model)
    trace(grpc_engines, model, trace_rate=["1"])


UNARY = [
    [request("echo", id="first")],
    [request("fails")],
    # What is refused has no trace.
    [request("nope")],
    [request("decoupled")],
    [request("echo", raw=())],
    [request("echo", raw=(b"abc",))],
    [request("echo", id="last")],
]
STREAMS = [
    [request("echo", id="1"), request("echo", id="2"), request("fails")],
    [request("nope"), request("echo", raw=(b"abc",))],
    [request("twice", id="3")],
    [request("echo", id="last")],
]


@pytest.mark.rule("5.2-traced")
@pytest.mark.parametrize(
    ("calls", "count"), [(UNARY, 3), (STREAMS, 5)], ids=["one by one", "streams"]
)
def test_what_is_traced(grpc_engines: Engines, calls: list[list[Any]], count: int) -> None:
    stub, native = (traces(engine, calls, count) for engine in grpc_engines)
    assert stub == native


def traces(engine: Engine, calls: list[list[Any]], count: int) -> Any:
    """What is written of each request: who was asked, what the core does, what the port does."""
    file = Path(trace_file(engine, "TIMESTAMPS", "1"))
    before = set(file.parent.glob(f"{file.name}.*"))
    try:
        for messages in calls:
            with stub_of(engine) as stub:
                if calls is UNARY:
                    call(engine, "ModelInfer", messages[0])
                else:
                    list(stub.ModelStreamInfer(iter(messages), timeout=PATIENCE))
        wait_until(lambda: len(set(file.parent.glob(f"{file.name}.*")) - before) >= count)
    finally:
        trace_file(engine, "OFF", "7")
    written = set(file.parent.glob(f"{file.name}.*")) - before
    return sorted(map(_summary, written), key=str)


def trace_file(engine: Engine, level: str, rate: str) -> str:
    """Have requests traced, and each written at once; where to."""
    message = pb.TraceSettingRequest()
    for key, value in {"level": level, "rate": rate}.items():
        message.settings[f"trace_{key}"].value.append(value)
    message.settings["log_frequency"].value.append("1")
    message.settings["trace_count"].value.append("-1")
    (file,) = call(engine, "TraceSetting", message)["settings"]["trace_file"]["value"]
    return str(file)


def _summary(path: Path) -> Any:
    wait_until(lambda: path.read_text().endswith("]"))
    known, *records = json.loads(path.read_text())
    names = [record["timestamps"][0]["name"] for record in records]
    front = [name for name in names if name.startswith(("GRPC", "INFER"))]
    return (
        {key: value for key, value in known.items() if key != "id"},
        sorted(set(names) - set(front)),
        front,
    )


Value = pb.LogSettingsRequest.SettingValue
LOGS: dict[str, dict[str, Any]] = {
    "none": {},
    "info": {"log_info": Value(bool_param=False)},
    "warning": {"log_warning": Value(bool_param=False)},
    "error": {"log_error": Value(bool_param=False)},
    "verbose": {"log_verbose_level": Value(uint32_param=3)},
    "verbose beyond 31 bits": {"log_verbose_level": Value(uint32_param=2**31)},
    "verbose off": {"log_verbose_level": Value(uint32_param=0)},
    "format": {"log_format": Value(string_param="ISO8601")},
    "format default": {"log_format": Value(string_param="default")},
    "format unknown": {"log_format": Value(string_param="x")},
    "format, bool": {"log_format": Value(bool_param=True)},
    "file": {"log_file": Value(string_param="x")},
    "file, nothing": {"log_file": Value()},
    "info, text": {"log_info": Value(string_param="x")},
    "warning, number": {"log_warning": Value(uint32_param=1)},
    "error, nothing": {"log_error": Value()},
    "verbose, text": {"log_verbose_level": Value(string_param="1")},
    "good and bad": {"log_info": Value(bool_param=True), "log_error": Value(uint32_param=1)},
    "unknown": {"foo": Value(uint32_param=1)},
    "all on": {f"log_{name}": Value(bool_param=True) for name in ("info", "warning", "error")},
}


@pytest.mark.rule("5.2-logging")
@pytest.mark.parametrize("settings", LOGS.values(), ids=LOGS)
def test_log_settings(grpc_engines: Engines, settings: dict[str, Any]) -> None:
    message = pb.LogSettingsRequest()
    for key, value in settings.items():
        message.settings[key].CopyFrom(value)
    same(grpc_engines, "LogSettings", message)
    same(grpc_engines, "LogSettings", pb.LogSettingsRequest())


MEMORY = {
    "status": ("SystemSharedMemoryStatus", {}),
    "status of one": ("SystemSharedMemoryStatus", {"name": "x"}),
    "unknown key": ("SystemSharedMemoryRegister", {"name": "x", "key": "/nope", "byte_size": 4}),
    "unregister": ("SystemSharedMemoryUnregister", {"name": "x"}),
    "unregister all": ("SystemSharedMemoryUnregister", {}),
    "cuda status": ("CudaSharedMemoryStatus", {}),
    "cuda status of one": ("CudaSharedMemoryStatus", {"name": "x"}),
    "cuda unregister": ("CudaSharedMemoryUnregister", {"name": "x"}),
    "cuda unregister all": ("CudaSharedMemoryUnregister", {}),
    "cuda": ("CudaSharedMemoryRegister", {"name": "x", "raw_handle": b"\0" * 64, "byte_size": 8}),
    "cuda without handle": ("CudaSharedMemoryRegister", {"name": "x"}),
}


@pytest.mark.rule("5.2-memory")
@pytest.mark.parametrize(("method", "fields"), MEMORY.values(), ids=MEMORY)
def test_memory(grpc_engines: Engines, method: str, fields: dict[str, Any]) -> None:
    same(grpc_engines, method, getattr(pb, f"{method}Request")(**fields))
