"""What clients of tritonclient ask beside inference: every method, of all four kinds."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from client_models import PAIR, TOLD_CODE, TOLD_CONFIG
from flavours import KINDS, Flavour, Flavours, tried
from patience import wait_until
from tritonclient._auth import BasicAuth

from triton_stub.endpoints.clients import Kind

Calls = list[tuple[Any, ...]]
# One after another: a method, its arguments, and keywords if the last is a dict of them.
CALLS: dict[str, Calls] = {
    "live": [("is_server_live",)],
    "ready": [("is_server_ready",)],
    "ready model": [("is_model_ready", "pair"), ("is_model_ready", "pair", "2")],
    "ready model, unknown": [
        ("is_model_ready", "nothing"),
        ("is_model_ready", "spare"),
        ("is_model_ready", "pair", "3"),
    ],
    "ready model, bad version": [
        ("is_model_ready", "pair", "x"),
        ("is_model_ready", "pair", "-2"),
        ("is_model_ready", "pair", 1),
    ],
    "server metadata": [("get_server_metadata",)],
    "model metadata": [("get_model_metadata", name) for name in ("pair", "counts", "sums")],
    "model metadata, version": [("get_model_metadata", "pair", "1")],
    "model metadata, refused": [
        ("get_model_metadata", "nothing"),
        ("get_model_metadata", "spare"),
        ("get_model_metadata", "pair", "3"),
        ("get_model_metadata", "pair", "x"),
        ("get_model_metadata", "pair", 1),
    ],
    "config": [("get_model_config", name) for name in ("pair", "counts", "sums", "together")],
    "config, refused": [
        ("get_model_config", "nothing"),
        ("get_model_config", "pair", "3"),
        ("get_model_config", "pair", "x"),
    ],
    "index": [("get_model_repository_index",)],
    "load and unload": [
        ("load_model", "spare"),
        ("is_model_ready", "spare"),
        ("get_model_config", "spare"),
        ("load_model", "spare", {"config": '{"backend": "python", "max_batch_size": 3}'}),
        ("get_model_config", "spare"),
        ("unload_model", "spare", {"unload_dependents": True}),
        ("is_server_ready",),
        ("is_model_ready", "spare"),
    ],
    "load and unload, refused": [
        ("load_model", "nothing"),
        ("load_model", "pair", {"config": "nonsense"}),
        ("load_model", "pair", {"files": {"file:1/model.py": b"text"}}),
        ("unload_model", "nothing"),
    ],
    "statistics, refused": [
        ("get_inference_statistics", "nothing"),
        ("get_inference_statistics", "pair", "3"),
        ("get_inference_statistics", "pair", "x"),
        ("get_inference_statistics", "pair", 1),
    ],
    "trace": [
        ("get_trace_settings",),
        ("update_trace_settings", None, {"trace_rate": "7", "log_frequency": "3"}),
        ("get_trace_settings",),
        ("update_trace_settings", None, {"trace_rate": None, "log_frequency": None}),
        ("get_trace_settings", ""),
    ],
    "trace of a model": [
        ("get_trace_settings", "pair"),
        ("update_trace_settings", "pair", {"trace_count": "5"}),
        ("get_trace_settings", "pair"),
        ("get_trace_settings",),
        ("update_trace_settings", "pair", {"trace_count": None}),
    ],
    "trace, refused": [
        ("get_trace_settings", "nothing"),
        ("update_trace_settings", "nothing", {"trace_rate": "1"}),
        ("update_trace_settings", None, {"trace_rate": "x"}),
        ("update_trace_settings", None, {"trace_rate": "-1"}),
        ("update_trace_settings", None, {"trace_rate": None}),
        ("update_trace_settings", None, {"trace_level": ["LOUD"]}),
        ("update_trace_settings", None, {"trace_level": ["TIMESTAMPS"]}),
        ("update_trace_settings", None, {"unknown": "1"}),
    ],
    "log": [
        ("get_log_settings",),
        ("update_log_settings", {"log_verbose_level": 1}),
        ("update_log_settings", {"log_verbose_level": 0, "log_warning": False}),
        ("get_log_settings",),
        ("update_log_settings", {"log_warning": True, "log_format": "ISO8601"}),
        ("update_log_settings", {"log_format": "default"}),
    ],
    "log, refused": [
        ("update_log_settings", {"log_format": "loud"}),
        ("update_log_settings", {"log_file": "/tmp/log"}),
        ("update_log_settings", {"log_info": 3}),
        ("update_log_settings", {"log_verbose_level": -1}),
        ("update_log_settings", {"log_verbose_level": "x"}),
        ("update_log_settings", {"unknown": "x"}),
    ],
    "shared memory": [
        ("get_system_shared_memory_status",),
        ("unregister_system_shared_memory",),
        ("unregister_system_shared_memory", "nothing"),
    ],
    "shared memory, refused": [
        ("get_system_shared_memory_status", "nothing"),
        ("register_system_shared_memory", "region", "/no_such_memory", 16),
        ("register_system_shared_memory", "region", "/no_such_memory", 16, 8),
        ("get_system_shared_memory_status",),
    ],
    "cuda shared memory": [
        ("get_cuda_shared_memory_status",),
        ("get_cuda_shared_memory_status", "nothing"),
        ("unregister_cuda_shared_memory",),
        ("unregister_cuda_shared_memory", "nothing"),
    ],
}


kinds = pytest.mark.parametrize("kind", KINDS)
http = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("http")])


@pytest.mark.rule("5.5-methods", "5.5-errors")
@kinds
@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_a_method_and_its_errors(flavours: Flavours, kind: Kind, calls: Calls) -> None:
    def body(client: Flavour) -> list[Any]:
        return [made(client, *call) for call in calls]

    flavours.same(kind, body)


def made(client: Flavour, method: str, *arguments: Any) -> Any:
    named = {}
    if method in ("load_model", "unload_model") and len(arguments) > 1:
        named, arguments = arguments[1], arguments[:1]
    answer = client.tried(method, *arguments, **named)
    if method == "unload_model" and answer is None:  # until it has, the server is not ready
        wait_until(lambda: bool(client.call("is_server_ready")))
    if method == "get_model_repository_index":
        rows = answer["models"] if isinstance(answer, dict) else answer
        return sorted(rows, key=lambda row: row["name"])
    return answer


@pytest.mark.rule("5.5-methods")
@kinds
def test_a_model_that_comes_with_the_request(flavours: Flavours, kind: Kind) -> None:
    """All of it: the repository has none of that name."""

    def body(client: Flavour) -> list[Any]:
        files = {"file:1/model.py": TOLD_CODE.encode(), "file:1/more/text": b"\x00\xff"}
        config = {**TOLD_CONFIG, "parameters": {"key": {"string_value": "é"}}}
        return [
            made(client, "load_model", "sent", {"config": json.dumps(config), "files": files}),
            made(client, "get_model_metadata", "sent"),
            made(client, "get_model_config", "sent"),
            client.infer("sent", {"IN": np.array([b"hello"], dtype=np.object_)}),
            made(client, "unload_model", "sent"),
            made(client, "is_model_ready", "sent"),
        ]

    flavours.same(kind, body)


def test_every_method_is_called() -> None:
    """Of a newer tritonclient, too."""
    called = {call[0] for calls in CALLS.values() for call in calls}
    called |= {  # by other cases
        *("close", "infer", "async_infer", "register_plugin", "unregister_plugin", "plugin"),
        *("get_inference_statistics", "generate_request_body", "parse_response_body"),
        *("start_stream", "stop_stream", "async_stream_infer", "stream_infer"),
        "register_cuda_shared_memory",
    }
    for library in (
        *(tritonclient.http, tritonclient.http.aio, tritonclient.grpc, tritonclient.grpc.aio),
    ):
        methods = inspect.getmembers(library.InferenceServerClient, inspect.isroutine)
        assert {name for name, _ in methods if not name.startswith("_")} <= called


@pytest.mark.rule("5.5-statistics")
@kinds
def test_statistics(flavours: Flavours, kind: Kind) -> None:
    """Counts; durations are each engine's own. Servers answer before they count."""

    def counts(client: Flavour, *model: str) -> list[Any]:
        answer = client.tried("get_inference_statistics", *model)
        return sorted(
            [
                row["name"],
                row["version"],
                int(row.get("inference_count", 0)),
                int(row.get("execution_count", 0)),
                [int(batch["batch_size"]) for batch in row.get("batch_stats", ())],
            ]
            for row in answer["model_stats"]
        )

    def body(client: Flavour) -> Any:
        before = counts(client, "pair", "2")[0][2]
        client.call("infer", "pair", client.inputs(PAIR))
        wait_until(lambda: bool(counts(client, "pair", "2")[0][2] == before + 1))
        return [counts(client, "pair", "1"), counts(client, "pair"), counts(client)]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-headers")
