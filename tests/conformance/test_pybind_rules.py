"""What pybind11 makes of arguments, classes and enums: the same lines in a model of each engine."""

from __future__ import annotations

import pytest
from comparing import Engines
from probing import expressions, probe

LINES = """
# 1.4-function-text
T.name()
T.name(3)
T('x', np.zeros(1)).name(1)
T('x', np.zeros(1)).name(a=1)
T('x', np.zeros(1)).shape(1, b=2)
T('x', np.zeros(1)).as_numpy(copy=True)
T('x', np.zeros(1)).is_cpu(0)
T('x', np.zeros(1)).triton_dtype(0)
T.name(self=T('x', np.zeros(1)))
T.name(E('m'))
R().has_error(1)
R().error(1)
R().output_tensors(x=1)
E('m').code(1)
E('m').message(x=1, y=2)
# 1.4-constructor-text
R([], None, None, None, 5)
R(tensors=[])
R([], error=3)
E('m', nope=1)
T('std::', 1)
T(type('A', (), {'__repr__': lambda self: 1 / 0})(), type('A', (), {'__repr__': lambda self: 3})())
# 1.4-str
T(b'x', np.zeros(1)).name(), T(bytearray(b'x'), np.zeros(1)).name(), type(T(b'x', np.ones(1)).name())
T(np.str_('x'), np.zeros(1)).name(), T(np.bytes_(b'x'), np.zeros(1)).name()
T('a\\0b', np.zeros(1)).name(), T('ü😀', np.zeros(1)).name()
E(b'\\xff').message()
T(b'\\xff', np.zeros(1)).name()
E('\\udcff')
E(memoryview(b'a'))
E(3)
E(None)
E(['a'])
type(E(np.str_('a')).message())
E(type('S', (str,), {'__str__': lambda self: 'no'})('yes')).message()
E(message=b'a').message()
# 1.4-int
request.set_flags(True); request.flags()
request.set_flags(2**32 - 1); request.flags()
request.set_flags(np.int8(3)), request.flags()
request.set_flags(np.bool_(True)), request.flags()
request.set_flags(np.float32(2.5)), request.flags()
request.set_flags(np.array(3)), request.flags()
request.set_flags(E.NOT_FOUND), request.flags()
import decimal; request.set_flags(decimal.Decimal('3.7')); request.flags()
import fractions; request.set_flags(fractions.Fraction(7, 2)); request.flags()
request.set_flags(type('I', (), {'__index__': lambda self: 3})()); request.flags()
request.set_flags(type('I', (), {'__int__': lambda self: 4})()); request.flags()
request.set_flags(type('I', (str,), {'__int__': lambda self: 5})('a')); request.flags()
request.set_flags(type('I', (), {'__index__': lambda self: 1 / 0})())
request.set_flags(type('I', (), {'__int__': lambda self: 1 / 0})())
request.set_flags(np.str_(0))
request.set_flags(np.bytes_(b'0'))
request.set_flags(np.float64(1))
request.set_flags(1.0)
request.set_flags('1')
request.set_flags(1j)
request.set_flags(None)
request.set_flags(-1)
request.set_flags(2**32)
# 1.4-int trap-11 1.4-set-flags
request.set_flags(flags=1)
request.set_flags()
request.set_flags(1, 2)
# 1.4-list
[R(x).output_tensors() for x in ([], (), range(0), bytearray(), np.zeros(0), np.zeros((0, 3)))]
R(type('L', (list,), {})([])).output_tensors()
R(type('G', (), {'__getitem__': lambda self, i: [][i], '__len__': lambda self: 0})()).output_tensors()
R(type('G', (), {'__getitem__': lambda self, i: 1})())
R(type('G', (), {'__getitem__': lambda self, i: 1 / 0, '__len__': lambda self: 1})())
import array, collections; R(collections.deque()).output_tensors(), R(array.array('i')).output_tensors()
import collections; R(collections.UserList()).output_tensors()
import collections; R(collections.UserDict()).output_tensors()
R(np.array(1))
R(memoryview(b'a'))
R(bytearray(b'a'))
R('')
R(b'')
R({})
R({1})
R({}.keys())
R(x for x in [])
R(iter([]))
import types; R(types.MappingProxyType({}))
R([T('x', np.zeros(1)), 3])
R([[]])
# 1.4-bool 1.4-exec
request.exec(None)
request.exec('x')
request.exec([])
request.exec(type('B', (), {'__bool__': lambda self: 1 / 0})())
request.exec(type('B', (), {'__len__': lambda self: 0})())
request.exec(np.zeros(2))
request.exec(np.str_(''))
request.exec(np.bytes_(b'a'))
request.exec(1, 2)
request.exec(dec=True)
# 1.4-none
E('m', None)
E('m', code=None)
R(error=None).error(), R([], None).has_error()
L.log('m', None)
# 1.4-error 2.7-code-type
E('m', c.MemoryType(1))
E('m', 1)
E('m', E.INTERNAL, code=E.INTERNAL)
E(code=E.CANCELLED)
E('m', type(E.INTERNAL)(99)).code()
# 1.3-no-dict trap-12
T('x', np.zeros(1)).y = 1
R().y = 1
T('x', np.zeros(1)).name = 1
del T('x', np.zeros(1)).name
T('x', np.zeros(1)).y
E('m').y
# 1.3-no-copies
copy.deepcopy([T('x', np.zeros(1))])
type('S', (T,), {})('x', np.zeros(1)).__reduce_ex__(2)
# 1.3-repr
str(T('x', np.zeros(1))), f'{R()}', [E('m')]
# 1.3-identity
len({T('x', np.zeros(1)), T('x', np.zeros(1))}), hash(R()) == hash(R), E('m') == E('m')
T('x', np.zeros(1)) < T('x', np.zeros(1))
T('x', np.zeros(1)) + 1
len(T('x', np.zeros(1)))
iter(R())
T('x', np.zeros(1))[0]
# 1.3-metaclass
type(T), type(E), type(R), type(L), type(c.MemoryType), type(type(T))
T.__name__, T.__qualname__, T.__module__
# 1.3-subclass
S = type('S', (T,), {}); s = S('x', np.zeros(1)); s.y = 3; (s.y, s.__dict__, s.shape(), s)
S = type('S', (T,), {'__slots__': ('y',)}); s = S('x', np.zeros(1)); s.y = 3; (s.y, hasattr(s, '__dict__'))
S = type('S', (T,), {'name': lambda self: 'mine'}); s = S('x', np.zeros(1)); (s.name(), T.name(s))
S = type('S', (T,), {}); s = S('x', np.zeros(1)); R([s]).output_tensors()[0] is s
S = type('S', (T,), {}); S(1)
S = type('S', (E,), {'__init__': lambda self: None}); S()
S = type('S', (R,), {'__init__': lambda self: None}); S()
S = type('S', (T,), {'__init__': lambda self: T.__init__(self, 'x', np.zeros(2))}); S().shape()
S = type('S', (E,), {}); R(error=S('m')).error().message(), S('m')
pickle.dumps(type('S', (T,), {})('x', np.zeros(1)))
# 1.4-no-constructor
L()
L(1, a=2)
c.InferenceResponseSender(1)
# 1.3-enum-number
[E.INTERNAL == x for x in (1, 1.0, True, 2, None, 'INTERNAL', [], np.int64(1), L.WARNING)]
[E.INTERNAL != x for x in (1, 1.0, True, 2, None, 'INTERNAL', [], np.int64(1), L.WARNING)]
[x == E.INTERNAL for x in (1, 1.0, True, 2, None, 'INTERNAL', [], np.int64(1), L.WARNING)]
E.INTERNAL == np.array([1, 2])
E.INTERNAL < E.NOT_FOUND
E.INTERNAL + 1
L.INFO | L.ERROR
~L.INFO
int(L.ERROR), L.ERROR.__index__(), hash(L.ERROR), bool(L.INFO), np.int32(L.ERROR), '%d' % L.ERROR
float(L.ERROR)
round(L.ERROR)
{L.ERROR: 1}[2], {2: 1}[L.ERROR], [0, 1, 2][L.ERROR], range(5)[L.ERROR]
sorted([L.ERROR, L.INFO], key=int), sorted([L.ERROR, L.INFO])
isinstance(L.INFO, int), isinstance(L.INFO, L.LogLevel), np.array([L.INFO]).dtype
json.dumps([L.INFO])
# 1.3-enum-text
L.INFO.name, L.INFO.value, str(L.INFO), repr(L.INFO), f'{L.INFO}'
f'{E.INTERNAL:d}'
f'{L.INFO:>20}'
L.LogLevel.__members__, L.LogLevel.__members__ is L.LogLevel.__members__
getattr(L.LogLevel, '__entries')
L.LogLevel.__doc__, type(E.INTERNAL).__doc__
L.INFO.WARNING, E.INTERNAL.CANCELLED
iter(L.LogLevel)
L.LogLevel['INFO']
len(L.LogLevel)
# 1.3-enum-call
L.LogLevel(2), L.LogLevel(value=2), L.LogLevel(L.ERROR), L.LogLevel(True), L.LogLevel(np.uint8(3))
L.LogLevel(4), L.LogLevel(4).name, str(L.LogLevel(4)), L.LogLevel(4).value, L.LogLevel(2**32 - 1)
L.LogLevel(np.float32(2.5)), L.LogLevel(E.NOT_FOUND)
L.LogLevel(-1)
L.LogLevel(2**32)
L.LogLevel(1.5)
L.LogLevel('INFO')
L.LogLevel()
L.LogLevel(1, 2)
L.LogLevel(number=1)
K = type('K', (L.LogLevel,), {}); (K(1), str(K(1)), K.INFO, K(1) == L.WARNING)
# 1.3-enum-identity
E.INTERNAL is E.INTERNAL, E('m').code() is E.INTERNAL, E('m').code() == E.INTERNAL
L.INFO is L.INFO, L.INFO is L.LogLevel.INFO, L.LogLevel(0) is L.INFO
(lambda e: e.code() is e.code())(E('m'))
# 1.3-enum-fixed
E.INTERNAL = 3
L.INFO.x = 1
L.INFO.x
# 1.3-enum-copies
copy.copy(L.ERROR), copy.deepcopy([E.CANCELLED]), pickle.loads(pickle.dumps([L.ERROR, E.CANCELLED]))
[pickle.loads(pickle.dumps(L.LogLevel(9), protocol)) for protocol in range(2, 6)]
weakref.ref(L.INFO)() is L.INFO, L.INFO.__getstate__()
# 1.3-exception
pb_utils.TritonModelException.__mro__, pb_utils.TritonModelException('a', 3).args
repr(pb_utils.TritonModelException('a')), str(pb_utils.TritonModelException()), pb_utils.TritonModelException().args
pickle.loads(pickle.dumps(pb_utils.TritonModelException('a', 3))).args
type('S', (pb_utils.TritonModelException,), {})('a').args
T('', np.zeros(1))
"""  # noqa: E501 - a line is a case


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: probe(engine, line))


@pytest.mark.rule("1.4-int")
@pytest.mark.parametrize("name", ["flags", "timeout", "model_version"])
@pytest.mark.parametrize(
    "number",
    ["-1", "0", "2**31", "2**32", "2**63-1", "2**63", "-2**63", "-2**63-1", "2**64-1", "2**64"],
)
def test_the_range_of_a_number(engines: Engines, name: str, number: str) -> None:
    code = f"Q(inputs=[], requested_output_names=[], model_name='m', {name}={number})"
    engines.same(lambda engine: probe(engine, code))
