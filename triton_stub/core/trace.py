"""The trace of one request, and of those that are sent because of it.

Sources: server ``src/tracer.cc`` (what is written) and core ``src/infer_trace.h`` (who reports).
"""

from __future__ import annotations

import threading
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np

from triton_stub.core.hash_order import HashOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from triton_stub.core.clock import Clock
    from triton_stub.core.request import InferenceResponse
    from triton_stub.core.statistics import BatchTimes
    from triton_stub.core.tensor import Tensor

_FRONT_END = 0  # where a trace has its id; no trace has this one


class TraceLevel(IntFlag):
    """What is traced (``TRITONSERVER_InferenceTraceLevel``)."""

    OFF = 0
    TIMESTAMPS = 4
    TENSORS = 8


class TraceGroup:
    """A sampled request and all that are sent because of it: what is written in one piece.

    ``write`` gets it once everybody is done, or None if the request is refused. ``next_id``
    counts the traces of the server.
    """

    def __init__(
        self,
        level: TraceLevel,
        clock: Clock,
        next_id: Callable[[], int],
        write: Callable[[bytes | None], None],
    ) -> None:
        self.level = level
        self.clock = clock
        self.next_id = next_id
        self._write = write
        self._lock = threading.Lock()
        self._streams: dict[int, list[bytes]] = {}
        self._order: HashOrder[int] = HashOrder()
        self._holders = {_FRONT_END}

    def hold(self, trace: int) -> None:
        """Not done before this one is."""
        with self._lock:
            self._holders.add(trace)

    def add(self, trace: int, *texts: bytes) -> None:
        """Add to the records of a trace."""
        with self._lock:
            if trace not in self._streams:
                self._streams[trace] = []
                self._order.insert(trace, trace)
            self._streams[trace] += texts

    def release(self, holder: int) -> None:
        """One is done; if it is the last, everything is written."""
        with self._lock:
            if holder not in self._holders:
                return
            self._holders.remove(holder)
            if self._holders:
                return
        self._write(b",".join(b",".join(self._streams[trace]) for trace in self._order))

    def abandon(self) -> None:
        """The request is refused: nothing is written."""
        with self._lock:
            if not self._holders:
                return
            self._holders.clear()
        self._write(None)


