"""Responses and errors: made, asked, and sent as they are, by a model that runs what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, write_models
from comparing import Engines, outcome
from probing import comparable, expressions, probe, probe_stream

from triton_stub import deviations
from triton_stub.engines.engine import Engine

LINES = """
# 1.3-response 2.6-output-tensors
R().output_tensors(), R().has_error(), R().error()
r = R([T('x', np.zeros(1))]); (r.output_tensors() is r.output_tensors(), r.output_tensors()[0] is r.output_tensors()[0])
t = T('x', np.zeros(1)); r = R(output_tensors=(t, t)); (len(r.output_tensors()), r.output_tensors()[1] is t)
l = [T('x', np.zeros(1))]; r = R(l); l.clear(); len(r.output_tensors())
r = R([T('x', np.zeros(1))]); r.output_tensors().clear(); len(r.output_tensors())
t = T('x', np.zeros(1)); R([t], E('m')).output_tensors()[0] is t
[t.name() for t in R([T(n, np.zeros(1)) for n in 'cabc']).output_tensors()]
# 2.6-none-tensor
R([T('x', np.zeros(1)), None])
R((None,), E('m'))
R(np.array([None], object))
R([None], 3)
# 2.6-error-type
R([], 3)
R(error=Exception('m'))
R(error=pb_utils.TritonModelException('m'))
R(error=E)
R(error=[E('m')])
R(E('m'))
# 2.6-error-accessor
e = E('m'); r = R(error=e); (r.error() is e, r.error() is r.error(), r.has_error())
R([], None).error(), R(error=E('')).has_error()
(lambda r: (r.error().message(), r.error().code()))(R([], E('m', E.CANCELLED)))
# 1.3-error
E('m').message(), E('m').code(), E('', E.UNKNOWN).message(), E('two\\nlines ü').message()
[(n, getattr(E, n)) for n in dir(E) if n.isupper()]
[E('m', getattr(E, n)).code() == getattr(E, n) for n in dir(E) if n.isupper()]
# 2.7-codes
sorted((int(code), name) for name, code in type(E.INTERNAL).__members__.items())
# 2.7-not-an-exception trap-13
raise E('m')
isinstance(E('m'), BaseException), issubclass(E, Exception)
# 2.7-model-exception
issubclass(pb_utils.TritonModelException, Exception), issubclass(pb_utils.TritonModelException, ValueError)
raise pb_utils.TritonModelException('a', 3)
raise type('Mine', (pb_utils.TritonModelException,), {})('a')
"""  # noqa: E501 - a line is a case
# The model sends ``reply``.
REPLIES = """
# 2.6-missing-outputs trap-02
reply = R()
reply = R([T('B', np.zeros(1, 'f4'))])
# 2.6-unknown-outputs trap-02
reply = R([T('A', np.zeros(1, 'f4')), T('NO', np.zeros(1))])
reply = R([T('', np.zeros(1))]) if False else R([T('a', np.zeros(1)), T('A ', np.zeros(1))])
# 2.6-duplicate-outputs
reply = R([T('A', np.zeros(1, 'f4')), T('A', np.ones(1, 'f4'))])
# 2.6-wrong-outputs trap-02
reply = R([T('A', np.zeros((2, 3), 'i8')), T('B', np.array(['text'], object))])
reply = R([T('A', np.zeros((5, 0), '?'))])
reply = R([T('B', np.zeros(1, 'f4')), T('A', np.zeros(1, 'f4'))])
# 2.6-error-wins
reply = R([T('A', np.zeros(1, 'f4'))], E('wins', E.NOT_FOUND))
reply = R([T('NO', np.zeros(1, 'f4'))], E('wins'))
# 2.7-status
reply = R(error=E('of unknown', E.UNKNOWN))
reply = R(error=E('of internal', E.INTERNAL))
reply = R(error=E('of not found', E.NOT_FOUND))
reply = R(error=E('of invalid arg', E.INVALID_ARG))
reply = R(error=E('of unavailable', E.UNAVAILABLE))
reply = R(error=E('of unsupported', E.UNSUPPORTED))
reply = R(error=E('of already exists', E.ALREADY_EXISTS))
reply = R(error=E('of cancelled', E.CANCELLED))
reply = R(error=E('of no code', type(E.INTERNAL)(99)))
reply = R(error=E(''))
reply = R(error=E('two\\nlines, "quotes" and ü'))
reply = R(error=E(b'of bytes'))
"""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = {}

    def execute(self, requests):
        return [self.reply(request) for request in requests]

    def reply(self, request):
        names = dict(
            T=pb_utils.Tensor, R=pb_utils.InferenceResponse, E=pb_utils.TritonError, np=np,
            kept=self.kept,
        )
        code = pb_utils.get_input_tensor_by_name(request, "CODE").as_numpy()[0].decode()
        exec(code, names)
        return names["reply"]
"""
CONFIG = """
backend: "python"
input { name: "CODE" data_type: TYPE_STRING dims: [ 1 ] }
output [
    { name: "A" data_type: TYPE_FP32 dims: [ 1 ] },
    { name: "B" data_type: TYPE_FP32 dims: [ 1 ] }
]
"""


