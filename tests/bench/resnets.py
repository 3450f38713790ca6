"""The repository of models that are measured: this project's ResNet, and a tutorial's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from triton_stub import config as model_config

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


def ours(repository: Path, architecture: str, suffix: str = "", **parameters: str) -> str:
    """This project's model as it is, but for architecture, weights and what is given; its name."""
    name = f"{architecture}_{suffix}" if suffix else architecture
    folder = shutil.copytree(OURS, repository / name)
    config = folder / "config.pbtxt"
    change(config, r'(?m)^name: ".*"', f'name: "{name}"')
    wanted = {"architecture": architecture, "weights": "random", **parameters}
    for key, value in wanted.items():
        pattern = rf'(key: "{key}"\s+value \{{ string_value: )"[^"]*"'
        change(config, pattern, rf'\g<1>"{value}"')
    return name


def default(parameter: str) -> str:
    """What this project's model has for a parameter."""
    config = model_config.parse((OURS / "config.pbtxt").read_text())
    return config.parameters[parameter].string_value


def change(file: Path, pattern: str, replacement: str) -> None:
    """Replace what must be there once; a file that has become another is not measured."""
    text, count = re.subn(pattern, replacement, file.read_text())
    if count != 1:
        raise ValueError(
            f"{file} has {pattern!r} {count} times; expected once; adapt {Path(__file__).name}"
        )
    file.write_text(text)
