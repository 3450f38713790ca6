"""``pb_utils.Tensor``: made by a model, and received by it."""

import ml_dtypes
import numpy as np
import pytest
from dlpack_peers import take
from instances import received

from triton_stub import datatypes
from triton_stub.pb_utils import Tensor, TritonModelException

SIGNATURE = (
    "__init__(): incompatible constructor arguments. The following argument types are "
    "supported:\n    1. c_python_backend_utils.Tensor(arg0: str, arg1: numpy.ndarray)\n\n"
    "Invoked with: "
)


# Made by a model


@pytest.mark.parametrize(
    ("args", "kwargs", "invoked"),
    [
        ((), {}, ""),
        (("x",), {}, "'x'"),
        (("x", [1]), {}, "'x', [1]"),
        (("x", 1.0), {}, "'x', 1.0"),
        ((None, np.array(1)), {}, "None, array(1)"),
        (("x", np.array(1), 2), {}, "'x', array(1), 2"),
        (("x",), {"array": np.array(1)}, "'x'; kwargs: array=array(1)"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, invoked):
    with pytest.raises(TypeError) as caught:
        Tensor(*args, **kwargs)
    assert str(caught.value) == SIGNATURE + invoked


@pytest.mark.parametrize("name", ["x", b"x"])
def test_the_name_is_text(name):
    assert Tensor(name, np.zeros(1)).name() == "x"


def test_the_name_is_checked_before_the_datatype():
    with pytest.raises(TritonModelException, match=r"^Tensor name cannot be an empty string\.$"):
        Tensor("", np.array(["text"]))


@pytest.mark.parametrize("dtype", ["U3", ">f4", "c8", "M8[s]", "longdouble", ml_dtypes.bfloat16])
def test_datatypes_that_the_backend_refuses(dtype):
    with pytest.raises(TritonModelException, match=r"^NumPy dtype is not supported\.$"):
        Tensor("x", np.zeros(2, dtype))


@pytest.mark.parametrize("row", datatypes.DATATYPES[:-1], ids=lambda row: row.name)
def test_every_datatype_but_bf16_is_taken(row):
    tensor = Tensor("x", np.zeros((2, 3), row.numpy))
    assert tensor.shape() == [2, 3]
    assert tensor.as_numpy().dtype == row.numpy


def test_a_masked_array_fails_as_it_does_on_the_server():
    with pytest.raises(AttributeError, match=r"'numpy.ndarray' .* no attribute 'c_contiguous'"):
        Tensor("x", np.ma.masked_array([1.0], [True]))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3)])
def test_any_shape(shape):
    tensor = Tensor("x", np.zeros(shape))
    assert tensor.shape() == list(shape)
    assert tensor.shape() is not tensor.shape()


def test_a_contiguous_array_is_kept_not_copied():
    array = np.zeros((2, 3))
    assert Tensor("x", array).as_numpy() is array


def test_values_are_read_when_the_response_leaves():
    array = np.zeros(2)
    tensor = Tensor("x", array)
    array[:] = 7
    _, _, values = tensor._snapshot()
    array[:] = 8
    assert values.tolist() == [7, 7]


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3).T, np.arange(6)[::2], np.asfortranarray(np.eye(3))]
)
def test_other_memory_layouts_keep_their_values(array):
    tensor = Tensor("x", array)
    assert tensor.as_numpy().flags.c_contiguous
    assert tensor.as_numpy().tolist() == array.tolist()


def test_strings_are_framed_at_once():
    array = np.array([b"before", "text", None], object)
    tensor = Tensor("x", array)
    array[0] = b"after"
    datatype, shape, framed = tensor._snapshot()
    assert datatype is datatypes.BYTES
    assert shape == (3,)
    assert datatypes.decode_bytes(framed).tolist() == [b"before", b"text", b"None"]
    assert tensor.as_numpy() is array


def test_byte_strings_are_strings():
    datatype, _, framed = Tensor("x", np.array([b"a", b"bc"]))._snapshot()
    assert datatype is datatypes.BYTES
    assert datatypes.decode_bytes(framed).tolist() == [b"a", b"bc"]


