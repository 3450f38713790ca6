"""Requests that from_config draws, to configurations that are drawn, too: what a model sees."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model_configs import DATATYPE_NAMES, model_configs
from probing import examples

from triton_stub.config import schema
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine
from triton_stub.testing import from_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from triton_stub.engines.engine import Engine

MODELS = 16
SEES = '''
import hashlib
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with what it sees of a request; Triton gives no array for BF16."""

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        seen = {tensor.name(): self.look_at(tensor) for tensor in request.inputs()}
        text = json.dumps(seen, sort_keys=True).encode()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("seen", np.array([text], dtype=np.object_))]
        )

    def look_at(self, tensor):
        try:
            array = tensor.as_numpy()
        except pb_utils.TritonModelException as error:
            return [list(tensor.shape()), str(error)]
        return [list(tensor.shape()), str(array.dtype), list(array.shape), digest(array)]


def digest(array):
    data = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return hashlib.sha256(data).hexdigest()
'''


def draw_configs() -> list[dict]:
    """The same configurations in every run; the first that Hypothesis draws are the dullest."""
    drawn: list[dict] = []

    @given(model_configs())
    @settings(
        max_examples=5 * MODELS,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def collect(config: dict) -> None:
        drawn.append(config)

    collect()
    configs = [{**config, "name": f"drawn_{n}"} for n, config in enumerate(drawn[-MODELS:])]
    names = itertools.cycle(DATATYPE_NAMES)
    for entry in (entry for config in configs for entry in config["input"]):
        entry["data_type"] = next(names)
    return configs


CONFIGS = draw_configs()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for config in CONFIGS:
        model = folder / config["name"]
        (model / "1").mkdir(parents=True)
        (model / "1" / "model.py").write_text(SEES)
        message = json_format.ParseDict(config, schema().ModelConfig(backend="python"))
        (model / "config.pbtxt").write_text(text_format.MessageToString(message))
    return folder


@pytest.fixture(scope="module")
def stub(repository: Path) -> Iterator[Engine]:
    with StubEngine(repository) as engine:
        yield engine


@pytest.fixture(scope="module")
def native(repository: Path) -> Iterator[Engine]:
    with NativeEngine(repository) as engine:
        yield engine


@pytest.mark.rule("2.2-received-dtypes", "2.4-elements", "2.5-inputs")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["name"])
@given(st.data())
@examples(25)
def test_a_model_sees_the_same(stub: Engine, native: Engine, config: dict, data) -> None:
    request = data.draw(from_config(config, allow_nan=True, allow_infinity=True, min_side=0))
    seen = json.loads(stub.infer(config["name"], request)["seen"].item())
    assert seen == json.loads(native.infer(config["name"], request)["seen"].item())
    assert list(seen) == sorted(request)
    for name, array in request.items():
        if len(seen[name]) == 4:
            _, dtype, shape, values = seen[name]
            assert dtype == str(array.dtype)
            assert values == digest(array.reshape(shape))


def digest(array: np.ndarray) -> str:
    data = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return hashlib.sha256(data).hexdigest()


def test_the_configurations_are_of_all_sorts() -> None:
    inputs = [entry for config in CONFIGS for entry in config["input"]]
    assert {entry["data_type"] for entry in inputs} == set(DATATYPE_NAMES)
    assert {config["max_batch_size"] > 0 for config in CONFIGS} == {False, True}
    assert {entry["optional"] for entry in inputs} == {False, True}
    assert {"reshape" in entry for entry in inputs} == {False, True}
    assert {-1 in entry["dims"] for entry in inputs} == {False, True}
