"""Messages over a socket between two processes of one machine; big arrays are not copied for it."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import struct
import threading
from collections import deque
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from triton_stub import datatypes, errors
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from triton_stub.datatypes import Array, Datatype

# Kind, two numbers, how many buffers there are beside the pickle, and the length of that.
_HEAD = struct.Struct("=BQQIQ")
_BUFFERED = 1 << 16
# Bytes from which an array goes beside the pickle and not in it.
_APART = 1 << 15
_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes.__bytes__),
)
_OURS = (errors.__name__,)  # where StatusCode, a number, has its place


class Frame(NamedTuple):
    """One message: ``kind``, ``number`` and ``inside`` are the sender's, and mean nothing here."""

    kind: int
    number: int
    inside: int
    pickled: bytes
    buffers: Sequence[Any] = ()

    @classmethod
    def of(cls, kind: int, number: int, inside: int, content: Any) -> Frame:
        """Raises whatever pickle raises."""
        try:
            return cls(kind, number, inside, *_pickled(pickle.Pickler, content))
        except (AttributeError, pickle.PicklingError):
            return cls(kind, number, inside, *_pickled(_PlainPickler, content))

    def content(self) -> Any:
        """What the other side has put in."""
        # From a process that this one has started, or that has started this one.
        return pickle.loads(self.pickled, buffers=self.buffers)  # noqa: S301


class Frames:
    """Both directions of a socket.

    Any thread may send, also in a garbage collection in the middle of sending; one may receive.
    A process that was forked from this one has no part in it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb", buffering=_BUFFERED)
        self._outbox: deque[Frame] = deque()
        self._sending = threading.Lock()
        self._closed = False
        self._pid = os.getpid()

    def send(self, frame: Frame) -> None:
        """Send after whatever is being sent; that the other side is gone, only ``receive`` says."""
        if os.getpid() != self._pid:
            raise OSError("the way to the server is that of the process this was forked from")
        self._outbox.append(frame)
        # Whoever has the lock sends for all: waiting for it could be waiting for this very thread.
        while self._outbox and self._sending.acquire(blocking=False):
            try:
                while self._outbox:
                    self._write(self._outbox.popleft())
            except OSError:
                self._outbox.clear()
            finally:
                self._sending.release()

    def receive(self) -> Frame | None:
        """Wait for the next message; None once the other side is gone."""
        try:
            head = self._file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return None
            kind, number, inside, count, length = _HEAD.unpack(head)
            sizes = struct.unpack(f"={count}Q", self._file.read(8 * count)) if count else ()
            pickled = self._file.read(length)
            buffers = [self._filled(size) for size in sizes]
        except (OSError, EOFError, ValueError, struct.error):
            return None
        return None if len(pickled) < length else Frame(kind, number, inside, pickled, buffers)

    def close(self) -> None:
        """Close the socket; to be called by who receives, after the end."""
        with self._sending:  # who sends sees an error soon, and must not see another file
            self._closed = True
            self._outbox.clear()
            self._file.close()
            self._socket.close()

    def _filled(self, size: int) -> Array:
        buffer: Array = np.empty(size, np.uint8)
        view, start = buffer.data, 0
        while start < size:
            got = self._file.readinto(view[start:])  # type: ignore[attr-defined]
            if not got:
                raise EOFError
            start += got
        return buffer

    def _write(self, frame: Frame) -> None:
        if self._closed:
            return
        sizes = [buffer.raw().nbytes for buffer in frame.buffers]
        head = _HEAD.pack(frame.kind, frame.number, frame.inside, len(sizes), len(frame.pickled))
        if sizes:
            head += struct.pack(f"={len(sizes)}Q", *sizes)
        self._socket.sendall(head + frame.pickled)
        for buffer in frame.buffers:
            self._socket.sendall(buffer.raw())


class _PlainPickler(pickle.Pickler):
    """Takes a text or a number for what it is, if its class is a model's own.

    Slower: it looks at everything.
    """

    def reducer_override(self, value: Any) -> Any:
        for plain, value_of in _PLAIN:
            if isinstance(value, plain) and getattr(type(value), "__module__", "") not in _OURS:
                return plain, (value_of(value),)
        return NotImplemented


def _pickled(pickler_class: type[pickle.Pickler], content: Any) -> tuple[bytes, list[PickleBuffer]]:
    buffers: list[PickleBuffer] = []

    def keep(buffer: PickleBuffer) -> bool:
        if buffer.raw().nbytes < _APART:
            return True
        buffers.append(buffer)
        return False

    file = io.BytesIO()
    pickler = pickler_class(file, protocol=5, buffer_callback=keep)
    pickler.dispatch_table = _REDUCED
    pickler.dump(content)
    return file.getvalue(), buffers


def _reduced(tensor: Tensor) -> Any:
    """Values as bytes: numpy's own way writes down the dtype, and that takes its time."""
    data: Any = tensor.data
    if isinstance(data, np.ndarray):
        if tensor.datatype is BYTES:
            data = tensor.to_bytes()
        elif data.nbytes < _APART:  # no use for a buffer
            data = bytearray(data.tobytes())
        else:
            flat: Array = np.ascontiguousarray(data).reshape(-1)
            data = PickleBuffer(flat.view(np.uint8).data)
    elif isinstance(data, memoryview):
        data = PickleBuffer(data)
    # What is no row of the table has no number.
    datatype = tensor.datatype.number or tensor.datatype
    return _tensor, (tensor.name, datatype, tensor.shape, data, tensor.on_gpu)


def _tensor(
    name: str,
    row: int | Datatype,
    shape: tuple[int, ...],
    data: Any,
    on_gpu: bool,  # noqa: FBT001
) -> Tensor:
    datatype = datatypes.from_number(row) if isinstance(row, int) else row
    if datatype is BYTES:
        return Tensor(name, datatype, shape, data, on_gpu)
    return Tensor(name, datatype, shape, np.frombuffer(data, datatype.numpy), on_gpu)


_REDUCED = {**copyreg.dispatch_table, Tensor: _reduced}
