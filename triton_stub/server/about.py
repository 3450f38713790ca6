"""What a server tells of itself and of its models, as the protocol prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_stub.core.repository.repository import NEWEST
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from triton_stub.core.repository.repository import Repository

# The release whose behaviour the conformance suite compares with.
IMITATED_VERSION = "2.51.0"
# What of the protocol's extensions is there; a client may ask before it uses one.
EXTENSIONS = (
    *("classification", "sequence", "model_repository", "model_repository(unload_dependents)"),
    *("schedule_policy", "model_configuration"),
    *("system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "parameters"),
    *("statistics", "trace", "logging"),
)


def metadata(name: str) -> dict[str, Any]:
    """A server's name, its version and its extensions."""
    return {"name": name, "version": IMITATED_VERSION, "extensions": list(EXTENSIONS)}


def not_started() -> InferenceError:
    """What a server says of itself that does not run."""
    error = InferenceError("Server not started", StatusCode.INVALID_ARG)
    error.add_note(
        "it has not been started, or is stopped: use `with Server(...) as server`, or call start()"
    )
    return error


def statistics(repository: Repository, name: str, version: int) -> dict[str, Any]:
    """Statistics of the versions of one model that serve, or without a name of all models.

    InferenceError if there is no such model, or no such version of it.
    """
    names = [name] if name else repository.loaded_names()
    models = [model for each in names for model in repository.ready(each)]
    # Neither the words nor the status are those of other requests for unknown models.
    if name and not models:
        raise InferenceError(f"requested model '{name}' is not available", StatusCode.INVALID_ARG)
    if name and version != NEWEST:
        models = [model for model in models if model.version == version]
    if name and not models:
        raise InferenceError(
            f"requested model version is not available for model '{name}'",
            StatusCode.INVALID_ARG,
        )
    return {
        "model_stats": [
            {"name": model.name, "version": str(model.version), **model.statistics.to_dict()}
            for model in models
        ]
    }
