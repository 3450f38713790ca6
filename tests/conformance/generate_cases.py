"""What is sent to models with the generate extension, by the rules that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from generate_models import NUMBERS


def cases(groups: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Parameters of a test: each with the mark of its rule."""
    return [
        pytest.param(body, id=name, marks=pytest.mark.rule(rule))
        for rule, bodies in groups.items()
        for name, body in bodies.items()
    ]


#: Requests that ``echo`` and ``batched`` take.
BODIES: dict[str, dict[str, Any]] = {
    "5.6-shape": {
        "a scalar": {"INT32": 1},
        "a list": {"INT32": [1, 2]},
        "a list of one": {"INT32": [1]},
        "nested deeply": {"INT32": [[[[1]]]]},
        "nested side by side": {"INT32": [[1], [2]]},
        "texts, nested": {"text": [["a"], ["b"]]},
        "one element": {"one": 5},
        "one element in a list": {"one": [5], "one_text": ["x"]},
        "a fixed shape": {"matrix": [1, 2, 3, 4, 5, 6], "flat": [1, 2, 3, 4, 5, 6]},
        "the last size is the rest": {"any_matrix": [1, 2, 3]},
        "the other size is the rest": {"rows": list(range(6)), "columns": list(range(6))},
    },
    "5.6-values": {
        "a text": {"text": "a"},
        "an empty text": {"text": ""},
        "texts": {"text": ["a", "", "é\n"]},
        "a zero in a text": {"text": "a\0b"},
        "a text that is no UTF-8": b'{"text": "\xff"}',
        "a float": {"FP32": 1.5, "FP64": [0.1, 1]},
        "floats that are none": {"FP32": [float("nan"), float("inf")], "FP64": float("-inf")},
        "a float too large": {"FP32": 1e300},
        "true and false": {"BOOL": [True, False]},
        "the greatest integers": {name: [2**63 - 1, 127] for name in NUMBERS},
        "the least integers": dict.fromkeys(NUMBERS[4:], -(2**63)),
        "an unsigned integer": {"UINT64": 2**64 - 1},
    },
    "5.6-parameters": {
        "parameters": {"x": 1, "y": "s", "z": 1.5, "w": True, "v": -(2**63), "u": ""},
        "parameters beyond 64 bits": {"x": 2**63, "y": 2**64, "z": -(2**63) - 1, "u": 10**30},
        "parameters that are no numbers": {"x": float("nan"), "y": float("-inf")},
        "an empty key": {"": 2},
        "inside parameters": {"parameters": {"INT32": 1, "a": 2, "id": "inner"}},
        "both inside and outside": {"x": 1, "parameters": {"x": 2}, "y": 3},
        "parameters in parameters": {"parameters": {"parameters": 4}},
        "empty parameters": {"parameters": {}},
        "reserved elsewhere": {
            "sequence_id": 5,
            "parameters": {"sequence_start": True, "priority": "x", "timeout": -1, "triton_x": 1},
        },
        "a parameter twice": b'{"x": 2, "x": 3}',
        "parameters twice": b'{"parameters": {"a": 1}, "parameters": {"a": 2}}',
    },
    "5.6-id": {
        "an id": {"id": "seven", "INT32": 1},
        "an empty id": {"id": ""},
        "an id with a zero": {"id": "a\0b"},
        "an id twice": b'{"id": "a", "id": 3}',
    },
    "5.6-request": {
        "several inputs": {"INT32": 1, "text": ["x", "y", "z"], "BOOL": True},
        "nothing": {},
        "blanks": b' \n{ "INT32" : 1 }\n',
        "a byte order mark": b'\xef\xbb\xbf{"INT32": 1}',
    },
}