class Trace:
    """What happens to one request. Everything may be called from any thread.

    ``parent`` is the id of the trace of the request that it is sent for, 0 if there is none: then
    it is a client's, and somebody has to say when that has been answered.
    """

    __slots__ = ("_ended", "_final", "_front_end", "_group", "_is_answered", "id", "parent")

    def __init__(self, group: TraceGroup, parent: int = _FRONT_END) -> None:
        self.id = group.next_id()
        self.parent = parent
        self._group = group
        self._ended = self._final = self._is_answered = False
        # Of a request over gRPC: what its port has seen, which is written when it is answered.
        self._front_end: list[tuple[str, int]] | None = None

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        # Of the requests of a process that a model has forked nobody here sees what happens.
        return _nothing, ()

    def spawn(self) -> Trace:
        """The trace of a request that is sent because of this one."""
        return Trace(self._group, self.id)

    def stamp(self, activity: str, ns: int | None = None) -> None:
        """Something happens, at ``ns`` in the time of the server's clock."""
        if self._group.level & TraceLevel.TIMESTAMPS:
            self._group.add(self.id, _stamped(self.id, activity, self._now() if ns is None else ns))

    def received(self, start: int) -> None:
        """A client's request is here, which has come over HTTP from ``start`` on."""
        self.stamp("HTTP_RECV_START", start)
        self.stamp("HTTP_RECV_END")

    def read(self, start: int, end: int) -> None:
        """A client's request is here, which was read by gRPC from ``start`` to ``end``."""
        self._front_end = [("GRPC_WAITREAD_START", start), ("GRPC_WAITREAD_END", end)]

    def queued(
        self, model: str, version: int, request_id: str, inputs: Iterable[Tensor], ns: int
    ) -> None:
        """The request is a valid one, and goes into the queue of a model."""
        self._group.hold(self.id)
        if self._group.level & TraceLevel.TIMESTAMPS:
            known = f'{{"id":{self.id},"model_name":"{model}","model_version":{version}'
            if request_id:
                known += f',"request_id":"{request_id}"'
            if self.parent:
                known += f',"parent_id":{self.parent}'
            self._group.add(
                self.id,
                f"{known}}}".encode(errors="surrogateescape"),
                _stamped(self.id, "REQUEST_START", ns),
                _stamped(self.id, "QUEUE_START", ns),
            )
        self._tensors("TENSOR_QUEUE_INPUT", inputs)

    def responded(self, response: InferenceResponse) -> None:
        """A response goes to whoever waits for it; nothing happens after the final one."""
        if self._final:
            return
        self._final = response.final
        self._tensors("TENSOR_BACKEND_OUTPUT", response.tensors)
        if self._front_end is not None:
            if not self._is_answered:
                self._front_end.append(("INFER_RESPONSE_COMPLETE", self._now()))
        elif not self.parent:
            self.stamp("INFER_RESPONSE_COMPLETE")
        self._is_answered = True
        if response.final:
            self._release()

    def served(
        self, answer: InferenceResponse | None, times: BatchTimes, *, ended: bool = True
    ) -> None:
        """The request was executed, and answered unless ``answer`` is None.

        Not ``ended`` if it is to be executed again.
        """
        if answer is not None:
            self.responded(answer)
        for activity, ns in (
            ("COMPUTE_START", times.start),
            ("COMPUTE_INPUT_END", times.infer_start),
            ("COMPUTE_OUTPUT_START", times.infer_end),
            ("COMPUTE_END", times.end),
        ):
            self.stamp(activity, ns)
        if ended:
            self.ended()

    def ended(self) -> None:
        """The model, or the queue, is done with the request; there may be responses yet."""
        if not self._ended:
            self._ended = True
            self.stamp("REQUEST_END")
            self._release()

    def sent(self, start: int, *, last: bool = True) -> None:
        """The client has its answer, or one of them, which was sent from ``start`` on."""
        if self._front_end is None:
            self.stamp("HTTP_SEND_START", start)
            self.stamp("HTTP_SEND_END")
        else:
            self._front_end += [("GRPC_SEND_START", start), ("GRPC_SEND_END", self._now())]
        if last:
            self.done()

    def done(self) -> None:
        """The client has all that it gets."""
        for activity, ns in self._front_end or ():
            self.stamp(activity, ns)
        self._group.release(_FRONT_END)

    def abandon(self) -> None:
        """The client's request is refused; the server writes nothing of it."""
        if not self.parent:
            self._group.abandon()

    def _now(self) -> int:
        return self._group.clock.now()

    def _release(self) -> None:
        if self._ended and self._final:
            self._group.release(self.id)

    def _tensors(self, activity: str, tensors: Iterable[Tensor]) -> None:
        if self._group.level & TraceLevel.TENSORS:
            for tensor in tensors:
                self._group.add(self.id, _shown(self.id, activity, tensor))


def _nothing() -> None:
    return None


def _stamped(trace: int, activity: str, ns: int) -> bytes:
    return f'{{"id":{trace},"timestamps":[{{"name":"{activity}","ns":{ns}}}]}}'.encode()


def _shown(trace: int, activity: str, tensor: Tensor) -> bytes:
    shape = ",".join(map(str, tensor.shape))
    return (
        f'{{"id":{trace},"activity":"{activity}","tensor":{{"name":"{tensor.name}","data":"'
    ).encode(errors="surrogateescape") + (
        _values(tensor) + f'","shape":"{shape}","dtype":"{tensor.datatype.name}"}}}}'.encode()
    )


def _values(tensor: Tensor) -> bytes:
    """The values as C++ prints them; the server prints none of the small floats."""
    values = tensor.to_numpy().reshape(-1)
    kind = tensor.datatype.name
    if kind in ("FP16", "BF16"):
        return b""
    if kind == "BYTES":
        return b",".join(b'\\"%b\\"' % value for value in values)
    if kind in ("INT8", "UINT8"):  # a char each
        return b",".join(bytes([value]) for value in values.view(np.uint8))
    if kind in ("FP32", "FP64"):
        return ",".join(f"{value:g}" for value in values.tolist()).encode()
    return ",".join(str(int(value)) for value in values).encode()
