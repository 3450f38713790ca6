"""Python that runs inside a model, on either engine: a case is two lines.

    def test_a_shape_is_a_new_list(engines):
        code = "t = T('x', np.zeros(3)); t.shape() is t.shape()"
        assert engines.same(lambda engine: probe(engine, code)) == "False"

The code runs in ``models/probe`` (``probe_decoupled``, ``probe_async``), which also gives it

    T, E, R, Q, L        Tensor, TritonError, InferenceResponse, InferenceRequest, Logger
    pb_utils, c, np      triton_python_backend_utils, c_python_backend_utils, numpy
    request, self        this request, the model; ``self.kept`` is a dict for later probes
    by_name              pb_utils.get_input_tensor_by_name
    sent                 a list: tensors to send beside the answer (see ``probe_sent``)
    attempt              attempt(call, *args) is the repr of the result, or what was raised

and ``ast asyncio copy gc json os pickle sys threading time weakref``.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from triton_stub.core.result import Result
from triton_stub.engines.engine import Engine
from triton_stub.errors import InferenceError

_PATIENCE = 60.0  # seconds until a line that the server writes must be in its log
_NUMBERS = itertools.count()

#: What newer releases say in other words: release and source, the form in which both are compared.
#: Each pattern finds the old words or the new ones.
NEWER_TEXTS: tuple[tuple[str, str, str, str], ...] = (
    *(
        ("24.11", "pybind11 2.12 pybind11/stl.h: signatures", rf"\b{name}\[", f"{name.lower()}[")
        for name in ("List", "Set", "Tuple", "Dict")
    ),
    (
        "24.11",
        "pybind11 2.12 pybind11/cast.h: the type is told",
        r"Unable to cast Python instance (of type <class '.*?'> )?to C\+\+ type( '.*?')?",
        "Unable to cast Python instance to C++ type",
    ),
    (
        "25.02",
        "python_backend src/pb_stub.cc: InferenceResponse(parameters=)",
        r"(Response[(,] ?output_tensors: .*?error: \S+ = None), parameters: object = None\)",
        r"\1)",
    ),
)


def probe(engine: Engine, code: str, /, *, model: str = "probe", **request: Any) -> str:
    """Run ``code`` inside a model; the ``repr`` of its last expression, or what was raised.

    Lines end with a newline or ``"; "``. What is raised is told as ``"module.Type: text"``, None if
    the last line is no expression. Addresses and what newer releases say in other words are made
    alike. ``request`` is what ``Engine.infer`` takes: tensors X (FP32), S (BYTES) and B (BF16),
    ``request_id``, ``parameters``, ``outputs`` (of which TOLD must be one).
    """
    return _told(_asked(engine, model, code, request))


def probe_sent(
    engine: Engine, code: str, /, *, model: str = "probe", **request: Any
) -> tuple[str, dict[str, np.ndarray]]:
    """The same, and the tensors that the code put into ``sent``, as the client got them.

    Only ``OUT`` is an output of the model's configuration: others are dropped by the server.
    """
    result = _asked(engine, model, code, request)
    return _told(result), {name: result[name] for name in result if name != "TOLD"}


def probe_stream(engine: Engine, code: str, /, **request: Any) -> list[Any]:
    """Run ``code`` in ``probe_decoupled``, where it has a ``sender``; every response, in order.

    A response is its tensors by name, ``{}`` if it has none, or ``{"error": text}``; the last one
    has what the code came to as TOLD, unless the code says ``silent = True``.
    """
    responses: list[Any] = []
    array = np.array([code.encode()], dtype=np.object_)
    for result in engine.stream("probe_decoupled", CODE=array, **request):
        if isinstance(result, InferenceError):
            responses.append({"error": comparable(result.message)})
            continue
        tensors: dict[str, Any] = dict(result)
        if "TOLD" in tensors:
            tensors["TOLD"] = _told(result)
        responses.append(tensors)
    return responses


def probe_log(engine: Engine, code: str, /, *, model: str = "probe", **request: Any) -> list[str]:
    """Log lines that appeared while ``code`` ran in the model, without time and process id.

    A line is such as ``I probe.py:2] "text"``.
    """
    begin, end = (f"probe {next(_NUMBERS)}" for _ in range(2))
    _asked(engine, model, f"L.log_info('{begin}')", {})
    _asked(engine, model, code, request)
    _asked(engine, model, f"L.log_info('{end}')", {})
    lines = wait_for_log(engine, end).splitlines()
    first, last = (
        next(n for n, line in enumerate(lines) if line.endswith(f'"{word}"'))
        for word in (begin, end)
    )
    return [log_line(line) for line in lines[first + 1 : last]]


def wait_for_log(engine: Engine, text: str) -> str:
    """The server's log, as soon as ``text`` is in it: a model's lines take a way of their own."""
    until = time.monotonic() + _PATIENCE
    while text not in (log := engine.log()):
        assert time.monotonic() < until, f"{text!r} is not in the log of {engine.name}:\n{log}"
        time.sleep(0.01)
    return log


def log_line(line: str) -> str:
    """A line of the log without its time and its process id."""
    return re.sub(r"^([A-Z])\d{4} [\d:.]+ \d+ ", r"\1 ", line)


def comparable(text: str) -> str:
    """A text of pybind11's or of the server's as both engines must tell it."""
    text = re.sub(r"0x[0-9a-f]+", "0x…", text)
    # The real server has numpy 1, whose scalars do not tell their type.
    text = re.sub(r"\bnp\.(?:float|u?int|bytes_|str_)\d*\(([^()]*)\)", r"\1", text)
    text = re.sub(r"\bnp\.(True|False)_\b", r"\1", text)
    for _, _, pattern, same in NEWER_TEXTS:
        text = re.sub(pattern, same, text)
    return text


def expressions(text: str) -> list[Any]:
    """Cases out of ``text``, a line each; ``# id id`` names the rules that the next ones show."""
    cases, rules = [], list[str]()
    for line in filter(None, text.splitlines()):
        if line.startswith("# "):
            rules = line.split()[1:]
        else:
            cases.append(pytest.param(line, marks=pytest.mark.rule(*rules)))
    return cases


