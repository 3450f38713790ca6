"""DLPack both ways: with NumPy, and with a peer that tells strides as PyTorch does."""

import gc
import re
import weakref

import dlpack_peers as peers
import ml_dtypes
import numpy as np
import pytest
from dlpack_peers import CUDA, CUDA_HOST, VULKAN, OnGpu, Peer, take, told
from instances import received

from triton_stub import datatypes, deviations
from triton_stub.pb_utils import Tensor, TritonModelException

NUMBERS = [row for row in datatypes.DATATYPES if row is not datatypes.BYTES]
every_number = pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
BFLOAT = (4, 16, 1)


def refusal(source, name="x", error=TritonModelException):
    with pytest.raises(error) as caught:
        Tensor.from_dlpack(name, source)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _nothing_deleted():
    peers.deleted.clear()


# Out


@every_number
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 3)], ids=str)
def test_a_capsule_says_what_the_tensor_is(row, shape):
    tensor = received("x", np.ones(shape, row.numpy))
    kind = {"BF16": 4, "BOOL": 6}.get(row.name, "IUF".find(row.name[0]))
    assert told(tensor.to_dlpack()) == {
        "name": "dltensor",
        "device": (1, 0),
        "dtype": (kind, 8 * row.itemsize, 1),
        "shape": list(shape),
        "strides": None,
        "byte_offset": 0,
    }
    assert take(tensor).bytes.tobytes() == np.ones(shape, row.numpy).tobytes()


def test_a_capsule_shows_the_tensors_own_memory():
    array = np.arange(3.0)
    tensor = Tensor("x", array)
    assert peers.address(tensor.__dlpack__(stream=7)) == array.ctypes.data
    take(tensor).bytes.view(float)[0] = 9
    assert array.tolist() == [9, 1, 2]
    assert np.from_dlpack(tensor).tolist() == [9, 1, 2]


def test_memory_that_may_only_be_read_is_shown_too():
    array = np.arange(3.0)
    array.flags.writeable = False
    assert take(Tensor("x", array)).bytes.view(float).tolist() == [0, 1, 2]


def test_what_the_model_writes_into_an_input_is_its_own():
    source = np.arange(3.0)
    tensor = received("x", source)
    take(tensor).bytes.view(float)[:] = 9
    assert source.tolist() == [0, 1, 2]
    assert tensor.as_numpy().tolist() == [0, 1, 2]
    assert np.from_dlpack(tensor).tolist() == [9, 9, 9]
    assert tensor._snapshot()[2].tolist() == [9, 9, 9]


def test_a_tensor_that_was_sent_shows_what_was_sent():
    array = np.zeros(2)
    tensor = Tensor("x", array)
    sent = tensor._snapshot()[2]
    array[:] = 7
    assert np.from_dlpack(tensor).tolist() == [0, 0]
    take(tensor).bytes.view(float)[:] = 5
    assert tensor._snapshot()[2].tolist() == [5, 5]
    assert sent.tolist() == [0, 0]
    assert tensor.as_numpy().tolist() == [7, 7]


@pytest.mark.parametrize("array", [np.array(["a"], object), np.array([b"a"])])
def test_strings_have_no_dlpack(array):
    for export in (Tensor("x", array).to_dlpack, Tensor("x", array).__dlpack__):
        with pytest.raises(TritonModelException, match=r"^DLPack does not have support for str"):
            export()
    assert Tensor("x", array).__dlpack_device__() == (1, 0)


def test_a_tensor_lives_until_its_memory_is_given_back():
    tensor = Tensor("x", np.arange(3.0))
    unused, used = tensor.to_dlpack(), take(tensor)
    reference = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert used.bytes.view(float).tolist() == [0, 1, 2]
    del unused
    assert reference() is not None
    used.give_back()
    gc.collect()
    assert reference() is None


# In


@every_number
@pytest.mark.parametrize("strides", [True, False])
def test_memory_of_a_peer(row, strides):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(row.numpy)
    plain = array.view(np.uint16) if row is datatypes.BF16 else array
    peer = Peer(plain, strides=strides, dtype=BFLOAT if row is datatypes.BF16 else None)
    tensor = Tensor.from_dlpack("x", peer)
    datatype, shape, values = tensor._snapshot()
    assert (tensor.name(), tensor.shape(), tensor.is_cpu()) == ("x", [2, 3], True)
    assert (datatype, shape, values.dtype) == (row, (2, 3), row.numpy)
    assert (values == array).all()
    assert peer.streams == [None]


def test_the_array_is_a_copy_and_the_memory_is_not():
    peer = Peer(np.zeros(2))
    tensor = Tensor.from_dlpack("x", peer)
    peer.array[:] = 7
    assert tensor.as_numpy().tolist() == [0, 0]
    assert tensor.as_numpy() is tensor.as_numpy()
    assert np.from_dlpack(tensor).tolist() == [7, 7]
    assert peers.address(tensor.to_dlpack()) == peer.array.ctypes.data
    assert tensor._snapshot()[2].tolist() == [7, 7]


def test_memory_is_given_back_with_the_last_reference():
    tensor = Tensor.from_dlpack("x", Peer(np.zeros(2), label="mine"))
    capsule = tensor.to_dlpack()
    del tensor
    assert peers.deleted == []
    del capsule
    gc.collect()
    assert peers.deleted == ["mine"]


def test_what_is_refused_is_given_back_by_its_producer():
    refusal(Peer(np.eye(2).T[:, ::-1], label="refused"))
    gc.collect()  # the traceback
    assert peers.deleted == ["refused"]


