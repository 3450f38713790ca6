"""gRPC messages that are wrong somewhere, and what every answer must look like."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import grpc
from fuzz_http import DEFECT, OF_MODELS, PATIENCE
from fuzz_values import DATATYPES, MODELS, SIZES, TEXTS, damaged
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
REQUESTS = {method.name: getattr(service_pb2, method.input_type.name) for method in SERVICE.methods}
STREAM = "ModelStreamInfer"
#: Parameters that the protocol knows, and others.
KEYS = (
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"),
    *("binary_data_size", "classification", "shared_memory_region", "shared_memory_offset"),
    *("shared_memory_byte_size", "triton_enable_empty_final_response", "triton_x", "config"),
    *("file:1/model.py", "file:../../x", "unload_dependents", "log_verbose_level", "log_format"),
    *("log_info", "log_file", "trace_level", "trace_rate", "trace_count", "trace_file", "own"),
)


class Call(NamedTuple):
    """What is sent to which method; a stream gets several messages."""

    method: str
    messages: list[bytes]
    compression: grpc.Compression


# Messages


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Values that a field may have as protobuf sees it."""
    if field.message_type is not None:
        return st.deferred(lambda: submessages(field.message_type._concrete_class, depth - 1))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.one_of(st.binary(max_size=24), BLOBS)
    return _SCALARS[kind] if (kind := field.cpp_type) in _SCALARS else numbers(kind)


@st.composite
def submessages(draw: st.DrawFn, kind: Any, depth: int) -> Any:
    """A message of a kind."""
    message = kind()
    draw(filled(message, depth))
    return message


def numbers(kind: int) -> st.SearchStrategy[int]:
    """Sizes, as integers of 32 or of 64 bits, with or without a sign."""
    bits = 32 if kind in _BITS_32 else 64
    least = -(2 ** (bits - 1)) if kind in _SIGNED else 0
    return SIZES.map(lambda size: (size - least) % 2**bits + least)


_SCALARS = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_STRING: st.one_of(
        st.sampled_from((*MODELS, *DATATYPES, "r", "/fuzz", "INPUT0", "")), TEXTS
    ),
}
_BITS_32 = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
_SIGNED = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
BLOBS = st.sampled_from(
    (struct.pack("<16i", *range(16)), bytes(4), b"\xff\xff\xff\xff", b"\1\0\0\0a", b"\5\0\0\0a",
     bytes(602112), b"\0" * 63)
)  # fmt: skip


@st.composite
def filled(draw: st.DrawFn, message: Any, depth: int = 4) -> None:
    """Set one field or another of a message, in place."""
    fields = list(message.DESCRIPTOR.fields)
    if depth <= 0 or not fields:
        return
    for field in draw(st.lists(st.sampled_from(fields), max_size=3)):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key = draw(st.one_of(st.sampled_from(KEYS), TEXTS))
            value = field.message_type.fields_by_name["value"]
            if value.message_type is None:
                getattr(message, field.name)[key] = draw(values(value, depth))
            else:
                draw(filled(getattr(message, field.name)[key], depth - 1))
        elif field.is_repeated:
            items = draw(st.lists(values(field, depth), max_size=3))
            getattr(message, field.name).extend(items)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(values(field, depth)))
        else:
            setattr(message, field.name, draw(values(field, depth)))


def good(model: str) -> Any:
    """A request that is answered, or for ``echo`` one without inputs."""
    request = service_pb2.ModelInferRequest(model_name=model)
    inputs: list[tuple[str, str, list[int], bytes]] = {
        "simple": [(name, "INT32", [1, 16], bytes(64)) for name in ("INPUT0", "INPUT1")],
        "simple_identity": [("INPUT0", "BYTES", [1, 1], b"\1\0\0\0a")],
        "simple_dyna_sequence": [("INPUT", "INT32", [1, 1], bytes(4))],
        "densenet_onnx": [("data_0", "FP32", [3, 224, 224], bytes(602112))],
        "words": [("TEXT", "BYTES", [1], b"\1\0\0\0a")],
    }.get(model, [])
    for name, datatype, shape, blob in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(blob)
    if model == "simple_dyna_sequence":
        request.parameters["sequence_id"].int64_param = 7
        request.parameters["sequence_start"].bool_param = True
        request.parameters["sequence_end"].bool_param = True
    return request


