"""For tests of models: ``from_config`` draws requests, ``check_outputs`` reads the answers.

``on_gpu`` pretends that an input is in the memory of a GPU.

The pytest plugin (fixture ``triton``) is ``triton_stub.testing.plugin``. Everything is imported on
first use: pytest imports this package in every test run of an environment that has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton_stub.testing.checks import check_outputs
    from triton_stub.testing.gpu import on_gpu
    from triton_stub.testing.strategies import from_config

__all__ = ["check_outputs", "from_config", "on_gpu"]

_HOME = {
    "check_outputs": "triton_stub.testing.checks",
    "from_config": "triton_stub.testing.strategies",
    "on_gpu": "triton_stub.testing.gpu",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