@kinds
def test_headers(flavours: Flavours, kind: Kind) -> None:
    """What Triton has no use for changes nothing."""

    def body(client: Flavour) -> Any:
        return [
            client.tried("is_server_ready", headers={"x-anything": "a"}),
            client.tried("get_server_metadata", headers={"authorization": "Bearer a"}),
            client.infer("pair", PAIR, headers={"x-anything": "a"}),
        ]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-headers")
@http
def test_a_header_that_the_client_refuses(flavours: Flavours, kind: Kind) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    flavours.same(kind, lambda client: client.tried("is_server_live", headers=headers))


@pytest.mark.rule("5.5-headers")
@http
def test_query_parameters(flavours: Flavours, kind: Kind) -> None:
    """Triton looks at none of them."""
    query = {"a": 1, "b": ["c", "d&e"]}

    def body(client: Flavour) -> Any:
        return [
            client.tried("is_server_live", query_params=query),
            client.tried("is_model_ready", "pair", query_params=query),
            client.tried("get_model_metadata", "pair", query_params=query),
            client.tried("get_trace_settings", query_params=query),
            client.tried("update_log_settings", {}, query_params=query),
            client.infer("pair", PAIR, query_params=query),
        ]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-json")
def test_answers_of_grpc_as_json(flavours: Flavours) -> None:
    def body(client: Flavour) -> Any:
        as_json = {"as_json": True}
        return [
            client.tried("get_server_metadata", **as_json),
            client.tried("get_model_metadata", "pair", **as_json),
            client.tried("get_model_config", "sums", **as_json),
            client.tried("get_trace_settings", **as_json),
            client.tried("update_trace_settings", "pair", {}, **as_json),
            client.tried("get_log_settings", **as_json),
            client.tried("update_log_settings", {}, **as_json),
            client.tried("get_system_shared_memory_status", **as_json),
            client.tried("get_cuda_shared_memory_status", **as_json),
        ]

    assert flavours.same("grpc", body) == flavours.same("grpc.aio", body)


