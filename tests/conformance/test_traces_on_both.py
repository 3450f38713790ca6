"""Traces: which requests are traced, what is written of them, and the settings of both."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from broken_models import both_engines, write_models
from comparing import Engines
from observed import CACHE, CACHE_OPTION, write
from patience import wait_until
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine

LEVEL = '{"trace_level": ["%s"]}'
DATATYPES = [
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
]
TYPES = 'backend: "python" ' + "".join(
    f'input {{ name: "{name}" data_type: TYPE_{name.replace("BYTES", "STRING")} dims: [ -1 ] }} '
    f'output {{ name: "OUT_{name}" data_type: TYPE_{name.replace("BYTES", "STRING")} dims: [-1] }} '
    for name in DATATYPES
)
ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT_" + tensor.name(), tensor.as_numpy())
                for tensor in sorted(request.inputs(), key=lambda tensor: tensor.name())
            ])
            for request in requests
        ]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the traces are."""
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("traced")
    write(repository)
    write_models(repository, {"types": ECHO}, TYPES)
    given = {"level": "TIMESTAMPS", "rate": "1", "log-frequency": "1"}
    options = [
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=1",
        "--trace-config=triton,log-frequency=1",
        f"--trace-config=triton,file={folder / 'native'}",
    ]
    with both_engines(
        repository,
        options=[CACHE_OPTION, *options],
        cache_config=CACHE,
        trace_config={**given, "file": str(folder / "stub")},
    ) as both:
        yield both


