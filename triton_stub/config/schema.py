"""The schema of model configurations: NVIDIA's own, as tritonclient ships it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


@cache
def schema() -> ModuleType:
    """NVIDIA's ``model_config_pb2``; importing it costs 0.3 s, so it is imported on first use."""
    from tritonclient.grpc import model_config_pb2

    module: ModuleType = model_config_pb2
    return module
