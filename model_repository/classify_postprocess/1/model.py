"""Logits become the likeliest classes, with their names and probabilities.

The last step of the ensemble `classify`, and a model of its own.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model. Triton calls its methods one at a time."""

    def initialize(self, args):
        """Read how many classes there are and how many are wanted, and what they are called."""
        config = json.loads(args["model_config"])
        (classes,) = pb_utils.get_input_config_by_name(config, "fc_out")["dims"]
        (self.count,) = pb_utils.get_output_config_by_name(config, "label")["dims"]
        labels = [str(number) for number in range(classes)]
        file = Path(args["model_repository"], "labels.txt")
        if file.exists():
            labels = file.read_text(encoding="utf-8").splitlines()
        if len(labels) != classes:
            raise ValueError(f"{file} has {len(labels)} lines; expected one for each of {classes}.")
        self.labels = np.array([label.encode() for label in labels], np.object_)

    def execute(self, requests):
        """One response for each of the requests, in their order."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Names and probabilities [n, count] for logits [n, classes]."""
        logits = pb_utils.get_input_tensor_by_name(request, "fc_out").as_numpy()
        # Without the largest, exp could be infinite; the quotient is the same.
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities = powers / powers.sum(-1, keepdims=True)
        # Of equal ones the first comes first, on every machine.
        best = np.argsort(-probabilities, -1, kind="stable")[:, : self.count]
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("label", self.labels[best]),
                pb_utils.Tensor("probability", np.take_along_axis(probabilities, best, -1)),
            ]
        )
