"""Items from thread to thread."""

import errno
import os
import queue
import signal
import subprocess
import sys
import threading

import pytest
from patience import PATIENCE, wait_until

from triton_stub.core import bell
from triton_stub.core.mailbox import Mailbox


@pytest.fixture(params=["Bell", "LockBell"], autouse=True)
def kind(request, monkeypatch):
    """What threads wait for: that of this system, and that of others."""
    if request.param == "Bell" and bell._new_bell is not bell.Bell:
        pytest.skip("this system has no eventfd")
    monkeypatch.setattr(bell, "_new_bell", getattr(bell, request.param))
    monkeypatch.setattr(bell, "_own", bell._Own())


def in_thread(do):
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


def waits(mailbox, threads=1):
    wait_until(lambda: len(mailbox._waiting) == threads, "nobody waits")


def test_what_is_there_comes_in_order():
    mailbox = Mailbox()
    for number in range(3):
        mailbox.put(number)
    assert [mailbox.get(), mailbox.get(0), mailbox.get_nowait()] == [0, 1, 2]
    with pytest.raises(queue.Empty):
        mailbox.get_nowait()


@pytest.mark.parametrize("timeout", [None, PATIENCE, 1e12])
def test_who_waits_is_woken(timeout):
    mailbox = Mailbox()
    got = []
    thread = in_thread(lambda: got.append(mailbox.get(timeout)))
    waits(mailbox)
    mailbox.put("item")
    thread.join(PATIENCE)
    assert got == ["item"]
    assert not mailbox._waiting


@pytest.mark.parametrize("timeout", [-1, 0, 0.01])
def test_nothing_comes_in_time(timeout):
    mailbox = Mailbox()
    with pytest.raises(queue.Empty):
        mailbox.get(timeout)
    assert not mailbox._waiting


def test_a_ring_for_something_else_is_no_item():
    mailbox = Mailbox()
    own = bell.take_bell()
    own.ring()
    bell.give_back(own)
    with pytest.raises(queue.Empty):
        mailbox.get(0.01)
    mailbox.put("item")
    assert mailbox.get() == "item"


def test_each_of_many_who_wait_gets_one():
    mailbox = Mailbox()
    got = []
    threads = [in_thread(lambda: got.append(mailbox.get())) for _ in range(5)]
    waits(mailbox, 5)
    for number in range(5):
        mailbox.put(number)
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(got) == list(range(5))


def test_nothing_is_lost_between_two_threads():
    there, back = Mailbox(), Mailbox()

    def answer():
        while (item := there.get()) is not None:
            back.put(item)

    thread = in_thread(answer)
    for number in range(5000):
        there.put(number)
        assert back.get(PATIENCE) == number
    there.put(None)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_nothing_is_lost_among_many_threads():
    mailbox = Mailbox()
    got = []

    def take():
        while (item := mailbox.get(PATIENCE)) is not None:
            got.append(item)

    def give(start):
        for number in range(start, start + 500):
            mailbox.put(number)

    takers = [in_thread(take) for _ in range(4)]
    givers = [in_thread(lambda start=start: give(start)) for start in range(0, 2000, 500)]
    for thread in givers:
        thread.join(PATIENCE)
    for _ in takers:
        mailbox.put(None)
    for thread in takers:
        thread.join(PATIENCE)
    assert sorted(got) == list(range(2000))


def test_a_signal_does_not_end_the_wait(on_signal):
    handled = []
    on_signal(lambda *_: handled.append(1))
    mailbox = Mailbox()
    got = []
    thread = in_thread(lambda: got.append(mailbox.get()))
    waits(mailbox)
    for count in range(1, 6):
        # In the thread that waits; the main thread handles it.
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
        wait_until(lambda count=count: len(handled) == count)
    assert thread.is_alive()
    mailbox.put("item")
    thread.join(PATIENCE)
    assert got == ["item"]


def test_who_waits_may_wait_for_something_else_meanwhile(on_signal):
    outer, inner = Mailbox(), Mailbox()
    got = []

    def handle(*_):
        in_thread(lambda: inner.put("inner"))
        got.append(inner.get(PATIENCE))
        in_thread(lambda: outer.put("outer"))

    on_signal(handle)
    main = threading.get_ident()

    def interrupt():
        waits(outer)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = in_thread(interrupt)
    got.append(outer.get(PATIENCE))
    thread.join(PATIENCE)
    assert got == ["inner", "outer"]


def test_an_interrupted_wait_passes_its_ring_on():
    class Interrupted(bell.LockBell):
        __slots__ = ()

        def wait(self, timeout=None):
            super().wait(timeout)
            raise KeyboardInterrupt

    mailbox = Mailbox()
    failed, got = [], []

    def interrupted():
        bell.give_back(Interrupted())
        try:
            mailbox.get()
        except KeyboardInterrupt:
            failed.append(1)

    first = in_thread(interrupted)
    waits(mailbox, 1)
    second = in_thread(lambda: got.append(mailbox.get()))
    waits(mailbox, 2)
    mailbox.put("item")
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert (failed, got) == ([1], ["item"])


@pytest.fixture
def on_signal():
    """Handles SIGUSR1 as it is told."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, before)


def test_there_is_a_bell_without_a_descriptor(monkeypatch):
    def none_left(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left, raising=False)
    mailbox = Mailbox()
    thread = in_thread(lambda: mailbox.put(1))
    assert mailbox.get(PATIENCE) == 1
    thread.join(PATIENCE)
    assert type(bell.take_bell()) is bell.LockBell


def test_a_thread_that_ends_takes_its_bell_along(monkeypatch):
    gone = []
    monkeypatch.setattr(bell, "_new_bell", lambda: Told(gone))
    in_thread(lambda: bell.give_back(bell.take_bell())).join(PATIENCE)
    assert gone == ["gone"]


class Told(bell.LockBell):
    __slots__ = ("_gone",)

    def __init__(self, gone):
        super().__init__()
        self._gone = gone

    def __del__(self):
        self._gone.append("gone")


def test_a_process_that_is_forked_has_a_bell_of_its_own():
    # In a process that has no other threads: there may be some here that mind it.
    forks = """
import os
from triton_stub.core.bell import give_back, take_bell

own = take_bell()
give_back(own)
child = os.fork()
if not child:
    os._exit(take_bell() is own)
print(os.waitpid(child, 0)[1], take_bell() is own)
"""
    told = subprocess.run([sys.executable, "-c", forks], capture_output=True, text=True, check=True)
    assert told.stdout == "0 True\n"
