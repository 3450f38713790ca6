"""What holds for every test."""

import os

import pytest
from hypothesis import settings

# What the suites share fails in there, and shall show what differs.
pytest.register_assert_rewrite(
    "comparing", "mounted", "classify_cases", "resnet_cases", "served_cases"
)

# No test is about speed, and machines differ.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where TRITON_STUB_NO_SKIPS is set, a skipped test is a failed run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TRITON_STUB_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("\ntests were skipped, and TRITON_STUB_NO_SKIPS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
