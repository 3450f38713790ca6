"""A stream as the protocol has it: messages out, messages in, without a client library."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

EMPTY = "triton_enable_empty_final_response"
_SECONDS = 60  # until a call that never ends is a failure


class Told(NamedTuple):
    """One message of the server."""

    error: str
    model: str
    version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[tuple[str, str, list[int], Any]]


def request(
    model: str, /, value: float = 1.0, *, request_id: str = "", version: str = "", **parameters: Any
) -> Any:
    """A request with the input IN, and parameters by the types of their values."""
    message = service_pb2.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    message.inputs.add(name="IN", datatype="FP32", shape=[1])
    message.raw_input_contents.append(np.array([value], np.float32).tobytes())
    for name, given in parameters.items():
        kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(given)]
        setattr(message.parameters[name], f"{kind}_param", given)
    return message


def told(message: Any) -> Told:
    """What a message says."""
    answer = message.infer_response
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in sorted(answer.parameters.items())
    }
    outputs = [
        (output.name, output.datatype, list(output.shape), values(output.datatype, raw))
        for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    ]
    named = answer.model_name, answer.model_version, answer.id
    return Told(message.error_message, *named, parameters, outputs)


def values(datatype: str, raw: bytes) -> Any:
    """The numbers of an output; of anything else the bytes as they came."""
    return np.frombuffer(raw, np.float32).tolist() if datatype == "FP32" else raw


class Stream:
    """One call; ``with`` ends it."""

    def __init__(
        self,
        url: str | None,
        *messages: Any,
        metadata: dict[str, str] | None = None,
        timeout: float = _SECONDS,
        compression: grpc.Compression = grpc.Compression.NoCompression,
    ) -> None:
        assert url is not None
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        sizes = [("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(url, sizes)
        self.call = service_pb2_grpc.GRPCInferenceServiceStub(self.channel).ModelStreamInfer(
            iter(self._requests.get, None),
            metadata=tuple((metadata or {}).items()),
            timeout=timeout,
            compression=compression,
        )
        self.send(*messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.call.cancel()
        self.channel.close()

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._requests.put(message)

    def end(self) -> None:
        """No more requests."""
        self._requests.put(None)

    def next(self) -> Told:
        """The next message."""
        return told(next(self.call))

    def take(self, count: int) -> list[Told]:
        return [self.next() for _ in range(count)]

    def __iter__(self) -> Iterator[Told]:
        return map(told, self.call)

    def rest(self) -> tuple[list[Told], str, str]:
        """All that comes until the end of the call, and how that ends."""
        messages: list[Told] = []
        with contextlib.suppress(grpc.RpcError):
            messages.extend(self)
        return messages, self.call.code().name, self.call.details()


def ask(url: str | None, *messages: Any, **keywords: Any) -> tuple[list[Told], str, str]:
    """Everything that a stream of these requests brings."""
    with Stream(url, *messages, **keywords) as stream:
        stream.end()
        return stream.rest()


def by_id(messages: list[Told]) -> dict[str, list[Told]]:
    """Messages of each request, in their order; which request comes first is left to chance."""
    ids = sorted({message.id for message in messages})
    return {each: [message for message in messages if message.id == each] for each in ids}


def changed(change: Callable[[Any], object], **parameters: Any) -> Callable[[str], Any]:
    """Makes a request to some model that is not as it should be."""

    def make(model: str) -> Any:
        message = request(model, request_id="bad", **parameters)
        change(message)
        return message

    return make


def no_data(message: Any) -> None:
    message.raw_input_contents[0] = b"123"


#: Requests to a model that do not get there.
REFUSED = {
    "unknown model": changed(lambda m: setattr(m, "model_name", "nobody")),
    "no model": changed(lambda m: setattr(m, "model_name", "")),
    "unknown version": changed(lambda m: setattr(m, "model_version", "7")),
    "version that is none": changed(lambda m: setattr(m, "model_version", "new")),
    "version below 0": changed(lambda m: setattr(m, "model_version", "-2")),
    "no input": changed(lambda m: m.ClearField("inputs")),
    "unknown input": changed(lambda m: setattr(m.inputs[0], "name", "X")),
    "wrong datatype": changed(lambda m: setattr(m.inputs[0], "datatype", "INT32")),
    "wrong rank": changed(lambda m: m.inputs[0].shape.extend([1])),
    "wrong size": changed(no_data),
    "no data": changed(lambda m: m.ClearField("raw_input_contents")),
    "unknown output": changed(lambda m: m.outputs.add(name="X")),
    "unknown option of Triton": changed(lambda _: None, triton_else=1),
    "no bool for the empty final response": changed(lambda _: None, **{EMPTY: 1}),
    "start of a sequence that is no bool": changed(lambda _: None, sequence_start=1),
    "no number as priority": changed(lambda _: None, priority="high"),
}
