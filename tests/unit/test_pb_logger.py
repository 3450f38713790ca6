"""``pb_utils.Logger``."""

import inspect

import pytest
from instances import Lines

from triton_stub.pb_utils.logger import LogLevel, make_logger


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def logger(lines):
    return make_logger(lines)


def here():
    return inspect.currentframe().f_back.f_lineno


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("log_info", LogLevel.INFO),
        ("log_warn", LogLevel.WARNING),
        ("log_error", LogLevel.ERROR),
        ("log_verbose", LogLevel.VERBOSE),
        ("log", LogLevel.INFO),
    ],
)
def test_a_line_has_its_level_and_its_place(logger, lines, method, level):
    log = getattr(logger, method)
    line = here()
    log("text")
    log(message=b"text")
    assert lines.records == [
        (level, "text", __file__, line + 1),
        (level, "text", __file__, line + 2),
    ]


def test_the_level_is_an_argument(logger, lines):
    logger.log("a", logger.ERROR)
    logger.log(level=logger.LogLevel.VERBOSE, message="b")
    assert [record[:2] for record in lines.records] == [
        (LogLevel.ERROR, "a"),
        (LogLevel.VERBOSE, "b"),
    ]


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "invoked"),
    [
        ("log_info", (), {}, ""),
        ("log_warn", (None,), {}, "None"),
        ("log_error", ("a", "b"), {}, "'a', 'b'"),
        ("log_verbose", (), {"text": "a"}, "kwargs: text='a'"),
    ],
)
def test_arguments_that_do_not_fit(logger, method, args, kwargs, invoked):
    with pytest.raises(TypeError) as caught:
        getattr(logger, method)(*args, **kwargs)
    assert str(caught.value) == (
        f"{method}(): incompatible function arguments. The following argument types are "
        f"supported:\n    1. (message: str) -> None\n\nInvoked with: {invoked}"
    )


def test_a_level_is_no_number(logger):
    with pytest.raises(TypeError) as caught:
        logger.log("a", 2)
    assert str(caught.value) == (
        "log(): incompatible function arguments. The following argument types are supported:\n"
        "    1. (message: str, level: c_python_backend_utils.Logger.LogLevel = "
        "<LogLevel.INFO: 0>) -> None\n\nInvoked with: 'a', 2"
    )


@pytest.mark.parametrize("args", [(), ("text",)])
def test_there_are_no_objects_of_it(logger, args):
    with pytest.raises(TypeError) as caught:
        logger(*args)
    assert str(caught.value) == "c_python_backend_utils.Logger: No constructor defined!"


def test_each_instance_has_a_logger_of_its_own(logger, lines):
    others = Lines()
    make_logger(others).log_info("theirs")
    logger.log_info("ours")
    assert lines.messages == ["ours"]
    assert others.messages == ["theirs"]
