"""``sequence_batching``: what the server refuses, and which control tensors it describes.

Source: core ``src/model_config_utils.cc``, named ``MCU`` below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from triton_stub.config.schema import schema
from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order of the checks, and of the inputs that a model gets; CORRID is the last.
_SIGNALS = ("START", "END", "READY")
_ID = "CORRID"
_ID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


class Control(NamedTuple):
    """An input by which a model is told about the sequence of a request.

    ``values`` are those for false and true; the one that holds the correlation id has none.
    """

    name: str
    data_type: int
    values: Sequence[int | float | bool] = ()


def check_sequence_batching(config: Any) -> None:
    """What is checked when a repository is polled: ConfigError. Source: MCU 1570-1660."""
    batching, name = config.sequence_batching, config.name
    if config.response_cache.enable:
        raise ConfigError(
            f"Response Cache does not currently support model {name} with sequence batching "
            "scheduler. Please disable the response cache."
        )
    corrid = controls(config).get(_ID)
    types = schema().DataType
    if corrid is not None and corrid.data_type not in map(types.Value, _ID_TYPES):
        raise ConfigError(
            f"unexpected data type for control CONTROL_SEQUENCE_CORRID for {name}. Allowed data "
            "types are TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        )
    for size in batching.oldest.preferred_batch_size:
        if size <= 0:
            raise ConfigError(f"sequence batching preferred batch size must be positive for {name}")
        if size > config.max_batch_size:
            raise ConfigError(
                f"sequence batching preferred batch size must be <= max batch size for {name}"
            )
    if not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        raise ConfigError(
            "sequence batching minimum slot utilization must be in range (0.0, 1.0] for " + name
        )


def controls(config: Any) -> dict[str, Control]:
    """The control tensors by kind (START, END, READY, CORRID), as far as there are any.

    ConfigError if they are described in a way that the server refuses. Source: MCU 508-741.
    """
    found: dict[str, Control] = {}
    for kind in (*_SIGNALS, _ID):
        control = _find(config, kind)
        if control is not None:
            found[kind] = control
    return found


def _find(config: Any, kind: str) -> Control | None:
    model, full_name = config.name, f"CONTROL_SEQUENCE_{kind}"
    seen: set[str] = set()
    found: Control | None = None
    for entry in config.sequence_batching.control_input:
        if not entry.name:
            raise ConfigError(f"sequence batching control tensor must have a name for {model}")
        if entry.name in seen:
            raise ConfigError(
                f"sequence batching control tensor '{entry.name}' is specified for multiple "
                f"control kinds for {model}"
            )
        seen.add(entry.name)
        for control in entry.control:
            if control.Kind.Name(control.kind) != full_name:
                continue
            if found is not None:
                raise ConfigError(
                    f"sequence batching specifies multiple {full_name} tensors for {model}"
                )
            read = _identifier if kind == _ID else _signal
            found = read(entry.name, control, f"{full_name} for {model}")
    return found


def _signal(name: str, control: Any, what: str) -> Control:
    types = schema()
    given = [
        ("int32_false_true", types.TYPE_INT32, list(control.int32_false_true)),
        ("fp32_false_true", types.TYPE_FP32, list(control.fp32_false_true)),
        ("bool_false_true", types.TYPE_BOOL, list(control.bool_false_true)),
    ]
    given = [each for each in given if each[2]]
    if not given:
        raise ConfigError(
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {what}"
        )
    if len(given) > 1:
        raise ConfigError(
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' "
            f"and 'bool_false_true' for {what}"
        )
    ((field, data_type, values),) = given
    if len(values) != 2:
        raise ConfigError(
            f"sequence batching control '{field}' must have exactly 2 entries for {what}"
        )
    return Control(name, data_type, values)


def _identifier(name: str, control: Any, what: str) -> Control:
    if control.int32_false_true or control.fp32_false_true or control.bool_false_true:
        raise ConfigError(
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {what}"
        )
    return Control(name, control.data_type)
