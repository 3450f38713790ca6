"""The options of a server: what no server starts with is said before anything is loaded."""

import dataclasses
import re
from pathlib import Path

import pytest

from triton_stub import InvalidArgumentError, ManualClock, Server
from triton_stub.server.enums import LogFormat, ModelControlMode, RateLimitMode
from triton_stub.server.options import Options, unknown

WRONG = [
    ({"isolation": "docker"}, "isolation: expected one of 'thread', 'process'; got 'docker'"),
    ({"isolation": ["thread"]}, "isolation: expected one of 'thread', 'process'; got ['thread']"),
    ({"clock": ManualClock}, "clock: expected a ManualClock, such as triton_stub.ManualClock()"),
    ({"clock": 5}, "or None; got 5"),
    ({"startup_models": "model"}, "startup_models: expected a list of names, got the text 'model'"),
    ({"cache_config": "local,size=1"}, "cache_config: expected a mapping, such as"),
    ({"cache_config": {"local": 5}}, "cache_config of 'local': expected a mapping, such as"),
    ({"response_timeout": -1}, "response_timeout: expected seconds, from 0 to"),
    ({"response_timeout": float("nan")}, "or None for ever; got nan"),
    ({"load_timeout": "5"}, "or None for ever; got '5'"),
    ({"load_timeout": float("inf")}, "or None for ever; got inf"),
    ({"exit_timeout": None}, "exit_timeout: expected seconds, from 0 to"),
    ({"exit_timeout": True}, "got True"),
    ({"server_id": 5}, "server_id: expected a str, got 5"),
    ({"model_repository": [5]}, "model_repository: expected a str or a path, got 5"),
    ({"model_control_mode": "explict"}, "or one of 'none', 'poll', 'explicit'; got 'explict'"),
    ({"rate_limiter_mode": "on"}, "rate_limiter_mode: expected a RateLimitMode, or one of"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_what_is_no_such_option_is_told(given, told):
    options = Options(**{"model_repository": "models", **given})
    with pytest.raises(TypeError, match=re.escape(told)):
        options.check()
    with pytest.raises(TypeError, match=re.escape(told)):
        Server(options).start()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"isolation": "process", "clock": ManualClock(), "exit_timeout": 0},
        {"load_timeout": None, "response_timeout": None, "startup_models": ("model",)},
        {"cache_config": {"local": {"size": 5}}, "model_control_mode": "POLL"},
    ],
)
def test_what_is_one_is_taken(given):
    Options("models", **given).check()


@pytest.mark.parametrize("repository", [None, []])
def test_there_is_a_repository(repository):
    with pytest.raises(InvalidArgumentError, match="must be specified"):
        Options(repository).check()


def test_repositories_are_paths():
    assert Options("a").repositories() == [Path("a")]
    assert Options(["a", Path("b")]).repositories() == [Path("a"), Path("b")]


def test_an_unknown_option_is_told_with_the_one_that_may_be_meant():
    assert not unknown(field.name for field in dataclasses.fields(Options))
    with pytest.raises(TypeError) as caught:
        Server("models", isolaton="process", qqq=1)
    assert str(caught.value) == (
        "a server has no option 'isolaton' (did you mean 'isolation'?), 'qqq'; see "
        "triton_stub.Options"
    )


def test_options_and_keywords_are_not_mixed():
    with pytest.raises(TypeError, match="got Options, and clock besides; set them there"):
        Server(Options("models"), clock=None)


def test_modes_may_be_written_as_text():
    assert Options(model_control_mode="explicit").control_mode is ModelControlMode.EXPLICIT
    assert Options(rate_limiter_mode="execution_count").rate_limited
    assert Options(rate_limiter_mode=RateLimitMode.EXEC_COUNT).rate_limited
    assert not Options().rate_limited


@pytest.mark.parametrize(
    ("given", "letters"),
    [
        ({}, ""),
        ({"log_error": True}, "E"),
        ({"log_warn": True}, "WE"),
        ({"log_info": True}, "IWE"),
        ({"log_verbose": 1}, "IWE"),
    ],
)
def test_a_level_of_the_log_has_the_lower_ones(given, letters):
    assert Options(**given).log_severity == letters


def test_what_the_logging_extension_tells_at_first():
    settings = Options(log_file="f", log_verbose=2, log_format=LogFormat.ISO8601).log_settings
    assert (settings.file, settings.verbose_level, settings.format) == ("f", 2, "ISO8601")
