"""Calls between two processes: here, two ends in one."""

import contextlib
import queue
import socket
import threading

import pytest

from triton_stub.core.processes.link import Link, LinkClosedError
from triton_stub.errors import InferenceError, RemoteError, ServerError, StatusCode


@pytest.fixture
def linked():
    """Makes two ends out of what each may call at the other."""
    with contextlib.ExitStack() as stack:

        def linked(here, there, **options):
            sockets = socket.socketpair()
            one, other = Link(sockets[0], here), Link(sockets[1], there, **options)
            for end in (one, other):
                stack.callback(end.close)
                end.start()
            return one, other

        yield linked


def test_a_call_returns_what_the_other_side_returns(linked):
    one, other = linked({"negative": lambda x: -x}, {"double": lambda x: 2 * x})
    assert one.call("double", 4) == 8
    assert other.call("negative", 4) == -4


def test_an_error_keeps_its_kind_its_code_and_its_cause(linked):
    def fail():
        try:
            raise ValueError("because")
        except ValueError as cause:
            raise InferenceError("no", StatusCode.UNAVAILABLE) from cause

    one, _ = linked({}, {"fail": fail})
    with pytest.raises(InferenceError, match=r"^no$") as caught:
        one.call("fail")
    assert caught.value.code == StatusCode.UNAVAILABLE
    assert isinstance(caught.value.__cause__, RemoteError)
    assert "ValueError: because" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_is_told(linked):
    class OwnError(Exception):
        pass

    def fail():
        raise OwnError(7)

    one, _ = linked({}, {"fail": fail, "lock": threading.Lock})
    with pytest.raises(ServerError, match=r"OwnError\(7\)"):
        one.call("fail")
    with pytest.raises((ServerError, TypeError), match="lock"):
        one.call("lock")


def test_a_call_back_is_answered_by_the_thread_that_waits(linked):
    def there():
        return other.call("here")

    one, other = linked({"here": threading.get_ident}, {"there": there})
    assert one.call("there") == threading.get_ident()


def test_calls_go_back_and_forth(linked):
    def down(number):
        return number and one.call("up", number - 1) + 1

    def up(number):
        return number and other.call("down", number - 1) + 1

    one, other = linked({"down": down}, {"up": up})
    assert one.call("up", 9) == 9


def test_a_call_of_another_thread_is_answered_by_another_thread(linked):
    told = queue.SimpleQueue()

    def there():
        thread = threading.Thread(target=lambda: told.put(other.call("here")))
        thread.start()
        thread.join()

    one, other = linked({"here": threading.get_ident}, {"there": there})
    one.call("there")
    assert told.get() != threading.get_ident()


def test_who_begins_a_call_is_told_its_name(linked):
    begun = []

    def begin(name, job):
        begun.append(name)
        job()

    one, _ = linked({}, {"there": lambda: 1}, begin=begin)
    assert one.call("there") == 1
    assert begun == ["there"]


def test_what_is_told_comes_in_order_and_before_the_next_call(linked):
    heard = []
    one, _ = linked({}, {"hear": heard.append, "heard": lambda: list(heard)})
    for number in range(100):
        one.tell("hear", number)
    assert one.call("heard") == list(range(100))


def test_what_fails_to_listen_listens_on(linked, monkeypatch):
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    one, _ = linked({}, {"hear": lambda: 1 / 0, "there": lambda: 1})
    one.tell("hear")
    assert one.call("there") == 1
    assert failed[0].exc_type is ZeroDivisionError


def unreadable():
    """What the other side fails to read."""
    raise ValueError("unreadable")


class Unreadable:
    def __reduce__(self):
        return unreadable, ()


def test_what_cannot_be_read_is_an_error_of_the_call(linked, monkeypatch):
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    one, _ = linked({}, {"there": lambda _: Unreadable()})
    for argument in (Unreadable(), 1):
        with pytest.raises(ValueError, match="unreadable"):
            one.call("there", argument)
    one.tell("there", Unreadable())
    with pytest.raises(ValueError, match="unreadable"):
        one.call("there", 1)
    assert failed[0].exc_type is ValueError


def test_a_call_has_an_end(linked):
    gate = threading.Event()
    one, _ = linked({}, {"wait": gate.wait, "there": lambda: 1})
    with pytest.raises(TimeoutError, match=r"'wait' took more than 0\.01 s"):
        one.call("wait", timeout=0.01)
    gate.set()
    assert one.call("there") == 1


def test_who_waits_for_who_is_gone_is_told(linked):
    gate = threading.Event()

    def wait():
        threading.Thread(target=other.close).start()
        gate.wait()

    one, other = linked({}, {"wait": wait})

    with pytest.raises(LinkClosedError):
        one.call("wait")
    gate.set()
    assert one.closed
    one.tell("wait")
    with pytest.raises(LinkClosedError):
        one.call("wait")


def test_the_end_is_told_once(linked):
    ended = queue.SimpleQueue()
    one, other = linked({}, {}, ended=lambda: ended.put(other.closed))
    one.close()
    assert ended.get()
    other.close()
    assert ended.empty()


def test_the_thread_that_reads_waits_for_nobody(linked):
    told = queue.SimpleQueue()

    def ask():
        try:
            other.call("here")
        except ServerError as error:
            told.put(str(error))

    one, other = linked({"here": lambda: 1}, {"ask": ask})
    one.tell("ask")
    assert told.get() == "'here' cannot be waited for in this thread"
