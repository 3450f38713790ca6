"""Status codes and the family of errors."""

import pytest

from triton_stub.errors import (
    ConfigError,
    InferenceError,
    LoadError,
    ServerError,
    StatusCode,
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
