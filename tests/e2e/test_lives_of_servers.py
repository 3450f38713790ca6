"""Servers that start, start again, run short of shared memory, and stop in the middle of work."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from model_files import CONFIG, ECHO, write_model
from patience import PATIENCE, wait_until
from resnet_cases import write_digits
from starting import Start

import client
from triton_stub import InferenceError, LoadError

NAME = "resnet18_digits"
COMPILED = re.compile(r"batch \d+ compiled in ([\d.]+) s")
EXECUTES = re.compile(rf"model {NAME}, instance ({NAME}_0_\d), executing")
HIT = re.compile(r"Persistent compilation cache hit for '(\w+)'")
PENDING = re.compile(
    r'^nv_inference_pending_request_count{model="slow",version="1"} (\d+)', re.MULTILINE
)
# Answers after as many seconds as it is told.
SLOW = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(requests[0].inputs()[0].as_numpy().item())
        return [pb_utils.InferenceResponse(request.inputs()) for request in requests]
"""
ECHOES = CONFIG.replace('"OUT"', '"IN"')  # an answer has its request's tensor


@pytest.mark.container
def test_two_instances(new_repository: Callable[[str], Path], start: Start) -> None:
    repository = new_repository("two")
    config = write_digits(repository) / "config.pbtxt"
    text = config.read_text()
    config.write_text(text.replace("instance_group [ { count: 1", "instance_group [ { count: 2"))
    assert config.read_text() != text
    images, labels = client.held_out_digits()
    # Each execution is in the log then, with the instance that does it.
    with (
        start(repository, options=["--log-verbose=1"]) as engine,
        ThreadPoolExecutor(16) as clients,
    ):
        logits = clients.map(
            lambda image: engine.infer(NAME, image=image[np.newaxis])["fc_out"][0], images
        )
        right = sum(int(row.argmax()) == label for row, label in zip(logits, labels, strict=True))
        executed = Counter(EXECUTES.findall(engine.log()))
    assert right >= 0.97 * len(labels)
    assert set(executed) == {f"{NAME}_0_0", f"{NAME}_0_1"}


@pytest.fixture
def volume() -> Iterator[str]:
    """The name of a volume, which is removed afterwards."""
    name = f"triton-stub-test-{uuid.uuid4().hex[:12]}"
    yield name
    import docker

    engine = docker.from_env()
    engine.volumes.get(name).remove()
    engine.close()


@pytest.mark.container
def test_the_second_start_finds_compiled_programs(
    new_repository: Callable[[str], Path],
    start: Start,
    volume: str,
    tell: Callable[[str], None],
) -> None:
    repository = new_repository("again")
    write_digits(repository)

    def log_of_a_start() -> tuple[str, int, str]:
        started = time.perf_counter()
        # With this JAX says which programs it has found.
        with start(repository, volumes={volume: "/cache"}, env={"JAX_LOG_COMPILES": "1"}) as engine:
            seconds = time.perf_counter() - started
            log = engine.log()
        compiled = [float(number) for number in COMPILED.findall(log)]
        programs = f"{sum(compiled):.1f} s of them for {len(compiled)} programs"
        return log, len(compiled), f"{seconds:.1f} s until ready, {programs}"

    (first, programs, cold), (second, as_many, warm) = log_of_a_start(), log_of_a_start()
    assert programs == as_many >= 3  # one for each batch size; on a GPU there are more
    assert not HIT.findall(first)
    assert HIT.findall(second).count("jit_classify") == programs
    tell(f"compilation cache empty: {cold}")
    tell(f"compilation cache warm:  {warm}")


@pytest.mark.container
def test_too_little_shared_memory_for_a_model(
    new_repository: Callable[[str], Path], start: Start
) -> None:
    repository = new_repository("tight")
    for number in range(3):
        write_model(repository, f"echo{number}", ECHO, ECHOES)
    with pytest.raises(LoadError, match="use '--shm-size' flag") as caught:
        start(repository, shm_size="1m")
    hints = "\n".join(caught.value.__notes__)
    assert "shared memory (1m)" in hints
    assert "--triton-shm-size" in hints


@pytest.mark.container
def test_too_little_shared_memory_for_a_tensor(
    new_repository: Callable[[str], Path], start: Start
) -> None:
    repository = new_repository("tight")
    write_model(repository, "echo", ECHO, ECHOES)
    with start(repository, shm_size="8m") as engine:
        small, large = (np.zeros(length, np.float32) for length in (1 << 10, 4 << 20))
        np.testing.assert_array_equal(engine.infer("echo", IN=small)["IN"], small)
        with pytest.raises(InferenceError, match="use '--shm-size' flag"):
            engine.infer("echo", IN=large)
        # It goes on.
        np.testing.assert_array_equal(engine.infer("echo", IN=small)["IN"], small)


def test_what_is_in_flight_is_answered(new_repository: Callable[[str], Path], start: Start) -> None:
    repository = new_repository("in_flight")
    write_model(repository, "slow", SLOW, ECHOES)
    one = np.ones(1, np.float32)
    engine = start(repository)

    def all_have_arrived() -> bool:
        """All but the one in execution are in the queue, or answered."""
        (pending,) = PENDING.findall(engine.metrics())
        return int(pending) + sum(answer.done() for answer in answers) == len(answers) - 1

    with ThreadPoolExecutor(8) as clients:
        try:
            # One after another, a second each: most of them still wait when the server is stopped.
            answers = [clients.submit(engine.infer, "slow", IN=one) for _ in range(6)]
            wait_until(all_have_arrived)
        finally:
            engine.stop()
        for answer in answers:
            np.testing.assert_array_equal(answer.result(PATIENCE)["IN"], one)
    assert not engine.ready()
