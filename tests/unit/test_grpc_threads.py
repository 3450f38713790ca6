"""Threads that answer calls."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref

import pytest
from patience import PATIENCE, wait_until

from triton_stub.endpoints.grpc.threads import Threads


def test_threads_are_made_when_they_are_needed() -> None:
    threads, go = Threads(100), threading.Event()
    first = threads.submit(threading.current_thread).result(PATIENCE)
    held = [threads.submit(go.wait, PATIENCE) for _ in range(10)]
    assert threads.submit(sum, (1, 2), start=3).result(PATIENCE) == 6
    go.set()
    assert all(each.result(PATIENCE) for each in held)
    threads.shutdown()
    wait_until(lambda: not first.is_alive())


def test_one_that_has_nothing_to_do_is_taken_again() -> None:
    threads = Threads(100)
    names = set()
    for _ in range(50):
        future = threads.submit(threading.current_thread)
        names.add(future.result(PATIENCE).name)
        # It has nothing to do a moment after the result is there.
        wait_until(lambda: threads._idle._value == 1)
    assert len(names) == 1
    threads.shutdown()


def test_there_are_so_many_and_the_others_wait() -> None:
    threads, go, begun = Threads(3), threading.Event(), []

    def work(number: int) -> int:
        begun.append(number)
        go.wait(PATIENCE)
        return number

    asked = [threads.submit(work, number) for number in range(10)]
    wait_until(lambda: len(begun) == 3)
    assert asked[9].cancel()
    go.set()
    assert [each.result(PATIENCE) for each in asked[:9]] == list(range(9))
    threads.shutdown()
    assert set(begun) == set(range(9))


def test_what_is_raised_is_for_whoever_waits() -> None:
    threads = Threads(1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(PATIENCE)
    assert threads.submit(sum, (1, 2)).result(PATIENCE) == 3
    threads.shutdown()


def test_nothing_is_kept_of_what_is_done() -> None:
    class Call:
        def __call__(self) -> None:
            pass

    threads, call = Threads(1), Call()
    gone = weakref.ref(call)
    threads.submit(call).result(PATIENCE)
    del call
    wait_until(lambda: gone() is None)
    threads.shutdown()


def test_work_is_done_before_the_end() -> None:
    threads, go = Threads(1), threading.Event()
    first = threads.submit(go.wait, PATIENCE)
    last = threads.submit(sum, (1, 2))
    threads.shutdown(wait=True)  # which nobody does
    go.set()
    assert first.result(PATIENCE)
    assert last.result(PATIENCE) == 3


def test_a_process_ends_without_them() -> None:
    script = (
        "import threading\n"
        "from triton_stub.endpoints.grpc.threads import Threads\n"
        "begun = threading.Event()\n"
        "Threads(1).submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "begun.wait()\n"
        "print('end')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=PATIENCE
    )
    assert done.stdout == b"end\n"