@pytest.fixture(scope="module")
def replying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("responses")
    write_models(folder, {"replies": MODEL}, CONFIG)
    with both_engines(folder) as engines:
        yield engines


def reply(engine: Engine, code: str, **request: Any) -> dict[str, Any]:
    result = engine.infer("replies", CODE=np.array([code.encode()], object), **request)
    return dict(result)


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: probe(engine, line))


@pytest.mark.parametrize("code", expressions(REPLIES))
def test_what_the_client_gets(replying: Engines, code: str) -> None:
    replying.same(lambda engine: reply(engine, code))


@pytest.mark.rule("2.6-pruning", "trap-03")
@pytest.mark.parametrize("outputs", [["A"], ["B"], ["B", "A"], []])
def test_the_response_itself_loses_what_nobody_asked_for(
    replying: Engines, outputs: list[str]
) -> None:
    tensors = "[T(n, np.zeros(1, 'f4')) for n in ('A', 'NO', 'B', 'A')]"

    def left(engine: Engine) -> Any:
        sent = reply(engine, f"reply = kept['r'] = R({tensors})", outputs=outputs)
        names = "np.array([t.name() for t in kept['r'].output_tensors()], object)"
        return sent, reply(engine, f"reply = R([T('A', {names})])")

    replying.same(left)


@pytest.mark.rule("2.6-pruning", "2.6-error-wins")
def test_a_response_with_an_error_loses_them_too(replying: Engines) -> None:
    def left(engine: Engine) -> Any:
        made = "reply = kept['r'] = R([T('NO', np.zeros(1)), T('A', np.zeros(1))], E('m'))"
        sent = outcome(lambda engine: reply(engine, made), engine)
        names = "np.array([t.name() for t in kept['r'].output_tensors()], object)"
        return sent, reply(engine, f"reply = R([T('A', {names})])")

    replying.same(left)


@pytest.mark.rule("2.6-pruning", "2.6-error-wins")
def test_what_a_sender_makes_of_a_response(engines: Engines) -> None:
    code = (
        "r = R([T('NO', np.zeros(1)), T('OUT', np.ones(1, 'f4'))]); sender.send(r); "
        "sender.send(R([T('OUT', np.zeros(1))], E('amid', E.CANCELLED))); "
        "[t.name() for t in r.output_tensors()]"
    )
    engines.same(lambda engine: probe_stream(engine, code))


# Newer than the real server of this suite


@pytest.mark.newer("25.02", "python_backend src/pb_stub.cc: InferenceResponse(parameters=)")
@pytest.mark.rule("2.6-parameters", "2.6-parameters-accessor")
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("None", "{}"),
        ("{}", "{}"),
        ("{'a': 1, 'b': True, 'c': 'ü', 'd': -(2**63)}", None),
        ("type('D', (dict,), {})(a=1)", None),
    ],
)
def test_parameters_of_a_response(stub: Engine, given: str, text: str | None) -> None:
    code = f"p = {given}; r = R(parameters=p); r.parameters() == json.dumps(p or {{}})"
    assert probe(stub, code) == "True"
    if text:
        assert probe(stub, f"R(parameters={given}).parameters()") == repr(text)


# The words are those of a request's parameters, which the real server of this suite has.
@pytest.mark.newer("25.02", "python_backend src/pb_stub.cc: InferenceResponse(parameters=)")
@pytest.mark.rule("2.6-parameters")
@pytest.mark.parametrize(
    "given",
    [
        "[]",
        "'a'",
        "3",
        "{1: 2}",
        "{b'a': 1}",
        "{'a': 1.5}",
        "{'a': None}",
        "{'a': b'b'}",
        "{'a': [1]}",
        "{'a': np.int64(1)}",
        "{'a': np.str_('b')}",
    ],
)
def test_parameters_that_are_refused(engines: Engines, given: str) -> None:
    make = "Q(inputs=[], requested_output_names=[], model_name='m', parameters={})"
    told = probe(engines.native, f"{make.format(given)}; 'taken'")
    assert probe(engines.stub, f"R(parameters={given}); 'taken'") == told


@pytest.mark.newer("25.02", "python_backend src/infer_response.cc")
@pytest.mark.deviation("big-response-parameter")
@pytest.mark.rule("2.6-big-parameters")
@pytest.mark.parametrize("number", ["2**63", "-(2**63) - 1", "2**100"])
def test_a_parameter_that_is_too_big(stub: Engine, number: str) -> None:
    told = probe(stub, f"R(parameters={{'a': {number}}})")
    assert deviations.BIG_RESPONSE_PARAMETER.server in comparable(told)
