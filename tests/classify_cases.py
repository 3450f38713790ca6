"""Cases: ``model_repository/classify``, pictures in, labels and probabilities out.

They ask the fixture ``engines``, with the models that :func:`write_classify` writes.
"""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import Engines
from PIL import Image
from resnet_cases import REPOSITORY, SEEDED, configure

from triton_stub.engines.engine import Engine

STEPS = ("classify_preprocess", "resnet50", "classify_postprocess")
UPSIDE_DOWN = 3  # EXIF's orientation, tag 0x0112


def write_classify(repository: Path) -> None:
    """Add the ensemble and its steps to a repository; the network's weights are seeded."""
    for name in ("classify", *STEPS):
        model = repository / name
        shutil.copytree(REPOSITORY / name, model, ignore=shutil.ignore_patterns("*.py[co]"))
    configure(repository / "resnet50", architecture="resnet18", **SEEDED)


def picture(
    seed: int, size: tuple[int, int] = (320, 240), file: str = "JPEG", **more: Any
) -> bytes:
    """The file of a picture with soft edges, as photographs have."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    mode = more.pop("mode", "RGB")
    image = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    image.convert(mode).save(buffer, file, **more)
    return buffer.getvalue()


def turned(seed: int) -> bytes:
    """A picture that is upside down, and says so."""
    exif = Image.Exif()
    exif[0x0112] = UPSIDE_DOWN
    return picture(seed, exif=exif)


PICTURES = {
    "one": [picture(1)],
    "many": [picture(2), picture(3, (224, 224)), picture(4, (100, 700)), picture(5, (30, 20))],
    "others": [
        picture(6, file="PNG"),
        picture(7, file="PNG", mode="L"),
        picture(8, file="GIF", mode="P"),
        turned(9),
    ],
}


def files(pictures: list[bytes]) -> np.ndarray:
    return np.array(pictures, np.object_).reshape(-1, 1)


@pytest.mark.rule("4.7-ensemble", "4.7-steps")
@pytest.mark.parametrize("name", PICTURES)
def test_pictures(engines: Engines, name: str) -> None:
    pictures = files(PICTURES[name])
    stub, native = (engine.infer("classify", picture=pictures) for engine in engines)
    assert stub["label"].tolist() == native["label"].tolist()
    assert stub["label"].shape == stub["probability"].shape == (len(pictures), 5)
    assert (np.diff(stub["probability"], axis=-1) < 0).all()
    largest = native["probability"].max()
    np.testing.assert_allclose(
        stub["probability"], native["probability"], rtol=0, atol=engines.tolerance * largest
    )


@pytest.mark.rule("4.7-steps")
def test_the_steps_one_by_one_give_the_same(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        pictures = files(PICTURES["many"])
        together = engine.infer("classify", picture=pictures)
        image = engine.infer("classify_preprocess", picture=pictures)["image"]
        assert image.shape == (4, 224, 224, 3)
        logits = engine.infer("resnet50", image=image)["fc_out"]
        apart = engine.infer("classify_postprocess", fc_out=logits)
        assert (apart["label"] == together["label"]).all()
        assert (apart["probability"] == together["probability"]).all()
        return image  # Pillow is the same on both sides

    engines.same(body)


@pytest.mark.rule("4.7-step-error")
def test_a_file_that_is_no_picture(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        return engine.infer("classify", picture=files([picture(1), b"no picture"]))

    said = engines.same(lambda engine: without_address(body, engine))
    assert said.startswith("in ensemble 'classify', picture 1 of the request cannot be read: ")


def without_address(body: Any, engine: Engine) -> str:
    """What is raised, without the address of a buffer, which Pillow tells."""
    with pytest.raises(Exception, match="cannot be read") as caught:
        body(engine)
    return re.sub(r"0x[0-9a-f]+", "0x…", str(caught.value))


@pytest.mark.rule("4.7-steps")
def test_neighbours_do_not_matter(engines: Engines) -> None:
    def body(engine: Engine) -> Any:
        rows = [
            engine.infer("classify", picture=files([each]))["label"] for each in PICTURES["many"]
        ]
        together = engine.infer("classify", picture=files(PICTURES["many"]))["label"]
        return (np.concatenate(rows) == together).all()

    assert engines.same(body)


@pytest.mark.rule("4.7-ensemble")
@pytest.mark.parametrize("name", ["classify", *STEPS])
def test_metadata_and_config(engines: Engines, name: str) -> None:
    assert engines.same(lambda engine: engine.metadata(name))["name"] == name

    def config(engine: Engine) -> Any:
        found = engine.config(name)
        found.get("ensemble_scheduling", {}).pop("max_inflight_requests", None)  # since 25.11
        return found

    assert engines.same(config)["name"] == name
