"""The scripts in ci/: what they start is gone afterwards, and the locks fit every Python."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from patience import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
CI = ROOT / "ci"
LOCKS = [CI / "requirements-cpu.txt", CI / "requirements-gpu.txt"]
PYTHONS = ["3.10", "3.11", "3.12"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="Docker's engine is Linux's")

# Programs that the scripts call, in place of the real ones; each notes how it was called, and the
# one that FAKE_SLOW names ends when it is interrupted only, by an exit as most programs do it.
SLOW = """
if [ "$call" = "${FAKE_SLOW:-}" ]; then
    trap 'echo "$call was interrupted" >> "$CALLS"; exit 130' INT
    echo $$ > "$FAKES/pid"
    while true; do sleep 0.1; done
fi
"""
FAKES = {
    "docker": """
        case "$1" in
            info) [ -z "${FAKE_NO_ENGINE:-}" ] || { echo "$FAKE_NO_ENGINE" >&2; exit 1; } ;;
            pull) [ -z "${FAKE_NO_REGISTRY:-}" ] ;;
            context) echo unix:///there.sock ;;
            build)
                tar --list
                [ -z "${FAKE_BAD_BUILD:-}" ] || { echo "$FAKE_BAD_BUILD" >&2; exit 1; }
                ;;
        esac
    """,
    "python3": """
        case "$2" in
            venv) mkdir -p "$3/bin"; cp "$FAKES/nox" "$3/bin"; cp "$0" "$3/bin/python" ;;
        esac
    """,
    # For ci/base.sh: nothing is made here.
    "unshare": "exit 1",
    # For .ci/run: nothing runs, and nothing has changed.
    "pgrep": "exit 1",
    "git": "",
    "nox": """
        echo "$DOCKER_HOST $TRITON_STUB_IMAGE $TESTCONTAINERS_RYUK_DISABLED" >> "$CALLS"
        mktemp >> "$CALLS"
        exit "${FAKE_RESULT:-0}"
    """,
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chosen(lock: Path, python: str) -> dict[str, Requirement]:
    lines = load(CI / "wheels.py").chosen(lock.read_text(), python).splitlines()
    found = [Requirement(line.split(" --hash=")[0]) for line in lines]
    return {requirement.name: requirement for requirement in found}


def version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


class Scene:
    """A machine on which the programs that ``ci/e2e.sh`` calls are fakes."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        self.fakes = folder / "bin"
        self.temporary = folder / "tmp"
        for made in (self.fakes, self.temporary):
            made.mkdir()
        for name, body in FAKES.items():
            call = f'#!/bin/bash\ncall="{name} $1"\necho "{name} $*" >> "$CALLS"\n'
            (self.fakes / name).write_text(call + SLOW + body)
            (self.fakes / name).chmod(0o755)
        self.calls.touch()

    def start(
        self, *options: str, script: str = "ci/e2e.sh", **variables: str
    ) -> subprocess.Popen[bytes]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_STUB", "DOCKER"))}
        env |= {
            "PATH": f"{self.fakes}:{env['PATH']}",
            "FAKES": str(self.fakes),
            "CALLS": str(self.calls),
            "TMPDIR": str(self.temporary),
            "TRITON_STUB_CACHE": str(self.temporary.parent / "cache"),
        }
        return subprocess.Popen(
            ["bash", str(ROOT / script), *options],
            env=env | variables,
            start_new_session=True,
        )

    def wait_for_slow(self) -> Path:
        """Wait until the slow program runs; return its folder in /proc."""
        pid = self.fakes / "pid"
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        return Path("/proc", pid.read_text().strip())

    def run(self, *options: str, **variables: str) -> int:
        return self.start(*options, **variables).wait(PATIENCE)

    def called(self, beginning: str) -> list[str]:
        lines = self.calls.read_text().splitlines()
        return [line for line in lines if line.startswith(beginning)]

    def left(self) -> list[str]:
        return [path.name for path in self.temporary.iterdir()]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@linux
