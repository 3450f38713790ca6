"""Model configuration: ``config.pbtxt`` → protobuf → Triton's defaults → checks → Triton's JSON.

reading     the text of a config.pbtxt, or JSON, into a message
fields      the values of JSON into the fields of a message
defaults    what the server fills in
checks      what it refuses: when it polls a repository, and when it loads a model
ensembles   what it refuses of an ensemble: by itself, and beside the models of its steps
completion  what it takes over of what auto_complete_config returns
printing    a message as JSON
sequences   what it refuses of sequences, and the control tensors
schema      NVIDIA's schema
"""

from __future__ import annotations

from triton_stub.config.checks import (
    check_instance_groups,
    check_labels,
    check_polled,
    check_tensors,
    validate,
)
from triton_stub.config.completion import completed
from triton_stub.config.defaults import MODEL_FILENAME, normalize
from triton_stub.config.ensembles import check_steps, composing_models, fits, is_ensemble
from triton_stub.config.printing import to_dict, to_json
from triton_stub.config.reading import CONFIG_FILENAME, from_json, load, parse, poll
from triton_stub.config.schema import schema
from triton_stub.config.sequences import Control, controls

__all__ = [
    "CONFIG_FILENAME",
    "MODEL_FILENAME",
    "Control",
    "check_instance_groups",
    "check_labels",
    "check_polled",
    "check_steps",
    "check_tensors",
    "completed",
    "composing_models",
    "controls",
    "fits",
    "from_json",
    "is_ensemble",
    "load",
    "normalize",
    "parse",
    "poll",
    "schema",
    "to_dict",
    "to_json",
    "validate",
]
