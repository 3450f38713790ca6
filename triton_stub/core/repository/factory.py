"""Which kind of model a configuration describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub import config as model_config
from triton_stub.core import labels
from triton_stub.core.backend_model import BackendModel
from triton_stub.core.ensembles.ensemble import EnsembleModel
from triton_stub.core.repository.loading import complete

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.core.host import ServerHost
    from triton_stub.core.model import ServedModel


def create_model(directory: Path, version: int, config: Any, server: ServerHost) -> ServedModel:
    """A version of a model, not yet loaded; LoadError if its configuration is refused."""
    if model_config.is_ensemble(config):
        return _create_ensemble(directory, version, config, server)
    settings = complete(directory, version, config, server)
    model = BackendModel(directory, version, settings, server)
    model.labels = labels.read(settings.config, directory)
    return model


def _create_ensemble(
    directory: Path, version: int, config: Any, server: ServerHost
) -> EnsembleModel:
    model_config.check_polled(config)
    model_config.check_tensors(config)
    model_config.check_labels(config, directory)
    model = EnsembleModel(config, version, server)
    model.labels = labels.read(config, directory)
    return model
