"""The states of a sequence: inputs that the server gives to a model, and the model gives back.

A Python model cannot give them back, so it sees their first values at every request. Sources: core
``src/sequence_batch_scheduler/`` (``GenerateInitialStateData``) and ``src/sequence_state.cc``.
"""

from __future__ import annotations

import contextlib
import math
import struct
from typing import TYPE_CHECKING, Any

from triton_stub import datatypes, deviations
from triton_stub.config.schema import schema
from triton_stub.core.hash_order import visited
from triton_stub.core.scheduling.sequence_controls import zeros
from triton_stub.core.tensor import Tensor
from triton_stub.datatypes import BYTES
from triton_stub.errors import LoadError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.core.log import Log

_FOLDER = "initial_state"


def initial(config: Any, directory: Path, log: Log) -> list[Tensor]:
    """The states by which a sequence begins, in the order in which they become inputs.

    LoadError, in the server's words, if what ``initial_state`` says of one is refused.
    """
    data: dict[str, bytes] = {}
    for state in config.sequence_batching.state:
        name, count = state.input_name, len(state.initial_state)
        if count > 1:
            raise _refused(
                f"initial_state field for state input '{name}' must contain exactly one or zero "
                f"element. Found '{count}' elements."
            )
        if count:
            _check(state, state.initial_state[0], taken=name in data)
            data[name] = _read(state.initial_state[0], name, directory)
    states: dict[str, Tensor] = {}
    batch = (1,) if config.max_batch_size else ()
    for state in _in_order(config):
        name = state.input_name
        if name in states:
            log.note(
                LogLevel.WARNING,
                f"Detected duplicate 'input_name' in the state configuration: '{name}.' This "
                "state configuration will be ignored.",
            )
            continue
        if state.data_type not in schema().DataType.values()[1:]:
            raise _odd(name, "has no data_type", "Name one.")
        datatype = datatypes.from_number(state.data_type)
        # Of what is variable there is one, however many values there are.
        shape = (*batch, *(1 if dim == -1 else dim for dim in state.dims))
        if name not in data:
            # The server leaves numbers as they are in its memory.
            states[name] = zeros(name, datatype, shape)
        elif datatype is BYTES:
            states[name] = Tensor(name, datatype, shape, _texts(name, data[name], shape))
            if len(data[name]) % 4:
                # The server gives up here.
                log.note(
                    LogLevel.ERROR,
                    "Failed to initialize sequence state: The total byte size must be a multiple "
                    "of 4 when setting the sequence state to zero.",
                )
                break
        else:
            raw = data[name][: math.prod(shape) * datatype.itemsize]
            states[name] = Tensor(name, datatype, shape, raw)
    return [states[name] for name in sorted(states)]


def _in_order(config: Any) -> list[Any]:
    """The states as the server's map by the outputs' names has them, one for each name."""
    by_output: dict[str, Any] = {}
    for state in config.sequence_batching.state:
        by_output.setdefault(state.output_name, state)
    names = tuple(by_output)
    return [by_output[names[index]] for index in visited(names)]


def _texts(name: str, raw: bytes, shape: tuple[int, ...]) -> datatypes.Array:
    """The texts of a state: empty ones, as far as the server can set them to zeros."""
    with contextlib.suppress(struct.error):
        texts = datatypes.decode_bytes(raw if len(raw) % 4 else bytes(len(raw)))
        if len(texts) == math.prod(shape):
            return texts.reshape(shape)
    raise _odd(
        name,
        f"begins with {len(raw)} bytes for {math.prod(shape)} texts",
        "Use zero_data, with the dims of the state.",
    )


def _check(state: Any, start: Any, *, taken: bool) -> None:
    name = state.input_name
    if start.data_type != state.data_type:
        raise _refused(
            f"The data type used for 'initial_state' field of state '{name}' does not match the "
            "state data type."
        )
    if not start.name:
        raise _refused(
            f"Field 'name' must be set when using initial_state for state input '{name}'."
        )
    if taken:
        raise _refused(f"State input name '{name}' specified more than once.")
    if len(start.dims) != len(state.dims):
        raise _refused(
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions "
            f"for state input '{name}'. {len(start.dims)} != {len(state.dims)}"
        )
    for dim, expected in zip(start.dims, state.dims, strict=True):
        if dim == -1:
            raise _refused(
                f"'initial_state' field for state input name '{name}' contains variable dimensions."
            )
        if expected not in (-1, dim):
            raise _refused(
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim "
                f"description. {dim} != {expected}"
            )


def _read(start: Any, name: str, directory: Path) -> bytes:
    datatype = datatypes.from_number(start.data_type)
    size: int = math.prod(start.dims) * (datatype.itemsize or 4)
    source = start.WhichOneof("state_data")
    if source is None:
        raise _refused(f"initial_state setting expects state'{name}' to have state_data set")
    if source == "zero_data":
        return bytes(size)
    path = directory / _FOLDER / start.data_file
    try:
        content: bytes = path.read_bytes()
    except OSError as error:
        raise LoadError(f"failed to open text file for read {path}: {error.strerror}") from None
    if datatype is BYTES:
        return content
    if size > len(content):
        raise _refused(
            f"initial_state setting expects {size} bytes, but the data provided from "
            f"{start.data_file}only has {len(content)} bytes."
        )
    return content[:size]


def _odd(name: str, how: str, instead: str) -> LoadError:
    return _refused(deviations.ODD_STATE.text(f"the state of input '{name}' {how}", instead))


def _refused(message: str) -> LoadError:
    return LoadError(message, StatusCode.INVALID_ARG)
