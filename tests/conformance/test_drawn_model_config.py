"""``ModelConfig`` at random: sequences of calls, and what the server takes of what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from broken_models import CONFIG, comparable, write_models
from comparing import Engines
from hypothesis import event, given
from probing import examples, probe
from tritonclient.utils import InferenceServerException

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import LoadError

NAMES = st.sampled_from(["A", "B", "a", "ü", ""])
DATATYPES = st.sampled_from(["TYPE_FP32", "TYPE_INT8", "TYPE_STRING", "TYPE_INVALID"])
DIMS = st.lists(st.sampled_from([-1, 1, 2, 0]), max_size=3)
ODD = st.sampled_from([None, 3, "x", [], True])


def rarely(odd: st.SearchStrategy[Any], usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 11).flatmap(lambda number: usual if number else odd)


def tensors(optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An entry of inputs, mostly whole."""
    return st.fixed_dictionaries(
        {},
        optional={
            "name": rarely(ODD, NAMES),
            "data_type": rarely(ODD, DATATYPES),
            "dims": rarely(ODD, DIMS | DIMS.map(tuple)),
            "optional": optional,
        },
    ) | st.fixed_dictionaries(
        {
            "name": rarely(ODD, NAMES),
            "data_type": rarely(ODD, DATATYPES),
            "dims": rarely(ODD, DIMS | DIMS.map(tuple)),
        },
        optional={"optional": optional},
    )


TENSORS = tensors(st.booleans())
CONFIGS = st.fixed_dictionaries(
    {
        "name": rarely(ODD, st.just("m")),
        "max_batch_size": rarely(ODD, st.integers(0, 4)),
        "input": rarely(ODD, st.lists(TENSORS, max_size=2)),
        "output": rarely(ODD, st.lists(TENSORS, max_size=2)),
    },
    optional={
        "dynamic_batching": ODD | st.just({}),
        "sequence_batching": ODD | st.just({}),
        "model_transaction_policy": st.just({}) | st.booleans().map(lambda on: {"decoupled": on}),
    },
)
UNUSUAL = st.fixed_dictionaries({}, optional={"name": NAMES, "reshape": ODD, "dims": DIMS})
CALLS = st.one_of(
    st.tuples(st.just("set_max_batch_size"), rarely(ODD, st.integers(0, 5))),
    st.tuples(st.just("set_dynamic_batching")),
    st.tuples(st.just("add_input"), rarely(ODD | UNUSUAL, TENSORS)),
    st.tuples(st.just("add_output"), rarely(ODD | UNUSUAL, TENSORS)),
    st.tuples(
        st.just("set_model_transaction_policy"),
        rarely(ODD, st.dictionaries(st.sampled_from(["decoupled", "x"]), st.booleans())),
    ),
    st.tuples(st.just("drop"), st.sampled_from(["name", "input", "max_batch_size"])),
)
# Each call's outcome, and whether what was given is now a part of the configuration.
SEQUENCE = """
m, told = pb_utils.ModelConfig({config!r}), []
for name, *given in {calls!r}:
    try:
        if name == "drop":
            told.append(m.as_dict().pop(*given, "nothing"))
        else:
            told.append(getattr(m, name)(*given))
    except Exception as error:
        told.append(type(error).__name__ + ": " + str(error))
    held = m.as_dict().get("input"), m.as_dict().get("output")
    told.append([any(e is g for e in h) for g in given for h in held if isinstance(h, list)])
told, m.as_dict()
"""


@pytest.mark.rule("1.2-model-config", "2.9-as-dict", "2.9-input-added", "2.9-output")
@examples(400)
@given(CONFIGS, st.lists(CALLS, min_size=1, max_size=12))
def test_sequences_of_calls(
    engines: Engines, config: dict[str, Any], calls: list[tuple[Any, ...]]
) -> None:
    code = SEQUENCE.format(config=json.dumps(config), calls=calls)
    engines.same(lambda engine: probe(engine, code))


# What the server takes