def marked(names: Iterable[str], rules: Mapping[str, str | Iterable[str]]) -> list[Any]:
    """Cases by name; ``rules`` has, for each rule, the names of those that show it.

    Names that have blanks are given one by one, others in one text.
    """
    shown = {name: list[str]() for name in names}
    for rule, shown_by in rules.items():
        for name in shown_by.split() if isinstance(shown_by, str) else shown_by:
            shown[name].append(rule)
    return [pytest.param(name, marks=pytest.mark.rule(*ids)) for name, ids in shown.items()]


def examples(count: int) -> Callable[[Any], Any]:
    """Decorates a test with ``@given``: so many examples, 25 times as many in a nightly run.

    Nightly is ``--hypothesis-profile=nightly``. A test that runs a state machine inside takes
    ``@pytest.mark.examples(count)`` and ``run_state_machine_as_test(…, settings=drawn(count))``.
    """

    def decorate(test: Any) -> Any:
        return pytest.mark.examples(count)(drawn(count)(test))

    return decorate


def drawn(count: int, **more: Any) -> settings:
    """Settings for ``count`` examples in a run of every day."""
    return settings(max_examples=count * settings().max_examples // 100, **more)


def _asked(engine: Engine, model: str, code: str, request: dict[str, Any]) -> Result:
    try:
        return engine.infer(model, CODE=np.array([code.encode()], dtype=np.object_), **request)
    except InferenceError as error:
        if "is not healthy" in error.message:
            pytest.fail(
                f"this code killed the process of {model} on {engine.name}, and every later probe "
                f"will fail: make it a case of a server of its own, or a deviation.\n{code}"
            )
        raise


def _told(result: Result) -> str:
    text: str = result["TOLD"][0].decode()
    return comparable(text)
