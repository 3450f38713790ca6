"""Repositories that a test writes down as text, for both engines, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comparing import Engines
from instances import write_files

from triton_stub.engines.engine import Engine
from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
"""
# A frame that is not of the model: of another Python, its file and line may be others.
_FRAME = re.compile(r"^  (?P<file>.*)\(\d+\): (?P<function>.*)$", re.MULTILINE)


@contextmanager
def both_engines(
    repository: Path | Sequence[Path],
    *,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    strict: bool = False,
    **stub_options: Any,
) -> Iterator[Engines]:
    """The same repository, and whatever is good in it is served.

    ``options`` and ``env`` are for the real server alone, ``stub_options`` for ``Server``;
    ``strict`` disables auto_complete_config on both.
    """
    options = ["--exit-on-error=false", *options]
    if strict:
        options.append("--disable-auto-complete-config")
    stub_options = {"exit_on_error": False, "strict_model_config": strict, **stub_options}
    with (
        NativeEngine(repository, options=options, env=env) as native,
        StubEngine(repository, **stub_options) as stub,
    ):
        yield Engines(stub, native)


def write_models(
    repository: Path, models: Mapping[str, str | Mapping[str, str]], config: str = CONFIG
) -> None:
    """Write models by name: their files, or just the text of ``1/model.py``."""
    for name, files in models.items():
        given = {"1/model.py": files} if isinstance(files, str) else files
        write_files(repository / name, {"config.pbtxt": config, **given})


def reasons(engine: Engine) -> dict[str, str]:
    """Why each version of each model is not served, by the model's name; empty if it is."""
    with engine.client() as client:
        index = client.get_model_repository_index()
    return {row["name"]: row.get("reason", "") for row in index}


def comparable(text: str, repository: Path) -> str:
    """A text of an exception, without what two Pythons in two places may tell differently."""

    def frame(found: re.Match[str]) -> str:
        if found["file"].startswith(str(repository)):
            return found[0]
        return f"  {Path(found['file']).name}: {found['function']}"

    text = _FRAME.sub(frame, text)
    return re.sub(r"\(\S*/backends/python/", "(…/backends/python/", text)
