"""One container with the real tritonserver in it: started, watched, removed, its log kept."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import socket
import time
import uuid
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import urllib3

from triton_stub.engines.hints import hints
from triton_stub.engines.server_log import reasons, tail
from triton_stub.errors import LoadError, ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testcontainers.core.container import DockerContainer

    from triton_stub.engines.box import Box

HTTP, GRPC, METRICS = 8000, 8001, 8002
# Triton itself waits up to 30 s for requests in flight before it unloads.
_GRACE = 40
_EXIT_TIMEOUT = "--exit-timeout-secs="
_SLOWEST_CALL = 600  # seconds for one call of Docker's: some storage drivers copy whole images
_TICK = 0.1
_NO_GPU = (
    "could not select device driver",
    "failed to discover GPU vendor",
    "nvidia-container-cli: initialization error",
)


class ContainerUnavailableError(RuntimeError):
    """No container can be had here: a package, the Docker engine, the image or a GPU is missing."""


class ServerContainer:
    """A running tritonserver in a container; its ports are those of this machine's loopback.

    The constructor returns when the server is ready. :meth:`stop` removes the container and its
    unnamed volumes; so does the end of this process.

    Attributes:
        container: the container, as testcontainers knows it.
        addresses: ``"host:port"`` for each of the ports ``HTTP``, ``GRPC`` and ``METRICS``.

    Raises:
        ContainerUnavailableError: there is no engine, no image, or no GPU for the container.
        LoadError: the container or the server in it did not start; hints and the end of the log
            are attached as notes.
    """

    def __init__(self, box: Box, *, startup_timeout: float) -> None:
        self._box = box
        self._final_log: str | None = None
        self._name = f"triton-stub-{uuid.uuid4().hex[:12]}"
        self.container = _connect(box.image)
        # A name of our own: what it names can be removed whoever knows of it.
        self._remove = weakref.finalize(self, _remove, self.container, self._name, os.getpid())
        try:
            self._pull()
            self._beside_us = _is_beside_us(self.container)
            self._start()
            self._await_ready(startup_timeout)
        except BaseException:
            # At once: a server that loads models does not listen to SIGTERM.
            self._discard()
            raise

    def log(self) -> str:
        """Return what the server and its models have printed; also after :meth:`stop`."""
        return self._read_log() if self._final_log is None else self._final_log

    @property
    def status(self) -> int | None:
        """How the server ended by itself, as a shell tells it; None if it runs or was stopped.

        None as well if nothing is known of the container any more.
        """
        if self._final_log is not None:
            return None
        state = self._state()
        return int(state["ExitCode"]) if state and _has_ended(state) else None

    def notes(self, text: str = "") -> Iterator[str]:
        """What to attach to an error: hints that its text and the log give, and the log's end."""
        log = self.log()
        yield from self.hints(f"{text}\n{log}")
        if log:
            yield tail(log)

    def hints(self, text: str) -> Iterator[str]:
        """What to do about what this text says went wrong."""
        return hints(text, shm_size=self._box.shm_size)

    def stop(self) -> None:
        """End the server (SIGTERM; SIGKILL if that is not enough), and remove its container."""
        if self._final_log is not None:
            return
        try:
            with contextlib.suppress(*_docker_errors()):
                self._wrapped().stop(timeout=self._grace())
        finally:
            self._discard()

    def _discard(self) -> None:
        try:
            self._final_log = self._read_log()
        finally:
            self._final_log = self._final_log or ""
            self._remove()

    def _grace(self) -> int:
        given = [word for word in self._box.command if word.startswith(_EXIT_TIMEOUT)]
        if not given:
            return _GRACE
        return math.ceil(float(given[-1].removeprefix(_EXIT_TIMEOUT))) + _GRACE // 4

    def _pull(self) -> None:
        """Have the image; in the main thread, because Ctrl-C may end it."""
        from docker.errors import ImageNotFound

        images = self.container.get_docker_client().client.images
        try:
            try:
                images.get(self.container.image)
            except ImageNotFound:
                images.pull(self.container.image)
        except _docker_errors() as error:
            raise ContainerUnavailableError(
                f"the Docker engine has no image {self.container.image!r}, and could not pull it: "
                f"{_said(error)}. Build it (see ci/Dockerfile of triton-stub), pull it, or name "
                "another one"
            ) from error

    def _start(self) -> None:
        from docker.types import DeviceRequest, Mount

        box = self._box
        address = "127.0.0.1" if self._beside_us else ""
        for port in (HTTP, GRPC, METRICS):
            # testcontainers knows a port only; Docker's client takes the address beside it.
            self.container.ports[f"{port}/tcp"] = (address, None)  # type: ignore[assignment]
        options = {
            "shm_size": box.shm_size,
            "mounts": [Mount(**mount) for mount in box.mounts],
            "device_requests": [DeviceRequest(**which) for which in box.device_requests()],
            "user": box.user,
        }
        self.container.with_name(self._name).with_command(list(box.command)).with_envs(**box.env)
        self.container.with_kwargs(**{name: value for name, value in options.items() if value})
        try:
            # In a thread, and waited for, also after Ctrl-C: an interrupted call may still make a
            # container after we have looked for one to remove.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(self.container.start).result()
        except _docker_errors() as error:
            text = _said(error)
            if box.gpus and any(known in text for known in _NO_GPU):
                raise ContainerUnavailableError(
                    f"the Docker engine has no GPU to give (gpus={box.gpus!r}): {text}. Install "
                    "NVIDIA's driver and Container Toolkit there, or leave gpus (--triton-gpus) out"
                ) from error
            raise self._failure(f"the container could not be started: {text}") from error

    def _find(self) -> dict[int, str]:
        """Where the ports can be reached from here; empty if the container has just ended."""
        ports = (HTTP, GRPC, METRICS)
        try:
            if self._beside_us:
                client, own = self.container.get_docker_client(), self.container.get_container_id()
                return {port: f"127.0.0.1:{client.port(own, port)}" for port in ports}
            host = self.container.get_container_host_ip()
            return {port: f"{host}:{self.container.get_exposed_port(port)}" for port in ports}
        except _docker_errors() as error:
            if _has_ended(self._state()):
                return {}
            raise self._failure(f"found no way to the container's ports: {error}") from error

    def _await_ready(self, timeout: float) -> None:
        command = self._box.command
        # --exit-on-error=false is the wish to serve what can be served.
        path = "live" if "--exit-on-error=false" in command else "ready"
        pages = {HTTP: f"/v2/health/{path}"}
        if not {"--allow-metrics=false", "--allow-metrics=0"} & set(command):
            pages[METRICS] = "/metrics"
        deadline = time.monotonic() + timeout
        self.addresses: dict[int, str] = {}
        while not _has_ended(state := self._state()):
            known = self.addresses = self.addresses or self._find()
            if known and all(_answers(known[port] + page) for port, page in pages.items()):
                return
            if time.monotonic() > deadline:
                raise self._failure(
                    f"tritonserver was not ready within {timeout:g} s; models load and compile in "
                    "that time: raise startup_timeout (--triton-timeout) if they need longer"
                )
            time.sleep(_TICK)
        if not state:
            raise self._failure("the container is gone: has somebody removed it, or its engine?")
        status = state["ExitCode"]
        ended = f"the container ended with status {status} before tritonserver was ready"
        if state.get("OOMKilled"):
            ended += ": it ran out of memory"
        raise self._failure("\n".join(reasons(self.log())) or ended, ended)

    def _failure(self, text: str, more: str = "") -> LoadError:
        error = LoadError(text, StatusCode.UNAVAILABLE)
        for note in self.notes(f"{text}\n{more}"):
            error.add_note(note)
        return error

    def _state(self) -> dict[str, Any]:
        """What the engine says of the container; empty if it says nothing."""
        with contextlib.suppress(*_docker_errors()):
            wrapped = self._wrapped()
            wrapped.reload()
            return dict(wrapped.attrs["State"])
        return {}

    def _read_log(self) -> str:
        with contextlib.suppress(*_docker_errors()):
            return bytes(self._wrapped().logs()).decode(errors="replace")
        return ""

    def _wrapped(self) -> Any:
        return self.container.get_wrapped_container()


