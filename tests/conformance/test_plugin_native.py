"""The fixture `triton` with the real server behind it."""

import socket
from pathlib import Path

import pytest

from triton_stub.config import schema
from triton_stub.engines import native
from triton_stub.testing import checks, strategies

# Runs inside this process forget what they import, and neither numpy nor protobuf can be imported
# twice; so everything is imported before.
IMPORTED = (schema(), native, checks, strategies)

pytest_plugins = ["pytester"]

MODELS = Path(__file__).parent / "models"
NATIVE = ("-p", "no:cacheprovider", "--triton-engine=native", "--triton-require")
TESTS = f"""
import numpy as np
import pytest
from hypothesis import given
from triton_stub.testing import check_outputs, from_config

pytestmark = pytest.mark.triton(repository={str(MODELS)!r}, models=["add"])
ONE = np.ones((1, 4), np.float32)

def test_which(triton):
    assert triton.name == "native"
    assert triton.ready("add")
    assert not triton.ready("facts")

@given(from_config({str(MODELS / "add")!r}))
def test_requests(triton, request):
    check_outputs({str(MODELS / "add")!r}, triton.infer("add", request))

def test_fails(triton):
    triton.infer("add", A=ONE, B=ONE.astype(int))
"""
INTERRUPTED = """
import os, signal
from pathlib import Path

def test_it(triton):
    Path("url.txt").write_text(triton.http_url)
    os.kill(os.getpid(), signal.SIGINT)
"""


def test_tests_of_a_model(pytester):
    pytester.makepyfile(TESTS)
    result = pytester.runpytest(*NATIVE)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       triton.infer(*",
            "E       *.InferenceError: *input 'B' data-type is *",
            "test_*.py:*: InferenceError",
        ]
    )
    assert "engines/http.py" not in result.stdout.str()


def test_nothing_is_left_after_an_interrupt(pytester):
    pytester.makeini("[pytest]\ntriton_models = add")
    pytester.makepyfile(INTERRUPTED)
    result = pytester.runpytest_subprocess(*NATIVE, f"--triton-repository={MODELS}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    host, port = (pytester.path / "url.txt").read_text().split(":")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port))):
        pass
