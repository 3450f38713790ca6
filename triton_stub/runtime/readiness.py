"""``is_ready()``: a model says, whenever somebody asks, whether it can be asked anything.

Since Triton 26.03. Source: python_backend ``src/python_be.cc``, ``RunUserModelReadinessCheck``,
and ``src/pb_stub.cc``, ``ProcessUserModelReadinessRequest``.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from triton_stub.errors import ServerError, StatusCode
from triton_stub.runtime.describe import describe

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_SECONDS = 5.0


class Readiness:
    """Asks one instance; ``ask`` calls the model's method and waits for it if it is async.

    The model is asked in a thread of its own, also while it executes, and once at a time: who
    asks meanwhile gets the same answer.
    """

    def __init__(self, instance_name: str, ask: Callable[[], Any]) -> None:
        self._instance_name = instance_name
        self._ask = ask
        self._lock = threading.Lock()
        self._under_way: Future[ServerError | None] | None = None

    def check(self, limit: float = LIMIT_SECONDS) -> None:
        """ServerError, with the server's text, unless the model says that it is ready."""
        with self._lock:
            is_first = self._under_way is None
            if self._under_way is None:
                self._under_way = Future()
                name = f"{self._instance_name} is_ready"
                threading.Thread(target=self._run, name=name, daemon=True).start()
            answer = self._under_way
        try:
            error = answer.result(limit)
        except TimeoutError:
            what = "user-defined" if is_first else "in-flight"
            raise ServerError(
                f"Timed out waiting for {what} is_ready() response", StatusCode.UNAVAILABLE
            ) from None
        if error is not None:
            raise error

    def _run(self) -> None:
        answer = self._under_way
        assert answer is not None
        error: ServerError | None = None
        try:
            ready = self._ask()
            if not isinstance(ready, bool):
                error = ServerError("is_ready() must return a boolean value")
            elif not ready:
                error = ServerError(
                    f"Model '{self._instance_name}' is not ready (user-defined check failed).",
                    StatusCode.UNAVAILABLE,
                )
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is told
            error = ServerError(describe(raised))
            error.__cause__ = raised
        with self._lock:
            self._under_way = None
        answer.set_result(error)
