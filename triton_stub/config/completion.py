"""What the server takes over of the configuration that a model has completed.

Source: core ``src/backend_model.cc``, ``TritonModel::UpdateModelConfig``.
"""

from __future__ import annotations

from typing import Any

from triton_stub.config.defaults import normalize
from triton_stub.config.reading import from_json
from triton_stub.config.schema import schema
from triton_stub.errors import ConfigError, StatusCode


def completed(config: Any, text: str) -> Any:
    """A new message: ``config`` with what the server takes of ``text``, normalized again.

    That is the batch size, the inputs, the outputs, the transaction policy, and the scheduler
    unless ``config`` has one. ConfigError if ``text`` is no configuration, or has not the
    scheduler of ``config``; the server ignores such a text, and says nothing.
    """
    update = from_json(text)
    result = schema().ModelConfig()
    result.CopyFrom(config)
    result.max_batch_size = update.max_batch_size
    for tensors in ("input", "output"):
        result.ClearField(tensors)
        getattr(result, tensors).extend(getattr(update, tensors))
    old, new = (message.WhichOneof("scheduling_choice") for message in (config, update))
    if old is not None and old != new:
        number = config.DESCRIPTOR.fields_by_name[old].number
        # The old number twice, as on the server.
        raise ConfigError(
            f"Cannot update scheduling choice from {number} to {number} when auto-completing.",
            StatusCode.INTERNAL,
        )
    if old is None and new is not None:
        getattr(result, new).CopyFrom(getattr(update, new))
    if update.HasField("model_transaction_policy"):
        policy = result.model_transaction_policy
        policy.decoupled = update.model_transaction_policy.decoupled
    normalize(result, result.name)
    return result
