"""Ports of ``triton-stub serve``: told before any model loads."""

import socket

import pytest
from cli_process import FREE_PORTS, refused
from model_files import write_model

from triton_stub.cli import main


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("name", "title"), [("http", "HTTP"), ("grpc", "gRPC"), ("metrics", "metrics")]
)
def test_a_port_in_use_is_one_sentence_before_models_load(tmp_path, capsys, name, title, taken):
    write_model(tmp_path)
    assert main(["serve", str(tmp_path), *FREE_PORTS, f"--{name}-port={taken}"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"triton-stub: cannot serve {title} at 127.0.0.1:{taken}: the port is already in use; "
        "stop what listens there, or take another port (0 takes a free one)\n"
    )


def test_an_address_that_is_not_there(tmp_path, capsys):
    arguments = ["serve", str(tmp_path), *FREE_PORTS, "--http-address=192.0.2.1"]
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith("triton-stub: cannot serve HTTP at 192.0.2.1:0: ")


def test_two_protocols_at_one_port(capsys):
    text = refused(capsys, "serve", "models", "--http-port=8009", "--metrics-port=8009")
    assert (
        "The server cannot listen to HTTP requests and metrics requests at the same address and "
        "port 127.0.0.1:8009" in text
    )


def test_not_if_one_of_them_is_not_served_or_elsewhere(tmp_path, capsys, taken):
    """The port itself is in use, which is what is told."""
    ports = [f"--http-port={taken}", f"--grpc-port={taken}", "--metrics-port=0"]
    for other in ("--allow-http=false", "--http-address=127.0.0.2"):
        assert main(["serve", str(tmp_path), *ports, other]) == 1
        assert f"cannot serve gRPC at 127.0.0.1:{taken}" in capsys.readouterr().err
