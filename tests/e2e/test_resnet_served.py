"""The repository's ResNets behind real ports: as on the stub, and as ``client.py`` finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from comparing import Engines
from resnet_cases import DIGITS, RANDOM, test_digits, test_logits, test_metadata_and_config

import client
from triton_stub.engines.engine import Engine

__all__ = ["test_digits", "test_logits", "test_metadata_and_config"]


def test_equal_everywhere(
    everywhere: dict[str, Engine], engines: Engines, tell: Callable[[str], None]
) -> None:
    images = np.random.default_rng(0).random((4, 224, 224, 3), np.float32)
    digits, labels = client.held_out_digits()

    def logits(engine: Engine) -> dict[str, np.ndarray]:
        found = {model: engine.infer(model, image=images)["fc_out"] for model in RANDOM}
        parts = (digits[start : start + 16] for start in range(0, len(digits), 16))
        answers = [engine.infer(DIGITS.name, image=part)["fc_out"] for part in parts]
        return found | {DIGITS.name: np.concatenate(answers)}

    by_engine = {name: logits(engine) for name, engine in everywhere.items()}
    right = {
        name: int((found[DIGITS.name].argmax(-1) == labels).sum())
        for name, found in by_engine.items()
    }
    stub = by_engine["stub"]
    differences = {
        name: {model: float(np.abs(found[model] - stub[model]).max()) for model in stub}
        for name, found in by_engine.items()
    }
    tell(f"{'':<10} {'digits right':<14} greatest difference of a logit from the stub's")
    tell(f"{'':<10} {'':<14} " + " ".join(f"{model:<16}" for model in stub))
    for name, row in differences.items():
        numbers = " ".join(f"{difference:<16.2g}" for difference in row.values())
        tell(f"{name:<10} {f'{right[name]} of {len(labels)}':<14} {numbers}")
    for row in differences.values():
        for model, difference in row.items():
            assert difference <= engines.tolerance * np.abs(stub[model]).max(), model
    assert set(right.values()) == {right["stub"]}
    assert right["stub"] >= 0.97 * len(labels)


@pytest.mark.triton(repository="../../model_repository", models=["resnet18_digits"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_demo(
    triton: Engine, protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = {"http": triton.http_url, "grpc": triton.grpc_url}[protocol]
    picture = tmp_path / "digits.png"
    assert url is not None
    status = client.main(
        [
            *("--demo", "--url", url, "--protocol", protocol),
            *("--min-accuracy", "97", "--picture", str(picture)),
        ]
    )
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "360 digits in " in said.out
    assert picture.stat().st_size > 1000
