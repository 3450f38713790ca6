"""What is accepted and what is refused, with which words: raw requests to both servers."""

from __future__ import annotations

import http.client
import json
from math import prod
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given
from probing import examples, marked

from triton_stub.datatypes import BYTES, DATATYPES, Datatype, encode_bytes, from_name

# The inputs of models "shapes" (which batches) and "flat_shapes" (which does not).
INPUTS = {
    "FIRST": ("FP32", (2, -1)),
    "SECOND": ("BYTES", (2,)),
    "THIRD": ("INT32", (-1, 2, -1)),
    "FOURTH": ("FP32", (1,)),
}
FLAT_INPUTS = {**INPUTS, "FOURTH": ("FP32", (1, 2))}
LENGTH = "Inference-Header-Content-Length"
NEVER_ANSWERED = "the batch size is 0: the real server never answers such a request"


class Input(NamedTuple):
    """An input as it goes over the wire; ``data`` need not fit ``shape``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


def filled(name: str, datatype: str, *shape: int, extra: int = 0) -> Input:
    """An input with as many elements as its shape says, and some more or less."""
    count = max(0, prod(shape) + extra)
    return Input(name, datatype, shape, elements(from_name(datatype), count))


def elements(datatype: Datatype, count: int) -> bytes:
    if datatype is BYTES:
        return encode_bytes(np.array([b"x" * (index % 3) for index in range(count)], object))
    return bytes(count * datatype.itemsize)


def ask(url: str, model: str, inputs: list[Input], fields: dict[str, Any]) -> tuple[int, Any]:
    entries = [
        {
            "name": entry.name,
            "datatype": entry.datatype,
            # The protocol's sizes have no sign; this is what becomes of one that has.
            "shape": [size % 2**64 for size in entry.shape],
            "parameters": {"binary_data_size": len(entry.data)},
        }
        for entry in inputs
    ]
    document = json.dumps({"inputs": entries, **fields}).encode()
    body = b"".join([document, *(entry.data for entry in inputs)])
    connection = http.client.HTTPConnection(url, timeout=60)
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body, {LENGTH: str(len(document))})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def same(urls: tuple[str, str], model: str, inputs: list[Input], **fields: Any) -> Any:
    stub, native = urls
    answer = ask(stub, model, inputs, fields)
    if NEVER_ANSWERED not in str(answer):
        assert answer == ask(native, model, inputs, fields)
    return answer


FIRST = filled("FIRST", "FP32", 1, 2, 3)
SECOND = filled("SECOND", "BYTES", 1, 2)
THIRD = filled("THIRD", "INT32", 1, 5, 2, 3)
TEXTS = elements(BYTES, 2)

ACCEPTED = {
    "required only": [FIRST],
    "with an optional one": [FIRST, SECOND],
    "in another order": [THIRD, SECOND, FIRST],
    "all of them": [FIRST, SECOND, THIRD, filled("FOURTH", "FP32", 1, 1)],
    "reshaped to nothing": [filled("FIRST", "FP32", 3, 2, 1), filled("FOURTH", "FP32", 3, 1)],
    "the largest batch": [filled("FIRST", "FP32", 4, 2, 1), filled("SECOND", "BYTES", 4, 2)],
    "an optional one in place of the required": [SECOND],
    "an open size of 0": [filled("FIRST", "FP32", 2, 2, 0)],
    "open sizes of 0": [FIRST, filled("THIRD", "INT32", 1, 0, 2, 0)],
    "empty texts": [FIRST, Input("SECOND", "BYTES", (1, 2), bytes(8))],
    "texts that are no UTF-8": [FIRST, Input("SECOND", "BYTES", (1, 2), b"\1\0\0\0\xff" * 2)],
    "NaN": [FIRST._replace(data=b"\xff" * 24)],
}


ACCEPTED_RULES = {
    "4.2-counted-only": ["an optional one in place of the required"],
    "4.2-zero-sizes": ["an open size of 0", "open sizes of 0"],
    "4.2-texts": ["empty texts"],
    "4.4-input": ["open sizes of 0", "in another order", "all of them"],
    "4.4-output": ["in another order", "all of them"],
    "4.4-scalar": ["reshaped to nothing", "all of them"],
    "4.2-batch-too-large": ["the largest batch"],
    "4.14-order": ["all of them"],
    "4.2-data-unchecked": ["texts that are no UTF-8", "NaN"],
}


@pytest.mark.parametrize("name", marked(ACCEPTED, ACCEPTED_RULES))
def test_accepted(both_urls: tuple[str, str], name: str) -> None:
    assert same(both_urls, "shapes", ACCEPTED[name])[0] == 200


REFUSED = {
    "no inputs": [],
    "too many inputs": [FIRST._replace(name=name) for name in (*INPUTS, "X")],
    "unknown input": [FIRST, FIRST._replace(name="X")],
    "the same input twice": [FIRST, FIRST],
    "the same input twice, unknown neighbour": [SECOND._replace(name="X"), FIRST, FIRST],
    "only an unknown input": [FIRST._replace(name="X")],
    "no batch dimension": [filled("FIRST", "FP32", 2, 3)],
    "no dimension": [filled("FIRST", "FP32")],
    "no dimension, unknown neighbour": [filled("FIRST", "FP32"), FIRST._replace(name="X")],
    "batch too large": [filled("FIRST", "FP32", 5, 2, 3)],
    "batches differ": [FIRST, filled("SECOND", "BYTES", 2, 2)],
    "batches differ, the other way": [filled("SECOND", "BYTES", 2, 2), FIRST],
    "one batch is 0": [FIRST, filled("SECOND", "BYTES", 0, 2)],
    "the other batch is 0": [filled("FIRST", "FP32", 0, 2, 1), SECOND],
    "batch of 0": [filled("FIRST", "FP32", 0, 2, 1)],
    "batch of 0, and bytes": [filled("FIRST", "FP32", 0, 2, 1, extra=1)],
    "wrong datatype": [filled("FIRST", "INT32", 1, 2, 3)],
    "wrong datatype of the same size": [filled("THIRD", "FP32", 1, 1, 2, 1), FIRST],
    "bytes for numbers": [filled("FIRST", "BYTES", 1, 2, 3)],
    "numbers for bytes": [FIRST, filled("SECOND", "UINT8", 1, 2)],
    "wrong fixed size": [filled("FIRST", "FP32", 1, 3, 3)],
    "too few dimensions": [filled("FIRST", "FP32", 1, 2)],
    "too many dimensions": [filled("FIRST", "FP32", 1, 2, 3, 1)],
    "size left open": [filled("FIRST", "FP32", 1, 2, -1)],
    "size left open after a wrong one": [filled("FIRST", "FP32", 1, 3, -1)],
    "size left open before a wrong one": [FIRST, filled("THIRD", "INT32", 1, -1, 3, 1)],
    "too few bytes": [filled("FIRST", "FP32", 1, 2, 3, extra=-1)],
    "too many bytes": [filled("FIRST", "FP32", 1, 2, 3, extra=1)],
    "half a number": [FIRST._replace(data=FIRST.data[:-1])],
    "too few bytes, reshaped": [FIRST, filled("THIRD", "INT32", 1, 5, 2, 3, extra=-1)],
    "too few texts": [FIRST, filled("SECOND", "BYTES", 1, 2, extra=-1)],
    "no texts": [FIRST, filled("SECOND", "BYTES", 1, 2, extra=-2)],
    "too many texts": [FIRST, filled("SECOND", "BYTES", 1, 2, extra=1)],
    "text cut short": [FIRST, SECOND._replace(data=TEXTS[:-1])],
    "first text too long": [FIRST, SECOND._replace(data=b"\xff\0\0\0" + TEXTS)],
    "length cut short": [FIRST, SECOND._replace(data=TEXTS[:6])],
    "rest after the texts": [FIRST, SECOND._replace(data=TEXTS + b"\0")],
}  # fmt: skip


REFUSED_RULES = {
    "4.2-prefix": [*REFUSED],
    "4.2-duplicate-input": ["the same input twice", "the same input twice, unknown neighbour"],
    "4.2-count": ["no inputs", "too many inputs"],
    "4.2-too-many": ["too many inputs"],
    "4.2-unknown-input": ["unknown input", "only an unknown input"],
    "4.2-no-batch-dimension": ["no dimension", "no dimension, unknown neighbour"],
    "4.2-batch-differs": ["batches differ", "batches differ, the other way", "one batch is 0"],
    "4.2-batch-too-large": ["batch too large"],
    "4.2-datatype": ["wrong datatype", "bytes for numbers", "numbers for bytes"],
    "4.2-open-size": ["size left open", "size left open before a wrong one"],
    "4.2-shape": ["wrong fixed size", "too few dimensions", "too many dimensions",
                  "no batch dimension"],
    "4.2-byte-size": ["too few bytes", "too many bytes", "half a number",
                      "too few bytes, reshaped"],
    "4.2-texts": ["too few texts", "no texts", "too many texts", "length cut short",
                  "rest after the texts"],
    "4.2-last-text": ["text cut short", "first text too long"],
    "4.2-empty-batch": ["batch of 0, and bytes"],
    "4.2-order": ["no dimension, unknown neighbour", "size left open after a wrong one"],
}  # fmt: skip


@pytest.mark.parametrize("name", marked(REFUSED, REFUSED_RULES))
@pytest.mark.parametrize("request_id", ["", "x7"])
def test_refused(both_urls: tuple[str, str], name: str, request_id: str) -> None:
    fields = {"id": request_id} if request_id else {}
    assert same(both_urls, "shapes", REFUSED[name], **fields)[0] == 400


NEWER = {
    "tensor 'FIRST' contains an invalid dimension [1,2,-2]": [filled("FIRST", "FP32", 1, 2, -2)],
    "byte size for tensor 'FIRST' exceeds maximum size of 9223372036854775807": [
        Input("FIRST", "FP32", (1, 2, 2**61), b"")
    ],
    "byte size for tensor 'THIRD' exceeds maximum size of 9223372036854775807": [
        FIRST,
        Input("THIRD", "INT32", (1, 2**62, 2, 2**62), b""),
    ],
}


@pytest.mark.newer("26.03", "core src/infer_request.cc, Normalize, GetByteSize")
@pytest.mark.parametrize("told", NEWER)
def test_sizes_that_cannot_be_counted(both_urls: tuple[str, str], told: str) -> None:
    # Not the real server: some of these its models do not survive.
    assert ask(both_urls[0], "shapes", NEWER[told], {}) == (400, {"error": told})


@pytest.mark.rule("4.3-unknown-output", "4.14-order")
@pytest.mark.parametrize(
    "names", [["SEEN"], ["THIRD", "SEEN"], ["NO"], ["SEEN", "NO"], ["Z", "A"], ["FIRST"]], ids=str
)
def test_outputs_that_are_asked_for(both_urls: tuple[str, str], names: list[str]) -> None:
    same(both_urls, "shapes", [FIRST, THIRD], outputs=[{"name": name} for name in names])


sizes = st.sampled_from([-1, 0, 1, 1, 2, 2, 3, 5])


@st.composite
def drawn_inputs(draw: st.DrawFn, model: str, rows: int) -> list[Input]:
    """Inputs that mostly fit the model; each may have a fault of its own."""
    batch = [rows] if model == "shapes" else []
    known = INPUTS if batch else FLAT_INPUTS
    drawn = []
    for name in draw(st.permutations(list(known))):
        if name != "FIRST" and draw(st.booleans()):
            continue
        datatype, dims = known[name]
        shape = [*batch, *(draw(sizes) if dim == -1 else dim for dim in dims)]
        extra = 0
        match draw(st.integers(0, 20)):
            case 0:
                # Not the batch: a negative one is refused, and 2.51 has its own reasons for it.
                shape[draw(st.integers(len(batch), len(shape) - 1))] = draw(sizes)
            case 1:
                del shape[-1]
            case 2:
                shape.append(draw(sizes))
            case 3:
                datatype = draw(st.sampled_from(DATATYPES)).name
            case 4:
                extra = draw(st.sampled_from([-1, 1]))
            case 5:
                name = draw(st.sampled_from(["X", "FIRST", "THIRD"]))  # noqa: PLW2901
        drawn.append(filled(name, datatype, *shape, extra=extra))
        if draw(st.integers(0, 30)) == 0:
            drawn[-1] = drawn[-1]._replace(data=drawn[-1].data[:-1])
    return drawn


@pytest.mark.rule("4.2-order", "4.2-hash-order")
@examples(300)
@given(data=st.data(), model=st.sampled_from(["shapes", "flat_shapes"]), rows=st.integers(0, 5))
def test_any_request(
    both_urls: tuple[str, str], data: st.DataObject, model: str, rows: int
) -> None:
    inputs = data.draw(drawn_inputs(model, rows), "inputs")
    status, answer = same(both_urls, model, inputs)
    event(f"{status} {' '.join(str(answer.get('error', '')).split()[3:7])}")
