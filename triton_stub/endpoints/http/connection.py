"""One connection of a client, beneath ASGI: what uvicorn does otherwise than the server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from triton_stub.endpoints.headers import AS_SENT
from triton_stub.endpoints.http.bodies import BEGIN_UPLOAD
from triton_stub.endpoints.http.departure import DEPARTURE, Departure
from triton_stub.endpoints.http.outbox import Outbox
from triton_stub.endpoints.http.upload import Upload

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from triton_stub.endpoints.http.visitors import Visitors


class Connection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """Reads requests off a connection and writes their answers, one after the other.

    What is no HTTP closes it, without a word, after the answers that are still to be given
    (deviations.ODD_HTTP). So does a client that hangs up: it may have closed its side alone, and
    still read. What uvicorn does by itself: answers to several requests sent at once
    (deviations.PIPELINED), and to HEAD (deviations.ANSWER_TO_HEAD).

    Large bodies do not go through the parser, which would copy them, and so would uvicorn, twice:
    whoever wants one says so (``BEGIN_UPLOAD``), and the rest of it is read to where it stays.
    """

    server_state: Visitors

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        super().connection_made(Outbox(transport))
        self.access_log = False  # the logger is that of any uvicorn in this process
        self._departure = Departure(self._hang_up)
        self._deaf = False
        self._goes_on = False
        self._headers_as_sent: list[tuple[bytes, bytes]] = []
        self._upload: Upload | None = None
        if self.server_state.leaving:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio; nothing can be answered any more."""
        super().connection_lost(exc)
        self._departure.happen()
        self.server_state.one_left()

    def shutdown(self) -> None:
        """Called when the port closes: nobody waits for the rest of a request."""
        cycle = self.cycle  # None before the first request
        if bool(cycle) and cycle.more_body and not (cycle.response_started or self.pipeline):
            self.transport.close()
        else:
            super().shutdown()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Called by asyncio when the client has hung up; True to keep our side open.

        Otherwise asyncio closes the transport beneath the Outbox, in which an answer may wait.
        """
        if not self._is_answering():
            self.transport.close()
            return None
        self._end_after_answers()
        self._departure.happen()
        self.cycle.message_event.set()  # for whoever waits for just that
        return True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Called by asyncio: where it is to read to."""
        return self.server_state.scratch if self._upload is None else self._upload.rest()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio, when it has read."""
        if self._upload is None:
            self.data_received(self.server_state.scratch[:nbytes])
        elif self._upload.add(nbytes):
            self._upload = None
            self.parser = self._new_parser()  # the old one waits for the body
            cycle = self.cycle
            cycle.more_body = False
            # Not at once: what has come behind the body is read first. A connection that is closed
            # with bytes unread is reset, and the client may lose its answer.
            self.loop.call_soon(cycle.message_event.set)

    def data_received(self, data: bytes | memoryview) -> None:
        """Read some of a request, or of several."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._is_answering():
                self._end_after_answers()
            else:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._goes_on:
            return
        super().on_message_begin()
        self.scope["state"][DEPARTURE] = self._departure
        self.scope["state"][AS_SENT] = self._headers_as_sent = []
        self.scope["state"][BEGIN_UPLOAD] = self._begin_upload

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        if not self._goes_on:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if not self._goes_on:
            super().on_header(name, value)
            self._headers_as_sent.append((name, value))
            # The server says "go on" whatever the client expects.
            self.expect_100_continue |= name.lower() == b"expect"

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._goes_on:
            self._goes_on = False
            return
        super().on_headers_complete()
        if b"#" in self.url:  # to the server a fragment is part of the path
            self.scope["raw_path"] = self.url.partition(b"?")[0]

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.parser.should_upgrade() and self._framing():
            return  # it has left out the body
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # or else nobody hears that the client hangs up

    def _is_answering(self) -> bool:
        """True if a request is there in whole whose answer is not."""
        cycle = self.cycle  # None before the first request
        return bool(cycle) and not (cycle.response_complete or cycle.more_body)

    def _end_after_answers(self) -> None:
        self._deaf = True
        self.cycle.keep_alive = False

    def _hang_up(self) -> None:
        """Close the connection in the middle of an answer, of which nothing more is heard."""
        self.cycle.disconnected = True
        self.transport.close()

    def _begin_upload(self, scope: MutableMapping[str, Any], limit: int) -> Upload | None:
        """See ``BEGIN_UPLOAD``; called between two reads, before anybody has taken of the body."""
        cycle = self.cycle
        sizes = [value for name, value in self.headers if name == b"content-length"]
        if cycle.scope is not scope or not cycle.more_body or len(sizes) != 1:
            return None
        head, size = bytes(cycle.body), int(sizes[0])
        if size > limit or size - len(head) <= len(self.server_state.scratch):
            return None
        try:
            self._upload = Upload(size, head)
        except MemoryError:  # less may come than is announced: it is kept as it comes
            return None
        cycle.body = type(cycle.body)()
        return self._upload

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn; httptools before 0.6.3 has it not
            parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Go on with HTTP/1.1 where the parser has stopped, since no other protocol is served."""
        self.parser = httptools.HttpRequestParser(self)
        if framing := self._framing():
            self._goes_on = True
            rest = b"".join((b"POST / HTTP/1.1\r\n", framing, b"\r\n", rest))
        self.data_received(rest)

    def _framing(self) -> bytes:
        """The headers that tell how long the body is; none if there is no body."""
        return b"".join(
            b"%b: %b\r\n" % header
            for header in self.headers
            if header[0] in (b"content-length", b"transfer-encoding")
        )
