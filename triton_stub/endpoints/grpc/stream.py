"""Streams: any number of requests and of responses in one call.

Source: server ``src/grpc/stream_infer_handler.cc``, ``src/grpc/infer_handler.h``.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import TYPE_CHECKING

import grpc

from triton_stub import deviations
from triton_stub.core.responses import UNTIL_COLLECTION
from triton_stub.endpoints.defects import defect
from triton_stub.endpoints.grpc import codec
from triton_stub.endpoints.grpc.asked import Asked
from triton_stub.endpoints.grpc.inference import STOPPING
from triton_stub.endpoints.grpc.status import abort
from triton_stub.endpoints.grpc.turns import Turns
from triton_stub.errors import InferenceError, ServerError, StatusCode
from triton_stub.pb_utils.casters import c_string

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelStreamInferResponse

    from triton_stub.endpoints.headers import ForwardedHeaders
    from triton_stub.server import Server

# Metadata of a call that is to end with the first error of a model (since 24.08).
_STRICT = ("triton_grpc_error", "true")
# gRPC's own, of a server that ends calls: see deviations.OPEN_STREAM.
_ENDED = "Cancelling all calls"


class Streams:
    """The streams of one port."""

    def __init__(
        self, server: Server, compression: grpc.Compression, headers: ForwardedHeaders
    ) -> None:
        self._server = server
        self._compression = compression
        self._headers = headers
        self._change = threading.Lock()
        self._open: set[_Stream] = set()
        self._closed = False

    def ModelStreamInfer(  # noqa: N802 - the protocol's name
        self, request_iterator: Iterator[ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[ModelStreamInferResponse]:
        """Answer the requests of one stream until the client has no more, or is gone."""
        if self._compression is not grpc.Compression.NoCompression:
            context.set_compression(self._compression)
        stream = _Stream(self._server, context, self._headers)
        with self._change:
            self._open.add(stream)
            closed = self._closed
        if closed:
            stream.close()
        try:
            yield from stream.answers(request_iterator)
        finally:
            with self._change:
                self._open.discard(stream)

    def end_streams(self) -> None:
        """End every stream as soon as what it has been asked is answered."""
        with self._change:
            self._closed = True
            streams = list(self._open)
        for stream in streams:
            stream.close()


class _Stream:
    """One stream: a thread reads its requests, another one, gRPC's, sends the answers."""

    def __init__(
        self, server: Server, context: grpc.ServicerContext, headers: ForwardedHeaders
    ) -> None:
        self._server = server
        self._context = context
        self._headers = headers
        # For whom something has come; None says that the stream itself has changed.
        self._events: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        metadata = tuple(context.invocation_metadata() or ())
        self._turns = Turns(self._finished, strict=_STRICT in metadata)
        self._change = threading.Lock()
        self._unfinished: set[Asked] = set()
        # How many of them are with models, by whether these are decoupled.
        self._at_models = {False: 0, True: 0}
        # No more requests come; the call is at its end; no more requests are to come.
        self._is_read = self._is_left = self._is_closed = False

    def answers(self, requests: Iterator[ModelInferRequest]) -> Iterator[ModelStreamInferResponse]:
        """The messages to send, as long as somebody takes them."""
        if not self._context.add_callback(self._leave):
            return
        reader = threading.Thread(target=self._read, args=(requests,), name="grpc stream")
        reader.daemon = True
        reader.start()
        is_failed = False
        try:
            while (message := self._next()) is not None:
                start = self._server.tracer.now()
                yield message
                self._sent(start)
        except ServerError as error:
            is_failed = True
            abort(self._context, error)
        except Exception as error:  # noqa: BLE001 - gRPC would tell standard error
            abort(self._context, defect(self._server.log(), error))
        finally:
            # A stream that ends with an error lets its other requests go on, as the server does.
            self._end(cancel=not is_failed)

    def close(self) -> None:
        """Take no more requests, and end when those that there are have been answered."""
        self._is_closed = True
        self._events.put(None)

    def _leave(self) -> None:
        self._is_left = True
        self._events.put(None)

    def _end(self, *, cancel: bool) -> None:
        with self._change:
            self._is_left = True
            unfinished, self._unfinished = self._unfinished, set()
        if self._turns.current is not None:  # its message was not sent to the end
            unfinished.add(self._turns.current)
        for asked in unfinished:
            asked.forsake(cancel=cancel)

    def _read(self, requests: Iterator[ModelInferRequest]) -> None:
        try:
            for request in requests:
                self._accept(request)
        except grpc.RpcError:  # the client has gone, which gRPC tells the other thread as well
            pass
        finally:
            self._is_read = True
            self._events.put(None)

    def _accept(self, request: ModelInferRequest) -> None:
        asked = Asked(request)
        with self._change:
            self._unfinished.add(asked)
        try:
            self._submit(request, asked)
        except ServerError as error:
            asked.refuse(error)
        except Exception as error:  # noqa: BLE001 - or the stream would never end
            asked.refuse(defect(self._server.log(), error))
        if self._is_left:  # which may have come before there was anything to cancel
            asked.forsake(cancel=True)
        self._events.put(asked)

    def _submit(self, request: ModelInferRequest, asked: Asked) -> None:
        tracer = self._server.tracer
        come = tracer.now()
        if self._is_closed or not self._server.live():
            raise InferenceError(STOPPING, StatusCode.UNAVAILABLE)
        version = codec.version(request.model_version)
        asked.decoupled = self._server.find(c_string(request.model_name), version).decoupled
        forwarded = self._headers.parameters(self._context.invocation_metadata())
        decoded, formats = codec.decode(request, self._server, forwarded)
        with self._change:
            if self._at_models[not asked.decoupled]:
                raise _mixed(decoupled=asked.decoupled)
        decoded.trace = trace = tracer.sample(formats.model.name)
        if trace is not None:
            trace.read(come, tracer.now())
        try:
            responses = formats.model.submit(decoded)
        except BaseException:
            if trace is not None:
                trace.abandon()
            raise
        asked.trace = trace
        with self._change:
            self._at_models[asked.decoupled] += 1
        asked.submitted(responses, formats, lambda: self._events.put(asked))

    def _finished(self, asked: Asked) -> None:
        with self._change:
            self._unfinished.discard(asked)
            if asked.responses is not None:
                self._at_models[asked.decoupled] -= 1
        if asked.trace is not None and asked is not self._turns.current:
            asked.trace.done()  # there is nothing to send any more

    def _sent(self, start: int) -> None:
        """The message that was handed on last has been sent."""
        asked, self._turns.current = self._turns.current, None
        if asked is not None and asked.trace is not None:
            asked.trace.sent(start, last=asked not in self._unfinished)

    def _next(self) -> ModelStreamInferResponse | None:
        """The next message to send; None at the end. ServerError if the stream is to end so."""
        while True:
            self._note_events()
            if self._is_left:
                return None
            message = self._turns.next()
            if message is not None:
                return message
            if self._turns.failure is not None:
                raise self._turns.failure
            # In this order: a request that is read is among the unfinished before.
            is_read = self._is_read
            if not self._unfinished:
                if is_read:
                    return None
                if self._is_closed:
                    raise InferenceError(_ENDED, StatusCode.UNAVAILABLE)
            self._wait()

    def _note_events(self) -> None:
        while not self._events.empty():
            self._note(self._events.get())

    def _note(self, asked: Asked | None) -> None:
        if asked is not None:
            self._turns.note(asked)

    def _wait(self) -> None:
        """Wait for something to happen, but not for ever for a model that never answers."""
        with self._change:
            waiting = [asked for asked in self._unfinished if asked.responses is not None]
        longest = UNTIL_COLLECTION if waiting else math.inf
        since = None
        while True:
            left = min((asked.until_overdue() for asked in waiting), default=math.inf)
            timeout = min(max(left, 0.0), longest)
            try:
                self._note(self._events.get(timeout=None if timeout == math.inf else timeout))
            except queue.Empty:
                if longest == math.inf:
                    break
                since = since or time.monotonic()
                longest = _collect(waiting, since, left - timeout) or math.inf
            else:
                return
        for asked in waiting:
            if asked.until_overdue() <= 0 and not asked.done:
                asked.give_up()
                self._turns.note(asked)


def _collect(waiting: list[Asked], since: float, within: float) -> float:
    """Have Python collect cycles where the models are: one may have dropped a sender in one.

    As ``garbage.Collections.ask``.
    """
    by_place = {asked.responses.executor: asked.responses for asked in waiting if asked.responses}
    return max((responses.collect(since, within) for responses in by_place.values()), default=0.0)


def _mixed(*, decoupled: bool) -> InferenceError:
    this = "a decoupled model" if decoupled else "a model that is not decoupled"
    other = "models that are not" if decoupled else "decoupled models"
    return InferenceError(
        deviations.MIXED_STREAM.text(
            f"this request is to {this}, while requests of the same stream to {other} are not yet "
            "answered to the end",
            "Use one stream for each kind, or wait for the final response, which "
            "triton_enable_empty_final_response shows.",
        ),
        StatusCode.UNSUPPORTED,
    )
