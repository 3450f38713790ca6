"""Requests that a model makes itself: the constructor, its rules, and what they tell of themselves.

A line is a case; the comments above say which rules it shows.
"""

from __future__ import annotations

import numpy as np
import pytest
from comparing import Engines
from probing import expressions, probe

from triton_stub.engines.engine import Engine

LINES = """
# 1.3-request
q = Q(inputs=[], requested_output_names=[], model_name='m'); (q.inputs(), q.requested_output_names(), q.request_id(), q.correlation_id(), q.flags(), q.timeout(), q.parameters(), q.trace().get_context())
t = T('a', np.zeros(1)); q = Q('id', 5, [t], ['o'], 'm', 3, 4, 6, pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU), request.trace(), {'a': 1}); (q.inputs()[0] is t, q.requested_output_names(), q.request_id(), q.correlation_id(), q.flags(), q.timeout(), q.parameters())
t = T('a', np.zeros(1)); q = Q(parameters={'a': 1}, timeout=6, flags=4, model_version=3, model_name='m', requested_output_names=['o'], inputs=[t], correlation_id=5, request_id='id'); (q.inputs()[0] is t, q.requested_output_names(), q.request_id(), q.correlation_id(), q.flags(), q.timeout(), q.parameters())
# 1.4-request 2.5-type-errors
Q()
Q(inputs=[], requested_output_names=[])
Q(inputs=[], model_name='m')
Q(requested_output_names=[], model_name='m')
Q(inputs=None, requested_output_names=[], model_name='m')
Q(inputs=[], requested_output_names=None, model_name='m')
Q(inputs=[], requested_output_names=[], model_name=None)
Q(inputs=[], requested_output_names=[], model_name=3)
Q(inputs=[], requested_output_names=[], model_name='m', priority=3)
Q('', 0, [], [], 'm', -1, 0, 0, pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU), request.trace(), None, 3)
Q('', 0, [], [], 'm', model_name='m')
Q(inputs=[np.zeros(1)], requested_output_names=[], model_name='m')
Q(inputs=T('a', np.zeros(1)), requested_output_names=[], model_name='m')
Q(inputs=[R()], requested_output_names=[], model_name='m')
Q(inputs=[], requested_output_names='abc', model_name='m')
Q(inputs=[], requested_output_names={'abc'}, model_name='m')
Q(inputs=[], requested_output_names=[1], model_name='m')
Q(inputs=[], requested_output_names=[None], model_name='m')
Q(inputs={}, requested_output_names=[], model_name='m')
Q(inputs=[], requested_output_names=[], model_name='m', request_id=None)
Q(inputs=[], requested_output_names=[], model_name='m', request_id=5)
Q(inputs=[], requested_output_names=[], model_name='m', request_id='\\ud800')
Q(inputs=[], requested_output_names=[], model_name='m', model_version='1')
Q(inputs=[], requested_output_names=[], model_name='m', model_version=1.0)
Q(inputs=[], requested_output_names=[], model_name='m', model_version=None)
Q(inputs=[], requested_output_names=[], model_name='m', flags=1.0)
Q(inputs=[], requested_output_names=[], model_name='m', flags=None)
Q(inputs=[], requested_output_names=[], model_name='m', timeout=1.0)
Q(inputs=[], requested_output_names=[], model_name='m', timeout=None)
Q(inputs=[], requested_output_names=[], model_name='m', preferred_memory=None)
Q(inputs=[], requested_output_names=[], model_name='m', preferred_memory=pb_utils.TRITONSERVER_MEMORY_CPU)
Q(inputs=[], requested_output_names=[], model_name='m', trace=None)
Q(inputs=[], requested_output_names=[], model_name='m', trace=3)
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=None)
# 1.4-list
Q(inputs=(), requested_output_names=('a', b'b'), model_name=b'm').requested_output_names() == {'a', 'b'}
Q(inputs=np.array([T('a', np.zeros(1))]), requested_output_names=np.array(['a']), model_name='m').requested_output_names()
# 1.4-int
[Q(inputs=[], requested_output_names=[], model_name='m', flags=v).flags() for v in (True, np.uint32(3), 2**32-1)]
[Q(inputs=[], requested_output_names=[], model_name='m', timeout=v).timeout() for v in (True, np.int8(3), 2**64-1)]
# 2.5-parameters-type
Q(inputs=[], requested_output_names=[], model_name='m', parameters=[])
Q(inputs=[], requested_output_names=[], model_name='m', parameters=3)
Q(inputs=[], requested_output_names=[], model_name='m', parameters=type('D', (), {'keys': list})())
# 2.5-parameter-keys
Q(inputs=[], requested_output_names=[], model_name='m', parameters={1: 2})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={None: 2})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={b'a': 2})
# 2.5-parameter-values
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': 2.5})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': None})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': b'x'})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': np.int64(1)})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': [1]})
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': {}})
# 2.5-parameters
Q(inputs=[], requested_output_names=[], model_name='m', parameters={}).parameters()
Q(inputs=[], requested_output_names=[], model_name='m', parameters=None).parameters()
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': 1, 'b': True, 'c': 'ü', 'd': -2**70}).parameters()
Q(inputs=[], requested_output_names=[], model_name='m', parameters={'a': '\\ud800\\n"', '': '\\0'}).parameters()
d = {'a': 1}; q = Q(inputs=[], requested_output_names=[], model_name='m', parameters=d); d['b'] = 2; q.parameters()
D = type('D', (dict,), {}); Q(inputs=[], requested_output_names=[], model_name='m', parameters=D(a=1)).parameters()
# 2.5-correlation-id
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=-1)
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=2**64)
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=1.0)
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=b'a')
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=np.uint64(3))
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id='\\ud800')
Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=[])
# 2.5-correlation-accessor
[Q(inputs=[], requested_output_names=[], model_name='m', correlation_id=v).correlation_id() for v in (True, 0, 7, '', 'x', 2**64-1)]
# 2.5-none-input
Q(inputs=[None], requested_output_names=[], model_name='m', request_id='q')
Q(inputs=[T('a', np.zeros(1)), None], requested_output_names=[''], model_name='', request_id='')
# 2.5-empty-output
Q(inputs=[], requested_output_names=[''], model_name='m', request_id='q')
Q(inputs=[], requested_output_names=['a', b''], model_name='m')
# 2.5-parameters-type 2.5-correlation-id 2.5-none-input 2.5-empty-output
Q(inputs=[None], requested_output_names=[''], model_name='m', correlation_id=1.0, parameters=[])
Q(inputs=[None], requested_output_names=[''], model_name='m', correlation_id=1.0, parameters={1: 1})
Q(inputs=[None], requested_output_names=[''], model_name='m', correlation_id=1.0)
Q(inputs=[None], requested_output_names=[''], model_name='m')
# 2.5-inputs
t = T('a', np.zeros(1)); given = [t, t]; q = Q(inputs=given, requested_output_names=[], model_name='m'); given.clear(); ([x is t for x in q.inputs()], q.inputs() is q.inputs())
# 2.5-requested-names
q = Q(inputs=[], requested_output_names=['b', 'a', 'b'], model_name='m'); (q.requested_output_names() == {'a', 'b'}, type(q.requested_output_names()), q.requested_output_names() is q.requested_output_names())
Q(inputs=[], requested_output_names=[b'\\xff'], model_name='m').requested_output_names()
# 2.5-request-id
Q(inputs=[], requested_output_names=[], model_name='m', request_id=b'ab').request_id()
Q(inputs=[], requested_output_names=[], model_name='m', request_id='a\\0b').request_id()
Q(inputs=[], requested_output_names=[], model_name='m', request_id=b'\\xff').request_id()
# 2.5-flags
q = Q(inputs=[], requested_output_names=[], model_name='m'); (q.set_flags(3), q.flags(), q.set_flags(True), q.flags(), q.set_flags(2**32-1), q.flags())
request.set_flags(5), request.flags()
# 1.4-set-flags trap-11
request.set_flags(flags=5)
request.set_flags(-1)
request.set_flags(2**32)
request.set_flags(1.0)
request.set_flags()
request.set_flags(1, 2)
request.set_release_flags(flags=1)
request.set_release_flags(-1)
request.set_release_flags(None)
# 2.5-release-flags
request.set_release_flags(1), request.set_release_flags(0), request.set_release_flags(99), request.set_release_flags(1)
# 2.5-trace 1.3-trace
request.trace() is request.trace(), request.trace().get_context(), type(request.trace())
q = Q(inputs=[], requested_output_names=[], model_name='m', trace=request.trace()); (q.trace() is q.trace(), q.trace().get_context())
request.trace().get_context(1)
# 1.4-no-constructor
c.InferenceTrace()
c.InferenceTrace(3)
# 2.5-hidden
[name for name in ('model_name', 'model_version', 'priority', 'preferred_memory') if hasattr(request, name)]
# 2.5-sender trap-26
q = Q(inputs=[], requested_output_names=[], model_name='m'); q.get_response_sender() is q.get_response_sender()
Q(inputs=[], requested_output_names=[], model_name='m').get_response_sender().send(R())
Q(inputs=[], requested_output_names=[], model_name='m').get_response_sender().send(flags=1)
Q(inputs=[], requested_output_names=[], model_name='m').get_response_sender().send()
Q(inputs=[], requested_output_names=[], model_name='m').get_response_sender().send(R(), 2)
# 1.4-exec
Q(inputs=[], requested_output_names=[], model_name='m').exec(None)
Q(inputs=[], requested_output_names=[], model_name='m').exec('x')
Q(inputs=[], requested_output_names=[], model_name='m').exec(decopled=True)
Q(inputs=[], requested_output_names=[], model_name='m').exec(True, 1)
Q(inputs=[], requested_output_names=[], model_name='m').async_exec(None)
Q.exec(3)
Q.exec()
# 1.4-bool
q = Q(inputs=[], requested_output_names=[], model_name='m'); [type(q.exec(v)).__name__ for v in (0, 1, False, True, np.bool_(True), np.bool_(False), 2.5)]
# 1.3-subclass
S = type('S', (Q,), {}); S(inputs=[], requested_output_names=[], model_name='m').exec().error().message()
S = type('S', (Q,), {'__init__': lambda self: None}); S()
# 1.3-iterator
c.ResponseIterator()
c.ResponseIterator(3)
c.ResponseIterator(R(), 3)
c.ResponseIterator(response=R())
r = R([T('x', np.zeros(1))]); i = c.ResponseIterator(r); (iter(i) is i, next(i) is r, [x is r for x in i])
# 3.6-iterator-end 1.3-iterator
i = c.ResponseIterator(R()); next(i); next(i)
# 1.3-preferred-memory 1.4-preferred-memory trap-12
[type(pb_utils.PreferredMemory(*v)) for v in ((pb_utils.TRITONSERVER_MEMORY_GPU,), (pb_utils.TRITONSERVER_MEMORY_CPU, -3), (c.MemoryType(7), 2**31))]
pb_utils.PreferredMemory(preferred_device_id=3, preferred_memory_type=pb_utils.TRITONSERVER_MEMORY_GPU) is None
pb_utils.PreferredMemory(None)
pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, None)
pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 2**63)
pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 1.0)
"""  # noqa: E501 - a line is a case


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: probe(engine, line, X=np.zeros(2, np.float32)))


