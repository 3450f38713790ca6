"""The tensors and the steps of an ensemble, as its configuration connects them.

Source: core ``src/ensemble_scheduler/ensemble_scheduler.cc`` (``EnsembleScheduler``, and of
``EnsembleContext`` what does not change from request to request).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from triton_stub import config as model_config
from triton_stub.core.ensembles.limit import StepLimit
from triton_stub.core.hash_order import visited
from triton_stub.core.tensor import Tensor, unreshaped

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class Step(NamedTuple):
    """One step: its model, and the tensors of the ensemble behind its inputs and its outputs."""

    model_name: str
    model_version: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    limit: StepLimit | None


class Output(NamedTuple):
    """An output of the ensemble: the shape that its tensor has, and the one that a client sees."""

    inner: Sequence[int]
    dims: Sequence[int]
    is_reshaped: bool

    def shape(self, shape: tuple[int, ...], made: int, batch_size: int) -> tuple[int, ...]:
        """The shape that a client of a batch size sees of a tensor ``made`` in a batch of another.

        A size of 0 means that there is no batch.
        """
        shape = converted(shape, made, self.inner, batching=bool(batch_size))
        if not self.is_reshaped:
            return shape
        return unreshaped(shape, self.inner, self.dims, batching=bool(batch_size))


class Graph:
    """What a request to an ensemble goes through.

    Attributes:
        steps: the steps, in the order of the configuration.
        tensors: names of all tensors of the ensemble.
        outputs: those that a client gets, in the order in which a response has them.
        optional: names of inputs that a request may lack.
    """

    def __init__(self, config: Any) -> None:
        scheduling = config.ensemble_scheduling
        # A schema that is older does not have it.
        most: int = getattr(scheduling, "max_inflight_requests", 0)
        self.steps = [
            Step(
                step.model_name,
                step.model_version,
                dict(sorted(step.input_map.items())),
                dict(sorted(step.output_map.items())),
                StepLimit(most) if most else None,
            )
            for step in scheduling.step
        ]
        outputs = [
            Output(
                list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims),
                list(tensor.dims),
                tensor.HasField("reshape"),
            )
            for tensor in config.output
        ]
        names = [tensor.name for tensor in config.output]
        self.outputs = {names[index]: outputs[index] for index in visited(tuple(names))}
        self.optional = [tensor.name for tensor in config.input if tensor.optional]
        self._makers: dict[str, int] = {}
        taken = {name: set[int]() for name in (*names, *(each.name for each in config.input))}
        for index, step in enumerate(self.steps):
            for name in step.inputs.values():
                taken.setdefault(name, set()).add(index)
            for name in step.outputs.values():
                taken.setdefault(name, set())
                self._makers.setdefault(name, index)
        self._takers: dict[str, Collection[int]] = dict(taken)
        self.tensors = self._takers.keys()

    def takers(self, requested: frozenset[str]) -> Mapping[str, Collection[int]]:
        """Of each tensor the numbers of the steps that take it, as far as outputs need them."""
        ignored = self.outputs.keys() - requested
        return self._prune(ignored) if ignored else self._takers

    def _prune(self, ignored: set[str]) -> Mapping[str, Collection[int]]:
        """From the end to the start: what only leads to an output that nobody asks for goes.

        The server drops more than that. The maker of an output that nobody asks for goes even if
        another step needs it, and that of one whose last taker goes even if somebody asks for it;
        and when an input goes, the first step is mistaken for its maker. So do we, and the request
        fails there as here.
        """
        takers = {name: set(steps) for name, steps in self._takers.items()}
        left: dict[int, int] = {}
        while ignored:
            also: set[str] = set()
            for name in ignored:
                index = self._makers.get(name, 0)
                step = self.steps[index]
                left[index] = left.get(index, len(step.outputs)) - 1
                if left[index] == 0:
                    for source in step.inputs.values():
                        takers[source].discard(index)
                        if not takers[source]:
                            also.add(source)
            ignored = also
        return takers


def as_input(config: Any, name: str, tensor: Tensor, batch_size: int) -> Tensor:
    """A tensor, made in a batch of this size or 0 for none, as an input of a step's model."""
    shape, batching = tensor.shape, config.max_batch_size > 0
    if batching != bool(batch_size):
        dims = next((each.dims for each in config.input if each.name == name), shape)
        shape = converted(shape, batch_size, dims, batching=batching)
    return Tensor(name, tensor.datatype, shape, tensor.data, tensor.on_gpu)


def converted(
    shape: tuple[int, ...], batch_size: int, dims: Sequence[int], *, batching: bool
) -> tuple[int, ...]:
    """A tensor's shape for a taker that batches where the maker does not, or the other way round.

    ``batch_size`` is the maker's, 0 if it does not batch, the rest the taker's.
    """
    if batching == bool(batch_size):
        return shape
    fits = model_config.fits(dims, shape)
    if batching:
        return (1, *shape) if fits else shape
    return shape[1:] if batch_size == 1 and not fits else shape
