"""Odd and broken models in a repository: what is loaded, and what is said of the rest."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from model_files import BROKEN, CONFIG, DOUBLE, write_model

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

PYTHON = f'backend: "python" {CONFIG}'


def policy(text: str) -> str:
    return f"{PYTHON} version_policy {{ {text} }}"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with two repositories in which much is wrong."""
    first, second, elsewhere = (tmp_path_factory.mktemp(name) for name in ("a", "b", "c"))
    fill(first, elsewhere)
    write_model(second, "second", config=PYTHON)
    write_model(second, "twice", config=PYTHON)
    with (
        NativeEngine([first, second], options=["--exit-on-error=false"]) as native,
        StubEngine([first, second], exit_on_error=False) as stub,
    ):
        # It serves before it has finished unloading what loaded beside a broken version.
        while any(row.get("state") == "UNLOADING" for row in index(native)):
            time.sleep(0.01)
        yield Engines(stub, native)


def index(engine: Engine) -> list[dict[str, str]]:
    connection = http.client.HTTPConnection(engine.http_url, timeout=60)
    try:
        connection.request("POST", "/v2/repository/index", b"{}")
        rows: list[dict[str, str]] = json.loads(connection.getresponse().read())
        return rows
    finally:
        connection.close()


def fill(repository: Path, elsewhere: Path) -> None:
    write_model(repository, "twice", config=PYTHON)
    write_model(repository, "broken", BROKEN, PYTHON)
    write_model(repository, "garbled", config="nonsense: 1")
    write_model(repository, "misnamed", config=f'name: "other" {PYTHON}')
    (repository / ".hidden").mkdir()
    (repository / "README.md").touch()
    (repository / "linked").symlink_to(write_model(elsewhere, "linked", config=PYTHON))
    odd_versions = write_model(repository, "odd_versions", config=PYTHON)
    for folder in ("00", "01", "one", "warmup", "configs"):
        (odd_versions / folder).mkdir()
    for name, text, codes in (
        ("newest", "latest { }", {1: DOUBLE}),
        ("newest_two", "latest { num_versions: 2 }", {0: DOUBLE, 3: DOUBLE, 12: DOUBLE}),
        ("no_choice", "", {1: DOUBLE, 2: DOUBLE}),
        ("one_missing", "specific { versions: [ 1, 3 ] }", {1: DOUBLE, 2: DOUBLE}),
        ("all_missing", "specific { versions: 3 }", {1: DOUBLE}),
        ("one_broken", "all { }", {1: DOUBLE, 2: BROKEN, 3: DOUBLE}),
    ):
        for version, code in codes.items():
            write_model(repository, name, code, policy(text), version)


NAMES = [
    "twice", "broken", "garbled", "misnamed", ".hidden", "linked", "odd_versions", "second",
    "newest", "newest_two", "no_choice", "one_missing", "all_missing", "one_broken", "nobody",
]  # fmt: skip


@pytest.mark.rule(
    "4.1-unknown-model", "4.1-unknown-version", "4.1-no-versions", "4.1-not-ready", "4.1-newest"
)
@pytest.mark.parametrize("version", ["", "0", "1", "2", "3", "12"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_model(odd: Engines, name: str, version: str) -> None:
    odd.same(lambda engine: engine.ready(name, version))
    odd.same(lambda engine: engine.metadata(name, version))

    def ask(engine: Engine) -> Any:
        result = engine.infer(name, IN=np.ones(2, np.float32), model_version=version)
        return result["OUT"], result.model_version

    odd.same(ask)


@pytest.mark.rule("4.11-none-left", "4.11-one-fails")
def test_the_server_is_not_ready(odd: Engines) -> None:
    assert odd.same(lambda engine: engine.ready()) is False


@pytest.mark.rule("4.11-index", "4.11-layout", "4.11-ambiguous", "4.11-several")
def test_the_index(odd: Engines) -> None:
    assert {"name": "garbled"} in odd.same(index)


@pytest.mark.rule("4.11-ignored", "4.11-specific", "4.11-skipped")
@pytest.mark.parametrize(
    "message",
    [
        "ignore version directory '00' which contains leading zeros in its directory name",
        "ignore version directory 'one' which fails to convert to integral number",
        "version 3 is specified for model 'one_missing', but the version directory is not present",
        "loading: one_broken:2",
        "successfully loaded 'linked'",
        "successfully unloaded 'one_broken' version 1",
    ],
)
def test_lines_of_the_log(odd: Engines, message: str) -> None:
    odd.same(lambda engine: f'] "{message}"' in engine.log())
    assert f'] "{message}"' in odd.stub.log()


def test_the_reason_of_a_failure_is_logged(odd: Engines) -> None:
    def reason(engine: Engine) -> list[str]:
        lines = (line.partition("] ")[2] for line in engine.log().splitlines())
        return [line for line in lines if line.startswith("\"failed to load 'broken' version")]

    assert len(odd.same(reason)) == 1
