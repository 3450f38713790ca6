"""``triton-stub``: its commands, and command lines that make no sense."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import refused
from model_files import write_model

from triton_stub.cli import main

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("arguments", [[], ["fly"], ["--loud"], ["serve"], ["infer"], ["check"]])
def test_commands_that_make_no_sense(arguments, capsys):
    assert refused(capsys, *arguments).startswith("usage: triton-stub")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["serve", "models", "--http-prt=1"],
            "unrecognized option '--http-prt'; did you mean '--http-port'?",
        ),
        (["serve", "models", "--xyz", "1"], "unrecognized option '--xyz'\n"),
        (
            ["infer", "m", "--batchsize=1"],
            "unrecognized option '--batchsize'; did you mean '--batch-size'?",
        ),
        (["check", "models", "--sed=1"], "did you mean '--seed'?"),
        (["serve", "models", "--http=1"], "ambiguous option: --http=1 could match --http-"),
        (["serve", "models", "--http-port"], "argument --http-port: expected one argument"),
    ],
)
def test_a_mistyped_option_names_the_next_best(arguments, told, capsys):
    assert told in refused(capsys, *arguments)


def test_positional_arguments_stand_anywhere(tmp_path, capsys):
    write_model(tmp_path / "one", "a")
    write_model(tmp_path / "two", "b")
    assert main(["check", str(tmp_path / "one"), "--seed", "1", str(tmp_path / "two")]) == 0
    assert "| a " in (out := capsys.readouterr().out)
    assert "| b " in out


@pytest.mark.parametrize("command", ["serve", "infer", "check"])
def test_help_needs_no_numpy(command):
    program = (
        "import sys; from triton_stub.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: print('numpy' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=TESTS
    ).stdout
    assert f"usage: triton-stub {command}" in out
    assert out.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("uvicorn", ["serve", "models", "--http-port=0", "--grpc-port=0", "--metrics-port=0"]),
        ("urllib3", ["infer", "model", "--url=127.0.0.1:1"]),
        # What tritonclient makes a RuntimeError of.
        ("geventhttpclient", ["infer", "model", "--url=127.0.0.1:1"]),
        ("grpc", ["infer", "model", "--url=grpc://127.0.0.1:1"]),
        ("tritonclient", ["infer", "model", "--url=grpc://127.0.0.1:1"]),
    ],
)
def test_a_package_that_is_missing_is_one_sentence_before_models_load(package, arguments):
    program = (
        f"import sys; sys.modules[{package!r}] = None; from triton_stub.cli import main\n"
        f"sys.exit(main({arguments!r}))"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f" needs the package '{package}" in ended.stderr
    assert ended.stderr.endswith('pip install "triton-stub[serve]"\n')
    assert len(ended.stderr.splitlines()) == 1


def test_as_a_module():
    command = [sys.executable, "-m", "triton_stub.cli", "fly"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS)
    assert ended.returncode == 2
    assert "invalid choice: 'fly'" in ended.stderr
