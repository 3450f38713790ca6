"""Asks again where the real server has died by itself, which it does now and then.

A pytest plugin. tritonserver 2.51 has races of its own (see ``deviations.CONTROL_ERROR`` and
``mortal.py``). On a busy machine about every run of this suite meets one: it was seen to die while
it unloaded an ensemble, and while it started with models, and with instances, that fail. A case
that fails with a dead server is run once more, with new engines; what comes out then counts. How
the server died, and the end of its log, is printed.
"""

from __future__ import annotations

import contextlib
import re
import time
import weakref
from functools import wraps
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from triton_stub.engines.native import NativeEngine
from triton_stub.errors import LoadError

# Statuses as a shell tells them: greater ones are of a signal.
_OF_A_SIGNAL = 128
_STILLBORN = re.compile(r"tritonserver ended with status 1[3-9]\d before it was ready")
# Seconds; the guard of a server notices within a tenth of one, if the machine has time for it.
_NOTICED = 5


class Lives:
    """The plugin; one object a run."""

    def __init__(self) -> None:
        self._engines: weakref.WeakSet[NativeEngine] = weakref.WeakSet()
        self._patch = pytest.MonkeyPatch()
        self._stillborn: list[str] = []
        self._deaths: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Watch which servers are started."""
        start, engines = NativeEngine.__init__, self._engines

        @wraps(start)
        def started(engine: NativeEngine, *args: Any, **kwargs: Any) -> None:
            try:
                start(engine, *args, **kwargs)
            except LoadError as error:
                self._stillborn += [f"{error}\n{note}" for note in error.__notes__]
                raise
            engines.add(engine)

        self._patch.setattr(NativeEngine, "__init__", started)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Watch no longer; a worker of pytest-xdist tells of the deaths that it has seen."""
        self._patch.undo()
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["deaths"] = self._deaths

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker tells."""
        self._deaths += getattr(node, "workeroutput", {}).get("deaths", [])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run the case, and once more if a server died in it."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._stillborn.clear()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(report.failed for report in reports):
            end = time.monotonic() + _NOTICED
            while not (died := self._dead()) and time.monotonic() < end:
                time.sleep(0.05)
            if died:
                self._deaths += [f"{item.nodeid}: {how}" for how in died]
                with contextlib.suppress(Exception):  # it fails as the case did
                    item.session._setupstate.teardown_exact(None)  # all fixtures end
                reports = runtestprotocol(item, log=False, nextitem=nextitem)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which cases were run once more."""
        for death in self._deaths:
            terminalreporter.write_line(f"run once more, the real server died: {death}")

    def _dead(self) -> list[str]:
        """How servers died that nobody has stopped; perhaps in an earlier case."""
        found = [told for told in self._stillborn if _STILLBORN.match(told)]
        for engine in self._engines:
            if (status := engine.status or 0) > _OF_A_SIGNAL:
                lines = "\n".join(engine.log().splitlines()[-25:])
                found.append(f"tritonserver ended with status {status}\n{lines}")
        return found
