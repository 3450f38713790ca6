"""The labels of a model's classes, from the files that its configuration names.

Source: core ``src/label_provider.cc``, and ``model_lifecycle.cc`` for ensembles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    #: By the output's name: of each class a label, empty if it has none. Any bytes, no NUL.
    Labels = Mapping[str, Sequence[bytes]]


def read(config: Any, directory: Path) -> Labels:
    """The labels of the outputs that have a file of them, a line for each class."""
    return {
        output.name: _lines((directory / output.label_filename).read_bytes())
        for output in config.output
        if output.label_filename
    }


def with_labels_of_steps(config: Any, own: Labels, labels_of: Callable[[Any], Labels]) -> Labels:
    """Those of an ensemble; ``labels_of`` tells those of a step's model.

    An output without labels of its own has those of the output of a step that it is.
    """
    labels = dict(own)
    outputs = {output.name for output in config.output}
    for step in config.ensemble_scheduling.step:
        for name, tensor in step.output_map.items():
            if tensor in outputs and tensor not in labels:
                labels[tensor] = labels_of(step).get(name, ())
    return labels


def _lines(text: bytes) -> list[bytes]:
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    return [line.partition(b"\0")[0] for line in lines]
