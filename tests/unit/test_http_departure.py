"""Who is told that a client has hung up."""

from __future__ import annotations

from starlette.requests import Request

from triton_stub.endpoints.http import departure
from triton_stub.endpoints.http.departure import DEPARTURE, Departure


def test_those_within_a_block_are_told() -> None:
    client = Departure()
    told: list[str] = []
    with client.calls(lambda: told.append("outer")):
        with client.calls(lambda: told.append("inner")):
            pass
        client.happen()
        assert client.happened
    client.happen()
    assert told == ["outer"]


def test_who_comes_too_late_is_told_at_once() -> None:
    client = Departure()
    client.happen()
    told: list[str] = []
    with client.calls(lambda: told.append("late")):
        assert told == ["late"]


def test_that_of_a_request() -> None:
    client = Departure()
    scope = {"type": "http", "state": {DEPARTURE: client}}
    assert departure.of(Request(scope)) is client


def test_without_a_connection_it_never_happens() -> None:
    for scope in ({"type": "http"}, {"type": "http", "state": {}}):
        assert not departure.of(Request(scope)).happened
