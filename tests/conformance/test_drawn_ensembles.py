"""Ensembles that nobody has thought of, and any request to them, on both engines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines
from ensemble_models import PYTHON, ensemble, step, tensors, write_ensemble
from hypothesis import given
from hypothesis import strategies as st
from probing import examples

from triton_stub.engines.engine import Engine

COUNT = 60
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.answer(request)) for request in requests]

    def answer(self, request):
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        names = request.requested_output_names()
        made = self.made(given["IN"], given.get("MORE"))
        return [pb_utils.Tensor(name, made[name]) for name in sorted(made) if name in names]
"""
# What a model makes of its inputs; IN and MORE, and OUT and MORE.
MADE = {
    "adds": '{"OUT": one + 1}',
    "doubles": '{"OUT": one * 2, "MORE": one * 3}',
    "mixes": '{"OUT": one + 10 * two, "MORE": one - two}',
    "may": '{"OUT": one if two is None else one + 100 * two}',
    # Leaves out one of its outputs.
    "parts": '{"OUT": -one} | ({"MORE": one} if one[0] % 2 else {})',
}
INPUTS = {"mixes": ("IN", "MORE"), "may": ("IN", "MORE")}
OUTPUTS = dict.fromkeys(("doubles", "mixes", "parts"), ("OUT", "MORE"))
OPTIONAL = {("may", "MORE")}
TYPE = "FP32 -1"


def io(model: str) -> str:
    """A model's configuration."""
    inputs = [
        f"{name} {TYPE}" + (" optional: true" if (model, name) in OPTIONAL else "")
        for name in INPUTS.get(model, ("IN",))
    ]
    outputs = [f"{name} {TYPE}" for name in OUTPUTS.get(model, ("OUT",))]
    return PYTHON + tensors("input", *inputs) + tensors("output", *outputs)


class Drawn:
    """One ensemble: steps that take what is there, in whatever order they are written down."""

    def __init__(self, seed: int) -> None:
        self.name = f"e_{seed}"
        rng = random.Random(seed)
        given = {"A": False, "B": rng.random() < 0.5}  # and whether they may be missing
        there, used, steps = dict(given), set[str](), list[str]()
        for number in range(rng.randint(1, 6)):
            model = rng.choice(sorted(MADE))
            takes: dict[str, str] = {}
            for name in INPUTS.get(model, ("IN",)):
                optional = (model, name) in OPTIONAL
                fit = [each for each, missing in there.items() if optional or not missing]
                if not (optional and rng.random() < 0.3):
                    takes[name] = rng.choice(fit)
            makes: dict[str, str] = {}
            for name in OUTPUTS.get(model, ("OUT",)):
                if name == "OUT" or rng.random() < 0.8:
                    makes[name] = f"T{number}{name[0]}"
                    there[makes[name]] = (model, name) == ("parts", "MORE")
            used.update(takes.values())
            steps.append(step(model, takes, makes))
        self.inputs = {name: optional for name, optional in given.items() if name in used}
        # What nobody takes has to be an output; what somebody takes may be one.
        made = [name for name in there if name not in given]
        self.outputs = [name for name in made if name not in used or rng.random() < 0.4]
        self.outputs += [name for name in self.inputs if rng.random() < 0.1]
        rng.shuffle(steps)
        rng.shuffle(self.outputs)
        described = [
            f"{name} {TYPE}" + (" optional: true" if optional else "")
            for name, optional in self.inputs.items()
        ]
        self.config = ensemble(
            ";".join(described), ";".join(f"{name} {TYPE}" for name in self.outputs), *steps
        )


ENSEMBLES = [Drawn(seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("drawn")
    for name, made in MADE.items():
        code = MODEL + f"\n    def made(self, one, two):\n        return {made}\n"
        write_models(repository, {name: code}, io(name))
    for drawn in ENSEMBLES:
        write_ensemble(repository, drawn.name, drawn.config)
    with both_engines(repository) as engines:
        yield engines


@pytest.mark.rule("4.7-ensemble")
def test_all_of_them_are_served(engines: Engines) -> None:
    why = engines.same(reasons)
    assert {drawn.name for drawn in ENSEMBLES} <= why.keys()
    assert not any(why.values())
    for drawn in ENSEMBLES:
        assert engines.same(lambda engine, drawn=drawn: engine.metadata(drawn.name))
        assert engines.same(lambda engine, drawn=drawn: engine.ready(drawn.name)) is True


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """An ensemble and a request to it."""
    drawn = draw(st.sampled_from(ENSEMBLES))
    values = st.lists(st.integers(-3, 9), min_size=2, max_size=2)
    inputs = {
        name: np.array(draw(values), np.float32)
        for name, optional in drawn.inputs.items()
        if not optional or draw(st.booleans())
    }
    sequence_id = draw(st.sampled_from([0, 7]))
    return {
        "model": drawn.name,
        "inputs": inputs,
        "outputs": draw(st.lists(st.sampled_from(drawn.outputs), unique=True)),
        "sequence_id": sequence_id,
        # Without a sequence the client does not send it.
        "sequence_start": sequence_id != 0 and draw(st.booleans()),
        "request_id": draw(st.sampled_from(["", "mine"])),
    }


@pytest.mark.rule("4.7-steps", "4.7-unrequested", "4.7-omitted", "4.7-optional")
@examples(300)
@given(request=requests())
def test_any_request_to_any_of_them(engines: Engines, request: dict[str, Any]) -> None:
    request = dict(request)
    model, inputs = request.pop("model"), request.pop("inputs")

    def body(engine: Engine) -> Any:
        result = engine.infer(model, inputs, **request)
        return list(result), {name: result[name] for name in result}, result.parameters

    engines.same(body)