class Traces:
    """The files that an engine writes, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = {name: itertools.count() for name in ("stub", "native")}

    def next(self, engine: Engine) -> list[dict[str, Any]]:
        """What the next file has, as soon as it is there."""
        path = self._folder / f"{engine.name}.{next(self._numbers[engine.name])}"
        wait_until(lambda: path.exists() and path.read_bytes().endswith(b"]"))
        found: list[dict[str, Any]] = json.loads(path.read_bytes())
        return found


@pytest.fixture(scope="module")
def traces(folder: Path) -> Traces:
    return Traces(folder)


def request(engine: Engine, method: str, path: str, body: str | None) -> Any:
    """A raw request, of which no connection is left: the real server would wait for its end."""
    with urllib3.PoolManager() as pool:
        return pool.request(method, f"http://{engine.http_url}{path}", body=body)


def settings(engine: Engine, body: str | None = None, model: str = "") -> tuple[int, Any]:
    """Read, or with a body change, the trace settings; without the name of the file."""
    path = f"/v2/models/{model}/trace/setting" if model else "/v2/trace/setting"
    method = "GET" if body is None else "POST"
    answer = request(engine, method, path, body)
    found = answer.json()
    found.pop("trace_file", None)
    return answer.status, found


def ask(engine: Engine, model: str, value: float = 1, rows: int = 1, **request: Any) -> None:
    """Send a request over HTTP, and wait for its answer, whatever it is."""
    tensor = InferInput("X", [rows, 1], "FP32")
    tensor.set_data_from_numpy(np.full((rows, 1), value, np.float32))
    send(engine, model, [tensor], **request)


def send(engine: Engine, model: str, tensors: list[InferInput], **request: Any) -> None:
    with InferenceServerClient(engine.http_url) as client:
        try:
            client.infer(model, tensors, **request)
        except InferenceServerException:
            return


def generate(engine: Engine, path: str) -> None:
    answer = request(engine, "POST", f"/v2/models/plain/{path}", '{"X": 1, "id": "some id"}')
    assert answer.status == 200


def told(records: list[dict[str, Any]]) -> list[Any]:
    """The records without times and numbers: for each request what is known of it, and what
    happens where it is served, and where it came from, which race."""
    ids = list(dict.fromkeys(record["id"] for record in records))
    names = {each: place for place, each in enumerate(sorted(ids))}
    found = []
    for each in ids:
        own = [record for record in records if record["id"] == each]
        known = [record for record in own if "model_name" in record]
        parents = [names[record["parent_id"]] for record in known if "parent_id" in record]
        happened = [
            record["timestamps"][0]["name"] if "timestamps" in record else record
            for record in own
            if "model_name" not in record
        ]
        front = [name for name in happened if str(name).startswith(("HTTP", "INFER"))]
        core = [
            {"activity": step["activity"], **step["tensor"]} if isinstance(step, dict) else step
            for step in happened
            if step not in front
        ]
        named = [
            (record["model_name"], record["model_version"], record.get("request_id"))
            for record in known
        ]
        found.append((names[each], named, parents, core, front))
    return found


CASES: dict[str, Callable[[Engine], None]] = {
    "one": lambda engine: ask(engine, "plain", request_id="some id"),
    "rows": lambda engine: ask(engine, "plain", rows=3),
    "a failure": lambda engine: ask(engine, "plain", -1),
    "an error response": lambda engine: ask(engine, "plain", 9),
    "another version": lambda engine: ask(engine, "two", model_version="1"),
    "not in the cache": lambda engine: ask(engine, "cached", 7),
    "in the cache": lambda engine: ask(engine, "cached", 7),
    "a dynamic batcher": lambda engine: ask(engine, "dynamic"),
    "a sequence": lambda engine: ask(
        engine, "sequence", sequence_id=3, sequence_start=True, sequence_end=True
    ),
    "an ensemble": lambda engine: ask(engine, "ensemble", rows=2),
    "an ensemble whose step fails": lambda engine: ask(engine, "ensemble", -1),
    "requests of a model": lambda engine: ask(engine, "asks", 3),
    "requests of a model without its trace": lambda engine: ask(engine, "asks", 5),
    "too long in the queue": lambda engine: ask(engine, "slow"),
    "generate": lambda engine: generate(engine, "generate"),
    "generate_stream": lambda engine: generate(engine, "generate_stream"),
}


@pytest.mark.rule(
    "4.16-trace-activities", "4.16-trace-bls", "4.16-trace-ensemble", "4.16-trace-cache"
)
@pytest.mark.parametrize("level", ["TIMESTAMPS", "TENSORS", 'TENSORS","TIMESTAMPS'])
@pytest.mark.parametrize("case", CASES)
def test_what_is_written(engines: Engines, traces: Traces, case: str, level: str) -> None:
    engines.same(lambda engine: settings(engine, LEVEL % level))

    def body(engine: Engine) -> list[Any]:
        CASES[case](engine)
        return told(traces.next(engine))

    assert engines.same(body)


@pytest.mark.rule("4.16-trace-refused")
def test_a_request_that_is_refused_leaves_nothing(engines: Engines, traces: Traces) -> None:
    engines.same(lambda engine: settings(engine, LEVEL % "TIMESTAMPS"))

    def body(engine: Engine) -> list[Any]:
        ask(engine, "plain", rows=9)
        ask(engine, "nobody")
        ask(engine, "plain", request_id="after that")
        return told(traces.next(engine))

    engines.same(body)


@pytest.mark.rule("4.16-trace-times")
def test_times_are_in_order(engines: Engines, traces: Traces) -> None:
    engines.same(lambda engine: settings(engine, LEVEL % "TIMESTAMPS"))

    def body(engine: Engine) -> tuple[list[str], list[str]]:
        ask(engine, "plain")
        stamps = [each["timestamps"][0] for each in traces.next(engine) if "timestamps" in each]
        names = [each["name"] for each in sorted(stamps, key=lambda each: each["ns"])]
        assert names.index("HTTP_RECV_END") < names.index("REQUEST_START")
        assert names.index("COMPUTE_OUTPUT_START") < names.index("HTTP_SEND_START")
        # The real server sends the answer from another thread than the one that says that it has
        # computed it, so either may come first.
        front = [name for name in names if name.startswith("HTTP_")]
        core = [name for name in names if name not in front and name != "INFER_RESPONSE_COMPLETE"]
        return front, core

    front, core = engines.same(body)
    assert front[0] == "HTTP_RECV_START"
    assert core[0] == "REQUEST_START"


def wire(name: str) -> InferInput:
    """Three values of a datatype, as a client sends them."""
    if name == "BYTES":
        array: Any = np.array([b"one", b"", b"three"], object)
    elif name == "BOOL":
        array = np.array([True, False, True])
    elif name.startswith("FP"):
        array = np.array([1.5, -1e4, 1 / 3], {"FP16": "f2", "FP32": "f4", "FP64": "f8"}[name])
    else:  # characters that JSON takes, for the sake of the types that are printed so
        kind = "u" if name[0] == "U" else "i"
        array = np.array([65, 66, 67], f"{kind}{int(name.lstrip('UINT')) // 8}")
    return InferInput(name, [3], name).set_data_from_numpy(array)


@pytest.mark.rule("4.16-trace-tensors")
def test_values_of_every_datatype(engines: Engines, traces: Traces) -> None:
    engines.same(lambda engine: settings(engine, LEVEL % "TENSORS"))

    def body(engine: Engine) -> list[Any]:
        send(engine, "types", [wire(name) for name in DATATYPES])
        found = [record for record in traces.next(engine) if "tensor" in record]
        return sorted((record["activity"], str(record["tensor"])) for record in found)

    assert len(engines.same(body)) == 2 * len(DATATYPES)


@pytest.mark.rule("4.16-trace-rate")
def test_every_third_request(engines: Engines, traces: Traces) -> None:
    new = '{"trace_level": ["TIMESTAMPS"], "trace_rate": "3"}'
    engines.same(lambda engine: settings(engine, new))

    def body(engine: Engine) -> list[Any]:
        for number in range(1, 7):
            ask(engine, "plain", request_id=f"number {number}")
        return [told(traces.next(engine)) for _ in range(2)]

    assert [found[0][1][0][2] for found in engines.same(body)] == ["number 3", "number 6"]
    engines.same(lambda engine: settings(engine, '{"trace_rate": null}'))


@pytest.mark.rule("4.16-trace-count")
def test_no_more_than_two(engines: Engines, traces: Traces) -> None:
    engines.same(lambda engine: settings(engine, '{"trace_count": "2", "log_frequency": "0"}'))

    def body(engine: Engine) -> list[Any]:
        seen = [settings(engine)]
        for number in range(4):
            ask(engine, "plain", request_id=f"number {number}")
            seen.append(settings(engine))
        return [*seen, told(traces.next(engine))]

    engines.same(body)
    engines.same(lambda engine: settings(engine, '{"trace_count": null, "log_frequency": null}'))


@pytest.mark.rule("4.16-trace-model")
def test_a_model_with_settings_of_its_own(engines: Engines, traces: Traces) -> None:
    engines.same(lambda engine: settings(engine, LEVEL % "TIMESTAMPS"))
    engines.same(lambda engine: settings(engine, '{"trace_level": ["OFF"]}', "plain"))

    def body(engine: Engine) -> list[Any]:
        ask(engine, "plain")
        ask(engine, "dynamic")
        return [told(traces.next(engine)), settings(engine, None, "plain"), settings(engine)]

    engines.same(body)
    # What a model has not follows the server's.
    engines.same(lambda engine: settings(engine, '{"trace_rate": "7"}'))
    engines.same(lambda engine: settings(engine, None, "plain"))
    engines.same(lambda engine: settings(engine, '{"trace_rate": null}'))
    engines.same(lambda engine: settings(engine, '{"trace_level": null}', "plain"))


BODIES = """
{}
[]
x
{"trace_level": "OFF"}
{"trace_level": ["OFF", "TIMESTAMPS"]}
{"trace_level": ["nope"]}
{"trace_level": []}
{"trace_level": [3]}
{"trace_rate": "0"}
{"trace_rate": 5}
{"trace_rate": "x"}
{"trace_rate": ""}
{"trace_rate": "-3"}
{"trace_rate": " +7z"}
{"trace_rate": "99999999999"}
{"trace_rate": "2"}
{"trace_count": "-2"}
{"trace_count": "x"}
{"trace_count": "99999999999"}
{"trace_count": "0"}
{"trace_count": "5"}
{"log_frequency": "x"}
{"log_frequency": "-1"}
{"log_frequency": "99999999999"}
{"log_frequency": "3"}
{"trace_file": "x"}
{"trace_file": null}
{"unknown": 1}
{"trace_level": ["OFF"]}
{"trace_rate": "0"}
{"trace_level": ["TIMESTAMPS"]}
{"trace_rate": null, "trace_count": null}
{"trace_rate": "4", "trace_count": "x"}
{"trace_level": null, "log_frequency": null}
{"trace_mode": "x"}
"""


@pytest.mark.rule("4.16-trace-settings", "4.16-trace-clear")
@pytest.mark.parametrize("model", ["", "plain", "nobody"])
def test_settings_that_are_changed(engines: Engines, model: str) -> None:
    engines.same(lambda engine: settings(engine, '{"trace_level": null}'))
    for body in BODIES.strip().splitlines():
        engines.same(lambda engine, body=body: settings(engine, body, model))  # type: ignore[misc]
        engines.same(settings)


@pytest.mark.rule("4.16-trace-settings")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v2/trace/setting"),
        ("DELETE", "/v2/models/plain/trace/setting"),
        ("GET", "/v2/models/plain/versions/1/trace/setting"),
    ],
)
def test_other_methods_and_paths(engines: Engines, method: str, path: str) -> None:
    def body(engine: Engine) -> Any:
        answer = request(engine, method, path, "{}")
        return answer.status, answer.headers["content-type"], answer.data.decode()

    engines.same(body)


@pytest.mark.rule("4.16-trace-settings")
def test_a_change_without_a_body_is_refused(engines: Engines) -> None:
    engines.same(lambda engine: settings(engine, ""))
