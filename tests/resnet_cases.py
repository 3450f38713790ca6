"""Cases: the repository's own ResNets, one ``model.py``, the same answers from two engines.

They ask the fixture ``engines``, with the models that :func:`write_resnets` writes.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from comparing import Engines
from patience import wait_until

import client

if TYPE_CHECKING:
    from triton_stub.engines.engine import Engine

REPOSITORY = Path(__file__).resolve().parents[1] / "model_repository"
DIGITS = REPOSITORY / "resnet18_digits"
RANDOM = {"resnet18": "resnet18", "resnet50_random": "resnet50"}
# Two sizes are enough to see that the padded rows do not matter; fewer load faster. On a GPU there
# are others beside them.
SEEDED = {"weights": "random", "batch_buckets": "1,4", "memory_fraction": "0.1"}


def write_resnets(repository: Path) -> None:
    """Add the trained digits model and two ResNets of seeded weights to a repository."""
    write_digits(repository)
    for name, architecture in RANDOM.items():
        model = shutil.copytree(REPOSITORY / "resnet50", repository / name)
        configure(model, architecture=architecture, **SEEDED)


def write_digits(repository: Path) -> Path:
    """Add the trained digits model to a repository; returns the model's directory."""
    checkpoint = DIGITS / "1" / "weights.safetensors"
    assert checkpoint.exists(), f"{checkpoint} is missing; make it with: python {DIGITS}/train.py"
    ignored = shutil.ignore_patterns("*.py[co]")
    return Path(shutil.copytree(DIGITS, repository / DIGITS.name, ignore=ignored))


def configure(model: Path, **parameters: str) -> None:
    """Give parameters in a model's config.pbtxt other values, and the model its folder's name."""
    config = model / "config.pbtxt"
    text = re.sub(r'^name: "\w+"', f'name: "{model.name}"', config.read_text(), flags=re.MULTILINE)
    for key, value in parameters.items():
        text, changed = re.subn(
            rf'(key: "{key}" value {{ string_value: )"[^"]*"', rf'\1"{value}"', text
        )
        assert changed == 1, key
    config.write_text(text)


@pytest.mark.parametrize("model", [*RANDOM, DIGITS.name])
def test_metadata_and_config(engines: Engines, model: str) -> None:
    assert engines.same(lambda engine: engine.metadata(model))["name"] == model
    assert engines.same(lambda engine: engine.config(model))["name"] == model


@pytest.mark.parametrize("model", RANDOM)
@pytest.mark.parametrize("rows", [1, 3])
def test_logits(engines: Engines, model: str, rows: int) -> None:
    images = np.random.default_rng(rows).random((rows, 224, 224, 3), np.float32)
    stub, native = (engine.infer(model, image=images)["fc_out"] for engine in engines)
    assert stub.shape == (rows, 1000)
    assert np.ptp(stub) > 0.1
    np.testing.assert_allclose(stub, native, rtol=0, atol=engines.tolerance * np.abs(native).max())


def test_digits(engines: Engines) -> None:
    images, labels = client.held_out_digits()
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

    (stub, stub_counts), (native, native_counts) = (served(engine) for engine in engines)
    for counted in (stub_counts, native_counts):
        assert counted["inference_count"] == 360
        assert counted["execution_count"] < 360, "nothing was batched"
    accuracy = [float((logits.argmax(-1) == labels).mean()) for logits in (stub, native)]
    assert accuracy[0] == accuracy[1]
    assert accuracy[0] >= 0.97
    np.testing.assert_allclose(stub, native, rtol=0, atol=engines.tolerance * np.abs(native).max())
