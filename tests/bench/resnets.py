"""The repository of models that are measured: this project's ResNet, and a tutorial's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
OURS = HERE.parent.parent / "model_repository/resnet50"
TUTORIAL = HERE / "models/tutorial_resnet18"


def tutorial(repository: Path, architecture: str) -> str:
    """The tutorial's model of an architecture, such as ``resnet18``; its name."""
    name = f"tutorial_{architecture}"
    folder = shutil.copytree(TUTORIAL, repository / name)
    class_name = architecture.replace("resnet", "ResNet")
    change(folder / "1/model.py", r"flaxmodels\.ResNet18", f"flaxmodels.{class_name}")
    change(folder / "config.pbtxt", r'(?m)^name: ".*"', f'name: "{name}"')
    return name


def ours(repository: Path, architecture: str, **parameters: str) -> str:
    """This project's model as it is, but for architecture, weights and what is given; its name."""
    folder = shutil.copytree(OURS, repository / architecture)
    config = folder / "config.pbtxt"
    change(config, r'(?m)^name: ".*"', f'name: "{architecture}"')
    wanted = {"architecture": architecture, "weights": "random", **parameters}
    for key, value in wanted.items():
        pattern = rf'(key: "{key}"\s+value \{{ string_value: )"[^"]*"'
        change(config, pattern, rf'\g<1>"{value}"')
    return architecture


def make(repository: Path, architectures: Iterable[str]) -> Path:
    """Both models of each architecture."""
    for architecture in architectures:
        tutorial(repository, architecture)
        ours(repository, architecture)
    return repository


def change(file: Path, pattern: str, replacement: str) -> None:
    """Replace what must be there once; a file that has become another is not measured."""
    text, count = re.subn(pattern, replacement, file.read_text())
    if count != 1:
        raise ValueError(
            f"{file} has {pattern!r} {count} times; expected once; adapt {Path(__file__).name}"
        )
    file.write_text(text)