def test_a_tensor_of_another():
    for source in (Tensor("y", np.arange(3.0)), Tensor("y", np.arange(3.0)).to_dlpack()):
        assert Tensor.from_dlpack("x", source).as_numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0)])
def test_shapes_without_a_stride_to_speak_of(shape):
    assert Tensor.from_dlpack("x", Peer(np.zeros(shape), strides=False)).shape() == list(shape)


def test_values_may_begin_later():
    array = np.arange(3.0)
    assert Tensor.from_dlpack("x", Peer(array, offset=16)).as_numpy().tolist() == [0, 1, 2]


def test_pinned_memory_is_the_cpus():
    tensor = Tensor.from_dlpack("x", Peer(np.zeros(2), device=(CUDA_HOST, 1)))
    assert (tensor.is_cpu(), tensor.__dlpack_device__()) == (True, (1, 0))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (4, "Provided tensor is not supported. Tensor must be a DLPack capsule         or have"),
        (Peer(np.zeros(2), device=(VULKAN, 0)), "DLDevice type 7 is not support by Python backend"),
        (Peer(np.zeros(2), told=(8, 0)), "DLDevice type 8 is not support by Python backend"),
        (Peer(np.zeros(2), device=(CUDA, 0)), "Failed to get current CUDA device id."),
        (Peer(np.eye(3).T[:, ::2]), "DLPack tensor is not contiguous. Only contiguous DLPack"),
        (Peer(np.zeros((0, 3)), strides=(0, 0)), "DLPack tensor is not contiguous."),
        (Peer(np.zeros(2, complex)), "Dtype is invalid."),
        (Peer(np.zeros(2), dtype=(2, 64, 2)), "Dtype is invalid."),
        (Peer(np.zeros(2), dtype=(0, 4, 1)), "Dtype is invalid."),
        (Peer(np.zeros(2), dtype=(4, 32, 1)), "Expected BF16 tensor to have 16 bits, but had: 32"),
    ],
)
def test_the_servers_own_refusals(source, text):
    assert refusal(source).startswith(text)


def test_an_empty_name_is_refused_first():
    assert refusal(4, name="") == "Tensor name cannot be an empty string."


@pytest.mark.parametrize("device", [3, "ab", (1,), (1, 0, 0), (1.0, 0), (1, "a"), {1, 0}])
def test_a_device_that_is_no_pair(device):
    text = refusal(Peer(np.zeros(2), told=device), error=RuntimeError)
    assert text.startswith(f"Unable to cast Python instance of type {type(device)} to C++ type")


def test_a_producer_without_a_capsule():
    class Producer:
        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, *, stream):
            return 3

    text = "Object of type 'int' is not an instance of 'capsule'"
    assert refusal(Producer(), error=TypeError) == text


# Where this library does otherwise


@pytest.mark.parametrize(
    ("source", "deviation", "text"),
    [
        (np.zeros(2), deviations.DLPACK_NUMPY, r"pb_utils\.Tensor\(name, array\)"),
        (np.zeros(2).__dlpack__(), deviations.DLPACK_NUMPY, "an array of NumPy"),
        (Peer(np.zeros(9)[::2]), deviations.DLPACK_FIRST_STRIDE, "a stride of 2 elements"),
        (Peer(np.zeros(9)[::-1]), deviations.DLPACK_FIRST_STRIDE, "a stride of -1 elements"),
        (Peer(np.eye(4)[::2]), deviations.DLPACK_FIRST_STRIDE, r"of shape \[2, 4\]"),
        (Peer(np.zeros(2)).capsule(b"mine"), deviations.DLPACK_CAPSULE, 'capsule object "mine"'),
        (Peer(np.zeros(2), deleter=False), deviations.DLPACK_CAPSULE, "cannot be given back"),
        (Peer(np.zeros(2), device=(CUDA, 0)).capsule(), deviations.GPU_ARRAYS, "of GPU memory"),
    ],
    ids=range(8),
)
def test_what_the_server_does_not_survive(source, deviation, text):
    told = refusal(source)
    assert deviation.server in told
    assert re.search(text, told)


def test_a_capsule_is_used_once():
    capsule = Peer(np.zeros(2)).capsule()
    Tensor.from_dlpack("x", capsule)
    assert deviations.DLPACK_CAPSULE.server in refusal(capsule)


def test_an_array_on_a_gpu_is_asked_for_its_values():
    tensor = Tensor.from_dlpack("x", OnGpu(np.arange(6, dtype="f4").reshape(2, 3)[:, ::2]))
    assert (tensor.is_cpu(), tensor.shape()) == (False, [2, 2])
    with pytest.raises(TritonModelException, match=r"^Tensor is stored in GPU and cannot be conv"):
        tensor.as_numpy()
    assert np.from_dlpack(tensor).tolist() == [[0, 2], [3, 5]]
    assert tensor._snapshot()[2].tolist() == [[0, 2], [3, 5]]
    assert not Tensor.from_dlpack("y", tensor).is_cpu()


def test_bf16_on_a_gpu():
    tensor = Tensor.from_dlpack("x", OnGpu(np.ones(2, ml_dtypes.bfloat16)))
    with pytest.raises(TritonModelException, match="stored in GPU"):
        tensor.as_numpy()
    assert tensor._snapshot()[0] is datatypes.BF16


@pytest.mark.parametrize("array", [np.zeros(2, complex), np.array(["a"], object)])
def test_an_array_on_a_gpu_without_a_datatype(array):
    assert refusal(OnGpu(array)) == "Dtype is invalid."
