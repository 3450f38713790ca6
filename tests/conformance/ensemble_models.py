"""Ensembles that a test writes down in a few words, and models that tell what they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from instances import write_files

PYTHON = 'backend: "python"\n'

#: Tells, as JSON in TOLD, what a request to it is; OUT is IN as it came.
TELLS = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.told(request) for request in requests]

    def told(self, request):
        seen = {
            "id": request.request_id(),
            "sequence": request.correlation_id(),
            "flags": request.flags(),
            "parameters": json.loads(request.parameters()),
            "timeout": request.timeout(),
            "outputs": sorted(request.requested_output_names()),
            "cancelled": request.is_cancelled(),
            "inputs": {t.name(): [str(t.as_numpy().dtype), list(t.shape())]
                       for t in request.inputs()},
        }
        values = request.inputs()[0].as_numpy()
        told = np.array([json.dumps(seen, sort_keys=True).encode()], object)
        if SHAPE:
            told = told.reshape(SHAPE)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUT", values), pb_utils.Tensor("TOLD", told)]
        )
"""


def tensors(kind: str, *described: str) -> str:
    """``input`` or ``output`` entries, each ``"NAME TYPE dims [more fields]"``."""
    text = ""
    for words in described:
        name, datatype, dims, *more = words.split(maxsplit=3)
        text += (
            f'{kind} {{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ] '
            f"{' '.join(more)} }}\n"
        )
    return text


def step(
    model: str, inputs: Mapping[str, str], outputs: Mapping[str, str], version: int | None = -1
) -> str:
    """One step: names of the model's tensors, and of the ensemble's."""
    number = "" if version is None else f"model_version: {version} "
    maps = _map("input", inputs) + _map("output", outputs)
    return f'step {{ model_name: "{model}" {number}{maps}}}\n'


def ensemble(inputs: str, outputs: str, *steps: str, more: str = "") -> str:
    """A configuration; ``inputs`` and ``outputs`` are separated by semicolons, see ``tensors``."""
    return "".join(
        [
            'platform: "ensemble"\n',
            more,
            tensors("input", *filter(None, inputs.split(";"))),
            tensors("output", *filter(None, outputs.split(";"))),
            "ensemble_scheduling {\n",
            *steps,
            "}\n",
        ]
    )


def write_ensemble(repository: Path, name: str, config: str) -> None:
    """Write an ensemble, with the folder of a version that it needs all the same."""
    write_files(repository / name, {"config.pbtxt": config, "1/.keep": ""})


def _map(kind: str, names: Mapping[str, str]) -> str:
    return "".join(
        f'{kind}_map {{ key: "{key}" value: "{value}" }} ' for key, value in names.items()
    )
