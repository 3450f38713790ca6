"""Models for tests, written into a repository on disk."""

from pathlib import Path

CONFIG = """
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
BATCHED = f"max_batch_size: 8\ndynamic_batching {{ }}\n{CONFIG}"

# Doubles IN; -13 makes the whole call fail, -14 only the one request.
DOUBLE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        if (array == -13).any():
            raise ValueError("minus thirteen")
        if (array == -14).any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("minus fourteen"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", 2 * array)])
"""
# Answers with what it is sent.
ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(request.inputs()) for request in requests]
"""
# Says that it has begun, and waits until it may go on.
WAITING = """
import pathlib
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        here = pathlib.Path(pb_utils.get_model_dir())
        (here / "begun").touch()
        end = time.monotonic() + 60
        while not (here / "go").exists() and time.monotonic() < end:
            time.sleep(0.001)
        return [pb_utils.InferenceResponse(request.inputs()) for request in requests]
"""
# Waits in execute until the test opens gates.GATES[<name of the model>]; tells how it ends.
GATED = (
    """
import gates
"""
    + DOUBLE
    + """
    def initialize(self, args):
        self.gate = gates.GATES[args["model_name"]]
        self.answer_one, self.answer = self.answer, self.wait_and_answer

    def wait_and_answer(self, request):
        self.gate.pass_through()
        return self.answer_one(request)

    def finalize(self):
        pb_utils.Logger.log_info("finalized")
"""
)
BROKEN = (
    DOUBLE
    + """
    def initialize(self, args):
        raise OSError("no weights")
"""
)


def write_model(
    repository: Path,
    name: str = "model",
    code: str = DOUBLE,
    config: str = CONFIG,
    version: int = 1,
) -> Path:
    """Add a version of a model to a repository; returns the model's directory."""
    directory = repository / name
    (directory / str(version)).mkdir(parents=True)
    (directory / "config.pbtxt").write_text(config)
    (directory / str(version) / "model.py").write_text(code)
    return directory
