"""DLPack in a model: with NumPy, with JAX, and with a framework that tells strides as PyTorch does.

``dlpack_peers`` plays that framework, inside the model of either engine.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from comparing import Engines
from conftest import MODELS
from probing import expressions, probe, probe_sent

from triton_stub import deviations
from triton_stub.engines.native import NativeEngine
from triton_stub.errors import InferenceError

LINES = """
# 2.3-capsule
P.told(T('x', np.arange(6.0).reshape(2, 3)).to_dlpack())
[P.told(T('x', np.zeros(s, '?')).__dlpack__()) for s in ((), (0, 3), (1,))]
a = np.arange(3.0); P.address(T('x', a).to_dlpack()) == a.ctypes.data
a = np.arange(6.0)[::2]; t = T('x', a); P.address(t.to_dlpack()) == t.as_numpy().ctypes.data
x = by_name(request, 'X'); P.address(x.to_dlpack()) == x.as_numpy().ctypes.data
x = by_name(request, 'X'); P.address(x.to_dlpack()) == P.address(x.to_dlpack())
t = T('x', np.zeros(1)); (type(t.to_dlpack()), t.to_dlpack() is t.to_dlpack(), repr(t.to_dlpack()))
a = np.arange(3.0); t = T('x', a); a[0] = 7; (P.take(t).bytes.view('f8'), np.from_dlpack(t))
a = np.arange(3.0); P.take(T('x', a)).bytes.view('f8')[0] = 7; a
a = np.arange(3.0); a.flags.writeable = False; P.take(T('x', a)).bytes.view('f8')
np.from_dlpack(by_name(request, 'X')), np.from_dlpack(T('x', np.zeros((0, 2)))).shape
np.from_dlpack(T('x', np.array(3.0)))
np.shares_memory(np.from_dlpack(T('x', self.kept.setdefault('a', np.zeros(3)))), self.kept['a'])
# 2.3-bytes
T('x', np.array(['a'], object)).to_dlpack()
T('x', np.array([b'a'])).__dlpack__()
by_name(request, 'S').to_dlpack()
np.from_dlpack(by_name(request, 'S'))
# 2.3-lifetime
t = T('x', np.zeros(1)); k = t.to_dlpack(); w = weakref.ref(t); del t; a = w() is None; del k; (a, w() is None)
t = T('x', np.ones(1)); k = P.take(t); w = weakref.ref(t); del t; a = (w() is None, k.bytes.view('f8')); k.give_back(); (a, w() is None)
t = by_name(request, 'X'); k = [P.take(t) for _ in range(3)]; [one.give_back() for one in k]; t.as_numpy()
# 2.3-stream 1.4-dlpack
t = T('x', np.zeros(1)); [type(t.__dlpack__(s)) for s in (None, 0, -1, 'any', t)]
type(T('x', np.zeros(1)).__dlpack__(stream=3))
T('x', np.zeros(1)).__dlpack__(max_version=(1, 0))
T('x', np.zeros(1)).__dlpack__(stream=None, copy=True)
T('x', np.zeros(1)).__dlpack__(dl_device=(1, 0))
T('x', np.zeros(1)).__dlpack__(1, 2)
# 1.4-to-dlpack
T('x', np.zeros(1)).to_dlpack(1)
T('x', np.zeros(1)).to_dlpack(stream=None)
# 2.3-device
[t.__dlpack_device__() for t in (T('x', np.zeros(1)), T('x', np.array(['a'], object)), by_name(request, 'X'), by_name(request, 'S'))]
T('x', np.zeros(1)).__dlpack_device__(1)
# 2.3-dtypes
[P.told(T('x', np.zeros(2, d)).to_dlpack())['dtype'] for d in '? b B h H i I l L e f d'.split()]
P.told(by_name(request, 'B').to_dlpack()), P.take(by_name(request, 'B')).bytes.tobytes()
[T.from_dlpack('x', P.Peer(np.ones(2, d))).as_numpy() for d in '? b B h H i I l L e f d'.split()]
t = T.from_dlpack('x', P.Peer(np.arange(3, dtype='u2'), dtype=(4, 16, 1))); (t.shape(), P.told(t.to_dlpack()))
T.from_dlpack('x', P.Peer(np.arange(3, dtype='u2'), dtype=(4, 16, 1))).as_numpy()
T.from_dlpack('x', P.Peer(np.array([2, 0, 1], 'u1'), dtype=(6, 8, 1))).as_numpy().view('u1')
T.from_dlpack('x', T('y', np.arange(3.0))).as_numpy(), T.from_dlpack('x', by_name(request, 'X')).as_numpy()
T.from_dlpack('x', by_name(request, 'B')).shape()
np.from_dlpack(by_name(request, 'B'))
# 2.3-on-class 1.4-from-dlpack trap-11 trap-14
T.from_dlpack()
T.from_dlpack('x')
T.from_dlpack('x', 1, 2)
T.from_dlpack(3, 4)
T.from_dlpack(name='x', obj=T('y', np.zeros(1)))
T.from_dlpack('x', arg0=T('y', np.zeros(1)))
T('y', np.zeros(1)).from_dlpack('x', T('y', np.zeros(1)))
T('y', np.zeros(1)).from_dlpack(T('y', np.zeros(1)))
T.from_dlpack(b'x', P.Peer(np.zeros(1))).name()
type(type('S', (T,), {}).from_dlpack('x', P.Peer(np.zeros(1))))
# 2.3-empty-name
T.from_dlpack('', 4)
T.from_dlpack(b'', P.Peer(np.zeros(1)))
# 2.3-no-dlpack trap-14
T.from_dlpack('x', 4)
T.from_dlpack('x', None)
T.from_dlpack('x', [1.0])
T.from_dlpack('x', type('A', (), {'__dlpack__': 3})())
T.from_dlpack('x', type('A', (), {'__dlpack_device__': 3})())
# 2.3-cuda
T.from_dlpack('x', P.Peer(np.zeros(3), device=(2, 0)))
T.from_dlpack('x', P.Peer(np.zeros(3), device=(2, 5)))
T.from_dlpack('x', P.Peer(np.zeros(3), device=(7, 0), told=(2, 0)))
# 2.3-other-device
T.from_dlpack('x', P.Peer(np.zeros(3), device=(7, 1)))
T.from_dlpack('x', P.Peer(np.zeros(3), told=(8, 0)))
T.from_dlpack('x', P.Peer(np.zeros(3), told=(-1, 0)))
T.from_dlpack('x', P.Peer(np.zeros(3), device=(13, 1), told=(1, 0)))
k = P.Peer(np.zeros(3), device=(10, 0)).capsule(); T.from_dlpack('x', k)
T.from_dlpack('x', P.Peer(np.ones(3), device=(1, 5))).__dlpack_device__()
# 2.3-producer-call
p = P.Peer(np.ones(2)); T.from_dlpack('x', p); p.streams
T.from_dlpack('x', P.Peer(np.ones(2), told=3))
T.from_dlpack('x', P.Peer(np.ones(2), told='ab'))
T.from_dlpack('x', P.Peer(np.ones(2), told=(1, 'a')))
T.from_dlpack('x', P.Peer(np.ones(2), told=(1.0, 0)))
T.from_dlpack('x', P.Peer(np.ones(2), told=(1,)))
T.from_dlpack('x', P.Peer(np.ones(2), told=(1, 0, 0)))
T.from_dlpack('x', P.Peer(np.ones(2), told=(2**40, 0)))
T.from_dlpack('x', P.Peer(np.ones(2), told={1, 0}))
[T.from_dlpack('x', P.Peer(np.ones(2), told=d)).shape() for d in ([1, 0], (True, 0), (np.int64(1), 0), np.array([1, 0]), (3, 2**40))]
T.from_dlpack('x', P.Peer(np.ones(2), told=b'ab'))
T.from_dlpack('x', type('A', (), {'__dlpack__': lambda self: 3, '__dlpack_device__': lambda self: (1, 0)})())
T.from_dlpack('x', type('A', (), {'__dlpack__': lambda self, stream: 1 / 0, '__dlpack_device__': lambda self: (1, 0)})())
T.from_dlpack('x', type('A', (), {'__dlpack__': 3, '__dlpack_device__': lambda self: 1 / 0})())
T.from_dlpack('x', type('A', (), {'__dlpack__': 3, '__dlpack_device__': 3})())
# 2.3-producer-result
T.from_dlpack('x', type('A', (), {'__dlpack__': lambda self, stream: 3, '__dlpack_device__': lambda self: (1, 0)})())
T.from_dlpack('x', type('A', (), {'__dlpack__': lambda self, stream: None, '__dlpack_device__': lambda self: (3, 0)})())
# 2.3-contiguity trap-14
T.from_dlpack('x', P.Peer(np.arange(6.0).reshape(2, 3).T))
T.from_dlpack('x', P.Peer(np.arange(12.0).reshape(2, 6)[:, ::2]))
T.from_dlpack('x', P.Peer(np.arange(12.0).reshape(2, 6)[:, ::-1]))
T.from_dlpack('x', P.Peer(np.broadcast_to(np.arange(2.0)[:, None], (2, 3))))
T.from_dlpack('x', P.Peer(np.arange(24.0).reshape(2, 3, 4)[:, ::2]))
[T.from_dlpack('x', P.Peer(np.zeros(s), strides=False)).shape() for s in ((2, 3), (0, 3), (3, 0), (2, 3, 0), ())]
T.from_dlpack('x', P.Peer(np.zeros((0, 3)), strides=(0, 0)))
T.from_dlpack('x', P.Peer(np.zeros((2, 3, 0)), strides=(1, 1, 1)))
[T.from_dlpack('x', P.Peer(np.zeros(s), strides=n)).shape() for s, n in (((0, 3), (0, 1)), ((3, 0), (1, 1)), ((2, 3, 0), (0, 0, 1)), ((2, 1, 2), (2, 9, 1)))]
[T.from_dlpack('x', P.Peer(np.arange(3.0).reshape(s), strides=n)).as_numpy() for s, n in (((1, 3), (77, 1)), ((3, 1), (1, 77)))]
T.from_dlpack('x', P.Peer(np.array(3.0))).as_numpy(), T.from_dlpack('x', P.Peer(np.ones((1, 1, 1)), strides=(5, 6, 7))).shape()
T.from_dlpack('x', P.Peer(np.arange(3.0), offset=8)).as_numpy()
T.from_dlpack('x', P.Peer(np.arange(6.0).reshape(2, 3).T, dtype=(5, 64, 1)))
T.from_dlpack('x', P.Peer(np.arange(6.0).reshape(2, 3).T, device=(7, 0), told=(1, 0)))
# 2.3-bad-dtypes trap-14
T.from_dlpack('x', P.Peer(np.zeros(3, 'c8')))
[P.error(T.from_dlpack, 'x', P.Peer(np.zeros(3), dtype=(2, 64, n))) for n in (0, 2, 65535)]
[P.error(T.from_dlpack, 'x', P.Peer(np.zeros(3), dtype=(c, b, 1))) for c in (0, 1, 2, 6) for b in (0, 4, 8, 16, 32, 64, 128)]
[P.error(T.from_dlpack, 'x', P.Peer(np.zeros(3), dtype=(c, 8, 1))) for c in (3, 5, 7, 8, 10, 255)]
[P.error(T.from_dlpack, 'x', P.Peer(np.zeros(3), dtype=(4, b, 1))) for b in (0, 8, 32, 64)]
T.from_dlpack('x', P.Peer(np.zeros(3), dtype=(4, 32, 2)))
T.from_dlpack('x', P.Peer(np.zeros(3), dtype=(5, 64, 1), device=(7, 0), told=(1, 0)))
# 2.3-result-copy trap-14
p = P.Peer(np.zeros(2)); t = T.from_dlpack('x', p); p.array[0] = 9; (t.as_numpy(), P.take(t).bytes.view('f8'), t.as_numpy() is t.as_numpy())
p = P.Peer(np.zeros(2)); t = T.from_dlpack('x', p); t.as_numpy()[0] = 9; (p.array, np.from_dlpack(t), t.as_numpy().flags.writeable)
p = P.Peer(np.zeros(2)); t = T.from_dlpack('x', p); P.address(t.to_dlpack()) == p.array.ctypes.data
P.deleted.clear(); t = T.from_dlpack('x', P.Peer(np.zeros(2), label='one')); a = [*P.deleted]; del t; (a, P.deleted)
P.deleted.clear(); t = T.from_dlpack('x', P.Peer(np.zeros(2), label='two')); k = t.to_dlpack(); del t; a = [*P.deleted]; del k; (a, P.deleted)
P.deleted.clear(); a = T.from_dlpack('x', P.Peer(np.zeros(2), label='three')).as_numpy(); (P.deleted, a)
P.deleted.clear(); P.error(T.from_dlpack, 'x', P.Peer(np.eye(2)[:, ::-1], label='four')); P.deleted
P.deleted.clear(); k = P.Peer(np.eye(2)[:, ::-1], label='five').capsule(); (P.error(T.from_dlpack, 'x', k), P.told(k)['name'], P.deleted)
k = P.Peer(np.arange(2.0)).capsule(); t = T.from_dlpack('x', k); (t.as_numpy(), P.told(k)['name'] == 'dltensor')
# 2.3-pinned trap-14
t = T.from_dlpack('x', P.Peer(np.arange(2.0), device=(3, 1))); (t.is_cpu(), t.__dlpack_device__(), P.told(t.to_dlpack())['device'], t.as_numpy())
"""  # noqa: E501 - a line is a case
JAX = """
# 2.3-dtypes
T.from_dlpack('x', jnp.arange(6.0).reshape(2, 3)).as_numpy()
T.from_dlpack('x', jnp.array([True, False])).as_numpy(), T.from_dlpack('x', jnp.array(3)).as_numpy()
[T.from_dlpack('x', jnp.ones(2, d)).as_numpy() for d in 'b B h H i I e f'.split()]
T.from_dlpack('x', jnp.arange(3, dtype=jnp.bfloat16)).as_numpy()
T.from_dlpack('x', jnp.arange(3, dtype=jnp.bfloat16)).shape()
T.from_dlpack('x', jnp.arange(3, dtype=jnp.int32).__dlpack__()).as_numpy()
[T.from_dlpack('x', jnp.zeros(s)).shape() for s in ((), (1,), (0, 3), (3, 0), (1, 3))]
# 2.3-bad-dtypes
T.from_dlpack('x', jnp.array([1j]))
# 2.3-contiguity
T.from_dlpack('x', jnp.arange(6.0).reshape(2, 3).T).as_numpy()
T.from_dlpack('x', jnp.arange(6.0)[::2]).as_numpy(), T.from_dlpack('x', jnp.arange(6.0)[::-1]).as_numpy()
# 2.3-capsule
jnp.from_dlpack(T('x', np.arange(6, dtype='f4').reshape(2, 3)))
jnp.from_dlpack(by_name(request, 'X')), jnp.from_dlpack(by_name(request, 'B'))
jnp.from_dlpack(by_name(request, 'X')).sum(), jnp.from_dlpack(T('x', np.zeros((0, 2), 'i4'))).shape
[jnp.from_dlpack(T('x', np.ones(2, d))) for d in '? b B h H i I e f'.split()]
jnp.from_dlpack(T('x', np.array(3, 'i4')))
T.from_dlpack('x', jnp.from_dlpack(T('y', np.arange(3, dtype='f4')))).as_numpy()
# 2.3-bytes
jnp.from_dlpack(T('x', np.array(['a'], object)))
"""  # noqa: E501 - a line is a case
REQUEST: dict[str, Any] = {
    "X": np.arange(3, dtype=np.float32),
    "S": np.array([b"a", b""], object),
    "B": np.arange(3).astype(ml_dtypes.bfloat16),
}


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: Engines, line: str) -> None:
    engines.same(lambda engine: probe(engine, f"import dlpack_peers as P\n{line}", **REQUEST))


@pytest.mark.parametrize("line", expressions(JAX))
def test_a_line_with_jax(engines: Engines, line: str) -> None:
    engines.same(lambda engine: probe(engine, f"import jax.numpy as jnp\n{line}", **REQUEST))


# What is different on purpose


def told(engine: Any, line: str) -> str:
    return probe(engine, f"import dlpack_peers as P\n{line}", **REQUEST)


@pytest.mark.deviation("dlpack-first-stride")
@pytest.mark.rule("2.3-first-stride", "trap-14")
@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("np.arange(10.0)[::2]", [0, 1, 2, 3, 4]),
        ("np.arange(12.0).reshape(4, 3)[::2]", [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_a_stride_in_the_first_dimension(engines: Engines, source: str, wrong: list[Any]) -> None:
    line = f"T.from_dlpack('x', P.Peer({source})).as_numpy().tolist()"
    assert told(engines.native, line) == repr(np.array(wrong, float).tolist())
    assert deviations.DLPACK_FIRST_STRIDE.server in told(engines.stub, line)


@pytest.mark.deviation("gpu-arrays")
@pytest.mark.rule("2.1-gpu", "2.3-cuda")
def test_a_capsule_of_gpu_memory(engines: Engines) -> None:
    line = "T.from_dlpack('x', P.Peer(np.zeros(2), device=(2, 1)).capsule()){}"
    assert told(engines.native, line.format(".__dlpack_device__()")) == "(2, 1)"
    assert told(engines.native, line.format(".is_cpu()")) == "False"
    assert told(engines.native, line.format(".as_numpy()")).endswith(
        "Tensor is stored in GPU and cannot be converted to NumPy."
    )
    assert deviations.GPU_ARRAYS.server in told(engines.stub, line.format(""))


@pytest.mark.deviation("gpu-arrays")
@pytest.mark.rule("2.1-gpu")
def test_an_array_on_a_gpu(engines: Engines) -> None:
    line = "t = T.from_dlpack('x', P.OnGpu(np.arange(3, dtype='f4'))); {}"
    assert told(engines.native, line.format("")).endswith("Failed to get current CUDA device id.")
    assert told(engines.stub, line.format("t.is_cpu(), t.shape()")) == "(False, [3])"
    assert told(engines.stub, line.format("np.from_dlpack(t).tolist()")) == "[0.0, 1.0, 2.0]"
    assert told(engines.stub, line.format("t.as_numpy()")).endswith(
        "Tensor is stored in GPU and cannot be converted to NumPy."
    )
    _, sent = probe_sent(
        engines.stub,
        "import dlpack_peers as P; sent += [T.from_dlpack('OUT', P.OnGpu(np.arange(3.0)))]",
    )
    assert sent["OUT"].tolist() == [0, 1, 2]


@pytest.mark.deviation("dlpack-capsule")
@pytest.mark.rule("2.3-used-capsule")
def test_a_capsule_that_is_used_again(engines: Engines) -> None:
    line = "k = P.Peer(np.arange(2.0)).capsule(); t = T.from_dlpack('x', k); {}"
    assert told(engines.native, line.format("P.told(k)['name']")) == "'used_dlpack'"
    assert told(engines.stub, line.format("P.told(k)['name']")) == "'used_dltensor'"
    again = told(engines.stub, line.format("T.from_dlpack('y', k)"))
    assert deviations.DLPACK_CAPSULE.server in again


@pytest.mark.deviation("dlpack-capsule")
@pytest.mark.parametrize(
    "capsule",
    [
        "P.Peer(np.arange(2.0)).capsule(b'nonsense')",
        "P.Peer(np.arange(2.0)).capsule(b'dltensor_versioned')",
        "P.Peer(np.arange(2.0), deleter=False).capsule()",
        "__import__('datetime').datetime_CAPI",
    ],
)
def test_a_capsule_that_holds_something_else(engines: Engines, capsule: str) -> None:
    text = told(engines.stub, f"T.from_dlpack('x', {capsule})")
    assert deviations.DLPACK_CAPSULE.server in text


DEADLY = {
    "numpy": ("T.from_dlpack('x', np.zeros(2))", deviations.DLPACK_NUMPY),
    "numpys": ("T.from_dlpack('x', np.zeros(2).__dlpack__())", deviations.DLPACK_NUMPY),
    "kept": ("T.from_dlpack('x', P.Peer(np.zeros(2), deleter=False))", deviations.DLPACK_CAPSULE),
}


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeEngine]:
    """A model for each deadly line: none is healthy ever again."""
    folder = tmp_path_factory.mktemp("doomed")
    for name in DEADLY:
        shutil.copytree(MODELS / "probe", folder / name)
    # It waits for the dead at its end.
    with NativeEngine(folder, options=["--exit-timeout-secs=1"]) as native:
        yield native


@pytest.mark.deviation("dlpack-numpy", "dlpack-capsule")
@pytest.mark.rule("2.3-numpy-source", "trap-14")
@pytest.mark.parametrize("name", DEADLY)
def test_what_kills_the_real_process(engines: Engines, doomed: NativeEngine, name: str) -> None:
    line, deviation = DEADLY[name]
    assert deviation.server in told(engines.stub, line)
    with pytest.raises(InferenceError, match=f"Stub process '{name}_0' is not healthy"):
        doomed.infer(name, CODE=np.array([f"import dlpack_peers as P\n{line}".encode()], object))
