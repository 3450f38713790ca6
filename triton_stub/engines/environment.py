"""The Python environment that the real tritonserver and its models live in.

The server comes out of the ``nvidia-pytriton`` wheel. Its Python backend embeds one Python version
and needs numpy 1, so it never shares an environment with the tests:

    python -m triton_stub.engines.native create .nox/triton-native "jax==0.7.1" "flax==0.12.0"
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Names an environment to use in place of the default one.
VARIABLE = "TRITON_STUB_NATIVE_ENV"
#: Where the environment is looked for, relative to the root of the tests.
DEFAULT = Path(".nox/triton-native")

# Installed without its dependencies: of pytriton itself only the server's binaries are used.
SERVER = "nvidia-pytriton==0.7.0"
# Triton's triton_python_backend_utils is written for numpy 1 (its image pins numpy<2 too).
BASE = ("numpy<2",)
# The wheel has stubs for 3.8 to 3.13; below 3.11 there is no JAX of this decade, above 3.12 no
# numpy 1.
PYTHONS = ((3, 12), (3, 11))

_STAMP = "triton-native.json"
_PROBE = """
import json, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "site_packages": sysconfig.get_path("purelib"),
    "libdir": sysconfig.get_config_var("LIBDIR"),
    "soname": sysconfig.get_config_var("INSTSONAME"),
}))
"""


class NativeEnvironmentError(RuntimeError):
    """The real server cannot run here, or its environment is missing or unfit."""


@dataclass(frozen=True, slots=True)
class NativeEnvironment:
    """A virtual environment that holds the real tritonserver.

    Attributes:
        path: the environment.
        version: Python version of the environment, which the server embeds.
        site_packages: where its packages are.
        libdir: folder of the shared ``libpython`` that the Python backend loads.
    """

    path: Path
    version: tuple[int, int]
    site_packages: Path
    libdir: Path

    @classmethod
    def find(cls, root: Path | None = None) -> Self:
        """Open ``$TRITON_STUB_NATIVE_ENV`` if set, else ``.nox/triton-native`` under ``root``.

        ``root`` is the working directory unless given.

        Raises:
            NativeEnvironmentError: there is none that is fit; the text says how to make one.
        """
        named = os.environ.get(VARIABLE)
        return cls.open(Path(named) if named else (root or Path.cwd()) / DEFAULT)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the environment at ``path``.

        Raises:
            NativeEnvironmentError: there is none that is fit; the text says how to make one.
        """
        _require_platform()
        path = path.absolute()
        remedy = (
            f"Make one with:  python -m triton_stub.engines.native create {path} [REQUIREMENT...]\n"
            f"where each REQUIREMENT is something that the models import (in this project's own "
            f"checkout `nox -s conformance` does it), or name another one in ${VARIABLE}."
        )
        python = path / "bin" / "python3"
        if not python.exists():
            raise NativeEnvironmentError(
                f"no environment with the real tritonserver at {path}. {remedy}"
            )
        if not _stamp(path).get("complete", True):  # an environment made by hand has no stamp
            raise NativeEnvironmentError(f"the environment at {path} is only half made. {remedy}")
        facts = _probe(str(python))
        environment = cls(
            path=path,
            version=_version(facts),
            site_packages=Path(facts["site_packages"]),
            libdir=Path(facts["libdir"]),
        )
        if not environment.server.exists():
            raise NativeEnvironmentError(
                f"the environment at {path} has no tritonserver (expected {environment.server}, "
                f"from the wheel {SERVER}). {remedy}"
            )
        if not environment.stub.exists():
            raise NativeEnvironmentError(
                f"the environment at {path} has Python {_dotted(environment.version)}; {SERVER} "
                f"cannot embed it (no {environment.stub}). {remedy}"
            )
        return environment

    @classmethod
    def create(
        cls, path: Path, requirements: Sequence[str] = (), *, python: str | None = None
    ) -> Self:
        """Make the environment at ``path``, or keep it if it was made from the same requirements.

        An environment that was left half made, or was made from other requirements, is replaced.
        Uses ``uv`` when there is one (``$UV`` or on ``PATH``), else ``venv`` and ``pip``.

        Args:
            path: the new environment's folder.
            requirements: what the models import, as pip takes it: ``"jax==0.7.1"``.
            python: interpreter for it; unless given, this one if the server can embed it, else a
                fitting one on ``PATH``, else one that ``uv`` fetches.

        Raises:
            NativeEnvironmentError: no fitting Python, or the installation failed.
        """
        _require_platform()
        path = path.absolute()
        uv = os.environ.get("UV") or shutil.which("uv")
        with _locked(path):
            python = python or _choose_python(uv)
            wanted = {
                # A bare version is one that uv is to fetch; no interpreter is there to ask yet.
                "python": python if python[0].isdigit() else _dotted(_version(_probe(python))),
                "server": SERVER,
                "requirements": [*BASE, *requirements],
            }
            if _stamp(path) == {"complete": True, **wanted} and (path / "bin" / "python3").exists():
                return cls.open(path)
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            _write_stamp(path, {"complete": False})
            new = str(path / "bin" / "python3")
            install: tuple[str, ...]
            if uv:
                # --allow-existing keeps the stamp, which says that this is not ready yet.
                _run(uv, "venv", "--quiet", "--allow-existing", "--python", python, str(path))
                install = (uv, "pip", "install", "-q", "--compile-bytecode", "--python", new)
            else:
                _run(python, "-m", "venv", str(path))
                install = (new, "-m", "pip", "install", "--quiet")
            _run(*install, *BASE, *requirements)
            _run(*install, "--no-deps", SERVER)
            # The Python backend ignores PYTHONDONTWRITEBYTECODE; no server started from here
            # leaves a __pycache__ in a model repository.
            pth = Path(_probe(new)["site_packages"], "triton_stub.pth")
            pth.write_text("import sys; sys.dont_write_bytecode = True\n")
            _write_stamp(path, {"complete": True, **wanted})
        return cls.open(path)

    @property
    def server(self) -> Path:
        """The ``tritonserver`` program."""
        return self._wheel / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The ``triton_python_backend_stub`` that embeds this environment's Python."""
        name = "triton_python_backend_stub"
        return self._wheel / "python_backend_stubs" / _dotted(self.version) / name

    @property
    def backend_files(self) -> tuple[Path, ...]:
        """All that a ``backends/python`` folder has to hold."""
        return (*sorted((self._wheel / "backends" / "python").iterdir()), self.stub)

    @property
    def caches(self) -> Path:
        """A folder of response caches, each in a folder of its own."""
        return self._wheel / "caches"

    def variables(self) -> dict[str, str]:
        """Environment variables that make the server's Python this environment's Python.

        The embedded Python takes its ``site-packages`` from the first ``python3`` on ``PATH``.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            # Those of the tests' own interpreter would lead the embedded one astray.
            if name not in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONWARNINGS")
        }
        libraries = [str(self.site_packages / "nvidia_pytriton.libs"), str(self.libdir)]
        return inherited | {
            "PATH": _joined(str(self.path / "bin"), inherited.get("PATH")),
            "LD_LIBRARY_PATH": _joined(*libraries, inherited.get("LD_LIBRARY_PATH")),
        }

    @property
    def _wheel(self) -> Path:
        return self.site_packages / "pytriton" / "tritonserver"


def _require_platform() -> None:
    here = f"{platform.system()} {platform.machine()}"
    if here != "Linux x86_64":
        raise NativeEnvironmentError(
            f"the real tritonserver is there for Linux x86_64 only, and this is {here}; "
            "use the engine 'stub', a container, or the URL of a server elsewhere"
        )


def _choose_python(uv: str | None) -> str:
    """Find an interpreter that the server can embed: right version, shared libpython at hand."""
    names = [f"python{_dotted(version)}" for version in PYTHONS]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    refused = []
    for python in found:
        try:
            facts = _probe(python)
        except NativeEnvironmentError as error:
            refused.append(str(error))
            continue
        library = Path(facts["libdir"] or "/", facts["soname"] or "libpython.so")
        version = _version(facts)
        if version not in PYTHONS:
            refused.append(f"{python} is Python {_dotted(version)}")
        elif not library.exists():
            refused.append(
                f"{python} has no shared library {library} (on Debian and Ubuntu: "
                f"apt install libpython{_dotted(version)})"
            )
        else:
            return python
    if uv:
        return _dotted(PYTHONS[0])  # uv finds or fetches it
    raise NativeEnvironmentError(
        f"found no Python that the real tritonserver can embed: expected "
        f"{' or '.join(names)} with a shared libpython; {'; '.join(refused)}. "
        "Install one, or install uv (`python -m pip install uv`), which fetches one by itself."
    )


def _probe(python: str) -> dict[str, Any]:
    """Ask an interpreter for its version and its places."""
    try:
        # -I: the caller's PYTHONPATH and working directory are none of its business.
        command = [python, "-I", "-c", _PROBE]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeEnvironmentError(f"cannot run {python}: {error}") from error
    facts: dict[str, Any] = json.loads(answer.stdout)
    return facts


def _version(facts: dict[str, Any]) -> tuple[int, int]:
    major, minor = facts["version"]
    return major, minor


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(error).rstrip(".")
        raise NativeEnvironmentError(
            f"could not make the environment: {reason}. What the command printed is above; "
            "run it again when the cause is gone."
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time make the environment."""
    import fcntl  # not there on Windows, where this module must still import

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stamp(path: Path) -> dict[str, Any]:
    try:
        stamp: dict[str, Any] = json.loads((path / _STAMP).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        return {"complete": False}
    return stamp


def _write_stamp(path: Path, stamp: dict[str, Any]) -> None:
    # By renaming, so that no reader and no crash sees half of it.
    (path / f"{_STAMP}.new").write_text(json.dumps(stamp, indent=2))
    (path / f"{_STAMP}.new").replace(path / _STAMP)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _joined(*parts: str | None) -> str:
    return os.pathsep.join(part for part in parts if part)
