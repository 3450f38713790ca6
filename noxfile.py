"""What this project runs, each in an environment of its own: ``python -m nox --list``."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["unit", "lint", "types"]

PROJECT = nox.project.load_toml("pyproject.toml")
DIGITS = Path("model_repository/resnet18_digits")


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need no server: unit and property tests."""
    install(session, extras="serve,pytest,jax,e2e", groups=["test"])
    session.run("pytest", "tests/unit", "tests/property", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Train the digits model if need be, serve it, send it 360 digits from concurrent clients."""
    install(session, extras="serve,jax", groups=["demo"])
    train_digits(session)
    session.run("python", "ci/demo.py", *session.posargs)


@nox.session
def parity(session: nox.Session) -> None:
    """Compare the ResNets' logits with an independent implementation."""
    install(session, extras="serve,pytest,jax", groups=["test", "parity"])
    session.run("pytest", "tests/parity", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Run the same tests on the stub and on the real tritonserver (Linux x86_64)."""
    install(session, extras="serve,pytest,jax", groups=["test", "demo"])
    train_digits(session)
    # A server is waited for most of the time: two at once take little more than half as long.
    workers = ("-n2", "--dist=loadfile")
    session.run("pytest", "tests/conformance", *workers, *session.posargs, env=native(session))


@nox.session
def e2e(session: nox.Session) -> None:
    """Serve the models from a real container and ask them; ci/e2e.sh makes what that takes."""
    install(session, extras="serve,pytest,jax,e2e", groups=["test", "demo", "parity", "e2e"])
    train_digits(session)
    options = list(session.posargs)
    if not any(option.startswith("--triton-engine") for option in options):
        options += ["--triton-engine=container", "--triton-require"]
    # After Ctrl-C they stop their containers, for which half a second is not enough.
    session.run("pytest", "tests/e2e", *options, env=native(session), interrupt_timeout=120)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure all that is claimed of the speed, beside its targets; --quick takes 3 minutes."""
    install(session, extras="serve,pytest,jax", groups=["test", "demo", "bench"])
    if "--torch" in session.posargs:  # several GB, for one more peer of the network
        session.install("torch")
    # Some of them, with options: nox -s bench -- overhead costs --rounds 5; --help lists them.
    session.run("python", "tests/bench/bench.py", *session.posargs, env=native(session))


@nox.session
def soak(session: nox.Session) -> None:
    """64 clients for 60 s, with loads, unloads and cancellations in between: it all adds up."""
    install(session, extras="serve", groups=["test"])
    session.run("python", "tests/bench/soak.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Malformed HTTP requests and gRPC messages, 70,000 of them: nothing breaks the server."""
    install(session, extras="serve,pytest", groups=["test"])
    session.run("python", "tests/bench/fuzz.py", *session.posargs)


@nox.session
def load(session: nox.Session) -> None:
    """16 clients for two minutes over HTTP and gRPC, beside the real tritonserver: none is lost."""
    install(session, extras="serve", groups=["test"])
    session.run("python", "tests/bench/crowd.py", *session.posargs, env=native(session))


@nox.session
def lint(session: nox.Session) -> None:
    """Check Python with ruff, the scripts with shellcheck, the workflows against their schema."""
    install(session, groups=["lint"])
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("shellcheck", ".ci/run", *map(str, sorted(Path("ci").glob("*.sh"))))
    # The schema comes with the package: no network.
    workflows = map(str, sorted(Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy --strict."""
    install(session, extras="serve,pytest,e2e", groups=["types"])
    session.run("mypy", *session.posargs)


def install(session: nox.Session, *, extras: str = "", groups: list[str]) -> None:
    """Install dependency groups, and this project with ``extras`` if it is needed at all."""
    # Not `pip install --group`: it needs pip 25.1 or newer.
    packages = nox.project.dependency_groups(PROJECT, *groups)
    session.install(*(["-e", f".[{extras}]"] if extras else []), *packages)


def train_digits(session: nox.Session) -> None:
    """Make the digits checkpoint, which is not in the repository."""
    if not (DIGITS / "1" / "weights.safetensors").exists():
        session.run("python", str(DIGITS / "train.py"))


def native(session: nox.Session) -> dict[str, str]:
    """Build the environment of the real tritonserver; return the variable that names it."""
    variable = "TRITON_STUB_NATIVE_ENV"
    named = os.environ.get(variable)
    if not named:
        named = str(Path(".nox/triton-native").absolute())
        requirements = nox.project.dependency_groups(PROJECT, "native", "cpu-engine")
        tool = {}
        if session.venv_backend == "uv":
            # nox's uv may be in nox's own environment, out of sight of the session.
            from nox.virtualenv import UV

            tool = {"UV": UV}
        create = ("python", "-m", "triton_stub.engines.native", "create", named, *requirements)
        session.run(*create, env=tool)
    return {variable: named}
