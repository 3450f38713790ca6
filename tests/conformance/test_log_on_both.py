"""The log: its settings, which lines are kept, how they look, and those that people look for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from broken_models import both_engines, write_models
from comparing import Engines
from mortal import control
from observed import BROKEN, CONFIG, PLAIN
from probing import log_line, wait_for_log
from test_traces_on_both import ask, told

from triton_stub.engines.engine import Engine
from triton_stub.server import LogFormat

SPEAKS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        text = requests[0].request_id()
        for log in ("log_info", "log_warn", "log_error", "log_verbose"):
            getattr(pb_utils.Logger, log)(text)
        # The server writes lines later, but it answers this only after them.
        requests[0].is_cancelled()
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
ALL = '{"log_info": true, "log_warning": true, "log_error": true, "log_verbose_level": 0}'
_NUMBERS = iter(range(10**6))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("logged")
    write_models(repository, {"plain": PLAIN, "speaks": SPEAKS, "broken": BROKEN}, CONFIG)
    groups = "instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_CPU name: 'own' } ]"
    write_models(repository, {"twice": PLAIN}, CONFIG + groups)
    with both_engines(
        repository,
        options=["--model-control-mode=explicit", "--load-model=speaks"],
        model_control_mode="explicit",
        startup_models=["speaks"],
    ) as both:
        yield both


def settings(engine: Engine, body: str | None = None, method: str = "POST") -> Any:
    """Read, or with a body change, the settings of the log."""
    with urllib3.PoolManager() as pool:
        url = f"http://{engine.http_url}/v2/logging"
        answer = pool.request("GET" if body is None else method, url, body=body)
    return answer.status, answer.headers["content-type"], answer.json()


def speak(engine: Engine, text: str) -> None:
    """Have the model log a text at every level."""
    engine.infer("speaks", {"X": np.ones((1, 1), np.float32)}, request_id=text)


def said(engine: Engine, change: str) -> list[str]:
    """The lines of a model after a change of the settings, without their times."""
    number = next(_NUMBERS)
    settings(engine, change)
    speak(engine, f"said {number}")
    settings(engine, ALL)
    settings(engine, '{"log_format": "default"}')
    speak(engine, f"end of {number}")
    text = f'"said {number}"'
    lines = wait_for_log(engine, f'"end of {number}"').splitlines()
    return [line.replace(text, "said") for line in lines if text in line]


BODIES = """
{}
[]
x
{"log_file": "x"}
{"log_file": null}
{"log_info": false}
{"log_info": 1}
{"log_info": "true"}
{"log_info": null}
{"log_info": true, "log_warning": false, "log_error": false}
{"log_error": 2}
{"log_warning": true, "log_error": 2}
{"log_warning": false, "log_file": "x"}
{"log_verbose_level": 2}
{"log_verbose_level": -1}
{"log_verbose_level": "1"}
{"log_verbose_level": 1.5}
{"log_verbose_level": 99999999999}
{"log_verbose_level": 4294967295}
{"log_verbose_level": true}
{"log_verbose_level": 0}
{"log_format": "ISO8601"}
{"log_format": "x"}
{"log_format": 1}
{"log_format": "default"}
{"log_warning": true, "log_error": true}
{"unknown": 5}
"""


@pytest.mark.rule("4.16-log-settings")
def test_settings_that_are_changed(engines: Engines) -> None:
    engines.same(settings)
    for body in BODIES.strip().splitlines():
        engines.same(lambda engine, body=body: settings(engine, body))  # type: ignore[misc]
        engines.same(settings)
    engines.same(lambda engine: settings(engine, "{}", "PUT"))
    engines.same(lambda engine: settings(engine, ALL))


@pytest.mark.rule("4.16-log-settings")
def test_a_change_without_a_body_is_refused(engines: Engines) -> None:
    engines.same(lambda engine: settings(engine, ""))


@pytest.mark.rule("4.16-log-levels")
@pytest.mark.parametrize(
    "change",
    [
        "{}",
        '{"log_info": false}',
        '{"log_warning": false}',
        '{"log_error": false}',
        '{"log_verbose_level": 1}',
        '{"log_verbose_level": 1, "log_info": false}',
        '{"log_info": false, "log_warning": false, "log_error": false}',
    ],
)
def test_which_lines_are_kept(engines: Engines, change: str) -> None:
    engines.same(lambda engine: [log_line(line) for line in said(engine, change)])


@pytest.mark.rule("4.16-log-format")
@pytest.mark.parametrize("name", ["default", "ISO8601"])
def test_how_a_line_looks(engines: Engines, name: str) -> None:
    def body(engine: Engine) -> list[str]:
        lines = said(engine, f'{{"log_format": "{name}"}}')
        return [re.sub(r"[0-9]", "0", re.sub(r" [0-9]+ model", " PID model", x)) for x in lines]

    assert len(engines.same(body)) == 3


LIFE = re.compile(
    r"([A-Z])\d+ [\d:.]+ \d+ \S+ \"("
    "loading: |successfully |failed to load |TRITONBACKEND_ModelInstanceInitialize: )(.*)"
)


def life(engine: Engine, action: Callable[[Engine], Any], end: str) -> list[str]:
    """The lines of a model's life that an action adds, the last of which begins with ``end``."""
    before = len(engine.log())
    action(engine)
    wait_for_log(engine, end)
    return ["".join(found.groups()) for found in LIFE.finditer(engine.log()[before:])]


@pytest.mark.rule("4.16-log-life")
@pytest.mark.parametrize(
    ("action", "model", "end"),
    [
        ("load", "plain", "successfully loaded 'plain'"),
        ("unload", "plain", "successfully unloaded 'plain' version 1"),
        ("load", "twice", "successfully loaded 'twice'"),
        ("load", "broken", "failed to load 'broken'"),
    ],
)
def test_lines_of_a_model_s_life(engines: Engines, action: str, model: str, end: str) -> None:
    assert engines.same(
        lambda engine: sorted(life(engine, lambda e: control(e, action, model), end))
    )


@pytest.mark.rule("4.16-log-file", "4.16-trace-end")
def test_what_is_in_files_when_the_server_has_stopped(tmp_path: Path) -> None:
    write_models(tmp_path / "models", {"plain": PLAIN}, CONFIG)
    files = {name: tmp_path / name for name in ("stub", "native")}
    trace = {"level": "TIMESTAMPS", "rate": "2", "file": f"{files['stub']}.json"}
    options = ["--trace-config=level=TIMESTAMPS", "--trace-config=rate=2", "--log-format=ISO8601"]
    with both_engines(
        tmp_path / "models",
        options=[
            *options,
            f"--trace-config=triton,file={files['native']}.json",
            f"--log-file={files['native']}",
        ],
        trace_config=trace,
        log_info=True,
        log_file=str(files["stub"]),
        log_format=LogFormat.ISO8601,
    ) as engines:
        engines.same(lambda engine: settings(engine)[2] | {"log_file": ""})
        for number in range(4):
            engines.same(lambda engine, number=number: ask(engine, "plain", request_id=str(number)))  # type: ignore[misc]
    stub, native = (json.loads(Path(f"{file}.json").read_text()) for file in files.values())
    assert told(stub) == told(native)
    for file in files.values():
        line = r"(?m)^[\d-]+T[\d:]+Z I \d+ \S+:\d+\] \"successfully loaded 'plain'\"$"
        assert re.search(line, file.read_text())
