"""What a model logs: the lines, their place and their level, and when there are none."""

from __future__ import annotations

import pytest
from broken_models import CONFIG, write_models
from comparing import Engines
from probing import log_line, probe_log

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

LINES = {
    "every level": "L.log_info('a')\nL.log_warn('b')\nL.log_error('c')\nL.log_verbose('d')",
    "log": "L.log('a')\nL.log('b', L.ERROR)\nL.log(level=L.WARNING, message='c')",
    "far below": "\n\n\nL.log_info('a')",
    "of a function": "def f():\n    L.log_info('a')\n\nf()",
    "of a thread": "t = threading.Thread(target=L.log_info, args=('a',))\nt.start()\nt.join()",
    "of a lambda": "(lambda: L.log_info('a'))()",
    "many at once": "for i in range(50): L.log_info(str(i))",
    "quotes": """L.log_info('a "b" \\\\ c')""",
    "letters": "L.log_info('ü ☃')",
    "control characters": "L.log_info('a\\tb\\x01')",
    "two lines": "L.log_info('a\\nb')",
    "nothing": "L.log_info('')",
    "bytes": "L.log_info(b'a')",
    "a NUL": "L.log_info('a\\0b')",
}
MODEL = """import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        pb_utils.Logger.log_warn("completes")
        pb_utils.Logger.log_verbose("completes verbosely")
        return config

    def initialize(self, args):
        pb_utils.Logger.log_info("initializes")
        pb_utils.Logger.log_verbose("initializes verbosely")

    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]

    def finalize(self):
        pb_utils.Logger.log_error("finalizes")
        pb_utils.Logger.log_verbose("finalizes verbosely")
"""


@pytest.mark.rule("2.10-line", "2.10-verbose")
@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_lines_of_execute(engines: Engines, lines: str) -> None:
    engines.same(lambda engine: probe_log(engine, lines))


@pytest.fixture(scope="module", params=["quiet", "verbose"])
def logs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """Both engines, started and stopped, with one model."""
    folder = tmp_path_factory.mktemp("logs")
    write_models(folder, {"logs": MODEL}, CONFIG)
    verbose = request.param == "verbose"
    native = NativeEngine(folder, options=["--log-verbose=1"] if verbose else [])
    stub = StubEngine(folder, log_verbose=verbose)
    engines = Engines(stub, native)
    for engine in engines:
        engine.stop()
    return engines


@pytest.mark.rule("2.10-early", "2.10-verbose", "3.5-services")
def test_lines_of_the_other_methods(logs: Engines) -> None:
    def lines(engine: Engine) -> list[str]:
        return [log_line(line) for line in engine.log().splitlines() if "model.py:" in line]

    told = logs.same(lines)
    assert told[0] == "W model.py:6]  completes"
    assert told[-2 if len(told) > 4 else -1] == 'E model.py:18] "finalizes"'
