"""HTTP ports beside what else there is in the process and in the file system."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import urllib3
from instances import write_files

import triton_stub

CONFIG = """
backend: "python"
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
MODEL = """
class TritonPythonModel:
    def execute(self, requests):
        raise ZeroDivisionError
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_files(tmp_path / "models" / "m", {"config.pbtxt": CONFIG, "1/model.py": MODEL})
    return tmp_path / "models"


def test_loggers_of_uvicorn_are_left_alone(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another uvicorn in this process may have set them up."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(f"uvicorn.{name}") for name in ("error", "access", "asgi")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        with triton_stub.Server(repository) as server:
            assert urllib3.request("GET", f"http://{server.http_url}/v2").status == 200
        for logger in loggers:
            assert (logger.level, logger.handlers) == (logging.INFO, [handler])
            assert logger.propagate
        # Nor does it log there whoever asks, what a uvicorn would.
        assert "GET /v2" not in caplog.text
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate
