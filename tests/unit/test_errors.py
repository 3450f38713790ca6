"""Status codes and the family of errors."""

import copy
import pickle

import pytest

from triton_stub import errors
from triton_stub.errors import (
    ConfigError,
    InferenceError,
    LoadError,
    ServerError,
    StatusCode,
    TritonError,
    UnsupportedFeatureError,
)


@pytest.mark.parametrize(
    ("code", "status", "label"),
    [
        (StatusCode.UNKNOWN, 400, "Unknown"),
        (StatusCode.INTERNAL, 500, "Internal"),
        (StatusCode.NOT_FOUND, 404, "Not found"),
        (StatusCode.INVALID_ARG, 400, "Invalid argument"),
        (StatusCode.UNAVAILABLE, 503, "Unavailable"),
        (StatusCode.UNSUPPORTED, 501, "Unsupported"),
        (StatusCode.ALREADY_EXISTS, 400, "Already exists"),
        (StatusCode.CANCELLED, 400, "Cancelled"),
    ],
)
def test_a_code_has_an_http_status_and_a_label(code, status, label):
    assert code.http_status == status
    assert code.label == label


def test_the_numbers_are_those_that_a_model_sees():
    assert [code.value for code in StatusCode] == list(range(8))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServerError("text"), StatusCode.INTERNAL),
        (InferenceError("text"), StatusCode.INTERNAL),
        (LoadError("text"), StatusCode.INTERNAL),
        (ConfigError("text"), StatusCode.INVALID_ARG),
        (UnsupportedFeatureError("text"), StatusCode.UNSUPPORTED),
        (InferenceError("text", StatusCode.NOT_FOUND), StatusCode.NOT_FOUND),
    ],
)
def test_an_error_is_its_text_and_has_a_code(error, code):
    assert str(error) == error.message == "text"
    assert error.code is code
    assert isinstance(error, ServerError)


def test_a_wrong_configuration_is_a_failed_load():
    assert issubclass(ConfigError, LoadError)
    assert issubclass(UnsupportedFeatureError, LoadError)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (StatusCode.UNKNOWN, "UnknownError"),
        (StatusCode.INTERNAL, "InternalError"),
        (StatusCode.NOT_FOUND, "NotFoundError"),
        (StatusCode.INVALID_ARG, "InvalidArgumentError"),
        (StatusCode.UNAVAILABLE, "UnavailableError"),
        (StatusCode.UNSUPPORTED, "UnsupportedError"),
        (StatusCode.ALREADY_EXISTS, "AlreadyExistsError"),
        (StatusCode.CANCELLED, "UnknownError"),
    ],
)
def test_an_error_is_of_two_kinds(code, name):
    kinds = {InferenceError, ServerError, TritonError, getattr(errors, name)}
    everything = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    others = {kind for kind in everything if issubclass(kind, TritonError)} - kinds
    error = InferenceError("text", code)
    assert all(isinstance(error, kind) for kind in kinds)
    assert not any(isinstance(error, kind) for kind in others)
    assert type(error).__name__ == "InferenceError"
    for kind in kinds:
        with pytest.raises(kind, match="text"):
            raise InferenceError("text", code)


def test_errors_of_one_kind_share_a_class():
    assert type(InferenceError("a")) is type(InferenceError("b"))
    assert type(InferenceError("a")) is not type(LoadError("a"))


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error",
    [
        InferenceError("text", StatusCode.NOT_FOUND),
        LoadError("text", told="less"),
        ConfigError("text"),
        UnsupportedFeatureError("text"),
    ],
)
def test_an_error_may_go_to_another_process(error, again):
    same = again(error)
    assert type(same) is type(error)
    assert vars(same) == vars(error)
    assert str(same) == "text"


def test_the_text_is_the_text_whatever_comes_with_it():
    error = InferenceError("text")
    error.args += ("a response",)
    assert str(error) == "text"
