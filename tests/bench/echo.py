"""Models that give back what they get: all that is measured is the way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CONFIG = """
backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: DIMS } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: DIMS } ]
"""
CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        numbers = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", numbers)])
"""


def write_echo(repository: Path, name: str, dims: Sequence[int]) -> None:
    """A model of float32 tensors of that shape in a model repository."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG.replace("DIMS", str(list(dims))))
    (folder / "1/model.py").write_text(CODE)
