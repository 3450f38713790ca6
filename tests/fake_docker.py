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
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from urllib.parse import parse_qs, unquote, urlsplit

import triton_stub

API = "1.47"
STDOUT = 1


class FakeDocker(ThreadingUnixStreamServer):
    """A Docker engine with one image and no registry; what it is to do wrong are attributes."""

    daemon_threads = True

    def __init__(self, path: Path, *, image: str) -> None:
        super().__init__(str(path), Handler)
        self.images = {image}
        self.name = socket.gethostname()
        #: Method, path (without the version) and body of each request.
        self.requests: list[tuple[str, str, object]] = []
        self.containers: dict[str, Container] = {}
        #: For a path that begins so: the status and the message in place of an answer.
        self.refused: dict[str, tuple[int, str]] = {}
        #: Where a container does not serve: its exit status and its log.
        self.dies: tuple[int, str] | None = None
        #: Called before a request with this path is answered.
        self.meanwhile: dict[str, object] = {}

    @property
    def url(self) -> str:
        return f"unix://{self.server_address}"

    def sent(self, method: str, path: str) -> list[object]:
        """The bodies of the requests with this method and a path that begins so."""
        return [
            body
            for how, where, body in self.requests
            if how == method and where[: len(path)] == path
        ]

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
        self.out_of_memory = False
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
        ).start()
        serving = self.server.serve(http_port=0, grpc_port=0, metrics_port=0)
        urls = (serving.http_url, serving.grpc_url, serving.metrics_url)
        for port, url in zip((8000, 8001, 8002), urls, strict=True):
            self.ports[f"{port}/tcp"] = url.rpartition(":")[2]
        self.status = "running"

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.printed += str(self.server.log())
            self.server = None
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
                "OOMKilled": self.out_of_memory,
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
        if path in docker.meanwhile:
            docker.meanwhile[path]()
        for begin, (status, message) in docker.refused.items():
            if path.startswith(begin):
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
        else:
            self.answer({"message": f"there is nothing at {path}"}, 404)

    def of_container(self, container: Container, verb: str) -> None:
        if self.command == "DELETE":
            container.stop()
            del self.server.containers[container.name]
            return self.answer(None, 204)
        if verb == "json":
            return self.answer(container.described())
        if verb == "logs":
            text = container.log().encode()
            return self.send(struct.pack(">BxxxL", STDOUT, len(text)) + text if text else b"", 200)
        if verb == "start":
            if self.server.dies is None:
                container.start()
            else:
                container.status = "exited"
                container.exit_code, container.printed = self.server.dies
        if verb == "stop":
            container.stop()
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
def fake_docker(folder: Path, *, image: str):
    """Such an engine, with its socket in ``folder``."""
    with FakeDocker(folder / "docker.sock", image=image) as docker:
        thread = threading.Thread(target=docker.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield docker
        finally:
            for container in docker.containers.values():
                container.stop()
            docker.shutdown()
            thread.join()


def values(words: list[str], option: str) -> list[str]:
    """What ``--option=`` says, each time it is there."""
    return [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
