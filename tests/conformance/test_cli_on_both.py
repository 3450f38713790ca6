"""The command line: what it says of wrong flags, what it prints at the start, how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cli_process import Process
from model_files import BROKEN, write_model

from triton_stub.cli import main, options
from triton_stub.cli.parser import Parser
from triton_stub.cli.ports import PROTOCOLS
from triton_stub.engines.environment import NativeEnvironment
from triton_stub.engines.native import NativeEngine

TIMEOUT = 60
# What follows the real server's words where these do not say what may be given.
EXPECTED = " (expected "
VAGUE = re.compile("invalid (value for bool option|argument for)")
USAGE = "Usage: tritonserver [options]\n"
# Flags of the real server's that make no folder of models necessary: each is refused before.
WRONG = [
    "--http-port=x",
    "--http-port=",
    "--http-po=x",
    "--grpc-port=99999999999",
    "--metrics-port=x",
    "--exit-on-error=maybe",
    "--exit-on-error=2",
    "--strict-readiness=",
    "--allow-http=yes",
    "--allow-grpc=x",
    "--allow-metrics=x",
    "--allow-cpu-metrics=x",
    "--strict-model-config=x",
    "--model-control-mode=sometimes",
    "--rate-limit=some",
    "--log-format=x",
    "--log-format=iso8601",
    "--log-verbose=x",
    "--log-info=x",
    "--log-warning=x",
    "--log-error=x",
    "--cache-config=size=1",
    "--cache-config=,size=1",
    "--cache-config=local,size",
    "--cache-config=local,size=",
    "--cache-config=local,=1",
    "--response-cache-byte-size=x",
    "--metrics-config=x",
    "--metrics-config=x=",
    "--metrics-config==x",
    "--metrics-config=a,x=1",
    "--trace-config=rate",
    "--trace-config=rate=",
    "--trace-config=,rate=1",
    "--trace-config=other,rate=1",
    "--trace-config=rate=x",
    "--trace-config=count=x",
    "--trace-config=level=x",
    "--trace-config=mode=x",
    "--trace-config=triton,log-frequency=x",
    "--exit-timeout-secs=x",
    "--exit-timeout-secs=99999999999",
    "--repository-poll-secs=x",
    "--load-model=a",
    "--http-port=8001",
    "--http-port=8002 --allow-grpc=false",
    "--metrics-port=8001",
    "--response-cache-byte-size=1 --cache-config=local,size=1",
    "--grpc-infer-response-compression-level=x",
    "--grpc-keepalive-time=x",
    "--grpc-keepalive-permit-without-calls=x",
    "--nonsense",
]


@cache
def environment() -> NativeEnvironment:
    return NativeEnvironment.find()


def native(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(environment().server), *arguments],
        env=environment().variables(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@cache
def usage() -> str:
    return native("--help").stderr.partition(USAGE)[2].rstrip("\n")


def words_of_native(*arguments: str) -> str:
    """What it says besides its usage: before it of options, after it of their values."""
    ended = native("--model-repository=nowhere", *arguments)
    assert ended.returncode != 0
    before, found, after = ended.stderr.partition(USAGE)
    assert found
    before = "".join(line for line in before.splitlines() if not line.startswith("Warning: "))
    told = after.removeprefix(usage()).strip() or before.partition("tritonserver: ")[2]
    # It calls all addresses its own unless told otherwise, which is not what this does.
    return told.replace("0.0.0.0:", "127.0.0.1:").strip()


def words_of_stub(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--model-repository=nowhere", *arguments])
    assert caught.value.code != 0
    told = capsys.readouterr().err.partition("triton-stub serve: error: ")[2]
    words, found, _ = told.rpartition("\n`triton-stub serve --help`")
    assert found
    return words.strip()


@pytest.mark.rule("5.7-wrong-values")
@pytest.mark.parametrize("given", WRONG)
def test_what_is_said_of_a_wrong_flag(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of_native(*given.split())
    assert words
    told, _, more = words_of_stub(capsys, *given.split()).partition(EXPECTED)
    assert told.rstrip() == words
    assert bool(more) == bool(VAGUE.search(words))


@pytest.mark.rule("5.7-wrong-values")
@pytest.mark.newer("25.06", "server src/command_line_parser.cc, TritonParser::Parse")
def test_no_input_is_too_small(capsys: pytest.CaptureFixture[str]) -> None:
    assert words_of_stub(capsys, "--http-max-input-size=0") == (
        'Bad option: "--http-max-input-size".\nError: --http-max-input-size must be greater than 0.'
    )


@pytest.mark.rule("5.7-wildcard")
def test_all_models_and_one_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model-control-mode=explicit", "--load-model=*", "--load-model=a"]
    ended = native(f"--model-repository={tmp_path}", *flags)
    ports = [f"--{name}-port=0" for name in PROTOCOLS]
    assert main(["serve", str(tmp_path), *flags, *ports]) == ended.returncode == 1
    words = ended.stderr.rpartition("Invalid argument - ")[2]
    assert capsys.readouterr().err == f"triton-stub: {words}"


@pytest.mark.rule("5.7-flags")
def test_every_flag_is_known() -> None:
    flags = set(re.findall(r"^  (--[a-z0-9-]+)", native("--help").stderr, re.MULTILINE))
    parser = Parser()
    options.add_options(parser)
    assert len(flags) > 80
    assert not flags - parser._option_string_actions.keys()


FLAGS = (
    *("--id=me", "--model-control-mode=explicit", "--load-model=good", "--load-model=bad"),
    *("--exit-on-error=false", "--strict-readiness=off", "--exit-timeout-secs=5"),
    *("--rate-limit=EXECUTION_COUNT", "--disable-auto-complete-config"),
    "--cache-config=local,size=1048576",
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, "good")
    write_model(folder, "bad", BROKEN)
    write_model(folder, "unloaded")
    return folder


@pytest.fixture(scope="module")
def engine(repository: Path) -> Iterator[NativeEngine]:
    with NativeEngine(repository, options=FLAGS) as engine:
        yield engine


@pytest.fixture(scope="module")
def printed(repository: Path, engine: NativeEngine) -> tuple[str, str]:
    """What the stub and the real server print while they start."""
    with started(repository, *FLAGS) as process:
        process.wait()
        return process.end(signal.SIGTERM)[1], engine.log()


@contextlib.contextmanager
def started(*arguments: object) -> Iterator[Process]:
    process = Process(*map(str, arguments))
    with process.process:
        try:
            yield process
        finally:
            process.process.kill()


def table(text: str, header: str) -> dict[str, list[list[str]]]:
    """The rows below a table's header by their first cell; a record may have several lines."""
    lines = text[text.index(f"\n| {header} ") :].splitlines()[3:]
    rows: dict[str, list[list[str]]] = {}
    name = ""
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        name = cells[0] or name
        rows.setdefault(name, []).append(cells[1:])
    return rows


