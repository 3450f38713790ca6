"""The real tritonserver in a container, as a test engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triton_stub.engines.box import Box, check_gpus, check_size
from triton_stub.engines.http import HttpEngine
from triton_stub.engines.server_container import (
    GRPC,
    HTTP,
    METRICS,
    ContainerUnavailableError,
    ServerContainer,
)
from triton_stub.errors import LoadError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import urllib3
    from testcontainers.core.container import DockerContainer

#: Names the image where nobody else does.
VARIABLE = "TRITON_STUB_IMAGE"
_MODELS = "/models"


class ContainerEngine(HttpEngine):
    """The real tritonserver in a container of its own, on free ports of the loopback interface.

    It is ready when the constructor returns, and gone after :meth:`stop` with its container and
    the volumes without a name.

    Args:
        model_repository: one folder of models, or several; mounted read-only, the first as
            ``/models``, the others as ``/models-2`` and so on.
        image: a Triton image with the packages that the models import; that of the environment
            variable ``TRITON_STUB_IMAGE`` unless given.
        gpus: GPUs for the container, as ``docker run --gpus`` takes it: ``"all"``, a number, or
            ``"device=0,1"``; none unless given.
        shm_size: size of ``/dev/shm``, such as ``"512m"``: it carries all tensors between the
            server and its models, and Docker's own 64 MB are soon too few.
        models: load these only (``--model-control-mode=explicit``); all models unless given.
        options: more command line options of tritonserver.
        env: more environment variables, for the server and its models.
        volumes: what else to mount, writable: names of volumes, or folders of this machine, and
            where the container has them. Volumes with a name stay.
        user: who runs the server, ``"uid"`` or ``"uid:gid"``; the image says unless given.
        startup_timeout: seconds until the server must be ready; models compile while they load.
            Getting the image does not count.
        timeout: seconds to wait for any one answer.

    Raises:
        ContainerUnavailableError: there is no Docker engine, no image, or no GPU for it.
        LoadError: the server did not start; the text is what the server says of the reason, and
            hints and the end of its log are attached as notes.
    """

    def __init__(
        self,
        model_repository: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        image: str | None = None,
        gpus: str | int | None = None,
        shm_size: str = "1g",
        models: Sequence[str] | None = None,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        volumes: Mapping[str | os.PathLike[str], str] | None = None,
        user: str | None = None,
        startup_timeout: float = 300.0,
        timeout: float = 300.0,
    ) -> None:
        if isinstance(model_repository, str | os.PathLike):
            model_repository = [model_repository]
        folders = {
            _MODELS if number == 1 else f"{_MODELS}-{number}": Path(folder).resolve()
            for number, folder in enumerate(model_repository, 1)
        }
        command = ["tritonserver", *(f"--model-repository={inside}" for inside in folders)]
        if models is not None:
            command.append("--model-control-mode=explicit")
            command += [f"--load-model={model}" for model in models]
        box = Box(
            image or _image(),
            [*command, *options],
            # The server would take bytecode beside a model for a change of the model.
            env={"PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            mounts=[
                *(_folder(inside, folder, read_only=True) for inside, folder in folders.items()),
                *(_volume(inside, source) for source, inside in (volumes or {}).items()),
            ],
            gpus=check_gpus(gpus),
            shm_size=check_size(shm_size),
            user=user,
        )
        try:
            self._server = ServerContainer(box, startup_timeout=startup_timeout)
        except LoadError as error:
            for link, target in _broken_links(folders.values()):
                error.add_note(
                    f"hint: {link} leads to {target}, which the container does not have: in there "
                    "only relative links within the model repository lead somewhere"
                )
            raise
        addresses = self._server.addresses
        super().__init__(
            addresses[HTTP],
            grpc_url=addresses[GRPC],
            metrics_url=addresses[METRICS],
            name="container",
            timeout=timeout,
        )

    @property
    def container(self) -> DockerContainer:
        """The container, as testcontainers knows it: ``container.exec([...])``, for example."""
        return self._server.container

    def log(self) -> str:
        """Return what the server and its models have printed; also after :meth:`stop`."""
        return self._server.log()

    @property
    def status(self) -> int | None:
        """How the server ended by itself, as a shell tells it (139: of signal 11).

        None while it runs, and after :meth:`stop`.
        """
        return self._server.status

    def stop(self) -> None:
        """End the server (SIGTERM; SIGKILL if that is not enough), and remove its container."""
        super().stop()
        self._server.stop()

    def _ask(
        self, method: str, path: str, kind: type[ServerError], **request: Any
    ) -> urllib3.BaseHTTPResponse:
        try:
            return super()._ask(method, path, kind, **request)
        except ServerError as error:
            # Not only what ends a server: full shared memory is an answer to a request.
            for hint in self._server.hints(str(error)):
                error.add_note(hint)
            raise

    def _explain(self, error: ServerError) -> ServerError:
        ended = "" if self.status is None else f"the container has ended with status {self.status}"
        for note in filter(None, [ended, *self._server.notes(ended)]):
            error.add_note(note)
        return error


def _image() -> str:
    if image := os.environ.get(VARIABLE):
        return image
    raise ContainerUnavailableError(
        f"no image is named: give one (image=, --triton-image, or the variable {VARIABLE}), made "
        "from NVIDIA's nvcr.io/nvidia/tritonserver:<yy.mm>-py3 with what the models import"
    )


def _folder(inside: str, folder: Path, *, read_only: bool = False) -> dict[str, Any]:
    # A mount, no volume: of a folder that is not there Docker makes an empty one of root's.
    return {"target": inside, "source": str(folder), "type": "bind", "read_only": read_only}


def _volume(inside: str, source: str | os.PathLike[str]) -> dict[str, Any]:
    if isinstance(source, os.PathLike) or os.sep in source:
        return _folder(inside, Path(source).resolve())
    return {"target": inside, "source": source, "type": "volume"}


def _broken_links(folders: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Symbolic links that lead to where the container sees nothing, and what they say."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                # Not resolve(), which raises if links lead round and round.
                end = Path(os.path.realpath(path))
                target = path.readlink()
                if target.is_absolute() or end.is_symlink() or not end.is_relative_to(folder):
                    yield path, target
