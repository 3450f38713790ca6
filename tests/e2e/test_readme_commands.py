"""The README's commands for Docker, taken out of it and run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest
from paper import Paper
from patience import PATIENCE, wait_until
from PIL import Image
from starting import container_options

from triton_stub.engines.container import VARIABLE
from triton_stub.engines.http import HttpEngine

pytestmark = pytest.mark.container

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
NAMED = "triton-jax:gpu"  # the image, as the README has it
# Where flaxmodels' file of ImageNet weights is kept, in the container.
WEIGHTS = "/cache/.cache/flaxmodels/resnet50_weights.h5"


def command(beginning: str) -> str:
    """The one command of the README that begins so."""
    consoles = re.findall(r"^```console\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    commands = [
        each
        for console in consoles
        for each in re.split(r"(?<!\\)\n", console)
        if each.startswith(beginning)
    ]
    (found,) = commands
    return found


def changed(text: str, changes: Mapping[str, str]) -> str:
    """``text`` with every change made, each of which must be possible."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in: {text}"
        text = text.replace(old, new)
    return text


def free_ports() -> dict[int, int]:
    """For each of Triton's ports one that is free here."""
    with ExitStack() as stack:
        sockets = {port: stack.enter_context(socket.socket()) for port in (8000, 8001, 8002)}
        for listener in sockets.values():
            listener.bind(("", 0))
        return {port: listener.getsockname()[1] for port, listener in sockets.items()}


def docker(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *arguments], check=False, capture_output=True, **options)


@pytest.fixture(scope="module")
def paper() -> Paper:
    """A ResNet-50 of random weights, written from the paper and run by ONNX Runtime."""
    return Paper("resnet50", classes=1000, seed=6)


@pytest.fixture
def names(paper: Paper, pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Names for what the command makes: a container, and a volume that has a file of weights.

    ImageNet's come from the internet; these are in a file of the same name and layout.
    """
    image = container_options(pytestconfig).get("image") or os.environ[VARIABLE]
    own = f"triton-stub-test-{uuid.uuid4().hex[:12]}"
    names = {"image": image, "container": own, "volume": own}
    weights = tmp_path / "weights.h5"
    with h5py.File(weights, "w") as file:
        for name, array in paper.weights.items():
            file[name] = array
    put = f"mkdir -p {Path(WEIGHTS).parent} && cat > {WEIGHTS}"
    try:
        with weights.open("rb") as file:
            volume = f"{names['volume']}:/cache"
            into = docker("run", "--rm", "-i", "-v", volume, image, "sh", "-c", put, stdin=file)
        assert into.returncode == 0, into.stderr.decode()
        yield names
    finally:
        docker("rm", "--force", "--volumes", names["container"])
        gone = docker("volume", "rm", "--force", names["volume"])
    assert gone.returncode == 0, gone.stderr.decode()


def test_serve_and_ask(
    names: dict[str, str], paper: Paper, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    gpus = container_options(pytestconfig).get("gpus")
    ports = free_ports()
    serve = changed(
        command("docker run "),
        {
            # What two runs of this test on one machine must not share,
            "docker run": f"docker run --name {names['container']}",
            "resnet-cache:": f"{names['volume']}:",
            **{f"-p {port}:": f"-p {free}:" for port, free in ports.items()},
            # and what this machine has.
            "--gpus=all": f"--gpus={gpus}" if gpus else "",
            NAMED: names["image"],
        },
    )
    image = np.random.default_rng(1).random((3, 224, 224, 3), np.float32)
    picture = tmp_path / "cat.jpg"
    Image.new("RGB", (320, 240), "orange").save(picture)
    ask = changed(
        command("python client.py "),
        {
            "python ": f"{shlex.quote(sys.executable)} ",
            "cat.jpg": shlex.quote(str(picture)),
            ":8000": f":{ports[8000]}",
        },
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {serve}"], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        with HttpEngine(f"localhost:{ports[8000]}") as engine:
            end = time.monotonic() + 10 * PATIENCE  # it compiles while it loads
            while server.poll() is None and not engine.ready("resnet50"):
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            assert server.poll() is None, log.read_text()
            logits = engine.infer("resnet50", image=image)["fc_out"]
        said = subprocess.run(
            ["bash", "-c", ask], cwd=ROOT, check=False, capture_output=True, text=True
        )
        server.send_signal(signal.SIGINT)
        status = server.wait(PATIENCE)
    finally:
        server.kill()
        server.wait()
    session = onnxruntime.InferenceSession(paper.graph(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["fc_out"], {"image": image})
    tolerance = 1e-2 if gpus else 1e-4  # a GPU multiplies with fewer digits
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("%") == 5
    assert status == 0, log.read_text()
    # The engine removes it as soon as it has told how it ended.
    inspect = ("container", "inspect", names["container"])
    wait_until(lambda: docker(*inspect).returncode != 0, "--rm has not removed it")
