"""A container with a GPU: it is used, two instances share it, and the logits are those of a CPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from resnet_cases import RANDOM, configure, write_digits
from starting import Start

import client
from triton_stub.engines.engine import Engine

pytestmark = [pytest.mark.container, pytest.mark.gpu]

# Of the largest logit. By default JAX multiplies float32 on a GPU as TF32, with 10 bits.
TOLERANCE = 1e-2
USED = re.compile(r'^nv_gpu_memory_used_bytes\{gpu_uuid="[^"]+"\} (\S+)', re.MULTILINE)
PLACE = re.compile(r"(\w+): resnet\d+ with weights '[\w.]+' on (\S+) in")


def memory_used(engine: Engine) -> float:
    """Bytes in use on all GPUs that Triton sees."""
    found = [float(number) for number in USED.findall(engine.metrics())]
    assert found, "Triton sees no GPU"
    return sum(found)


@pytest.fixture(scope="module")
def shared_gpu(new_repository: Callable[[str], Path], start: Start) -> Iterator[Engine]:
    """A container in which two instances of the digits model have 0.4 of one GPU each."""
    repository = new_repository("shared_gpu")
    model = write_digits(repository)
    configure(model, memory_fraction="0.4")
    config = model / "config.pbtxt"
    text, changed = re.subn(
        r"instance_group \[.*\]",
        "instance_group [ { count: 2, kind: KIND_GPU, gpus: [ 0 ] } ]",
        config.read_text(),
    )
    assert changed == 1
    config.write_text(text)
    with start(repository) as engine:
        yield engine


def test_two_instances_fit_one_gpu(shared_gpu: Engine) -> None:
    places = dict(PLACE.findall(shared_gpu.log()))
    name = "resnet18_digits_0"
    assert set(places) == {f"{name}_0", f"{name}_1"}
    (place,) = set(places.values())
    assert "cuda" in place


def test_its_memory_is_used(shared_gpu: Engine, tell: Callable[[str], None]) -> None:
    # An instance takes its share when it starts; without JAX's would a few hundred MB be in use.
    used = memory_used(shared_gpu)
    assert used > 2 << 30
    tell(f"GPU memory in use with two instances: {used / 2**30:.1f} GiB")


def test_digits_on_the_gpu(shared_gpu: Engine) -> None:
    images, labels = client.held_out_digits()
    parts = (images[start : start + 16] for start in range(0, len(images), 16))
    logits = [shared_gpu.infer("resnet18_digits", image=part)["fc_out"] for part in parts]
    assert (np.concatenate(logits).argmax(-1) == labels).mean() >= 0.97


@pytest.mark.parametrize("model", RANDOM)
def test_logits_agree_with_those_of_a_cpu(
    everywhere: dict[str, Engine], engine: Engine, model: str
) -> None:
    images = np.random.default_rng(5).random((3, 224, 224, 3), np.float32)
    expected = everywhere["native"].infer(model, image=images)["fc_out"]
    logits = engine.infer(model, image=images)["fc_out"]
    assert "cuda" in dict(PLACE.findall(engine.log()))[f"{model}_0_0"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
