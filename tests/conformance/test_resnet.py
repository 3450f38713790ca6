"""The repository's own ResNets: one ``model.py``, the same answers from both engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comparing import Engines
from resnet_cases import (
    test_digits,
    test_logits,
    test_metadata_and_config,
    write_resnets,
)

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

__all__ = [
    "test_digits",
    "test_logits",
    "test_metadata_and_config",
]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with the trained digits model and two ResNets of seeded weights."""
    repository = tmp_path_factory.mktemp("resnets")
    write_resnets(repository)
    with NativeEngine(repository) as native, StubEngine(repository) as stub:
        yield Engines(stub, native)
