"""Any request to any configuration: whether it is taken, what the model sees, what is said if not.

Configurations are the same in every run; requests are drawn, most with a fault or two, and go over
the wire as bytes. Of several faults the order of the server's checks, and of its hash tables,
decides which is told.
"""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from broken_models import both_engines
from google.protobuf import json_format, text_format
from hypothesis import event, given
from probing import examples
from test_drawn_requests import SEES
from test_validation_on_both import LENGTH, NEVER_ANSWERED, elements

from triton_stub.config import schema
from triton_stub.datatypes import BYTES, DATATYPES, from_name

MODELS = 40
NAMES = ["a", "b", "c", "d", "IN0", "IN1", "input_ids", "attention_mask", "a_rather_long_name"]


def new_config(number: int) -> dict[str, Any]:
    """One configuration, always the same one for a number."""
    draw = random.Random(number)
    batching = draw.random() < 0.6
    names = draw.sample(NAMES, draw.randint(int(batching), 5))
    return {
        "name": f"any_{number}",
        "max_batch_size": draw.randint(1, 5) if batching else 0,
        "input": [new_input(name, draw, batching=batching) for name in names],
        "output": [
            {"name": name, "data_type": "TYPE_STRING", "dims": [1]} for name in ("seen", "other")
        ],
        **({"dynamic_batching": {}} if draw.random() < 0.3 else {}),
    }


def new_input(name: str, draw: random.Random, *, batching: bool) -> dict[str, Any]:
    dims = [draw.choice([-1, -1, 1, 2, 3]) for _ in range(draw.randint(1, 3))]
    entry: dict[str, Any] = {
        "name": name,
        "data_type": draw.choice([BYTES, *DATATYPES]).config_name,
        "dims": dims,
        "optional": draw.random() < 0.4,
        "allow_ragged_batch": draw.random() < 0.2,
    }
    if draw.random() < 0.3:
        shape = [size for size in dims if size != 1] + [1] * draw.randint(0, 2)
        entry["reshape"] = {"shape": shape if shape or batching else [1]}
    return entry


CONFIGS = [new_config(number) for number in range(MODELS)]


