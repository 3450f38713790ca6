"""NVIDIA's own Python client examples against this server, or against the real one.

    python ci/client_examples.py client/src/python/examples [--engine native] [--only TEXT]

The folder is from github.com/triton-inference-server/client; the clients need
``tritonclient[all]``, ``pillow`` and ``attrdict``. The models that the examples expect are Python
models in ``tests/client_models``. Prints a table; the exit code is 1 if an example fails, or one
is there that this program has not heard of.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from triton_stub import Server
from triton_stub.engines.native import NativeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).parent.parent / "tests" / "client_models"
PROTOCOLS = ("http", "grpc")
PATIENCE = 120  # seconds for one example
IMAGE = "IMAGE"  # stands for the path of an image
DYNAMIC = "--dyna"
# What the real server of this suite, 2.51, cannot do, and what the example says then. It refuses
# all sequences whose ids are text for the model, too, and dies of a file with a name of more than
# 255 letters, which the example has asked for since 2026; newer ones do neither.
OLD = {
    DYNAMIC: "unexpected number of string elements 2 for inference input 'CORRID', expecting 1",
    "simple_grpc_model_control.py": "oversized file parameter, got status='StatusCode.UNAVAILABLE'",
}
# The repository of the examples; the HTTP example was written before the last one was added.
SEVEN = (
    *("densenet_onnx", "inception_graphdef", "simple", "simple_dyna_sequence"),
    *("simple_identity", "simple_sequence", "simple_string"),
)
EIGHT = (*SEVEN, "simple_int8")


class Run(NamedTuple):
    """One way to run an example; on a server of its own if it counts the models."""

    example: str
    protocol: str
    options: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.example, *self.options))


def runs() -> list[Run]:
    """Every way to run an example that this program knows."""
    either = [run for protocol in PROTOCOLS for run in runs_of_either(protocol)]
    return [*http_runs(), *either, *grpc_runs()]


def http_runs() -> Iterator[Run]:
    """What there is for HTTP alone."""
    gzip, deflate = (
        (f"--request-compression-algorithm={name}", f"--response-compression-algorithm={name}")
        for name in ("gzip", "deflate")
    )
    for example in ("simple_http_infer_client.py", "simple_http_aio_infer_client.py"):
        for options in ((), gzip, deflate, ("-H", "abc:xyz", "-H", "123:456")):
            yield Run(example, "http", options)


def runs_of_either(protocol: str) -> Iterator[Run]:
    """What there is for both protocols."""
    for name in ("async_infer_client", "health_metadata", "string_infer_client"):
        yield Run(f"simple_{protocol}_{name}.py", protocol)
    for name in ("shm_client", "shm_string_client"):
        yield Run(f"simple_{protocol}_{name}.py", protocol)
    for options in ((), (DYNAMIC, "-o", "10")):
        yield Run(f"simple_{protocol}_sequence_sync_infer_client.py", protocol, options)
    yield Run("reuse_infer_objects_client.py", protocol, ("-i", protocol))
    yield Run("memory_growth_test.py", protocol, ("-i", protocol, "-r", "20"))
    for model, options in itertools.product(
        ("densenet_onnx", "inception_graphdef"), ((), ("--async",))
    ):
        classes = ("-i", protocol, "-m", model, "-s", "INCEPTION", "-c", "3", *options)
        yield Run("image_client.py", protocol, (*classes, IMAGE))
    batch = ("-i", protocol, "-m", "inception_graphdef", "-b", "2", "-c", "2")
    yield Run("image_client.py", protocol, (*batch, IMAGE))
    yield Run("ensemble_image_client.py", protocol, ("-i", protocol, "-c", "3", IMAGE))
    models = SEVEN if protocol == "http" else EIGHT
    yield Run(f"simple_{protocol}_model_control.py", protocol, models=models)


def grpc_runs() -> Iterator[Run]:
    """What there is for gRPC alone."""
    for example in ("simple_grpc_infer_client.py", "simple_grpc_aio_infer_client.py"):
        for options in ((), ("-C", "gzip"), ("-C", "deflate")):
            yield Run(example, "grpc", options)
    for number, name in enumerate(("", "aio_")):
        for options in (("-o", f"{20 + number}"), (DYNAMIC, "-o", f"{30 + number}")):
            yield Run(f"simple_grpc_{name}sequence_stream_infer_client.py", "grpc", options)
    for name in ("custom_args_client", "custom_repeat", "keepalive_client"):
        yield Run(f"simple_grpc_{name}.py", "grpc")
    yield Run("grpc_client.py", "grpc")
    for kind in ("byte", "int8", "int"):
        yield Run(f"grpc_explicit_{kind}_content_client.py", "grpc")
    image = ("-m", "inception_graphdef", "-s", "INCEPTION", "-c", "3")
    for options in ((), ("--async",), ("--streaming",)):
        yield Run("grpc_image_client.py", "grpc", (*image, *options, IMAGE))
    yield Run("image_client.py", "grpc", ("-i", "grpc", *image, "--streaming", IMAGE))


NOT_RUN = {
    f"simple_{protocol}_cudashm_client.py": "needs a GPU and CUDA shared memory"
    for protocol in PROTOCOLS
}


def main() -> int:
    """Run the examples; 1 if any has failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", type=Path, help="folder of the examples")
    parser.add_argument("--engine", choices=("stub", "native"), default="stub")
    parser.add_argument("--only", default="", help="those whose command has this in it")
    arguments = parser.parse_args()
    chosen = [run for run in runs() if arguments.only in f"{run}"]
    known = {run.example for run in runs()} | set(NOT_RUN)
    unknown = sorted({path.name for path in arguments.examples.glob("*.py")} - known)
    missing = sorted(
        {run.example for run in chosen if not (arguments.examples / run.example).exists()}
    )
    failures = [f"{name}: unknown to this program" for name in unknown]
    failures += [f"{name}: not in {arguments.examples}" for name in missing]
    print("| example | protocol | result | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = write_image(folder / "image.ppm")
        # Those that need no server of their own come first, and share one.
        for models, group in itertools.groupby(
            sorted(chosen, key=lambda run: run.models), lambda run: run.models
        ):
            with serving(arguments.engine, models, folder) as server:
                for run in group:
                    if run.example not in missing:
                        url = getattr(server, f"{run.protocol}_url")
                        words = too_old(run) if arguments.engine == "native" else ""
                        failures += report(run, arguments.examples, url, image, refused=words)
    for example, reason in NOT_RUN.items():
        if not arguments.only:
            print(f"| {example} | {example.split('_')[1]} | not run: {reason} | |")
    for failure in failures:
        print(f"\nFAILED: {failure}")
    print(f"\n{len(chosen)} runs on {arguments.engine}, {len(failures)} failures")
    return 1 if failures else 0


def serving(engine: str, models: tuple[str, ...], folder: Path) -> Server | NativeEngine:
    """A server that has these models, or all."""
    repository = MODELS
    if models:
        repository = folder / f"models_{len(models)}"
        for model in models:
            shutil.copytree(MODELS / model, repository / model)
    if engine == "native":
        return NativeEngine(repository, models=["*"])
    return Server(repository, model_control_mode="explicit", startup_models=["*"])


def too_old(run: Run) -> str:
    """What the example says of the real server of this suite; empty if that can do it."""
    return next((OLD[part] for part in (run.example, *run.options) if part in OLD), "")


def report(run: Run, examples: Path, url: str, image: Path, *, refused: str) -> list[str]:
    """Run an example and print its row; why it has failed, if it has.

    ``refused``: what it must say, if the server is too old for it.
    """
    options = [str(image) if option == IMAGE else option for option in run.options]
    path = examples / run.example
    if "--url" not in (text := path.read_text()):
        # Its addresses are fixed.
        path = image.parent / path.name
        for port in ("8000", "8001"):
            text = text.replace(f"localhost:{port}", url)
        path.write_text(text)
    else:
        options += ["-u", url]
    start = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(path), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
        )
        failed = f"exit code {done.returncode}" if done.returncode else ""
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        failed = f"no end after {PATIENCE} s"
        output = (error.stdout or b"").decode(errors="replace")
    # Some say so and leave with 0.
    if not failed and ("FAILED" in output or "error:" in output or "creation failed" in output):
        failed = "says that it has failed"
    passed = "passed"
    if refused:
        passed = "failed, as expected of this release"
        failed = "" if failed and refused in output else "expected to fail"
    seconds = time.monotonic() - start
    print(f"| {run} | {run.protocol} | {failed or passed} | {seconds:.1f} |", flush=True)
    return [f"{run}: {failed}\n{output[-2000:]}"] if failed else []


def write_image(path: Path) -> Path:
    """A picture of a red and yellow sunset, as a binary PPM file."""
    width, height = 64, 48
    # Nothing is 0: numpy cuts zeros from the end of the bytes that a client sends.
    pixels = b"".join(
        bytes((255, 1 + 2 * row if column < width // 2 else 40, 1))
        for row in range(height)
        for column in range(width)
    )
    path.write_bytes(b"P6 %d %d 255\n" % (width, height) + pixels)
    return path


if __name__ == "__main__":
    sys.exit(main())
