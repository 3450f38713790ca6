"""The objects that a model touches: the same expressions, evaluated in a model of each engine."""

from __future__ import annotations

import numpy as np
import pytest
from comparing import Engines
from probing import probe

EXPRESSIONS = """
# Tensor
T('x', np.zeros(3)).name()
T(b'x', np.zeros(3)).name()
T(None, np.zeros(3))
T(3, np.zeros(3))
T('x', [1, 2])
T('x', 1.5)
T('x')
T()
T('x', np.zeros(1), 3)
T(name='x', array=np.zeros(1))
T('x', array=np.zeros(1))
T('', np.zeros(1))
T('', np.array(['a']))
T('x', np.array(['a']))
T('x', np.array([1j]))
T('x', np.zeros(2, '>f4'))
T('x', np.zeros(2, 'longdouble'))
T('x', np.zeros(2, np.longlong)).as_numpy().dtype
T('x', np.zeros(2, 'M8[s]'))
T('x', np.zeros(2, [('a', 'f4')]))
T('x', np.ma.masked_array([1.0], [True]))
T('x', np.array(3.0)).shape()
T('x', np.zeros((0, 3))).shape()
T('x', np.arange(6).reshape(2, 3).T).as_numpy().flags.c_contiguous
a = np.zeros(2); T('x', a).as_numpy() is a
a = np.zeros(2); t = T('x', a); a[:] = 1; t.as_numpy()
T('x', np.array(['a', None, 3], dtype=object)).as_numpy()
T('x', np.array([b'a', b'bc'])).as_numpy()
T('x', np.array(['\\udcff'], dtype=object))
T('x', np.zeros(3)).triton_dtype()
T('x', np.zeros(3)).is_cpu()
t = T('x', np.zeros(3)); t.shape() is t.shape()
t = T('x', np.zeros(3)); t == t, t == T('x', np.zeros(3)), bool(t), hash(t) == hash(t)
pickle.dumps(T('x', np.zeros(3)))
copy.copy(T('x', np.zeros(3)))
copy.deepcopy(R())
weakref.ref(R()) is None
hasattr(R(), '__dict__')
repr(T('x', np.zeros(3)))[:36]
np.asarray(T('x', np.zeros(3))).dtype
T, T.__module__, T.__qualname__
c.Tensor is T
# Requests
sorted(tensor.name() for tensor in request.inputs())
request.inputs() is request.inputs(), request.inputs()[0] is request.inputs()[0]
by_name(request, 'X').as_numpy()
by_name(request, 'X').as_numpy() is by_name(request, 'X').as_numpy()
by_name(request, 'X').as_numpy().flags.writeable, by_name(request, 'X').as_numpy().flags.owndata
by_name(request, 'S').as_numpy(), by_name(request, 'S').shape()
by_name(request, 'NO')
by_name(None, 'NO')
request.requested_output_names()
request.request_id(), request.correlation_id(), request.flags(), request.timeout()
request.parameters()
# Responses
R().output_tensors(), R().has_error(), R().error()
R([None])
len(R((T('x', np.zeros(1)),)).output_tensors())
len(R(np.array([T('x', np.zeros(1))])).output_tensors())
len(R(bytearray()).output_tensors())
r = R([T('x', np.zeros(1))]); r.output_tensors().append(1); len(r.output_tensors())
e = E('m'); R([], e).error() is e
R([], error=E('m')).has_error()
pb_utils.get_output_tensor_by_name(R([T('x', np.zeros(2))]), 'x').shape()
pb_utils.get_output_tensor_by_name(R([]), 'x')
# Errors
E('m').message(), E(b'm').message(), E('').message()
E('m').code(), str(E('m').code()), f'{E.NOT_FOUND}'
E('m', E.CANCELLED).code()
E(code=E.CANCELLED, message='m').code()
E('m', 3)
E()
E(None)
E('m', message='n')
E('m', E.INTERNAL, 3)
exec('raise E("m")')
[(name, int(getattr(E, name))) for name in dir(E) if name.isupper()]
E.INTERNAL == 1, E.INTERNAL == 1.0, E.INTERNAL == None, E.INTERNAL != 2, E.INTERNAL == L.WARNING
E.INTERNAL.name, E.INTERNAL.value, hash(E.INTERNAL), [0, 7][E.INTERNAL], isinstance(E.INTERNAL, int)
type(E.INTERNAL)(3)
type(E.INTERNAL).__name__, type(E.INTERNAL).__qualname__, type(E.INTERNAL).__module__
json.dumps(E.INTERNAL)
pb_utils.TritonModelException.__mro__
pb_utils.TritonModelException('a', 3)
# Logger
L
L()
L(1)
L.log('a'), L.log(b'a', L.ERROR), L.log(level=L.LogLevel.WARNING, message='m')
L.log(3)
L.log('a', 2)
L.log('a', L.ERROR, 3)
L.log_info(message='x'), L.log_warn('x'), L.log_error('x'), L.log_verbose('x')
L.log_info('x', 3)
L.log_warn(None)
L.log_error(text='x')
L.log_verbose()
L.INFO, str(L.VERBOSE), L.LogLevel(2), L.LogLevel.__qualname__
# Helpers
pb_utils.TRITON_STRING_TO_NUMPY
[pb_utils.triton_to_numpy_type(i) is None for i in range(-1, 17)]
[np.dtype(pb_utils.triton_to_numpy_type(i)) for i in range(1, 14)]
pb_utils.triton_to_numpy_type('TYPE_FP32'), pb_utils.triton_to_numpy_type(11.0)
[pb_utils.numpy_to_triton_type(t) for t in (np.float32, np.dtype('f4'), 'f4', float, int, bool)]
[pb_utils.numpy_to_triton_type(t) for t in (np.bool_, np.half, np.longlong, np.longdouble, None)]
[pb_utils.numpy_to_triton_type(t) for t in (np.bytes_, np.str_, np.object_, object, bytes, str)]
[pb_utils.numpy_to_triton_type(np.dtype(t)) for t in ('S', 'S3', 'U', 'O', '>f4', '?', 'S0')]
[pb_utils.numpy_to_triton_type(t) for t in ('O', 'object', 'S', 'bool', '?', 3)]
pb_utils.triton_string_to_numpy('TYPE_BF16')
pb_utils.triton_string_to_numpy(None)
pb_utils.serialize_byte_tensor(np.array(["ü", None, 1, bytearray(b"q"), np.bytes_(b"n")], "O"))
pb_utils.serialize_byte_tensor(np.array([[b'a', b'b'], [b'c', b'd']], dtype=object).T)
pb_utils.serialize_byte_tensor(np.array([b'a', b'bb']))
pb_utils.serialize_byte_tensor(np.array([], dtype=float))
pb_utils.serialize_byte_tensor(np.array(['a'])), pb_utils.serialize_byte_tensor(np.array([1.0]))
pb_utils.serialize_byte_tensor([b'a'])
pb_utils.deserialize_bytes_tensor(bytes([1, 0, 0, 0, 97, 0, 0, 0, 0]))
pb_utils.deserialize_bytes_tensor(np.array([1, 0, 0, 0, 97], np.uint8))
pb_utils.deserialize_bytes_tensor(())
pb_utils.deserialize_bytes_tensor(None)
pb_utils.deserialize_bytes_tensor(bytes([1, 0, 0]))
pb_utils.deserialize_bytes_tensor(bytes([5, 0, 0, 0, 97]))
pb_utils.get_input_config_by_name(self.config, 'X')
pb_utils.get_output_config_by_name(self.config, 'X')
pb_utils.get_output_config_by_name({'output': [{'nme': 3}]}, 'X')
pb_utils.using_decoupled_model_transaction_policy({'model_transaction_policy': {}})
pb_utils.using_decoupled_model_transaction_policy(self.config)
pb_utils.get_model_dir().split('/')[-2:]
# Modules
[name for name in dir(pb_utils) if name.startswith('TRITONSERVER_RE')]
pb_utils.nonsense
c.nonsense
hasattr(pb_utils, 'Metric'), hasattr(pb_utils, 'InferenceTrace'), hasattr(c, 'get_model_dir')
pb_utils.__name__, pb_utils.__doc__, c.__name__, c.__doc__, hasattr(c, '__file__')
pb_utils.json is json, pb_utils.np is np, pb_utils.struct.__name__
"""


@pytest.mark.parametrize(
    "expression", [line for line in EXPRESSIONS.splitlines() if line and not line.startswith("#")]
)
def test_an_expression_in_a_model(engines: Engines, expression: str) -> None:
    request = {
        "X": np.arange(3, dtype=np.float32),
        "S": np.array([b"a", "ü".encode(), b""], object),
        "request_id": "7",
        "parameters": {"p": 1, "q": "ä", "b": True},
    }
    engines.same(lambda engine: probe(engine, expression, **request))