@st.composite
def inferences(draw: st.DrawFn) -> Any:
    """A request of which up to three parts are not as they should be."""
    request = good(draw(st.sampled_from(MODELS)))
    if draw(st.booleans()):
        blobs = list(request.raw_input_contents)
        request.ClearField("raw_input_contents")
        if draw(st.booleans()):  # as typed values
            for tensor, blob in zip(request.inputs, blobs, strict=True):
                if tensor.datatype == "BYTES":
                    tensor.contents.bytes_contents.append(blob[4:])
                else:
                    tensor.contents.int_contents.extend(memoryview(blob[:64]).cast("i"))
    for _ in range(draw(st.integers(0, 3))):
        parts = [request, *request.inputs, *(each.contents for each in request.inputs)]
        parts += [*request.outputs, *(request.parameters[key] for key in request.parameters)]
        draw(filled(draw(st.sampled_from(parts)), 3))
    return request


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Any call; half of them to a model."""
    method = draw(st.sampled_from(("ModelInfer", STREAM, *REQUESTS)))
    compression = draw(st.sampled_from(_COMPRESSIONS))
    if method in ("ModelInfer", STREAM):
        most = 3 if method == STREAM else 1
        requests = draw(st.lists(inferences(), min_size=1, max_size=most))
    else:
        request = REQUESTS[method]()
        draw(filled(request))
        if method.startswith("RepositoryModel"):
            request.model_name = draw(st.sampled_from(("restless", "nowhere", "../simple", "")))
        requests = [request]
    messages = []
    for request in requests:
        data = draw(damaged(request.SerializeToString()))
        messages.append(data + draw(st.sampled_from((b"",) * 9 + UNKNOWN)))
    return Call(method, messages, compression)


_COMPRESSIONS = (*(grpc.Compression.NoCompression,) * 6, grpc.Compression.Gzip,
                 grpc.Compression.Deflate)  # fmt: skip
#: Fields that no message has: a number, a text, a group that is not closed, a length that lies.
UNKNOWN = (b"\xc0\x3e\x01", b"\xc2\x3e\x01a", b"\xc3\x3e", b"\xc2\x3e\xff\xff\xff\xff\x0f", b"\x07")


# Answers


class Client:
    """Sends bytes as they are."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.insecure_channel(url, [("grpc.max_receive_message_length", -1)])

    def send(self, call: Call) -> str:
        """What is wrong with how the server answers; nothing if all is well."""
        path = f"/{SERVICE.full_name}/{call.method}"
        options = {"timeout": PATIENCE, "compression": call.compression}
        texts: list[str] = []
        try:
            if call.method == STREAM:
                answers = self._channel.stream_stream(path)(iter(call.messages), **options)
                for answer in answers:
                    told = service_pb2.ModelStreamInferResponse.FromString(answer)
                    texts.append(told.error_message)
            else:
                self._channel.unary_unary(path)(call.messages[0], **options)
        except grpc.RpcError as error:
            texts.append(f"{error.code().name}: {error.details()}")
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"no answer in {PATIENCE} s"
            if not error.details():
                return f"{error.code().name} without a reason"
        for text in texts:
            if found := DEFECT.search(OF_MODELS.sub("", text)):
                return f"{found[0]!r} in {text[:500]!r}"
        return ""

    def still_serves(self) -> str:
        """What is wrong with the answer to a good request."""
        request = good("simple")
        request.raw_input_contents[0] = struct.pack("<16i", *range(16))
        infer = self._channel.unary_unary(f"/{SERVICE.full_name}/ModelInfer")
        answer = infer(request.SerializeToString(), timeout=PATIENCE)
        told = service_pb2.ModelInferResponse.FromString(answer)
        row = struct.pack("<16i", *range(16))
        right = list(told.raw_output_contents) == [row, row]
        return "" if right else f"a good request is answered with {told}"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()
