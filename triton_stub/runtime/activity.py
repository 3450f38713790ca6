"""What one thread does for a model: which of its methods it is in, and where in that."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from triton_stub import deviations
from triton_stub.pb_utils.logger import LogLevel
from triton_stub.runtime.offspring import told
from triton_stub.runtime.stacks import stack_of, stacks_of_loop

if TYPE_CHECKING:
    import asyncio
    from multiprocessing.process import BaseProcess

    from triton_stub.pb_utils.logger import LogSink
    from triton_stub.runtime.module import ModelModule

_TICK = 0.02  # seconds between two looks


class Activity:
    """Of an instance, or of ``auto_complete_config``; ``name`` says whose.

    Attributes:
        method: what of the model is being called; empty between two calls.
        loop: the event loop of an async model, and its thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.method = ""
        self.loop: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        self._thread = threading.current_thread()
        self._module: ModelModule | None = None
        self._has_left: list[threading.Thread | BaseProcess] = []
        self._is_over = False

    def begin(self, module: ModelModule) -> None:
        """From here on this thread works for the model."""
        self._thread = threading.current_thread()
        self._module = module
        module.offspring.watch()

    def where(self) -> str:
        """Where the model is, for people who wait for it."""
        if self._is_over and self._module is not None:
            self._has_left = self._module.offspring.left()
        if self._has_left:
            return f"{self.name} is done, but has left running {told(self._has_left)}"
        stacks: list[str] = []
        if self.loop is not None and self.method in ("", "execute"):
            stacks += stacks_of_loop(*self.loop)
        if self.method and not stacks:
            stacks.append(stack_of(self._thread))
        text = f"{self.name} is in {self.method or 'none of its methods'}"
        if stacks:
            text += ", at\n" + "and at\n".join(stacks)
        if not self.method and self._module and (running := self._module.offspring.running()):
            text = f"{text.rstrip()}\nand has started {told(running)}"
        return text.rstrip()

    def end(self) -> None:
        """Say that the process, which is the model's own, ends as soon as it can."""
        self._is_over = True

    def finish(self, log: LogSink) -> None:
        """Wait until the process of a real instance would end, and tell what is left then."""
        if self._module is None:
            return
        offspring = self._module.offspring
        offspring.end_pools()
        while left := offspring.left():
            self._has_left = left
            time.sleep(_TICK)
        self._has_left = []
        daemons = offspring.daemons()
        if self.loop is not None and self.loop[1].is_alive():
            daemons.append(self.loop[1])
        for thread in daemons:
            text = deviations.DAEMONS.text(
                f"{self.name} is done and has left the daemon thread '{thread.name}' running",
                f"Here it runs until the tests end: stop it in finalize. It is at\n"
                f"{stack_of(thread)}",
            )
            log.note(LogLevel.WARNING, text.rstrip())
        offspring.forget()

    def is_alone(self) -> bool:
        """True if nothing of the model runs but the method that is called."""
        offspring = None if self._module is None else self._module.offspring
        return self.loop is None and not (offspring and offspring.running())

    def give_up(self) -> None:
        """Nobody waits for the model any more: free what it keeps from others."""
        if self._module is not None:
            self._module.scope.abandon()
            self._module.offspring.let_go()