class Input(NamedTuple):
    """An input of a request; nothing of it need fit."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes


@st.composite
def requests(draw: st.DrawFn, config: dict[str, Any]) -> tuple[list[Input], dict[str, Any]]:
    """Inputs for a configuration, each with a fault perhaps, and what is said beside them."""
    rows = [draw(st.integers(0, config["max_batch_size"] + 1))] if config["max_batch_size"] else []
    wrong = draw(st.integers(0, 2)) > 0
    inputs = [
        draw(drawn_input(entry, rows, wrong=wrong))
        for entry in draw(st.permutations(config["input"]))
        if not (entry["optional"] or wrong) or draw(st.integers(0, 5))
    ]
    if wrong and draw(st.integers(0, 7)) == 0:
        name = draw(st.sampled_from(NAMES))
        shape = [*rows, 1]
        inputs.append(Input(name, "FP32", shape, bytes(4 * prod(shape))))
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["id"] = draw(st.sampled_from(["", "x7", "é"]))
    if draw(st.booleans()):
        # None twice: 2.51 has no objections, see test_validation_on_both.py.
        known = st.sampled_from(["seen", "other", "nothing"] if wrong else ["seen", "other"])
        names = draw(st.lists(known, max_size=2, unique=True))
        parameters = {"binary_data": False}
        fields["outputs"] = [{"name": name, "parameters": parameters} for name in names]
    return inputs, fields


@st.composite
def drawn_input(draw: st.DrawFn, entry: dict[str, Any], rows: list[int], *, wrong: bool) -> Input:
    name = entry["name"]
    datatype = entry["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES")
    sizes = [draw(st.integers(0, 3)) if dim == -1 else dim for dim in entry["dims"]]
    shape = [*rows, *sizes]
    extra = 0
    data: bytes | None = None
    match draw(st.integers(0, 13)) if wrong else None:
        case 0:
            name = draw(st.sampled_from(NAMES))
        case 1:
            datatype = draw(st.sampled_from(DATATYPES)).name
        case 2:
            # Not the batch: of a negative one 2.51 has its own opinion.
            shape[draw(st.integers(len(rows), len(shape) - 1))] = draw(st.integers(-1, 4))
        case 3:
            shape.append(draw(st.integers(0, 2)))
        case 4:
            del shape[-1]
        case 5:
            extra = draw(st.sampled_from([-1, 1]))
        case 6 if rows:
            shape[0] = draw(st.integers(0, 6))
        case 7:
            data = draw(st.binary(max_size=12))
        case 8 if datatype == "BYTES":
            texts = elements(BYTES, max(0, prod(shape)))
            cut = draw(st.integers(0, len(texts)))
            data = texts[:cut] + draw(st.binary(max_size=5)) + texts[cut:]
    if data is None:
        data = elements(from_name(datatype), max(0, prod(shape) + extra))
    return Input(name, datatype, shape, data)


class Wire:
    """A connection that is kept open, for requests as bytes."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url, timeout=60)

    def ask(self, model: str, inputs: list[Input], fields: dict[str, Any]) -> tuple[int, Any]:
        entries = [
            {
                "name": each.name,
                "datatype": each.datatype,
                # The protocol's sizes have no sign; this is what becomes of one that has.
                "shape": [size % 2**64 for size in each.shape],
                "parameters": {"binary_data_size": len(each.data)},
            }
            for each in inputs
        ]
        document = json.dumps({"inputs": entries, **fields}).encode()
        body = b"".join([document, *(each.data for each in inputs)])
        headers = {LENGTH: str(len(document))}
        self._connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Wire, Wire]]:
    folder = tmp_path_factory.mktemp("any")
    for config in CONFIGS:
        model = folder / config["name"]
        (model / "1").mkdir(parents=True)
        (model / "1" / "model.py").write_text(SEES)
        message = json_format.ParseDict(config, schema().ModelConfig(backend="python"))
        (model / "config.pbtxt").write_text(text_format.MessageToString(message))
    with both_engines(folder, strict=True) as engines:
        assert engines.same(lambda engine: engine.ready()) is True
        stub, native = (Wire(engine.http_url) for engine in engines)
        yield stub, native
        stub.close()
        native.close()


@pytest.mark.rule("4.2-order", "4.2-hash-order", "4.4-input", "4.3-unknown-output")
@examples(500)
@given(st.data(), st.sampled_from(CONFIGS))
def test_any_request_to_any_model(
    wires: tuple[Wire, Wire], data: st.DataObject, config: dict[str, Any]
) -> None:
    stub, native = wires
    inputs, fields = data.draw(requests(config), "request")
    status, answer = stub.ask(config["name"], inputs, fields)
    event(f"{status} {' '.join(str(answer.get('error', '')).split()[3:7])}")
    if NEVER_ANSWERED not in str(answer):
        assert (status, answer) == native.ask(config["name"], inputs, fields)


def test_the_configurations_are_of_all_sorts() -> None:
    inputs = [entry for config in CONFIGS for entry in config["input"]]
    assert {entry["data_type"] for entry in inputs} == {row.config_name for row in DATATYPES}
    assert {config["max_batch_size"] > 0 for config in CONFIGS} == {False, True}
    assert {len(config["input"]) for config in CONFIGS} == {0, 1, 2, 3, 4, 5}
    for key in ("optional", "allow_ragged_batch"):
        assert {entry[key] for entry in inputs} == {False, True}
    assert {"reshape" in entry for entry in inputs} == {False, True}
    assert {-1 in entry["dims"] for entry in inputs} == {False, True}
    assert np.mean([config["max_batch_size"] > 0 for config in CONFIGS]) > 0.4
