"""The objects that a model touches: the same expressions, evaluated in a model of each engine."""

from __future__ import annotations

import numpy as np
import pytest
from comparing import Engines
from probing import expressions, probe

# A line with a number sign names the rules that the lines below it show.
EXPRESSIONS = """
# 1.3-tensor 2.2-name 1.4-str
T('x', np.zeros(3)).name()
T(b'x', np.zeros(3)).name()
# 1.4-str 1.4-tensor 1.4-constructor-text
T(None, np.zeros(3))
T(3, np.zeros(3))
# 2.1-argument-types 1.4-tensor trap-10
T('x', [1, 2])
T('x', 1.5)
T('x', np.float32(1))
T('x', {1})
T('x', memoryview(b'a'))
T('x', None)
T('x')
T()
T('x', np.zeros(1), 3)
# 1.3-tensor trap-11
T(name='x', array=np.zeros(1))
T('x', array=np.zeros(1))
# 2.1-empty-name
T('', np.zeros(1))
T('', np.array(['a']))
# 2.1-refused-dtypes trap-09
T('x', np.array(['a']))
# 2.1-refused-dtypes trap-10
T('x', np.array([1j]))
T('x', np.zeros(2, '>f4'))
T('x', np.zeros(2, 'longdouble'))
T('x', np.zeros(2, 'M8[s]'))
T('x', np.zeros(2, 'm8[s]'))
T('x', np.zeros(2, [('a', 'f4')]))
# 2.1-dtypes
T('x', np.zeros(2, np.longlong)).as_numpy().dtype
[T('x', np.zeros(2, t)).as_numpy().dtype.str for t in '? u1 u2 u4 u8 i1 i2 i4 i8'.split()]
[T('x', np.zeros(2, t)).as_numpy().dtype.str for t in 'f2 f4 f8 O S3'.split()]
# 2.1-masked trap-10
T('x', np.ma.masked_array([1.0], [True]))
# 2.1-dims trap-10
T('x', np.array(3.0)).shape()
T('x', np.zeros((0, 3))).shape()
# 2.1-contiguity trap-10
T('x', np.arange(6).reshape(2, 3).T).as_numpy().flags.c_contiguous
T('x', np.arange(6)[::2]).as_numpy()
T('x', np.broadcast_to(np.arange(2), (2, 2))).as_numpy()
# 2.1-subclass
S = type('S', (np.ndarray,), {}); type(T('x', np.zeros(2).view(S)).as_numpy()) is S
# 2.1-reference 2.1-alias trap-08
a = np.zeros(2); T('x', a).as_numpy() is a
a = np.zeros(2); t = T('x', a); a[:] = 1; t.as_numpy()
# 2.1-own-array
a = np.zeros(2); a.flags.writeable = False; t = T('x', a); t.as_numpy().flags.writeable
t = T('x', np.arange(6)[::2]); t.as_numpy() is t.as_numpy()
# 2.1-bytes-snapshot trap-08 trap-09
T('x', np.array(['a', None, 3], dtype=object)).as_numpy()
T('x', np.array([b'a', b'bc'])).as_numpy()
T('x', np.array(['\\udcff'], dtype=object))
# 2.2-triton-dtype trap-12
T('x', np.zeros(3)).triton_dtype()
# 2.2-is-cpu
T('x', np.zeros(3)).is_cpu()
# 2.2-shape trap-04
t = T('x', np.zeros(3)); t.shape() is t.shape(), type(t.shape())
# 1.3-identity
t = T('x', np.zeros(3)); t == t, t == T('x', np.zeros(3)), bool(t), hash(t) == hash(t)
# 1.3-no-copies trap-12
pickle.dumps(T('x', np.zeros(3)))
copy.copy(T('x', np.zeros(3)))
copy.deepcopy(R())
pickle.dumps(E('m'))
pickle.dumps(request)
# 1.3-weakref
weakref.ref(R()) is None
[weakref.ref(x)() is x for x in (request, T('x', np.zeros(3)), E('m'), request.trace())]
# 1.3-no-dict trap-12
hasattr(R(), '__dict__')
T('x', np.zeros(3)).x = 1
E('m').x = 1
request.x = 1
# 1.3-repr
repr(T('x', np.zeros(3)))
repr(E('m')), repr(R()), repr(request), repr(request.trace())
# 1.3-tensor 2.3-stream
np.asarray(T('x', np.zeros(3))).dtype
# 1.3-module
T, T.__module__, T.__qualname__
# 1.3-subclass
type('Sub', (T,), {})('x', np.zeros(2)).shape()
type('Sub', (R,), {})([T('x', np.zeros(2))]).output_tensors()[0].shape()
# 1.1-c-module-import
c.Tensor is T
# 2.5-inputs trap-04
sorted(tensor.name() for tensor in request.inputs())
request.inputs() is request.inputs(), request.inputs()[0] is request.inputs()[0]
# 1.2-input-by-name 2.2-received-dtypes
by_name(request, 'X').as_numpy()
# 2.1-private-copy trap-07
by_name(request, 'X').as_numpy() is by_name(request, 'X').as_numpy()
by_name(request, 'X').as_numpy().flags.writeable, by_name(request, 'X').as_numpy().flags.owndata
# 2.1-bytes-array 2.4-elements trap-09
by_name(request, 'S').as_numpy(), by_name(request, 'S').shape()
by_name(request, 'S').as_numpy().flags.writeable
# 1.2-input-by-name
by_name(request, 'NO')
by_name(None, 'NO')
# 2.5-requested-names trap-03
request.requested_output_names() == {'TOLD', 'OUT'}, type(request.requested_output_names())
# 2.5-request-id 2.5-correlation-accessor 2.5-flags 2.5-timeout
request.request_id(), request.correlation_id(), request.flags(), request.timeout()
# 2.5-parameters trap-04
request.parameters()
# 2.5-hidden trap-04
[hasattr(request, name) for name in ('priority', 'model_name', 'model_version')]
# 2.5-sender trap-21
request.get_response_sender() is request.get_response_sender()
# 2.5-trace 1.3-trace
type(request.trace()), request.trace().get_context()
# 2.5-release-flags trap-11
request.set_release_flags(flags=1)
# 1.3-response 2.6-error-accessor
R().output_tensors(), R().has_error(), R().error()
# 2.6-none-tensor
R([None])
# 1.4-list
len(R((T('x', np.zeros(1)),)).output_tensors())
len(R(np.array([T('x', np.zeros(1))])).output_tensors())
len(R(bytearray()).output_tensors())
# 2.6-output-tensors trap-04
r = R([T('x', np.zeros(1))]); r.output_tensors().append(1); len(r.output_tensors())
t = T('x', np.zeros(1)); R([t], E('m')).output_tensors()[0] is t
# 2.6-error-accessor
e = E('m'); R([], e).error() is e
R([], error=E('m')).has_error()
# 2.6-error-type 1.4-response
R([], 'text')
R([], ValueError('text'))
R(None)
R([1])
# 1.2-output-by-name
pb_utils.get_output_tensor_by_name(R([T('x', np.zeros(2))]), 'x').shape()
pb_utils.get_output_tensor_by_name(R([]), 'x')
# 1.3-error
E('m').message(), E(b'm').message(), E('').message()
E('m').code(), str(E('m').code()), f'{E.NOT_FOUND}'
E('m', E.CANCELLED).code()
E(code=E.CANCELLED, message='m').code()
# 2.7-code-type trap-13
E('m', 3)
# 1.4-error 1.4-none
E()
E(None)
E('m', None)
E('m', message='n')
E('m', E.INTERNAL, 3)
# 2.7-not-an-exception trap-13
raise E("m")
# 2.7-codes
[(name, int(getattr(E, name))) for name in dir(E) if name.isupper()]
# 1.3-enum-number
E.INTERNAL == 1, E.INTERNAL == 1.0, E.INTERNAL == None, E.INTERNAL != 2, E.INTERNAL == L.WARNING
hash(E.INTERNAL), [0, 7][E.INTERNAL], isinstance(E.INTERNAL, int)
json.dumps(E.INTERNAL)
# 1.3-enum-text
E.INTERNAL.name, E.INTERNAL.value, str(E.INTERNAL), repr(E.INTERNAL)
c.MetricKind.COUNTER, str(c.MetricKind.COUNTER), c.MetricKind.__members__
c.MemoryType.__members__, str(c.MemoryType.TRITONSERVER_MEMORY_CPU)
# 1.3-enum-call
type(E.INTERNAL)(3)
c.MemoryType(2)
c.MetricKind('COUNTER')
c.MetricKind()
# 1.3-enum-error-code
type(E.INTERNAL).__name__, type(E.INTERNAL).__qualname__, type(E.INTERNAL).__module__
# 1.3-exception
pb_utils.TritonModelException.__mro__
pb_utils.TritonModelException('a', 3)
# 2.7-model-exception
raise pb_utils.TritonModelException('a')
# 1.3-logger
L
L.INFO, str(L.VERBOSE), L.LogLevel(2), L.LogLevel.__qualname__
# 2.10-no-constructor 1.4-no-constructor
L()
L(1)
c.Metric()
c.InferenceResponseSender()
# 2.10-arguments 1.4-logger-log
L.log('a'), L.log(b'a', L.ERROR), L.log(level=L.LogLevel.WARNING, message='m')
L.log(3)
L.log('a', 2)
L.log('a', L.ERROR, 3)
# 2.10-arguments 1.4-logger-levels 1.4-function-text
L.log_info(message='x'), L.log_warn('x'), L.log_error('x'), L.log_verbose('x')
L.log_info('x', 3)
L.log_warn(None)
L.log_error(text='x')
L.log_verbose()
L.log_warning('x')
# 1.2-string-to-numpy-table
pb_utils.TRITON_STRING_TO_NUMPY
# 1.2-triton-to-numpy
[pb_utils.triton_to_numpy_type(i) is None for i in range(-1, 17)]
[np.dtype(pb_utils.triton_to_numpy_type(i)) for i in range(1, 14)]
pb_utils.triton_to_numpy_type('TYPE_FP32'), pb_utils.triton_to_numpy_type(11.0)
# 1.2-numpy-to-triton
[pb_utils.numpy_to_triton_type(t) for t in (np.float32, np.dtype('f4'), 'f4', float, int, bool)]
[pb_utils.numpy_to_triton_type(t) for t in (np.bool_, np.half, np.longlong, np.longdouble, None)]
# 1.2-numpy-to-triton-quirks
[pb_utils.numpy_to_triton_type(t) for t in (np.bytes_, np.str_, np.object_, object, bytes, str)]
[pb_utils.numpy_to_triton_type(np.dtype(t)) for t in ('S', 'S3', 'U', 'O', '>f4', '?', 'S0')]
[pb_utils.numpy_to_triton_type(t) for t in ('O', 'object', 'S', 'bool', '?', 3)]
# 1.2-triton-string-to-numpy
pb_utils.triton_string_to_numpy('TYPE_FP32')
pb_utils.triton_string_to_numpy('TYPE_BF16')
pb_utils.triton_string_to_numpy('FP32')
pb_utils.triton_string_to_numpy(None)
# 1.2-serialize 2.4-framing 2.4-serialize
pb_utils.serialize_byte_tensor(np.array(["ü", None, 1, bytearray(b"q"), np.bytes_(b"n")], "O"))
pb_utils.serialize_byte_tensor(np.array([[b'a', b'b'], [b'c', b'd']], dtype=object).T)
# 2.4-s-arrays
pb_utils.serialize_byte_tensor(np.array([b'a', b'bb', b'c' + bytes(1)]))
# 1.2-serialize 2.4-other-dtypes
pb_utils.serialize_byte_tensor(np.array([], dtype=float))
pb_utils.serialize_byte_tensor(np.array(['a'])), pb_utils.serialize_byte_tensor(np.array([1.0]))
pb_utils.serialize_byte_tensor([b'a'])
# 1.2-deserialize 2.4-deserialize
pb_utils.deserialize_bytes_tensor(bytes([1, 0, 0, 0, 97, 0, 0, 0, 0]))
pb_utils.deserialize_bytes_tensor(np.array([1, 0, 0, 0, 97], np.uint8))
pb_utils.deserialize_bytes_tensor(())
pb_utils.deserialize_bytes_tensor(None)
# 2.4-truncated
pb_utils.deserialize_bytes_tensor(bytes([1, 0, 0]))
pb_utils.deserialize_bytes_tensor(bytes([5, 0, 0, 0, 97]))
# 1.2-config-by-name
pb_utils.get_input_config_by_name(self.config, 'X')
pb_utils.get_output_config_by_name(self.config, 'X')
pb_utils.get_output_config_by_name({'output': [{'nme': 3}]}, 'X')
pb_utils.get_input_config_by_name(self.config, 'X') is self.config['input'][1]
# 1.2-using-decoupled
pb_utils.using_decoupled_model_transaction_policy({'model_transaction_policy': {}})
pb_utils.using_decoupled_model_transaction_policy(self.config)
# 1.2-model-dir
pb_utils.get_model_dir().split('/')[-2:]
pb_utils.get_model_dir(1)
# 1.2-constants
[(name, getattr(pb_utils, name)) for name in dir(pb_utils) if name.startswith('TRITONSERVER_RE')]
# 1.2-memory-constants 1.3-memory-type
pb_utils.TRITONSERVER_MEMORY_GPU, int(pb_utils.TRITONSERVER_MEMORY_GPU)
pb_utils.TRITONSERVER_MEMORY_CPU, int(pb_utils.TRITONSERVER_MEMORY_CPU)
pb_utils.TRITONSERVER_MEMORY_CPU is c.MemoryType.TRITONSERVER_MEMORY_CPU
# 1.3-metric-kind
[(kind, int(kind)) for kind in (c.COUNTER, c.GAUGE, c.HISTOGRAM)]
# 1.3-preferred-memory trap-12
[name for name in dir(c.PreferredMemory) if not name.startswith('_')]
# 1.4-preferred-memory
pb_utils.PreferredMemory()
pb_utils.PreferredMemory(1)
pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 'a')
# 1.4-metric-family 2.11-kind-type
pb_utils.MetricFamily()
pb_utils.MetricFamily('n', 'd', 0)
pb_utils.MetricFamily(None, 'd', pb_utils.MetricFamily.GAUGE)
pb_utils.MetricFamily(name='n', description='d', kind=pb_utils.MetricFamily.GAUGE, more=1)
# 1.4-family-metric
F = pb_utils.MetricFamily; F('objects_f', 'd', F.GAUGE).Metric({}, None, 3)
F = pb_utils.MetricFamily; F('objects_f', 'd', F.GAUGE).Metric(label={})
# 1.4-metric trap-11
F = pb_utils.MetricFamily; f = F('objects_f', 'd', F.GAUGE); f.Metric().increment()
F = pb_utils.MetricFamily; f = F('objects_f', 'd', F.GAUGE); f.Metric().set(value=1.0)
F = pb_utils.MetricFamily; f = F('objects_f', 'd', F.GAUGE); f.Metric().observe('1')
F = pb_utils.MetricFamily; f = F('objects_f', 'd', F.GAUGE); f.Metric().value(1)
# 1.4-load-model 1.2-load-model
pb_utils.load_model()
pb_utils.load_model(name='m')
pb_utils.load_model('m', None)
# 1.4-unload-model 1.2-unload-model 1.4-bool
pb_utils.unload_model()
pb_utils.unload_model('m', None)
# 1.4-is-model-ready 1.2-is-model-ready
pb_utils.is_model_ready()
pb_utils.is_model_ready('m', 1)
pb_utils.is_model_ready('probe'), pb_utils.is_model_ready(model_name='nothing')
# 1.4-send 2.8-types
request.get_response_sender().send(3)
request.get_response_sender().send(response=R(), flag=1)
request.get_response_sender().send(R(), 1, 2)
request.get_response_sender().send(flags=-1)
# 1.4-set-flags trap-11
request.set_flags(-1)
request.set_flags(2 ** 32)
request.set_flags(1.0)
request.set_flags()
# 1.4-exec
request.exec(1, 2)
request.async_exec(decouple=True)
request.exec(decoupled=None)
# 1.4-request 2.5-type-errors
Q()
Q(inputs=[], requested_output_names=[])
Q(model_name='m', inputs=[], requested_output_names='abc')
Q(model_name='m', inputs=[np.zeros(1)], requested_output_names=[])
Q(model_name='m', inputs=[], requested_output_names={'a'})
Q(model_name='m', inputs=[], requested_output_names=[], priority=1)
Q(model_name='m', inputs=[], requested_output_names=[], flags=-1)
Q(model_name='m', inputs=[], requested_output_names=[], timeout=1.5)
Q(model_name='m', inputs=[], requested_output_names=[], model_version='1')
Q(model_name='m', inputs=[], requested_output_names=[], trace=None)
Q(model_name='m', inputs=[], requested_output_names=[], request_id=None)
Q(model_name='m', inputs=[], requested_output_names=[], correlation_id=None)
# 2.5-parameters-type
Q(model_name='m', inputs=[], requested_output_names=[], parameters=[])
# 2.5-parameter-keys
Q(model_name='m', inputs=[], requested_output_names=[], parameters={1: 2})
# 2.5-parameter-values
Q(model_name='m', inputs=[], requested_output_names=[], parameters={'a': 1.5})
Q(model_name='m', inputs=[], requested_output_names=[], parameters={'a': None})
# 2.5-parameters
Q(model_name='m', inputs=[], requested_output_names=[], parameters={'a': 1, 'b': 'ü'}).parameters()
# 2.5-correlation-id
Q(model_name='m', inputs=[], requested_output_names=[], correlation_id=1.5)
Q(model_name='m', inputs=[], requested_output_names=[], correlation_id=-1)
Q(model_name='m', inputs=[], requested_output_names=[], correlation_id=2 ** 64)
Q(model_name='m', inputs=[], requested_output_names=[], correlation_id=True).correlation_id()
Q(model_name='m', inputs=[], requested_output_names=[], correlation_id='a').correlation_id()
# 2.5-none-input
Q(model_name='m', inputs=[None], requested_output_names=[], request_id='q')
# 2.5-empty-output
Q(model_name='m', inputs=[], requested_output_names=[''], request_id='q')
# 2.5-flags 2.5-timeout
q = Q(model_name='m', inputs=[], requested_output_names=[], flags=3); q.set_flags(4); q.flags()
Q('i', 7, [], ['a', 'b', 'a'], 'm', 1, 2, 3).requested_output_names() == {'a', 'b'}
Q('i', 7, [], [], 'm', 1, 2, 3).timeout(), Q('i', 7, [], [], 'm').request_id()
# 1.3-shared-memory
type(c.shared_memory), type(c.shared_memory.free_memory())
# 1.1-c-module-only
pb_utils.nonsense
c.nonsense
hasattr(pb_utils, 'Metric'), hasattr(pb_utils, 'InferenceTrace'), hasattr(c, 'get_model_dir')
# 3.10-modules
pb_utils.__name__, pb_utils.__doc__, c.__name__, c.__doc__, hasattr(c, '__file__')
pb_utils.json is json, pb_utils.np is np, pb_utils.struct.__name__
"""


@pytest.mark.parametrize("expression", expressions(EXPRESSIONS))
def test_an_expression_in_a_model(engines: Engines, expression: str) -> None:
    request = {
        "X": np.arange(3, dtype=np.float32),
        "S": np.array([b"a", "ü".encode(), b""], object),
        "request_id": "7",
        "parameters": {"p": 1, "q": "ä", "b": True},
    }
    engines.same(lambda engine: probe(engine, expression, **request))
