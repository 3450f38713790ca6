"""Which server the command line asks for, and with what."""

from __future__ import annotations

import os
from typing import Any, Protocol

import pytest

from triton_stub.engines.engine import Engine
from triton_stub.testing import spec

#: Whether the container has a GPU; then tests of it are run, too.
GPU = os.environ.get("TRITON_STUB_GPU") == "1"


class Start(Protocol):
    """The fixture ``start``: starts the engine of this run; a container takes more options."""

    def __call__(self, repository: os.PathLike[str], **options: Any) -> Engine: ...


def kind_of(config: pytest.Config) -> str:
    """``"stub"``, ``"native"`` or ``"container"``."""
    kind = spec.engine_name(config)
    if kind not in spec.ENGINES:
        raise pytest.UsageError(
            f"--triton-engine={kind}: these tests start servers of their own; expected stub, "
            "native or container"
        )
    return kind


def container_options(config: pytest.Config) -> dict[str, Any]:
    """What the command line says of containers, as keywords of ``ContainerEngine``."""
    return dict(spec.container_options(config).given())
