"""Adds up the numbers of a sequence; with the last one also the sequence's id, a number as text."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.totals = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value, start, end, sequence = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("INPUT", "START", "END", "CORRID")
        )
        name = sequence.item()
        total = value if start.item() else self.totals[name] + value
        self.totals[name] = total
        if end.item():
            total = np.int32(self.totals.pop(name) + int(name))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", total)])