@pytest.mark.rule("5.5-plugins")
@kinds
def test_plugins(flavours: Flavours, kind: Kind) -> None:
    """They see the headers of every request, and a client has one of them."""

    def body(client: Flavour) -> Any:
        seen_by_plugin = []

        class Plugin(BasicAuth):
            def __call__(self, request: Any) -> None:
                super().__call__(request)
                seen_by_plugin.append(dict(request.headers))

        plugin = Plugin("user", "password")
        client.client.register_plugin(plugin)
        try:
            answers = [
                client.tried("is_server_live", headers={"x-own": "1"}),
                client.infer("pair", PAIR, headers={"x-own": "1"}),
                client.client.plugin() is plugin,
                tried(lambda: client.client.register_plugin(plugin)),
            ]
        finally:
            client.client.unregister_plugin()
        again = tried(client.client.unregister_plugin)
        assert any(name.lower() == "authorization" for name in seen_by_plugin[-1])
        return [*answers, again, client.client.plugin(), seen_by_plugin]

    flavours.same(kind, body)


@pytest.mark.rule("5.5-closed")
@kinds
def test_a_client_that_is_closed(flavours: Flavours, kind: Kind) -> None:
    """It may be closed twice."""

    def body(client: Flavour) -> Any:
        with flavours.new(client.engine, kind) as own:
            live = own.call("is_server_live")
            assert live is True
            own.close()
            if kind == "http":  # its pool waits for ever
                return live
            return [live, type_of(own.tried("is_server_live"))]

    assert flavours.same(kind, body)


def type_of(answer: Any) -> Any:
    return answer.get("raised", answer.get("error"))


@pytest.mark.rule("5.5-errors")
@kinds
def test_cuda_memory_is_refused(flavours: Flavours, kind: Kind) -> None:
    flavours.same(
        kind,
        lambda client: client.tried("register_cuda_shared_memory", "region", b"YWJj", 0, 16),
    )
