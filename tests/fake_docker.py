"""An imitation of Docker's API on a Unix socket: it keeps the requests, and serves with the stub.

What it "runs" in a container is a :class:`triton_stub.Server` with the models and the options that
the container's mounts and command name. So the engine's requests can be read, its whole life can
be tried, and whatever goes wrong with a Docker engine can be made to go wrong.
"""

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

import triton_stub

API = "1.47"
STDOUT = 1
KILLED = 137


class FakeDocker(ThreadingUnixStreamServer):
    """A Docker engine with one image and no registry; what it is to do wrong are attributes."""

    daemon_threads = True

    def __init__(self, path: Path, *, image: str) -> None:
        super().__init__(str(path), Handler)
        self.images = {image}
        #: Images that it can pull.
        self.registry: set[str] = set()
        #: What it calls its host.
        self.name = socket.gethostname()
        #: Method, path (without the version) and body of each request.
        self.requests: list[tuple[str, str, object]] = []
        self.containers: dict[str, Container] = {}
        #: For requests with this method whose path begins so: status and message of an error.
        self.refused: dict[tuple[str, str], tuple[int, str]] = {}
        #: Called before a request is answered whose path ends so.
        self.meanwhile: dict[str, Callable[[], object]] = {}
        #: What a container does in place of serving: ends with this status and this log.
        self.ends: tuple[int, str] | None = None
        #: Whether it does nothing at all.
        self.sleeps = False

    @property
    def url(self) -> str:
        return f"unix://{self.server_address}"

    def sent(self, method: str, path: str) -> list[object]:
        """The bodies of the requests with this method and this in their path."""
        return [body for how, where, body in self.requests if how == method and path in where]

    def created(self) -> dict[str, object]:
        """The body of the one request that made a container."""
        (body,) = self.sent("POST", "/containers/create")
        return body


