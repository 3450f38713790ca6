"""The real tritonserver on this machine, as a test engine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from triton_stub.engines.environment import NativeEnvironment, NativeEnvironmentError
from triton_stub.engines.http import HttpEngine
from triton_stub.engines.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from triton_stub.errors import ServerError


class NativeEngine(HttpEngine):
    """The real tritonserver, from the wheel, on free ports of the loopback interface.

    It is ready when the constructor returns, and gone after :meth:`stop` with everything that it
    started; also when this process is killed.

    Args:
        model_repository: one folder of models, or several.
        environment: where the server and the models' packages are; found unless given.
        models: load these only (``--model-control-mode=explicit``); all models unless given.
        options: more command line options, for example ``"--exit-on-error=false"`` to serve the
            good models of a repository that has a broken one, or ``"--log-verbose=1"``.
        env: more environment variables, for the server and its models.
        startup_timeout: seconds until the server must be ready; models compile while they load.
        timeout: seconds to wait for any one answer.

    Raises:
        NativeEnvironmentError: there is no environment, or none for this machine.
        LoadError: the server did not start; the text is what the server says of the reason, and
            the end of its log is attached as a note.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        environment: NativeEnvironment | None = None,
        models: Sequence[str] | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        startup_timeout: float = 300.0,
        timeout: float = 300.0,
    ) -> None:
        if isinstance(model_repository, str | os.PathLike):
            model_repository = [model_repository]
        arguments = [f"--model-repository={Path(folder).absolute()}" for folder in model_repository]
        if models is not None:
            arguments.append("--model-control-mode=explicit")
            arguments += [f"--load-model={model}" for model in models]
        self._process = ServerProcess(
            environment or NativeEnvironment.find(),
            [*arguments, *options],
            env=env or {},
            startup_timeout=startup_timeout,
        )
        ports = self._process.ports
        super().__init__(
            f"127.0.0.1:{ports.http}",
            grpc_url=f"127.0.0.1:{ports.grpc}",
            metrics_url=f"127.0.0.1:{ports.metrics}",
            name="native",
            timeout=timeout,
        )

    def log(self) -> str:
        """Return what the server and its models have printed; also after :meth:`stop`."""
        return self._process.log()

    @property
    def status(self) -> int | None:
        """How the server ended by itself, as a shell tells it (139: of signal 11).

        None while it runs, and after :meth:`stop`.
        """
        return self._process.status

    def stop(self) -> None:
        """Stop the server (SIGTERM; SIGKILL if that is not enough) and all that it started."""
        super().stop()
        self._process.stop()

    def _explain(self, error: ServerError) -> ServerError:
        error.add_note(self._process.tail())
        return error


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m triton_stub.engines.native create PATH [REQUIREMENT...]``."""
    parser = argparse.ArgumentParser(
        prog="python -m triton_stub.engines.native",
        description="The environment of the real tritonserver, for --triton-engine=native.",
    )
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser(
        "create", help="make an environment with the real tritonserver and what models import"
    )
    create.add_argument("path", type=Path, help="folder of the new environment")
    create.add_argument(
        "requirements", nargs="*", metavar="REQUIREMENT", help='as pip takes it: "jax==0.7.1"'
    )
    create.add_argument("--python", help="interpreter for it; a fitting one is found unless given")
    given = parser.parse_args(arguments)
    try:
        made = NativeEnvironment.create(given.path, given.requirements, python=given.python)
    except NativeEnvironmentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    version = ".".join(map(str, made.version))
    print(f"{made.path}: the real tritonserver with Python {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