class TestE2e:
    def test_an_engine_and_a_registry_that_are_there_are_used(self, scene: Scene) -> None:
        assert scene.run("-k", "one") == 0
        (base,) = re.findall(r"^ARG BASE=(.*)", (CI / "Dockerfile").read_text(), re.MULTILINE)
        (build,) = scene.called("docker build")
        assert f"--build-arg BASE={base} --build-arg DEVICE=cpu" in build
        assert "--tag triton-jax:cpu" in build
        assert scene.called("nox") == ["nox --session e2e -- -k one"]
        assert scene.called("unix") == ["unix:///there.sock triton-jax:cpu true"]
        assert scene.left() == []

    def test_a_gpu_has_an_image_of_its_own(self, scene: Scene) -> None:
        assert scene.run(TRITON_STUB_GPU="1") == 0
        (build,) = scene.called("docker build")
        assert "--tag triton-jax:gpu" in build
        assert "--build-arg DEVICE=gpu" in build
        assert scene.called("nox") == ["nox --session e2e -- --triton-gpus=all"]
        assert scene.called("unix") == ["unix:///there.sock triton-jax:gpu true"]

    def test_the_gpus_that_were_named_are_used(self, scene: Scene) -> None:
        assert scene.run("--triton-gpus=device=1", TRITON_STUB_GPU="1") == 0
        (nox,) = scene.called("nox")
        assert nox.endswith(" --triton-gpus=device=1")  # of two the last counts

    def test_a_base_that_was_named_is_used(self, scene: Scene) -> None:
        assert scene.run(TRITON_STUB_BASE="elsewhere/triton:1") == 0
        (build,) = scene.called("docker build")
        assert "BASE=elsewhere/triton:1 " in build
        assert scene.called("docker pull") == []

    def test_failure_is_reported_and_leaves_nothing(self, scene: Scene) -> None:
        assert scene.run(FAKE_RESULT="7") == 7
        assert scene.left() == []

    def test_what_tests_leave_in_the_folder_for_temporary_files_goes_with_it(
        self, scene: Scene
    ) -> None:
        assert scene.run() == 0
        (path,) = map(Path, scene.called(str(scene.temporary)))
        assert not path.exists()
        assert scene.left() == []

    def test_a_failed_build_shows_its_log(
        self, scene: Scene, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert scene.run(FAKE_BAD_BUILD="pip: no such wheel") == 1
        assert "pip: no such wheel" in capfd.readouterr().err
        assert scene.called("nox") == []

    def test_says_why_an_engine_that_is_there_is_not_used(
        self, scene: Scene, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (scene.fakes / "id").write_text("#!/bin/sh\necho 1000\n")
        (scene.fakes / "id").chmod(0o755)
        assert scene.run(FAKE_NO_ENGINE="permission denied at docker.sock") == 1
        said = capfd.readouterr()
        assert "permission denied at docker.sock" in said.out
        assert "only root can start a Docker engine" in said.err

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_interruption_ends_the_tests_and_leaves_nothing(
        self, scene: Scene, number: signal.Signals
    ) -> None:
        process = scene.start(FAKE_SLOW="nox --session")
        nox = scene.wait_for_slow()
        assert len(scene.left()) == 1
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert scene.called("nox --session was") == ["nox --session was interrupted"]
        assert not nox.exists()
        assert scene.left() == []

    def test_interruption_is_no_failure_after_which_another_way_is_tried(
        self, scene: Scene
    ) -> None:
        process = scene.start(FAKE_SLOW="docker pull")
        scene.wait_for_slow()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert scene.called("docker")[-1] == "docker pull was interrupted"
        assert scene.left() == []


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_whole_run_that_is_interrupted_leaves_nothing(
    scene: Scene, number: signal.Signals
) -> None:
    process = scene.start("e2e", script=".ci/run", FAKE_SLOW="nox --session")
    nox = scene.wait_for_slow()
    os.killpg(process.pid, number)  # as a terminal and `timeout` do it
    assert process.wait(PATIENCE) == 128 + number
    assert not nox.exists()
    assert scene.called("nox --session was") == ["nox --session was interrupted"]
    assert scene.left() == []


@linux
class TestEngine:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(CI / "engine.sh"), *arguments]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PATIENCE
        )

    def test_says_how_it_is_used(self) -> None:
        result = self.run("restart")
        assert result.returncode == 2
        assert "ci/engine.sh start FOLDER" in result.stderr

    def test_removes_no_folder_that_is_not_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "kept").touch()
        result = self.run("stop", str(tmp_path))
        assert result.returncode == 1
        assert f"{tmp_path} is not an engine's folder" in result.stderr
        assert (tmp_path / "kept").exists()

    def test_takes_no_folder_that_exists(self, tmp_path: Path) -> None:
        result = self.run("start", str(tmp_path))
        assert result.returncode == 1
        assert "exists already" in result.stderr or "only root" in result.stderr

    def test_one_that_never_was_is_stopped(self, tmp_path: Path) -> None:
        assert self.run("stop", str(tmp_path / "nowhere")).returncode == 0

    def test_a_number_that_is_another_programs_now_is_left_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "engine"
        folder.mkdir()
        (folder / "name").write_text("triton-none\n")
        (folder / "pid").write_text(f"{os.getpid()}\n")
        assert self.run("stop", str(folder)).returncode == 0
        assert not folder.exists()

    def test_one_of_which_nobody_takes_leave_is_stopped(self, tmp_path: Path) -> None:
        folder = tmp_path / "engine"
        folder.mkdir()
        (folder / "name").write_text("triton-none\n")
        shell = ["sh", "-c", "sleep 100 & wait; exit", f"{folder}/docker.sock"]
        # Ended but not waited for, as under `tail -f /dev/null` for process 1 of a container.
        with subprocess.Popen(shell) as process:
            (folder / "pid").write_text(f"{process.pid}\n")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(lambda: children.read_text() != "")
            try:
                assert self.run("stop", str(folder)).returncode == 0
            finally:
                process.kill()
        assert not folder.exists()