@pytest.mark.rule("5.7-tables")
def test_the_table_of_models(printed: tuple[str, str]) -> None:
    stub, real = (table(text, "Model") for text in printed)
    assert stub == real
    assert set(real) == {"good", "bad"}
    assert real["bad"][0][1] == "UNAVAILABLE: Internal: OSError: no weights"


@pytest.mark.rule("5.7-tables")
def test_the_table_of_options(printed: tuple[str, str]) -> None:
    stub, real = (table(text, "Option") for text in printed)
    # The rest has no effect here.
    assert real.keys() - stub.keys() == {
        *("model_config_name", "pinned_memory_pool_byte_size", "min_supported_compute_capability"),
    }
    assert stub == {name: value for name, value in real.items() if name in stub}


@pytest.mark.rule("5.7-started")
def test_services_are_named_when_they_are_there(printed: tuple[str, str]) -> None:
    stub, real = (re.findall(r"Started (.*) at 127\.0\.0\.1:\d+", text) for text in printed)
    assert stub == real
    assert len(real) == 3


@pytest.mark.rule("5.7-infer")
@pytest.mark.parametrize("given", ["IN=1,2.5", "IN=random:3", "IN=-14", "IN=-13", "IN=[[1]]"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_infer_asks_any_server(
    repository: Path,
    engine: NativeEngine,
    protocol: str,
    given: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What it prints is what it prints of a model in this process."""
    url = engine.http_url if protocol == "http" else f"grpc://{engine.grpc_url}"
    code = main(["infer", "good", given, "--json", f"--url={url}"])
    real = capsys.readouterr()
    own = ["--model-repository", str(repository)]
    assert main(["infer", "good", given, "--json", *own]) == code
    stub = capsys.readouterr()
    # HTTP refuses what it cannot answer, a stream answers with an error.
    assert told(stub) == told(real)


def told(printed: Any) -> str:
    text = printed.out or printed.err
    with contextlib.suppress(ValueError):
        answer = json.loads(text)
        text = answer.get("error", text)
    return text.removeprefix("triton-stub: ").strip()


@pytest.mark.rule("5.7-exit")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_no_failure(repository: Path, number: signal.Signals) -> None:
    with started(repository) as process:
        process.wait()
        code, _, _ = process.end(number)
    assert native_code(repository, number) == code == 0


def native_code(repository: Path, number: signal.Signals) -> int:
    """The exit code of the real server, without a model, after a signal."""
    flags = ["--model-control-mode=explicit", "--exit-timeout-secs=1"]
    for _ in range(5):
        ports = [
            f"--{name}-port={port}" for name, port in zip(PROTOCOLS, free_ports(), strict=True)
        ]
        with subprocess.Popen(
            [str(environment().server), f"--model-repository={repository}", *ports, *flags],
            env=environment().variables(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                assert server.stderr is not None
                if any("Started Metrics Service" in line for line in server.stderr):
                    server.send_signal(number)
                    server.stderr.read()
                    return server.wait(TIMEOUT)
            finally:
                server.kill()
    raise AssertionError("the real server finds its ports taken, again and again")


def free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in PROTOCOLS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.mark.rule("5.7-exit")
def test_a_broken_model_is_a_failure_if_that_is_asked_for(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model-control-mode=explicit", "--load-model=none", "--exit-on-error=true"]
    ports = [f"--{name}-port=0" for name in PROTOCOLS]
    code = main(["serve", str(repository), *flags, *ports])
    assert native(f"--model-repository={repository}", *flags).returncode == code == 1
    assert "none" in capsys.readouterr().err