MADE = "q = Q(inputs=[], requested_output_names=[], model_name='m')\n"


@pytest.mark.rule("2.5-release-flags-own", "trap-26")
def test_release_flags_of_a_request_that_was_sent(engines: Engines) -> None:
    code = MADE + "q.exec(); q.set_release_flags(2), q.set_release_flags(0), q.exec().has_error()"
    assert engines.same(lambda engine: probe(engine, code)) == "(None, None, True)"


@pytest.mark.deviation("own-request")
@pytest.mark.rule("2.5-release-flags-own", "2.5-is-cancelled-own", "trap-26")
@pytest.mark.parametrize(
    "call",
    [
        "q.set_release_flags(2)",
        "q.is_cancelled()",
        "q.get_response_sender().is_cancelled()",
        "q.exec(); q.is_cancelled()",
    ],
)
def test_what_crashes_the_real_server(stub: Engine, call: str) -> None:
    told = probe(stub, MADE + call)
    assert told.startswith("c_python_backend_utils.TritonModelException: ")
    assert "that the model has made itself: the real server dies" in told


@pytest.mark.deviation("no-response")
@pytest.mark.rule("1.3-iterator")
def test_an_iterator_of_nothing(stub: Engine) -> None:
    assert "the real server loses the instance's process" in probe(stub, "c.ResponseIterator(None)")
