"""An instance in a process of its own, as on the server (``isolation="process"``).

Sources: python_backend ``src/stub_launcher.cc`` and ``src/python_be.cc``.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.core.executor import Execution
from triton_stub.core.garbage import Collections
from triton_stub.core.processes.child import Child
from triton_stub.core.processes.host_service import HostService
from triton_stub.core.processes.link import LinkClosedError
from triton_stub.core.processes.remote_requests import sent
from triton_stub.errors import InferenceError, LoadError, ServerError
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.auto_complete import overdue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from triton_stub.core.conversion import Conversion
    from triton_stub.core.host import InstanceHost, ServerHost
    from triton_stub.core.request import InferenceResponse
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.trace import Trace
    from triton_stub.runtime.instance import InstanceSpec


class ProcessExecutor:
    """An ``Executor`` whose model runs elsewhere; once that process is gone, it stays gone."""

    def __init__(
        self, spec: InstanceSpec, conversion: Conversion, host: InstanceHost, server: ServerHost
    ) -> None:
        self._spec = spec
        self._convert = conversion
        self._clock = server.clock
        self._log = server.log
        self._service = HostService(host, self._trace)
        self._child: Child | None = None
        self._can_be_asked = False
        self._is_leaving = False
        self._numbers = itertools.count(1)
        # What the process has and nobody has answered finally; the batch that it executes.
        self._open: dict[int, Pending] = {}
        self._running: dict[int, Pending] = {}
        # What it will get once more, by the number that it knows it by.
        self._again: dict[Pending, int] = {}
        host.collect = Collections(self._collect).ask

    def load(self) -> None:
        """Start the process and load the model there."""
        calls: dict[str, Callable[..., Any]] = {
            **self._service.calls(),
            "respond": self._respond,
            "keep": self._keep,
            "is_cancelled": self._is_cancelled,
        }
        self._child = Child(self._spec.instance_name, calls, self._ended)
        self._child.start()
        if self._is_leaving:  # given up before there was a process
            self._child.kill()
        try:
            self._can_be_asked = self._child.call("load", self._spec, self._convert)
        except LinkClosedError:
            raise LoadError(self._unhealthy) from None

    def execute(self, batch: Sequence[Pending]) -> Execution:
        """Run one batch there."""
        child = self._child
        assert child is not None
        numbered = {self._again.get(pending) or next(self._numbers): pending for pending in batch}
        self._running = numbered
        for pending in batch:
            self._again.pop(pending, None)
        self._open.update(numbered)
        requests = [sent(number, pending) for number, pending in numbered.items()]
        infer_start = self._clock.now()
        try:
            success, answers, closed = child.call("execute", requests)
            self._again |= {
                numbered[each]: each for each, is_closed in closed.items() if not is_closed
            }
        except LinkClosedError:
            self._open.clear()
            return self._failed(batch, infer_start)
        finally:
            self._running = {}
        infer_end = self._clock.now()
        for (number, pending), answer in zip(numbered.items(), answers, strict=True):
            if answer is not None or pending.answer.closed:
                self._open.pop(number, None)
        again = {
            numbered[number]: _RemoteSender(self, numbered[number], number, closed=is_closed)
            for number, is_closed in closed.items()
        }
        return Execution(answers, infer_start, infer_end, again, success=success)

    def die(self, text: str) -> None:
        """Have every later request refused."""
        self._call("die", text)

    def unload(self) -> None:
        """Run ``finalize`` there; nothing to do if the process has died: deviations.DEAD_UNLOAD."""
        self._call("unload")

    def finish(self) -> None:
        """Wait until the process has ended."""
        self._is_leaving = True
        if self._child is not None:
            self._child.end()

    def check_ready(self) -> None:
        """ServerError if the process is gone (since 25.12), or the model says that it is not."""
        child = self._child
        if child is None or child.is_gone:
            raise ServerError(self._unhealthy)
        if self._can_be_asked:
            try:
                child.call("check_ready")
            except LinkClosedError:
                raise ServerError(self._unhealthy) from None

    def where(self) -> str:
        """Where the model is in its code."""
        name = f"Instance '{self._spec.instance_name}'"
        if self._child is None:
            return f"{name} is about to start its process"
        if self._child.is_gone:
            return f"{name} has lost its process {self._child.pid}"
        return self._child.where()

    def give_up(self) -> None:
        """Kill the process."""
        self._is_leaving = True
        if self._child is not None:
            self._child.kill()

    @property
    def _unhealthy(self) -> str:
        return f"Stub process '{self._spec.instance_name}' is not healthy."

    def drop(self, pending: Pending, number: int, instead: str) -> None:
        """Have the sender of a request dropped there that is to be executed again, or is not."""
        if instead:
            self._again.pop(pending, None)
        self._call("drop", number, instead)

    def _call(self, name: str, *args: Any) -> None:
        assert self._child is not None
        with contextlib.suppress(LinkClosedError):  # the log has it
            self._child.call(name, *args)

    def _failed(self, batch: Sequence[Pending], infer_start: int) -> Execution:
        error = InferenceError(self._unhealthy)
        answers = [self._convert.failure(pending.request, error) for pending in batch]
        return Execution(answers, infer_start, self._clock.now(), success=False, lost=True)

    def _ended(self) -> None:
        """The process is gone: nobody will answer what it has kept."""
        if self._is_leaving:
            return
        assert self._child is not None
        name = self._spec.instance_name
        status = f"the process of instance '{name}' {self._child.status()}"
        self._log.note(LogLevel.ERROR, f"{status}. {self._unhealthy}")
        running = self._running
        again = self._again.keys()  # these are told when it is their turn
        kept = [
            each
            for number, each in list(self._open.items())
            if number not in running and each not in again
        ]
        text = deviations.LOST_PROCESS.text(
            f"{status}, and had kept this request without answering it",
            "Find out what ends it; isolation='thread' may show more.",
        )
        for pending in kept:
            pending.answer.put(self._convert.failure(pending.request, InferenceError(text)))

    def _respond(self, number: int, response: InferenceResponse) -> None:
        if pending := self._open.get(number):
            pending.answer.put(response)
            if pending.answer.closed:
                self._open.pop(number, None)

    def _keep(self, number: int) -> None:
        if pending := self._open.get(number):
            pending.answer.kept = True

    def _is_cancelled(self, number: int) -> bool:
        pending = self._open.get(number)
        return pending is not None and pending.answer.cancelled

    def _trace(self, number: int) -> Trace | None:
        pending = self._open.get(number)
        return None if pending is None else pending.answer.trace

    def _collect(self) -> None:
        """Have the process look for senders that nobody has any more."""
        if self._child is not None:
            self._child.tell("collect")


class _RemoteSender:
    """The sender of a request that is rescheduled."""

    def __init__(
        self, executor: ProcessExecutor, pending: Pending, number: int, *, closed: bool
    ) -> None:
        self.closed = closed
        self._executor = executor
        self._pending = pending
        self._number = number

    def drop(self, instead: str) -> None:
        """Have it dropped there."""
        self._executor.drop(self._pending, self._number, instead)


def auto_complete_in_process(
    file: Path,
    text: str,
    host: InstanceHost,
    *,
    backend_of: Path | None = None,
    load_timeout: float | None,
    exit_timeout: float,
) -> str:
    """``runtime.auto_complete`` in a process of its own, as on the server."""
    name = host.instance_name
    child = Child(name, HostService(host).calls())
    child.start()
    try:
        completed: str = child.call(
            "auto_complete", file, text, name, backend_of, timeout=load_timeout
        )
        if not child.end(exit_timeout):
            when = f"{exit_timeout:g} s after auto_complete_config"
            raise overdue(when, "exit_timeout", child.where())
    except TimeoutError:
        raise overdue(f"{load_timeout:g} s", "load_timeout", child.where()) from None
    except LinkClosedError:
        raise LoadError(
            deviations.LOST_PROCESS.text(
                f"the process of auto_complete_config of model '{name}' {child.status()}",
                "Find out what ends it.",
            )
        ) from None
    finally:
        child.kill()
        child.end()
    return completed
