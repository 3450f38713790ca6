"""A container with a GPU: it is used, two instances share it, and the logits are those of a CPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from patience import wait_until
from resnet_cases import DIGITS, RANDOM, configure, write_digits, write_resnets
from starting import Start

import client
from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine

pytestmark = [pytest.mark.container, pytest.mark.gpu]

# Of the largest logit. By default JAX multiplies float32 on a GPU as TF32, with 10 bits.
TOLERANCE = 1e-2
MEMORY = re.compile(r'^nv_gpu_memory_(used|total)_bytes\{gpu_uuid="[^"]+"\} (\S+)', re.MULTILINE)
PLACE = re.compile(r"(\w+): resnet\d+ with weights '[\w.]+' on (\S+) in")


def places(engine: Engine) -> dict[str, str]:
    """Where each instance of a ResNet is, as JAX calls it."""
    return dict(PLACE.findall(engine.log()))


def share_in_use(engine: Engine) -> float:
    """Of the memory of all GPUs that Triton sees."""
    found = {"used": 0.0, "total": 0.0}
    for kind, number in MEMORY.findall(engine.metrics()):
        found[kind] += float(number)
    return found["used"] / max(1.0, found["total"])


@pytest.fixture(scope="module")
def two(new_repository: Callable[[str], Path], start: Start) -> Iterator[Engine]:
    """A container in which two instances of the digits model have 0.4 of one GPU each."""
    repository = new_repository("two_on_a_gpu")
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


def test_two_instances_fit_one_gpu(two: Engine, tell: Callable[[str], None]) -> None:
    found = places(two)
    assert set(found) == {f"{DIGITS.name}_0_0", f"{DIGITS.name}_0_1"}
    assert set(found.values()) == {"cuda:0"}
    # Each takes its share as soon as it starts; Triton measures every other second.
    count = len(re.findall("^nv_gpu_memory_total_bytes{", two.metrics(), re.MULTILINE))
    wait_until(lambda: share_in_use(two) > 0.75 / max(1, count), "the memory is not in use")
    tell(f"two instances have {share_in_use(two):.0%} of the memory of {count} GPU in use")


def test_digits_on_a_gpu(two: Engine) -> None:
    images, labels = client.held_out_digits()
    parts = (images[start : start + 16] for start in range(0, len(images), 16))
    logits = [two.infer(DIGITS.name, image=part)["fc_out"] for part in parts]
    assert (np.concatenate(logits).argmax(-1) == labels).mean() >= 0.97


def test_logits_agree_with_those_of_a_cpu(
    two: Engine, new_repository: Callable[[str], Path], start: Start
) -> None:
    two.stop()  # to make room
    repository = new_repository("on_a_gpu")
    write_resnets(repository)
    images = np.random.default_rng(5).random((3, 224, 224, 3), np.float32)
    with start(repository) as gpu, NativeEngine(repository) as cpu:
        assert {places(gpu)[f"{model}_0_0"] for model in RANDOM} == {"cuda:0"}
        for model in RANDOM:
            logits, expected = (each.infer(model, image=images)["fc_out"] for each in (gpu, cpu))
            difference = np.abs(logits - expected).max()
            assert difference <= TOLERANCE * np.abs(expected).max(), model
