"""How answers are written: in few calls, and never out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from triton_stub.endpoints.http.outbox import Outbox

LARGE = bytes(1 << 17)


class Transport(asyncio.Transport):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__({"peername": "somebody"})
        self.calls: list[Any] = []

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def is_closing(self) -> bool:
        return "close" in self.calls


def calls(work: Callable[[Outbox], None]) -> list[Any]:
    """What a transport is told, at once and in the next round of the event loop."""

    async def told() -> list[Any]:
        transport = Transport()
        work(Outbox(transport))
        transport.calls.append("later")
        await asyncio.sleep(0)
        return transport.calls

    return asyncio.run(told())


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ([], ["later"]),
        ([b"head"], ["later", b"head"]),
        ([b"head", b"body"], [b"headbody", "later"]),
        ([b"head", b""], [b"head", "later"]),
        ([b"head", b"body", b"more"], [b"headbody", "later", b"more"]),
        ([b"head", LARGE], [b"head", LARGE, "later"]),
        ([LARGE, LARGE], [LARGE, LARGE, "later"]),
        ([b"head", LARGE, b"tail"], [b"head", LARGE, "later", b"tail"]),
    ],
)
def test_writes(written: list[bytes], told: list[Any]) -> None:
    def work(outbox: Outbox) -> None:
        for data in written:
            outbox.write(data)

    assert calls(work) == told


def test_what_waits_is_a_copy() -> None:
    """As asyncio has it: whoever has written may change his memory."""

    def work(outbox: Outbox) -> None:
        data = bytearray(b"head")
        outbox.write(data)
        data[:] = b"HEAD"

    assert calls(work) == ["later", b"head"]


def test_it_is_written_before_the_end() -> None:
    def work(outbox: Outbox) -> None:
        outbox.write(b"head")
        assert not outbox.is_closing()
        outbox.close()
        assert outbox.is_closing()

    assert calls(work) == [b"head", "close", "later"]


def test_what_is_written_after_the_end_is_lost() -> None:
    """Without a word to the transport, which would warn of it."""

    def work(outbox: Outbox) -> None:
        outbox.close()
        outbox.write(b"head")
        outbox.write(b"body")
        outbox.write(LARGE)

    assert calls(work) == ["close", "later"]


def test_what_waits_is_lost_where_it_is_aborted() -> None:
    def work(outbox: Outbox) -> None:
        outbox.write(b"head")
        outbox.abort()

    assert calls(work) == ["abort", "later"]


def test_everything_else_is_the_transport_s() -> None:
    def work(outbox: Outbox) -> None:
        outbox.pause_reading()
        outbox.resume_reading()
        assert outbox.get_extra_info("peername") == "somebody"
        assert outbox.get_extra_info("none", 7) == 7

    assert calls(work) == ["pause", "resume", "later"]