class Container:
    """A container with a stub in it."""

    def __init__(self, name: str, body: dict[str, object]) -> None:
        self.name = name
        self.body = body
        self.status = "created"
        self.exit_code = 0
        self.printed = ""
        self.server: triton_stub.Server | None = None
        self.ports: dict[str, str] = {}

    def start(self) -> None:
        words = self.body["Cmd"]
        inside = {mount["Target"]: mount["Source"] for mount in self.body["HostConfig"]["Mounts"]}
        self.server = triton_stub.Server(
            [inside[folder] for folder in values(words, "--model-repository")],
            model_control_mode="explicit" if values(words, "--load-model") else "none",
            startup_models=values(words, "--load-model"),
            exit_on_error=values(words, "--exit-on-error") != ["false"],
        )
        try:
            self.server.start()
        except triton_stub.LoadError:
            self.end(1)
            return
        serving = self.server.serve(http_port=0, grpc_port=0, metrics_port=0)
        urls = (serving.http_url, serving.grpc_url, serving.metrics_url)
        for port, url in zip((8000, 8001, 8002), urls, strict=True):
            self.ports[f"{port}/tcp"] = url.rpartition(":")[2]
        self.status = "running"

    def sleep(self) -> None:
        self.ports = dict.fromkeys(("8000/tcp", "8001/tcp", "8002/tcp"), "1")  # nobody is there
        self.status = "running"

    def end(self, status: int = 0, log: str = "") -> None:
        if self.server is not None:
            self.server.stop()
            self.printed += str(self.server.log())
            self.server = None
        self.printed += log
        self.exit_code = status
        self.status = "exited"
        self.ports = {}

    def log(self) -> str:
        return self.printed + str(self.server.log() if self.server else "")

    def described(self) -> dict[str, object]:
        host = {
            port: ways[0]["HostIp"]
            for port, ways in self.body["HostConfig"]["PortBindings"].items()
        }
        return {
            "Id": self.name,
            "Name": f"/{self.name}",
            "Config": {"Tty": False},
            "HostConfig": {**self.body["HostConfig"], "LogConfig": {"Type": "json-file"}},
            "State": {
                "Status": self.status,
                "Running": self.status == "running",
                "ExitCode": self.exit_code,
                "OOMKilled": self.exit_code == KILLED,
            },
            "NetworkSettings": {
                "Ports": {
                    port: [{"HostIp": host[port] or "0.0.0.0", "HostPort": number}]
                    for port, number in self.ports.items()
                }
            },
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeDocker

    def address_string(self) -> str:
        return "a client"

    def log_message(self, *arguments: object) -> None:
        pass

    def handle_any(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(text) if text else None
        parts = urlsplit(self.path)
        path = re.sub(r"^/v[\d.]+", "", unquote(parts.path))
        query = {name: words[0] for name, words in parse_qs(parts.query).items()}
        docker = self.server
        docker.requests.append((self.command, path, body or query))
        for end, happens in docker.meanwhile.items():
            if path.endswith(end):
                happens()
        for (method, begin), (status, message) in docker.refused.items():
            if method == self.command and path.startswith(begin):
                return self.answer({"message": message}, status)
        return self.route(path, query, body)

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815, the names are http.server's

    def route(self, path: str, query: dict[str, str], body: object) -> None:
        docker = self.server
        fixed = {"/version": {"ApiVersion": API}, "/info": {"Name": docker.name}, "/networks": []}
        image = path.removeprefix("/images/").removesuffix("/json")
        name, _, verb = path.removeprefix("/containers/").partition("/")
        if path in fixed:
            self.answer(fixed[path])
        elif path == "/containers/create":
            docker.containers[query["name"]] = Container(query["name"], body)
            self.answer({"Id": query["name"]}, 201)
        elif name in docker.containers:
            self.of_container(docker.containers[name], verb)
        elif image in docker.images:
            self.answer({"Id": "sha256:1", "RepoTags": [image]})
        elif path.endswith("/json") and path.startswith("/images/"):
            self.answer({"message": f"No such image: {image}"}, 404)
        elif path == "/images/create":
            self.pull(f"{query['fromImage']}:{query['tag']}")
        else:
            self.answer({"message": f"there is nothing at {path}"}, 404)

    def pull(self, image: str) -> None:
        if image in self.server.registry:
            self.server.images.add(image)
            self.answer({"status": "done"})
        else:
            self.answer({"message": f"no registry has {image}"}, 404)

    def of_container(self, container: Container, verb: str) -> None:
        if self.command == "DELETE":
            container.end()
            del self.server.containers[container.name]
            return self.answer(None, 204)
        if verb == "json":
            return self.answer(container.described())
        if verb == "logs":
            text = container.log().encode()
            return self.send(struct.pack(">BxxxL", STDOUT, len(text)) + text if text else b"", 200)
        if verb == "start":
            if self.server.ends is not None:
                container.end(*self.server.ends)
            elif self.server.sleeps:
                container.sleep()
            else:
                container.start()
        if verb == "stop":
            container.end()
        return self.answer(None, 204)

    def answer(self, content: object, status: int = 200) -> None:
        self.send(b"" if content is None else json.dumps(content).encode(), status)

    def send(self, body: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_docker(monkeypatch: pytest.MonkeyPatch, *, image: str) -> Iterator[FakeDocker]:
    """Such an engine in place of any other; at the end it must have no container any more."""
    from testcontainers.core.config import testcontainers_config

    # The path of a socket may have about a hundred characters.
    with TemporaryDirectory() as folder, FakeDocker(Path(folder, "d"), image=image) as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.url)
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        monkeypatch.delenv("TRITON_STUB_IMAGE", raising=False)
        thread = threading.Thread(target=docker.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield docker
        finally:
            left = list(docker.containers)
            for container in docker.containers.values():
                container.end()
            docker.shutdown()
            thread.join()
    assert not left, "something is left behind"


def values(words: list[str], option: str) -> list[str]:
    """What ``--option=`` says, each time it is there."""
    return [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
