"""``pb_utils.TritonError`` and ``pb_utils.TritonModelException``."""

import pickle

import pytest

from triton_stub.errors import StatusCode
from triton_stub.pb_utils import TritonError, TritonModelException

SIGNATURE = (
    "__init__(): incompatible constructor arguments. The following argument types are "
    "supported:\n    1. c_python_backend_utils.TritonError(message: str, code: "
    "c_python_backend_utils.TritonError.__ErrorCode = <__ErrorCode.INTERNAL: 1>)\n\n"
    "Invoked with: "
)


def test_an_error_is_internal_unless_told():
    error = TritonError("text")
    assert error.message() == "text"
    assert error.code() == TritonError.INTERNAL


@pytest.mark.parametrize("code", StatusCode, ids=lambda code: code.name)
def test_every_status_code_is_there(code):
    error = TritonError(code=getattr(TritonError, code.name), message=b"text")
    assert error.message() == "text"
    assert StatusCode(int(error.code())) is code


@pytest.mark.parametrize(
    ("args", "kwargs", "invoked"),
    [
        ((), {}, ""),
        ((None,), {}, "None"),
        (("m", 3), {}, "'m', 3"),
        (("m",), {"message": "n"}, "'m'; kwargs: message='n'"),
        (("m",), {"status": 3}, "'m'; kwargs: status=3"),
    ],
)
def test_arguments_that_do_not_fit(args, kwargs, invoked):
    with pytest.raises(TypeError) as caught:
        TritonError(*args, **kwargs)
    assert str(caught.value) == SIGNATURE + invoked


def test_a_triton_error_cannot_be_raised():
    with pytest.raises(TypeError, match="exceptions must derive from BaseException"):
        raise TritonError("text")


def test_a_triton_model_exception_can():
    with pytest.raises(TritonModelException) as caught:
        raise TritonModelException("text", 3)
    assert caught.value.args == ("text", 3)
    assert TritonModelException.__module__ == "c_python_backend_utils"


def test_an_exception_may_leave_its_process():
    error = pickle.loads(pickle.dumps(TritonModelException("text", 3)))
    assert type(error) is TritonModelException
    assert error.args == ("text", 3)


def test_a_number_that_is_no_code_is_unknown_to_the_client():
    kind = type(TritonError.INTERNAL)
    assert TritonError("m", kind(99))._status() is StatusCode.UNKNOWN
    assert TritonError("m", kind(5))._status() is StatusCode.UNSUPPORTED


def test_a_message_that_is_no_utf8_is_told_when_it_is_asked_for():
    with pytest.raises(UnicodeDecodeError):
        TritonError(b"\xff").message()
