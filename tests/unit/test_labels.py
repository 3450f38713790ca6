"""Labels of classes, from files and from the steps of an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ensemble_files import chain
from google.protobuf import text_format

from triton_stub import config as model_config
from triton_stub.core import labels


def parse(text: str) -> Any:
    return text_format.Parse(text, model_config.schema().ModelConfig())


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb\r\n", [b"a", b"", b"b\r"]),
        (b"\xff\xc3\xa9\na\0b", [b"\xff\xc3\xa9", b"a"]),
    ],
)
def test_a_line_for_each_class(tmp_path: Path, text: bytes, lines: list[bytes]) -> None:
    (tmp_path / "labels.txt").write_bytes(text)
    config = parse('output { name: "A" label_filename: "labels.txt" } output { name: "B" }')
    assert labels.read(config, tmp_path) == {"A": lines}


def test_an_ensemble_has_those_of_the_step_that_makes_the_output() -> None:
    config = parse(chain("first", "second"))
    of_steps: Any = {"first": {"OUT": [b"1"]}, "second": {"OUT": [b"2"], "X": [b"x"]}}
    asked: list[str] = []

    def labels_of(step: Any) -> Any:
        asked.append(step.model_name)
        return of_steps[step.model_name]

    assert labels.with_labels_of_steps(config, {}, labels_of) == {"OUT": [b"2"]}
    assert asked == ["second"]


def test_an_ensemble_with_a_file_has_its_own() -> None:
    config = parse(chain("only"))
    own = {"OUT": [b"", b"own"]}
    assert labels.with_labels_of_steps(config, own, lambda _: {"OUT": [b"step"]}) == own
    assert labels.with_labels_of_steps(config, {}, lambda _: {}) == {"OUT": ()}
