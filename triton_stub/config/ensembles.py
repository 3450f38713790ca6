"""What the server refuses in an ensemble's configuration, in its words and order.

By itself, when it polls a repository: core ``src/model_config_utils.cc``. Beside those of its
steps' models, when these are loaded: core ``src/ensemble_scheduler/ensemble_utils.cc``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from triton_stub.config.schema import schema
from triton_stub.datatypes import format_shape
from triton_stub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

PLATFORM = "ensemble"


def is_ensemble(config: Any) -> bool:
    """True if a configuration is one of an ensemble."""
    return bool(config.platform == PLATFORM) and not config.backend


def composing_models(config: Any) -> list[tuple[str, int]]:
    """Names and versions of the models of an ensemble's steps, in order; -1 is the newest.

    Each of them once. Empty for a model that is no ensemble.
    """
    steps = config.ensemble_scheduling.step
    return list(dict.fromkeys((step.model_name, step.model_version) for step in steps))


def check_ensemble(config: Any) -> None:
    """The steps of an ensemble must lead from its inputs to its outputs: ConfigError."""
    name = config.name
    if config.platform != PLATFORM:
        raise ConfigError(
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not {PLATFORM}"
        )
    if config.instance_group:
        raise ConfigError(f"instance group should not be specified for ensemble '{name}'")
    if config.HasField("optimization"):
        raise ConfigError(f"optimization should not be specified for ensemble '{name}'")
    if config.model_warmup:
        raise ConfigError(f"model_warmup can not be specified for ensemble '{name}'")
    if not config.ensemble_scheduling.step:
        raise ConfigError(f"must specify 'step' for ensemble '{name}'")
    tensors = _connected(config)
    _let_flow(config, tensors)
    outputs = {tensor.name for tensor in config.output}
    for output in config.output:
        _check_written(output.name, tensors, name)
    for tensor in tensors.values():
        if tensor.name not in outputs and not (tensor.ready and tensor.after):
            raise ConfigError(f"ensemble tensor '{tensor.name}' is unused in ensemble '{name}'")


class _Tensor:
    """A tensor of an ensemble, and what it is made of and used for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_output = False
        self.ready = False
        self.before: list[_Tensor] = []
        self.after: list[_Tensor] = []


def _connected(config: Any) -> dict[str, _Tensor]:
    """All tensors that steps name, with what leads from each to others."""
    tensors: dict[str, _Tensor] = {}

    def found(name: str) -> _Tensor:
        return tensors.setdefault(name, _Tensor(name))

    for index, step in enumerate(config.ensemble_scheduling.step):
        for what in ("model_name", "input_map", "output_map"):
            if not getattr(step, what):
                raise ConfigError(
                    f"must specify '{what}' in step {index} of ensemble '{config.name}'"
                )
        outputs = [found(name) for name in sorted(step.output_map.values())]
        for output in outputs:
            if output.is_output:
                raise ConfigError(
                    f"ensemble tensor '{output.name}' can appear in an output map only once for "
                    f"ensemble '{config.name}' step {index}"
                )
            output.is_output = True
        for name in sorted(step.input_map.values()):
            for output in outputs:
                output.before.append(found(name))
                found(name).after.append(output)
            found(name)
    return tensors


def _let_flow(config: Any, tensors: dict[str, _Tensor]) -> None:
    """Say of each tensor whether it can be ``ready``, from the inputs on."""
    queue: deque[_Tensor] = deque()
    for tensor in config.input:
        if tensor.name not in tensors:
            raise ConfigError(
                f"ensemble input '{tensor.name}' for ensemble {config.name}' is not used"
            )
        tensors[tensor.name].ready = True
        queue.append(tensors[tensor.name])
    while queue:
        for after in queue.popleft().after:
            if not after.ready and all(before.ready for before in after.before):
                after.ready = True
                queue.append(after)


def _check_written(name: str, tensors: dict[str, _Tensor], ensemble: str) -> None:
    if name not in tensors:
        # The quotes are the server's.
        raise ConfigError(f"ensemble output '{name}' for ensemble {ensemble}' is not used")
    if tensors[name].ready:
        return
    seen: set[str] = set()
    source = tensors[name]
    while missing := [
        before for before in source.before if not before.ready and before.name not in seen
    ]:
        source = missing[0]
        seen.add(source.name)
    message = f"output '{name}' for ensemble '{ensemble}' is not written"
    if source.name != name:
        message += f": at least one of its depending tensors, '{source.name}', is not connected"
    raise ConfigError(message)


class _Node:
    """A tensor of an ensemble, as the model says of it that was the first to name it."""

    def __init__(self, model: str, tensor: Any = None, *, batching: bool = False) -> None:
        self.model = model
        self.decoupled = False
        # Tensors that come from the same decoupled model have the same label.
        self.label = 0
        self.visited = False
        self.before: list[_Node] = []
        self.after: list[_Node] = []
        self.sibling: _Node | None = None
        if tensor is not None:
            self.data_type = tensor.data_type
            self.dims = list(tensor.dims)
            self.full_dims = [-1, *self.dims] if batching else self.dims


