"""Headers that become parameters of a request."""

from __future__ import annotations

import pytest

from triton_stub import InferenceError, ServerError
from triton_stub.endpoints.headers import ForwardedHeaders


def test_no_pattern_forwards_nothing() -> None:
    assert ForwardedHeaders().parameters([("x", "1"), ("timeout", "1")]) == {}


def test_names_in_which_the_pattern_is_found() -> None:
    headers = [("x-a", "1"), ("b", "2"), ("a-X-", "3"), ("x-a", "4"), ("x-c", b"\xe9\0rest")]
    assert ForwardedHeaders("x-").parameters(headers) == {"x-a": "4", "a-X-": "3", "x-c": "\udce9"}


@pytest.mark.parametrize("name", ["sequence_id", "timeout", "headers", "triton_x"])
def test_reserved_names(name: str) -> None:
    # Since 26.05 (server src/grpc/infer_handler.h, src/http_server.cc).
    forwarded = ForwardedHeaders("^[sth]")
    with pytest.raises(InferenceError) as caught:
        forwarded.parameters([(name, "1")])
    assert str(caught.value) == (
        f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
    )


def test_no_regular_expression() -> None:
    with pytest.raises(ServerError, match=r"no regular expression: '\(': "):
        ForwardedHeaders("(")
