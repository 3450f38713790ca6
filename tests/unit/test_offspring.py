"""The threads that a model starts run what they would run anywhere else."""

from __future__ import annotations

from threading import Thread

import pytest

from triton_stub.runtime.offspring import Offspring

PATIENCE = 60.0


class Plain(Thread):
    """Notes that its target ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        super().__init__(target=self.ran.append, args=("target",))


class Overridden(Plain):
    def run(self) -> None:
        self.ran.append("method")
        super().run()


class Wrapped(Overridden):
    """As debuggers do it."""

    def __init__(self) -> None:
        super().__init__()
        inner = self.run

        def run() -> None:
            self.ran.append("wrapper")
            inner()

        self.run = run  # type: ignore[method-assign]


class Assigned(Overridden):
    def __init__(self) -> None:
        super().__init__()
        self.run = lambda: self.ran.append("assigned")  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("kind", "ran"),
    [
        (Plain, ["target"]),
        (Overridden, ["method", "target"]),
        (Wrapped, ["wrapper", "method", "target"]),
        (Assigned, ["assigned"]),
    ],
)
def test_a_thread_runs_its_own_run(kind: type[Plain], ran: list[str]) -> None:
    thread = kind()
    before = vars(thread).get("run")
    Offspring({}).start_thread(thread, Thread.start)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert thread.ran == ran
    assert vars(thread).get("run") is before
