"""The repository's own ResNets: one ``model.py``, the same answers from both engines."""

from __future__ import annotations

import re
import runpy
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from comparing import Engines
from patience import wait_until

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triton_stub.engines.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
DIGITS = REPOSITORY / "resnet18_digits"
RANDOM = {"resnet18": "resnet18", "resnet50_random": "resnet50"}


@pytest.fixture(scope="module")
def resnets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with the trained digits model and two ResNets of seeded weights."""
    checkpoint = DIGITS / "1" / "weights.safetensors"
    assert checkpoint.exists(), f"{checkpoint} is missing; make it with: python {DIGITS}/train.py"
    repository = tmp_path_factory.mktemp("resnets")
    shutil.copytree(DIGITS, repository / DIGITS.name, ignore=shutil.ignore_patterns("*.py[co]"))
    for name, architecture in RANDOM.items():
        model = shutil.copytree(REPOSITORY / "resnet50", repository / name)
        text = (model / "config.pbtxt").read_text()
        for key, value in {
            r'(name: )"resnet50"': name,
            r'(key: "architecture" value { string_value: )"\w+"': architecture,
            r'(key: "weights" value { string_value: )"\w+"': "random",
            # Two sizes are enough to see that the padded rows do not matter; fewer load faster.
            r'(key: "batch_buckets" value { string_value: )""': "1,4",
        }.items():
            text, changed = re.subn(key, rf'\1"{value}"', text)
            assert changed == 1, key
        (model / "config.pbtxt").write_text(text)
    with NativeEngine(repository) as native, StubEngine(repository) as stub:
        yield Engines(stub, native)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 360 digits that training never saw, and what they are."""
    _, held_out = runpy.run_path(str(DIGITS / "train.py"))["load_digits"]()
    return held_out


@pytest.mark.parametrize("model", [*RANDOM, DIGITS.name])
def test_metadata_and_config(resnets: Engines, model: str) -> None:
    assert resnets.same(lambda engine: engine.metadata(model))["name"] == model
    assert resnets.same(lambda engine: engine.config(model))["name"] == model


@pytest.mark.parametrize("model", RANDOM)
@pytest.mark.parametrize("rows", [1, 3])
def test_logits(resnets: Engines, model: str, rows: int) -> None:
    images = np.random.default_rng(rows).random((rows, 224, 224, 3), np.float32)
    stub, native = (engine.infer(model, image=images)["fc_out"] for engine in resnets)
    assert stub.shape == (rows, 1000)
    assert np.ptp(stub) > 0.1
    np.testing.assert_allclose(stub, native, rtol=0, atol=1e-5 * np.abs(native).max())


def test_digits(resnets: Engines, digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    assert images.shape == (360, 32, 32, 3)

    def counts(engine: Engine) -> Counter[str]:
        (row,) = engine.statistics(DIGITS.name)["model_stats"]
        return Counter({key: row[key] for key in ("inference_count", "execution_count")})

    def served(engine: Engine) -> tuple[np.ndarray, Counter[str]]:
        before = counts(engine)
        with ThreadPoolExecutor(16) as clients:
            logits = clients.map(
                lambda image: engine.infer(DIGITS.name, image=image[None])["fc_out"], images
            )
            rows = np.concatenate(list(logits))
        wait_until(lambda: (counts(engine) - before)["inference_count"] >= 360)
        return rows, counts(engine) - before

    (stub, stub_counts), (native, native_counts) = (served(engine) for engine in resnets)
    for counted in (stub_counts, native_counts):
        assert counted["inference_count"] == 360
        assert counted["execution_count"] < 360, "nothing was batched"
    accuracy = [float((logits.argmax(-1) == labels).mean()) for logits in (stub, native)]
    assert accuracy[0] == accuracy[1]
    assert accuracy[0] >= 0.97
    np.testing.assert_allclose(stub, native, rtol=0, atol=1e-5 * np.abs(native).max())