def check_steps(config: Any, models: Sequence[Any]) -> bool:
    """An ensemble's tensors must be such as the models of its steps have: ConfigError.

    ``models`` are the configurations of the steps' models, completed, one for each step. True if a
    request may have any number of responses, because one of them is decoupled.
    """
    ensemble = config.name
    nodes = _own_nodes(config)
    for step, model in zip(config.ensemble_scheduling.step, models, strict=True):
        if model.max_batch_size and model.max_batch_size < config.max_batch_size:
            raise ConfigError(
                f"ensemble {ensemble} allows maximum batch size {config.max_batch_size}, but it "
                f"contains model {step.model_name} which only allows maximum batch size to be "
                f"{model.max_batch_size}"
            )
        mapping = _Mapping(ensemble, step, model, nodes)
        mapping.check_inputs()
        mapping.check_outputs()
    return _label([nodes[tensor.name] for tensor in config.input], ensemble) != 0


def _own_nodes(config: Any) -> dict[str, _Node]:
    """The tensors that the ensemble's own configuration describes; its outputs have one end."""
    batching, nodes, sink = config.max_batch_size > 0, dict[str, _Node](), _Node(config.name)
    for tensor in (*config.input, *config.output):
        node = nodes.setdefault(tensor.name, _Node(config.name, tensor, batching=batching))
        if tensor.HasField("reshape"):
            node.dims = list(tensor.reshape.shape)
            node.full_dims = [-1, *node.dims] if batching else node.dims
    for tensor in config.output:
        sink.before.append(nodes[tensor.name])
        nodes[tensor.name].after.append(sink)
    return nodes


class _Mapping(NamedTuple):
    """One step of an ensemble, its model's configuration, and the tensors of the ensemble."""

    ensemble: str
    step: Any
    model: Any
    nodes: dict[str, _Node]

    def check_inputs(self) -> None:
        """The model's inputs must be there, all of them but optional ones."""
        known, given = {tensor.name for tensor in self.model.input}, self.step.input_map
        for name in sorted(given):
            if name not in known:
                self._refuse(
                    f"ensemble tensor {given[name]} is mapping to non-existing input", name
                )
        for tensor in self.model.input:
            if tensor.name in given:
                self._check_same(given[tensor.name], tensor)
            elif not tensor.optional:
                self._refuse("input", tensor.name, " is not mapped to any ensemble tensors")

    def check_outputs(self) -> None:
        """The outputs that are asked for must be the model's; then they are linked."""
        known = {tensor.name: tensor for tensor in self.model.output}
        given = self.step.output_map
        for name in sorted(given):
            if name not in known:
                self._refuse(
                    f"ensemble tensor {given[name]} is mapped from non-existing output", name
                )
        sibling = _Node(self.step.model_name)
        for name, target in sorted(given.items()):
            self._check_same(target, known[name])
            self.nodes[target].sibling = sibling
            self.nodes[target].decoupled = self.model.model_transaction_policy.decoupled
            for source in sorted(self.step.input_map.values()):
                self.nodes[target].before.append(self.nodes[source])
                self.nodes[source].after.append(self.nodes[target])

    def _check_same(self, target: str, tensor: Any) -> None:
        """What the model says of a tensor must agree with what was said of it before."""
        other = _Node(self.step.model_name, tensor, batching=self.model.max_batch_size > 0)
        node = self.nodes.setdefault(target, other)
        if node.data_type != other.data_type:
            what, of = (
                "data type",
                [schema().DataType.Name(each.data_type) for each in (node, other)],
            )
        # Between a model with batching and one without, the full shapes may be what fits.
        elif not (fits(node.dims, other.dims) or fits(node.full_dims, other.full_dims)):
            what, of = "shape", [format_shape(each.full_dims) for each in (node, other)]
        else:
            return
        raise ConfigError(
            f"in ensemble {self.ensemble}, ensemble tensor {target}: inconsistent {what}: {of[0]} "
            f"is inferred from model {node.model} while {of[1]} is inferred from model "
            f"{other.model}"
        )

    def _refuse(self, what: str, name: str, end: str = "") -> NoReturn:
        raise ConfigError(
            f"in ensemble {self.ensemble}, {what} {name} in model {self.step.model_name}{end}"
        )


def fits(dims: Sequence[int], others: Sequence[int]) -> bool:
    """True if two shapes are the same, save where either leaves a size open."""
    return len(dims) == len(others) and all(
        -1 in (dim, other) or dim == other for dim, other in zip(dims, others, strict=True)
    )


def _label(inputs: Sequence[_Node], ensemble: str) -> int:
    """Find out which tensors come from which decoupled model; how many of these there are.

    ConfigError if a step takes tensors of two of them, of which nobody could say which belong
    together.
    """
    labels = 0
    queue = deque(inputs)
    for node in inputs:
        node.visited = True
    while queue:
        for node in queue.popleft().after:
            if node.visited or not all(before.visited for before in node.before):
                continue
            label = node.before[0].label
            if any(before.label != label for before in node.before):
                raise ConfigError(
                    f"in ensemble {ensemble}, step of model '{node.model}' receives inputs "
                    "originated from different decoupled models"
                )
            sibling = node.sibling
            if sibling is not None and sibling.visited:
                node.label = sibling.label
            else:
                if node.decoupled:
                    labels += 1
                    label = labels
                node.label = label
                if sibling is not None:
                    sibling.label, sibling.visited = label, True
            node.visited = True
            queue.append(node)
    return labels