def _connect(image: str) -> DockerContainer:
    try:
        from docker.errors import DockerException
        from testcontainers.core.container import DockerContainer
    except ModuleNotFoundError as error:
        raise ContainerUnavailableError(
            f'the package {error.name!r} is not installed: pip install "triton-stub[e2e]"'
        ) from error
    with warnings.catch_warnings():
        # Docker's client drops a socket that it could not connect, without closing it.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            return DockerContainer(image, docker_client_kw={"timeout": _SLOWEST_CALL})
        except DockerException as error:
            said = _said(error)
        gc.collect()
    where = os.environ.get("DOCKER_HOST", "its usual place (no DOCKER_HOST is set)")
    raise ContainerUnavailableError(
        f"no Docker engine answers at {where}: {said}. Start one, or name one in DOCKER_HOST"
    )


def _is_beside_us(container: DockerContainer) -> bool:
    """Whether the loopback interface of the container's engine is ours."""
    from testcontainers.core.config import ConnectionMode, testcontainers_config

    if testcontainers_config.tc_host_override or testcontainers_config.connection_mode_override:
        return False
    client = container.get_docker_client()
    # An engine in the same container as we are; testcontainers takes it for one outside.
    if client.client.info().get("Name") == socket.gethostname():
        return True
    mode = client.get_connection_mode()
    return mode is ConnectionMode.docker_host and client.host() in ("localhost", "127.0.0.1")


def _has_ended(state: dict[str, Any]) -> bool:
    return not state.get("Running")


def _remove(container: DockerContainer, name: str, owner: int) -> None:
    """Remove what there is of a container, and the volumes without a name that came with it."""
    from docker.errors import NotFound

    if os.getpid() != owner:
        return  # the end of a process that was forked
    client = container.get_docker_client().client
    try:
        client.api.remove_container(name, v=True, force=True)
    except NotFound:
        pass
    except _docker_errors() as error:
        raise ServerError(
            f"could not remove the container {name}: {_said(error)}. Remove it yourself: "
            f"docker rm -f -v {name}",
            StatusCode.INTERNAL,
        ) from error
    finally:
        client.close()


def _docker_errors() -> tuple[type[Exception], ...]:
    """What calls of testcontainers and Docker's client raise."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    # The last three are of testcontainers: no container, no port, no status that it waits for.
    return DockerException, RequestException, OSError, RuntimeError, StopIteration


def _said(error: Exception) -> str:
    """The engine's own words, if it has said any."""
    return str(getattr(error, "explanation", None) or error).rstrip(".")


def _answers(url: str) -> bool:
    # A connection that is kept is one that the server, when it stops, waits for: 30 s.
    closing = {"Connection": "close"}
    try:
        answer = urllib3.request("GET", f"http://{url}", headers=closing, retries=False, timeout=5)
    except urllib3.exceptions.HTTPError:
        return False
    return answer.status == 200