SIZES = st.integers(-1, 8) | st.sampled_from([2.0, 2.5, "3", "x", True, None, [1], 2**31])
DIM = st.sampled_from([-1, 1, 2, 7, "3", 4.0]) | st.sampled_from([0, -2, None, True, "x", 1.5, {}])
USUAL_DIMS = st.lists(st.sampled_from([-1, 1, 2, 7]), min_size=1, max_size=3)
KIND = st.sampled_from(["TYPE_FP32", "TYPE_STRING", "TYPE_BF16", "type_int8", "TYPE_bool", 3, "11"])
RETURNED_TENSORS = st.fixed_dictionaries(
    {
        "name": rarely(st.sampled_from([None, "", 3]), st.sampled_from(["A", "B", "ü"])),
        "data_type": rarely(st.sampled_from([None, "FP32", "TYPE_INVALID", 0, 1.5, True]), KIND),
        "dims": rarely(st.lists(DIM, max_size=3) | st.just(3), USUAL_DIMS),
    },
    optional={
        "reshape": rarely(st.just({"shape": [2]}), st.none()),
        "x": rarely(st.just(1), st.none()),
    },
)
INPUTS = st.tuples(
    RETURNED_TENSORS,
    st.fixed_dictionaries(
        {},
        optional={
            "optional": st.sampled_from([True, False, "true", 1, None]),
            "allow_ragged_batch": st.booleans(),
            "format": st.sampled_from(["FORMAT_NONE", "FORMAT_NHWC", "nhwc", 2]),
        },
    ),
).map(lambda parts: {**parts[0], **parts[1]})
RETURNED = st.fixed_dictionaries(
    {
        "input": rarely(st.sampled_from([None, "A", [[]]]), st.lists(INPUTS, max_size=2)),
        "output": rarely(ODD, st.lists(RETURNED_TENSORS, max_size=2)),
    },
    optional={
        "max_batch_size": rarely(SIZES, st.integers(0, 8)),
        "default_model_filename": rarely(st.sampled_from([None, 3, []]), st.just("model.py")),
        "dynamic_batching": rarely(
            ODD,
            st.fixed_dictionaries(
                {},
                optional={
                    "preferred_batch_size": st.lists(st.integers(0, 8), max_size=2),
                    "max_queue_delay_microseconds": st.sampled_from([0, "7", 2**64 - 1, -1]),
                    "preserve_ordering": st.booleans(),
                },
            ),
        ),
        "model_transaction_policy": rarely(ODD, st.just({}) | st.just({"decoupled": True})),
        "response_cache": st.just({"enable": True}),
        "instance_group": st.just([{"count": 2}]),
        "version_policy": st.sampled_from([{"all": {}}, {"all": None}, {"all": {}, "latest": {}}]),
        "parameters": st.just({"p": {"string_value": "q"}}) | rarely(ODD, st.just({})),
        "nonsense": rarely(st.just(1), st.none()),
    },
)
GIVEN = st.sampled_from(
    [
        CONFIG,
        f"{CONFIG} max_batch_size: 4",
        f"{CONFIG} max_batch_size: 8 dynamic_batching {{ }}",
        "",
    ]
)
MODEL = """
import json

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config._model_config = json.loads({!r})
        return config
"""
# So many models are loaded at once: most of the time the real server sleeps.
TOGETHER = 12


class Explicit:
    """Both engines with the same repository, of which models are loaded on request."""

    def __init__(self, repository: Path, engines: Engines) -> None:
        self.repository = repository
        self.engines = engines


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explicit]:
    repository = tmp_path_factory.mktemp("drawn")
    options = ["--model-load-thread-count=12"]
    with (
        NativeEngine(repository, models=[], options=options) as native,
        StubEngine(repository, models=[]) as stub,
    ):
        yield Explicit(repository, Engines(stub, native))


def load(engine: Engine, name: str) -> str:
    """Load a model; why it does not load, or nothing."""
    try:
        if isinstance(engine, StubEngine):
            engine.server.load(name)
        else:
            with engine.client() as client:
                client.load_model(name)
    except (LoadError, InferenceServerException) as error:
        return str(error.message() if isinstance(error, InferenceServerException) else error.told)
    return ""


@pytest.mark.rule("3.1.2-taken", "3.1.2-dropped", "3.1.2-invalid-json", "3.1.2-io-checks")
@examples(5)
@given(st.lists(st.tuples(GIVEN, RETURNED), min_size=TOGETHER, max_size=TOGETHER))
def test_what_the_server_takes(explicit: Explicit, drawn: list[tuple[str, Any]]) -> None:
    names = [f"m{number}" for number in range(len(drawn))]
    for name, (config, returned) in zip(names, drawn, strict=True):
        write_models(explicit.repository, {name: MODEL.format(json.dumps(returned))}, config)
    stub, native = explicit.engines
    with ThreadPoolExecutor(TOGETHER) as pool:
        loaded = list(pool.map(lambda name: load(native, name), names))
    for name, expected in zip(names, loaded, strict=True):
        told = load(stub, name)
        assert comparable(told, explicit.repository) == comparable(expected, explicit.repository)
        if not expected:
            assert stub.config(name) == native.config(name)
        event("loaded" if not expected else "refused")
