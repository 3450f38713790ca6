"""gRPC: the values of inputs, the same messages to both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from comparing import Engines
from grpc_asking import answered, infer, request, same, tensor
from grpc_models import TYPES

VALUES = {
    "BOOL": ("bool_contents", [True, False, True]),
    "UINT8": ("uint_contents", [1, 255, 256 + 7]),
    "UINT16": ("uint_contents", [1, 65535, 2**32 - 1]),
    "UINT32": ("uint_contents", [1, 2, 2**32 - 1]),
    "UINT64": ("uint64_contents", [1, 2, 2**64 - 1]),
    "INT8": ("int_contents", [1, -1, 300]),
    "INT16": ("int_contents", [1, -1, -(2**31)]),
    "INT32": ("int_contents", [1, -1, -(2**31)]),
    "INT64": ("int64_contents", [1, -1, -(2**63)]),
    "FP32": ("fp32_contents", [1, -0.5, float("inf")]),
    "FP64": ("fp64_contents", [1, -0.5, 1e300]),
    "BYTES": ("bytes_contents", [b"", b"abc", b"\xff\0"]),
}


@pytest.mark.rule("5.2-typed-contents")
@pytest.mark.parametrize("datatype", VALUES)
def test_typed_contents(grpc_engines: Engines, datatype: str) -> None:
    field, values = VALUES[datatype]
    answer = answered(grpc_engines, "types", tensor(datatype, datatype, (3,), **{field: values}))
    assert answer["outputs"][0]["datatype"] == datatype


@pytest.mark.rule("5.2-raw-contents")
@pytest.mark.parametrize("datatype", TYPES)
def test_raw_contents(grpc_engines: Engines, datatype: str) -> None:
    size = {"BOOL": 1, "BF16": 2, "FP16": 2, "BYTES": 0}.get(datatype)
    if size is None:
        size = np.dtype(datatype.lower().replace("fp", "float")).itemsize
    raw = b"\1" * size * 3 if size else b"\0\0\0\0\3\0\0\0abc\1\0\0\0\xff"
    answered(grpc_engines, "types", tensor(datatype, datatype, (3,)), raw=(raw,))
    answered(grpc_engines, "types", tensor(datatype, datatype, (0,)), raw=(b"",))


FIELDS = dict(VALUES.values())


@pytest.mark.rule("5.2-typed-contents")
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("datatype", ["FP32", "INT16", "FP16", "BF16", "FOO", ""])
def test_contents_of_another_type(grpc_engines: Engines, datatype: str, field: str) -> None:
    infer(grpc_engines, "types", tensor("FP32", datatype, (3,), **{field: FIELDS[field]}))


BROKEN = {
    "no data": request("echo", tensor()),
    "empty contents": request("echo", tensor(contents={})),
    "empty contents of no elements": request("echo", tensor(shape=(0,), contents={})),
    "two fields": request("echo", tensor(fp32_contents=[1, 2, 3, 4], fp64_contents=[1])),
    "two fields, the first of another type": request(
        "echo", tensor(bool_contents=[True], fp32_contents=[1, 2, 3, 4])
    ),
    "too few": request("echo", tensor(fp32_contents=[1, 2, 3])),
    "too many": request("echo", tensor(fp32_contents=[1, 2, 3, 4, 5])),
    "contents and raw": request("echo", tensor(fp32_contents=[1, 2, 3, 4]), raw=(b"",)),
    "too little raw": request(raw=(b"\0" * 15,)),
    "too much raw": request(raw=(b"\0" * 17,)),
    "no raw": request(raw=()),
    "more raw than inputs": request(raw=(b"\0" * 16, b"\0")),
    "no inputs": request("types", tensor("FP32", "FP32", (1,)), raw=(b"abcd",)),
    "unknown input": request("echo", tensor("X"), raw=(b"\0" * 16,)),
    "input twice": request("echo", tensor(), tensor(), raw=(b"\0" * 16,) * 2),
    "input twice, without data": request("echo", tensor(), tensor(), id="it"),
    "missing of two": request("types", tensor("FP32"), tensor("FP64", "FP64"), raw=(b"\0" * 16,)),
    "raw of two": request(
        "types", tensor("FP32"), tensor("INT32", "INT32"), raw=(b"\1" * 16, b"\2" * 16)
    ),
    "name with a zero": request("echo", tensor("IN\0x"), raw=(b"\0" * 16,)),
    "no name": request("echo", tensor(""), raw=(b"\0" * 16,)),
    "another datatype": request("echo", tensor(datatype="INT32"), raw=(b"\0" * 16,)),
    "unknown datatype": request("echo", tensor(datatype="FOO"), raw=(b"\0" * 16,)),
    "negative size": request("echo", tensor(shape=(-1,)), raw=(b"\0" * 16,)),
    "no shape": request("echo", tensor(shape=()), raw=(b"\0" * 4,)),
    "rank": request("echo", tensor(shape=(2, 2)), raw=(b"\0" * 16,)),
    "batch too large": request("batched", tensor(shape=(5, 1)), raw=(b"\0" * 20,)),
    "bytes cut off": request("types", tensor("BYTES", "BYTES", (1,)), raw=(b"\5\0\0\0abc",)),
    "bytes without length": request("types", tensor("BYTES", "BYTES", (1,)), raw=(b"\5\0",)),
    "more bytes": request("types", tensor("BYTES", "BYTES", (1,)), raw=(b"\0\0\0\0\0\0\0\0",)),
    "fewer bytes": request("types", tensor("BYTES", "BYTES", (2,)), raw=(b"\0\0\0\0",)),
    "fewer bytes, typed": request("types", tensor("BYTES", "BYTES", (2,), bytes_contents=[b"a"])),
}


@pytest.mark.rule("5.2-inputs")
@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN)
def test_inputs(grpc_engines: Engines, message: Any) -> None:
    same(grpc_engines, "ModelInfer", message)