def test_a_kind_of_array_of_the_model_stays_in_the_model():
    class Image(np.ndarray):
        pass

    tensor = Tensor("x", np.zeros(2).view(Image))
    assert type(tensor.as_numpy()) is Image
    assert type(tensor._snapshot()[2]) is np.ndarray


def test_every_tensor_is_on_the_cpu():
    assert Tensor("x", np.zeros(1)).is_cpu() is True


def test_the_datatype_cannot_be_asked_for():
    with pytest.raises(TypeError, match=r"^Unable to convert function return value to a Python"):
        Tensor("x", np.zeros(1)).triton_dtype()


def test_values_are_read_only_once():
    array = np.zeros(2)
    tensor = Tensor("x", array)
    first = tensor._snapshot()[2]
    array[:] = 7
    assert first.tolist() == [0, 0]
    assert tensor._snapshot()[2].tolist() == [0, 0]
    assert tensor.as_numpy().tolist() == [7, 7]


def test_what_is_sent_is_not_what_dlpack_lets_the_model_write_to():
    tensor = Tensor("x", np.zeros(2))
    first = tensor._snapshot()[2]
    take(tensor).bytes.view(float)[:] = 7
    second = tensor._snapshot()[2]
    take(tensor).bytes.view(float)[:] = 8
    assert first.tolist() == [0, 0]
    assert second.tolist() == [7, 7]


def test_the_shape_is_that_of_the_beginning():
    array = np.zeros(6)
    tensor = Tensor("x", array)
    array.shape = (2, 3)
    assert tensor.shape() == [6]
    assert tensor._snapshot()[2].shape == (6,)


def test_an_integer_that_is_a_structure_too_is_an_integer():
    tensor = Tensor("x", np.zeros(2, np.dtype(("i4", [("a", "i2"), ("b", "i2")]))))
    datatype, _, values = tensor._snapshot()
    assert datatype.name == "INT32"
    assert values.dtype is np.dtype(np.int32)


def test_a_name_that_is_no_utf8_is_told_when_it_is_asked_for():
    tensor = Tensor(b"\xff", np.zeros(1))
    with pytest.raises(UnicodeDecodeError):
        tensor.name()


# Received


def test_a_received_array_is_a_private_writable_copy():
    source = np.arange(3.0)
    source.flags.writeable = False
    tensor = received("x", source)
    tensor.as_numpy()[:] = 9
    assert source.tolist() == [0, 1, 2]
    assert tensor.as_numpy() is tensor.as_numpy()


def test_a_received_tensor_is_sent_back_as_it_came():
    tensor = received("x", np.arange(3.0))
    tensor.as_numpy()[:] = 9
    assert tensor._snapshot()[2].tolist() == [0, 1, 2]


def test_received_strings_are_bytes_in_their_shape():
    tensor = received("x", np.array([[b"a"], [b"b"]], object))
    assert tensor.shape() == [2, 1]
    assert tensor.as_numpy().tolist() == [[b"a"], [b"b"]]


def test_bf16_has_no_numpy_form():
    tensor = received("x", np.zeros(2, ml_dtypes.bfloat16))
    with pytest.raises(TritonModelException) as caught:
        tensor.as_numpy()
    assert str(caught.value) == (
        "Tensor dtype is BF16 and cannot be converted to NumPy. "
        "Use to_dlpack() and from_dlpack() instead."
    )
    assert (tensor.name(), tensor.shape(), tensor.is_cpu()) == ("x", [2], True)
    assert tensor._snapshot()[2].dtype == ml_dtypes.bfloat16


def test_a_received_tensor_that_pretends_to_be_on_a_gpu():
    source = np.arange(3.0)
    tensor = Tensor._received("x", datatypes.from_name("FP64"), (3,), source, on_gpu=True)
    assert (tensor.name(), tensor.shape(), tensor.is_cpu()) == ("x", [3], False)
    with pytest.raises(TritonModelException, match=r"^Tensor is stored in GPU and cannot be conv"):
        tensor.as_numpy()
    assert np.from_dlpack(tensor).tolist() == [0, 1, 2]
    assert tensor._snapshot()[2].tolist() == [0, 1, 2]