class TestLocks:
    @pytest.mark.parametrize("python", PYTHONS)
    @pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
    def test_have_what_the_models_import_with_numpy_1(self, lock: Path, python: str) -> None:
        found = chosen(lock, python)
        assert {"jax", "jaxlib", "flax", "flaxmodels", "safetensors", "h5py", "pillow"} <= {*found}
        assert version(found["numpy"]).startswith("1.")

    @pytest.mark.parametrize("python", PYTHONS)
    def test_of_gpu_has_cuda_and_else_the_versions_of_cpu(self, python: str) -> None:
        cpu, gpu = (chosen(lock, python) for lock in LOCKS)
        assert {name: version(gpu[name]) for name in cpu} == {
            name: version(cpu[name]) for name in cpu
        }
        more = {*gpu} - {*cpu}
        assert {"jax-cuda12-plugin", "nvidia-cudnn-cu12"} <= more
        assert all(name.startswith(("jax-cuda12", "nvidia-")) for name in more)

    @pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
    def test_have_a_hash_for_everything(self, lock: Path) -> None:
        lines = load(CI / "wheels.py").chosen(lock.read_text(), "3.11").splitlines()
        assert lines
        assert all(re.search(r" --hash=sha256:[0-9a-f]{64}$", line) for line in lines)

    def test_have_the_versions_beside_which_the_real_server_is_tested(self) -> None:
        project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wanted = [Requirement(text) for text in project["dependency-groups"]["native"]]
        found = chosen(LOCKS[0], "3.11")
        for requirement in wanted:
            assert requirement.specifier.contains(version(found[requirement.name]))

    def test_have_nothing_for_a_python_without_numpy_1(self) -> None:
        assert chosen(LOCKS[0], "3.13") == {}


@pytest.mark.parametrize("script", sorted(CI.glob("*.sh")), ids=lambda script: script.name)
def test_scripts_can_be_run_and_stop_at_the_first_failure(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)
    assert len(lines) < 120


def test_pictures_are_read_by_the_same_pillow_in_the_image_and_beside_it() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (beside,) = project["dependency-groups"]["e2e"]
    for lock in LOCKS:
        assert {str(chosen(lock, python)["pillow"]) for python in PYTHONS} == {beside}