#: Requests of several rows, which ``batched`` takes.
ROWS = {
    "two rows": {"matrix": list(range(12))},
    "as many rows as may be": {"one": [1, 2, 3, 4]},
}
#: Requests with a fault.
REFUSED: dict[str, dict[str, Any]] = {
    "5.6-values": {
        "null": {"INT32": None},
        "an object": {"INT32": {}},
        "a text for a number": {"INT32": "1"},
        "a truth value for a number": {"INT32": True},
        "a float for an integer": {"INT32": 1.0},
        "an integer beyond 64 bits": {"INT64": 2**63},
        "a negative one without a sign": {"UINT8": -1},
        "a number for a truth value": {"BOOL": 1},
        "a text for a float": {"FP32": ["1"]},
        "a number for a text": {"text": 5},
        "null for a text": {"text": None},
        "a number among texts": {"text": ["a", 1]},
        "FP16": {"FP16": 1},
        "BF16": {"BF16": [1]},
        "FP16 of a wrong shape": {"FP16": [[1, 2]]},
    },
    "5.6-shape": {
        "nested values too many": {"INT32": [[1, 2]]},
        "nested texts too many": {"text": [["a", "b"]]},
        "nested in a fixed shape": {"matrix": [[1, 2, 3], [4, 5, 6]]},
        "too few for a shape": {"matrix": [1, 2, 3, 4, 5]},
        "one for a shape": {"matrix": 1},
        "a wrong rest": {"rows": [1, 2, 3, 4]},
        "a text first, then the shape": {"one_text": ["a", 5, "c"]},
        **ROWS,
        "a row too many": {"one": [1, 2, 3, 4, 5]},
        "batches of two sizes": {"one": [1, 2], "INT32": [1, 2]},
    },
    "5.6-id": {
        "a number for an id": {"id": 5},
        "null for an id": {"id": None},
    },
    "5.6-parameters": {
        "an input inside and outside": {"INT32": 1, "parameters": {"INT32": 2}},
        "a parameter that goes on after a zero": {"x\0y": 1},
        "parameters that go on after a zero": {"parameters\0x": {}},
        "null for a parameter": {"x": None},
        "a list for a parameter": {"x": [1]},
        "an object for a parameter": {"x": {}},
        "null inside parameters": {"parameters": {"x": None}},
        "an object inside parameters": {"parameters": {"parameters": {}}},
        "a bad input inside parameters": {"parameters": {"FP32": "x"}},
        "a list for parameters": {"parameters": []},
        "null for parameters": {"parameters": None},
    },
    "5.6-refused": {
        "an input twice": b'{"INT32": 1, "INT32": 2}',
        "an input twice, with an id": b'{"INT32": 1, "INT32": 2, "id": "x"}',
        "an input that goes on after a zero": {"INT32\0x": 1},
        "the other protocol": {"inputs": []},
        "the first fault": {"x": None, "INT32": "x"},
        "no body": b"",
        "no JSON": b"hello",
        "a comma too many": b'{"INT32": 1,}',
        "something behind": b'{"INT32": 1} x',
        "half a surrogate pair": b'{"text": "\\ud800"}',
        "a list": b"[]",
        "a text alone": b'"id"',
        "null alone": b"null",
    },
}

#: Programs for models that answer once, and for decoupled ones.
RETURNED = {
    "one": "return [response(1)]",
    "several values": "return [response(1, 2)]",
    "no output": "return [pb_utils.InferenceResponse([])]",
    "an error": "return [error('bad')]",
    "sent": "sender.send(response(1), flags=1)",
    "sent, and ended later": "sender.send(response(1)); sender.send(flags=1)",
    **{
        f"an error, {code}": "return [pb_utils.InferenceResponse(error=pb_utils.TritonError("
        f"'text', pb_utils.TritonError.{code}))]"
        for code in (
            *("UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG"),
            *("UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"),
        )
    },
}
SENT = {
    "none": "sender.send(flags=1)",
    "one": "sender.send(response(0), flags=1)",
    "one, and ended later": "sender.send(response(0)); sender.send(flags=1)",
    "three": "for i in range(3): sender.send(response(i))\nsender.send(flags=1)",
    "three, the last with the flag": "for i in range(3): sender.send(response(i), flags=i // 2)",
    "fifty": "for i in range(50): sender.send(response(i, 'x' * i))\nsender.send(flags=1)",
    "one without outputs": "sender.send(pb_utils.InferenceResponse([]), flags=1)",
    "an error": "sender.send(error('bad'), flags=1)",
    "an error, and ended later": "sender.send(error('bad')); sender.send(flags=1)",
    "an error first": "sender.send(error('bad')); sender.send(response(1), flags=1)",
    "an error in the middle": "sender.send(response(0)); sender.send(error('bad'))\n"
    "sender.send(response(1), flags=1)",
    "an error at the end": "sender.send(response(0)); sender.send(error('bad'), flags=1)",
    "lines in a text": "sender.send(response('a\\n\\ndata: b'), flags=1)",
    "values with an id": "sender.send(response(request.request_id()), flags=1)",
}
