"""Tensors in a model: made, received, changed, sent and sent again; the same on both engines."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from comparing import Engines
from probing import expressions, probe, probe_sent

LINES = """
# 2.1-argument-types
T('x', ())
T('x', 'text')
T('x', np.memmap)
T('x', np.dtype('f4'))
T('x', bytearray(3))
T('x', range(3))
T('x', T('y', np.zeros(1)))
import array; T('x', array.array('f', [1.0]))
import ctypes; T('x', (ctypes.c_int * 2)(1, 2))
T('x', type('A', (), {'__array__': lambda self, *a: np.zeros(2)})())
# 2.1-dtypes
[T('x', np.zeros(2, t)).as_numpy().dtype for t in '? b B h H i I l L q Q e f d O S'.split()]
[T('x', np.zeros(2, t)).as_numpy().dtype for t in (np.intc, np.uintp, np.longlong, np.half, bool, int, float, object)]
[T('x', np.zeros(2, t)).as_numpy().dtype for t in ('>u1', '<f4', '=i8', '|b1', '|S0', '|S7')]
T('x', np.zeros(2, np.dtype('f4', metadata={'a': 1}))).as_numpy().dtype
T('x', np.zeros(2, np.dtype(('i4', [('a', 'i2'), ('b', 'i2')])))).shape()
T('x', np.array([True, 2, 'three', b'4', None], object)).shape()
# 2.1-refused-dtypes
T('x', np.zeros(2, '>i2'))
T('x', np.zeros(2, '>i8'))
T('x', np.zeros(2, '>f8'))
T('x', np.zeros(2, 'c16'))
T('x', np.zeros(2, 'g'))
T('x', np.zeros(2, 'V4'))
T('x', np.zeros(2, 'U'))
T('x', np.zeros(0, 'U3'))
T('x', np.zeros((), 'M8[D]'))
T('x', np.zeros(2, 'm8'))
T('x', np.zeros(2, 'f4,i4'))
T('x', np.rec.array([(1.0,)], dtype=[('a', 'f4')]))
T('x', np.char.array(['a']))
import ml_dtypes; T('x', np.zeros(2, ml_dtypes.bfloat16))
import ml_dtypes; T('x', np.zeros(2, ml_dtypes.float8_e4m3fn))
# 2.1-empty-name 1.3-tensor
T('', np.zeros(1, 'c8'))
T(b'', np.zeros(1))
T(' ', np.zeros(1)).name(), T('\\0', np.zeros(1)).name()
# 2.1-masked
T('x', np.ma.masked_array([1.0], [False]))
T('x', np.ma.masked_array([[1, 2], [3, 4]])[::-1].T)
T('x', np.ma.array(np.array(['a'], object)))
T('', np.ma.array([1.0]))
T('x', np.ma.array([1j]))
# 2.1-dims
[T('x', np.zeros(s)).shape() for s in ((), (0,), (1,), (0, 3), (3, 0, 2), (2, 1, 3))]
[T('x', np.zeros(s, object)).shape() for s in ((), (0,), (1,), (0, 3), (3, 0, 2))]
T('x', np.zeros((1,) * 32)).shape() == [1] * 32
T('x', np.array(3.0)).as_numpy(), T('x', np.array('a', object)).as_numpy()
# 2.1-contiguity
a = np.zeros((2, 3)).T; t = T('x', a); (t.as_numpy() is a, t.as_numpy().flags.c_contiguous, t.shape())
[(T('x', a).as_numpy() is a, T('x', a).as_numpy().strides) for a in (np.ones((3, 1))[:, ::-1], np.ones((1, 3)).T)]
[T('x', a).as_numpy() is a for a in (np.zeros((0, 3))[:, ::-1], np.zeros(4)[::2], np.zeros(4)[1:], np.array(1.0))]
T('x', np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::-1, :, ::2]).as_numpy().tolist()
T('x', np.asfortranarray(np.arange(6).reshape(2, 3))).as_numpy().tolist()
T('x', np.broadcast_to(np.array(['a', 'b'], object), (2, 2))).as_numpy().tolist()
T('x', np.lib.stride_tricks.as_strided(np.zeros(1), (3,), (0,))).as_numpy().tolist()
T('x', np.lib.stride_tricks.sliding_window_view(np.arange(4), 2)).as_numpy().tolist()
a = np.frombuffer(b'0123456789', np.uint8)[1:9].view('f4'); (a.flags.aligned, T('x', a).as_numpy() is a)
# 2.1-subclass
type(T('x', np.matrix([[1.0, 2.0]])).as_numpy()), type(T('x', np.matrix([[1.0], [2.0]])[::-1]).as_numpy())
[type(T('x', a).as_numpy()).__name__ for a in (np.char.array([b'a ']), np.zeros(2).view(np.recarray))]
S = type('S', (np.ndarray,), {'__array_finalize__': lambda self, x: None}); type(T('x', np.eye(3)[::2].view(S)).as_numpy())
# 2.1-own-array
a = np.zeros(2); a.flags.writeable = False; t = T('x', a); (t.as_numpy() is a, t.as_numpy().flags.writeable)
t = T('x', np.broadcast_to(1.0, (2, 2))); (t.as_numpy() is t.as_numpy(), t.as_numpy().flags.writeable)
# 2.1-alias
a = np.zeros(3); t = T('x', a[:2]); a[0] = 1; t.as_numpy()
a = np.zeros((2, 2)); t = T('x', a.T); a[:] = 1; t.as_numpy()
a = np.zeros(2); t = T('x', a); t.as_numpy()[0] = 5; a
# 2.1-bytes-snapshot
a = np.array([b'a', 'b'], object); t = T('x', a); a[0] = 'later'; (t.as_numpy() is a, t.as_numpy())
T('x', np.array([b'a', b'bc' + bytes(1)])).as_numpy()
T('x', np.array([type('B', (), {'__str__': lambda self: 1 / 0})()], object))
T('x', np.array([type('B', (), {'__str__': lambda self: 3})()], object))
T('x', np.array(['\\udcff'], object))
T('x', np.array([memoryview(b'a'), 1.5, [1], {}], object)).shape()
# 2.2-shape
t = T('x', np.zeros((2, 3))); t.shape().append(1); t.shape()
[type(n) for n in T('x', np.zeros((2, 3))).shape()]
# 2.2-name
type(T('x', np.zeros(1)).name()), T('x' * 1000, np.zeros(1)).name() == 'x' * 1000
# 2.2-is-cpu
T('x', np.zeros(1)).is_cpu(), T('x', np.array(['a'], object)).is_cpu(), by_name(request, 'X').is_cpu()
# 2.2-triton-dtype
by_name(request, 'X').triton_dtype()
by_name(request, 'B').triton_dtype()
# 2.1-bf16
b = by_name(request, 'B'); (b.name(), b.shape(), b.is_cpu(), b.__dlpack_device__(), type(b.to_dlpack()))
by_name(request, 'B').as_numpy()
# 2.2-received-dtypes
[by_name(request, n).as_numpy().dtype for n in 'XS']
# 2.1-private-copy trap-07
x = by_name(request, 'X'); a = x.as_numpy(); a[:] = -1; (a is x.as_numpy(), x.as_numpy(), by_name(request, 'X').as_numpy())
a = by_name(request, 'X').as_numpy(); (a.flags.writeable, a.flags.owndata, a.base.flags.owndata, a.flags.c_contiguous)
a = by_name(request, 'X').as_numpy(); a.shape = (3, 1); (by_name(request, 'X').shape(), by_name(request, 'X').as_numpy().shape)
# 2.1-bytes-array
s = by_name(request, 'S').as_numpy(); s[0] = 'mine'; (by_name(request, 'S').as_numpy(), s.dtype, s.flags.writeable)
[type(item) for item in by_name(request, 'S').as_numpy()]
# 2.1-copy-is-private trap-07
x = by_name(request, 'X'); x.as_numpy()[:] = -1; (np.from_dlpack(x), T.from_dlpack('y', x).as_numpy())
# 2.4-framing
pb_utils.serialize_byte_tensor(np.array([[b'a', b'', b'ccc'], [b'dd', bytes(2), b'f']], object))
pb_utils.serialize_byte_tensor(np.array(b'abc', object)), pb_utils.serialize_byte_tensor(np.array(b'abc'))
pb_utils.serialize_byte_tensor(np.array([[b'a', b'b'], [b'c', b'd']], object)[::-1, ::-1])
pb_utils.serialize_byte_tensor(np.array([bytes(range(256))], object)) == (256).to_bytes(4, 'little') + bytes(range(256))
# 2.4-serialize
pb_utils.serialize_byte_tensor(np.array(['ü', None, 1, True, 1.5, bytearray(b'q'), memoryview, [b'l']], object))
pb_utils.serialize_byte_tensor(np.array([np.bytes_(b'n'), np.str_('s'), np.int64(3), np.float32(1.5)], object))
pb_utils.serialize_byte_tensor(np.array([type('B', (bytes,), {})(b'sub')], object))
pb_utils.serialize_byte_tensor(np.array(['\\ud800'], object))
# 2.4-s-arrays
pb_utils.serialize_byte_tensor(np.array([b'a' + bytes(1), bytes(1), b'', b'bcd']))
pb_utils.serialize_byte_tensor(np.array([[b'a', b'b']]).T)
# 2.4-other-dtypes
[pb_utils.serialize_byte_tensor(np.zeros(s, t)) for s in ((0,), (0, 3)) for t in ('f4', 'O', 'S3', 'U3')]
[pb_utils.serialize_byte_tensor(np.zeros(2, t)) for t in ('f4', '?', 'U3', 'M8[s]', 'c8')]
pb_utils.serialize_byte_tensor(None)
pb_utils.serialize_byte_tensor('text')
pb_utils.serialize_byte_tensor(np.float32(1))
pb_utils.serialize_byte_tensor(np.bytes_(b'a'))
# 2.4-deserialize
pb_utils.deserialize_bytes_tensor(b''), pb_utils.deserialize_bytes_tensor(bytearray(b'')).dtype
[pb_utils.deserialize_bytes_tensor(k(bytes([1, 0, 0, 0, 97, 0, 0, 0, 0]))) for k in (bytes, bytearray, memoryview)]
pb_utils.deserialize_bytes_tensor(np.frombuffer(bytes([1, 0, 0, 0, 97]), np.uint8))
[type(item) for item in pb_utils.deserialize_bytes_tensor(bytes([1, 0, 0, 0, 97]))]
pb_utils.deserialize_bytes_tensor(pb_utils.serialize_byte_tensor(np.array([[b'a'], [b'b']], object))).shape
pb_utils.deserialize_bytes_tensor(np.zeros(4, np.int8)), pb_utils.deserialize_bytes_tensor(np.zeros(1, np.int32))
pb_utils.deserialize_bytes_tensor(np.zeros((2, 4), np.uint8))
pb_utils.deserialize_bytes_tensor(np.zeros((4, 2), np.uint8))
pb_utils.deserialize_bytes_tensor('text')
pb_utils.deserialize_bytes_tensor([1, 0, 0, 0, 97])
pb_utils.deserialize_bytes_tensor(5)
# 2.4-truncated
[len(pb_utils.deserialize_bytes_tensor(b)) for b in (bytes(4), bytes(8))]
pb_utils.deserialize_bytes_tensor(bytes(3))
pb_utils.deserialize_bytes_tensor(bytes(7))
pb_utils.deserialize_bytes_tensor(bytes([255, 255, 255, 255]))
pb_utils.deserialize_bytes_tensor(np.zeros(5, np.uint8))
"""  # noqa: E501 - a line is a case
REQUEST: dict[str, Any] = {
    "X": np.arange(3, dtype=np.float32),
    "S": np.array([b"a", "ü".encode(), b""], object),
    "B": np.arange(3).astype(ml_dtypes.bfloat16),
}
# What becomes of an array that is sent: each time, the lines before a bar run in one request.
SENT = """
# 2.1-first-save trap-08
a = np.zeros(2, 'f4'); sent += [T('OUT', a)]; a[:] = 7
a = np.zeros(2, 'f4'); sent += [T('OUT', a), T('OUT', a)]; a[:] = 7
a = np.zeros(4, 'f4'); sent += [T('OUT', a[1:3])]; a[:] = range(4)
a = np.zeros(4, 'f4'); sent += [T('OUT', a[::2])]; a[:] = range(4)
x = by_name(request, 'X').as_numpy(); sent += [T('OUT', x)]; x[:] = 7
# 2.1-saved-once trap-08
self.kept = {'a': np.zeros(2, 'f4')} | sent += [self.kept.setdefault('t', T('OUT', self.kept['a']))] | self.kept['a'][:] = 7 | sent += [self.kept['t']]; self.kept['t'].as_numpy()
self.kept = {'a': np.zeros(2, 'f4')}; t = self.kept['t'] = T('OUT', self.kept['a']); sent += [t] | self.kept['a'][:] = 7; t = self.kept['t']; sent += [t]; (t.as_numpy(), np.from_dlpack(t))
self.kept = {'t': T('OUT', np.zeros(2, 'f4'))}; sent += [self.kept['t']] | import dlpack_peers; dlpack_peers.take(self.kept['t']).bytes.view('f4')[:] = 7; sent += [self.kept['t']]; self.kept['t'].as_numpy()
self.kept = {'t': by_name(request, 'X')}; self.kept['t'].as_numpy()[:] = 7 | t = T('OUT', self.kept['t'].as_numpy()); sent += [t]; np.from_dlpack(self.kept['t'])
# 2.1-bytes-alias trap-08
a = np.array([b'a', b'b'], object); sent += [T('OUT', a)]; a[:] = b'later'
a = np.array([b'a', b'b']); sent += [T('OUT', a)]; a[:] = b'z'
self.kept = {'t': T('OUT', np.array([b'a'], object))}; sent += [self.kept['t']] | self.kept['t'].as_numpy()[0] = b'z'; sent += [self.kept['t']]
# 2.1-copy-is-private trap-07
import dlpack_peers; x = by_name(request, 'X'); x.as_numpy()[:] = 7; sent += [T.from_dlpack('OUT', x)]
import dlpack_peers; x = by_name(request, 'X'); dlpack_peers.take(x).bytes.view('f4')[:] = 7; sent += [T.from_dlpack('OUT', x)]; (x.as_numpy(), np.from_dlpack(x))
# 2.3-result-copy trap-14
import dlpack_peers as P; p = P.Peer(np.zeros(2, 'f4')); t = T.from_dlpack('OUT', p); p.array[:] = 7; sent += [t]; t.as_numpy()
import dlpack_peers as P; p = P.Peer(np.zeros(2, 'f4')); t = T.from_dlpack('OUT', p); t.as_numpy()[:] = 9; sent += [t]; t.as_numpy()
import dlpack_peers as P; self.kept = {'p': P.Peer(np.zeros(2, 'f4'))}; self.kept['t'] = T.from_dlpack('OUT', self.kept['p']); sent += [self.kept['t']] | self.kept['p'].array[:] = 7; sent += [self.kept['t']]; np.from_dlpack(self.kept['t'])
# 2.6-wrong-outputs trap-02 trap-10
sent += [T('OUT', np.array(3.0))]
sent += [T('OUT', np.zeros((0, 3), 'f8'))]
sent += [T('OUT', np.arange(6).reshape(2, 3).T)]
sent += [T('OUT', np.array([True, False]))]
sent += [T('OUT', np.arange(3, dtype='f2'))]
sent += [T('OUT', np.array([[b'a'], ['ü']], object))]
sent += [T('OUT', np.array('x', object))]
sent += [T('OUT', np.zeros((2, 0), object))]
sent += [T('OUT', np.array([b'ab', b'c']))]
sent += [T('OUT', np.matrix([[1.0, 2.0]]))]
sent += [T('OUT', np.asfortranarray(np.arange(6.0).reshape(2, 3)))]
sent += [T('OUT', np.zeros(2, np.dtype(('i4', [('a', 'i2'), ('b', 'i2')]))))]
sent += [T('OUT', np.zeros(2, np.dtype('f4', metadata={'a': 1})))]
a = np.zeros(6, 'f4'); sent += [T('OUT', a)]; a.shape = (2, 3)
# 2.1-bf16
sent += [T.from_dlpack('OUT', by_name(request, 'B'))]
# 2.6-unknown-outputs trap-02
sent += [T('NO', np.zeros(2)), T('OUT', np.ones(1, 'f4'))]
# 2.6-duplicate-outputs
t = T('OUT', np.ones(1, 'f4')); sent += [t, t]
"""  # noqa: E501 - a line is a case


# A test run makes errors of warnings, in the stub's models as well.
pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: probe(engine, line, **REQUEST))


@pytest.mark.parametrize("lines", expressions(SENT))
def test_what_the_client_gets(engines: Engines, lines: str) -> None:
    engines.same(
        lambda engine: [probe_sent(engine, code.strip(), **REQUEST) for code in lines.split("|")]
    )
