"""Models for requests over gRPC."""

from __future__ import annotations

from pathlib import Path

from broken_models import write_models

TYPES = [
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES", "BF16"),
]
# Each type is an input that may be left out, and an output of the same values.
TYPES_CONFIG = 'backend: "python" ' + "".join(
    f'input {{ name: "{name}" data_type: TYPE_{name.replace("BYTES", "STRING")} dims: [ -1 ] '
    f'optional: true }} output {{ name: "OUT_{name}" '
    f"data_type: TYPE_{name.replace('BYTES', 'STRING')} dims: [ -1 ] }} "
    for name in TYPES
)
TYPES_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT_" + tensor.name(), tensor.as_numpy())
                if tensor.name() != "BF16"
                else pb_utils.Tensor.from_dlpack("OUT_BF16", tensor.to_dlpack())
                for tensor in sorted(request.inputs(), key=lambda tensor: tensor.name())
            ])
            for request in requests
        ]
"""
ECHO = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            told = json.dumps([
                request.request_id(), request.correlation_id(), request.flags(),
                request.timeout(), json.loads(request.parameters() or "{}"),
                sorted(request.requested_output_names()),
            ], sort_keys=True)
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT", values),
                pb_utils.Tensor("TOLD", np.full((*values.shape[:-1], 1), told.encode(), object)),
            ]))
        return responses
"""
ANSWERS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())],
                parameters={"int": 2**40, "negative": -1, "bool": True, "no": False, "empty": "",
                            "text": "t\\u00e9xt"},
            )
            for request in requests
        ]
"""
FAILS = """
import numpy as np
import triton_python_backend_utils as pb_utils

CODES = ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED",
         "ALREADY_EXISTS", "CANCELLED"]

class TritonPythonModel:
    def execute(self, requests):
        code = int(pb_utils.get_input_tensor_by_name(requests[0], "IN").as_numpy()[0])
        if code < 0:
            raise ValueError("h\\u00e9")
        error = pb_utils.TritonError(f"code {code}", getattr(pb_utils.TritonError, CODES[code]))
        return [pb_utils.InferenceResponse(error=error) for request in requests]
"""
SENDS = """
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            sender = request.get_response_sender()
            good = pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor)])
            bad = pb_utils.InferenceResponse(error=pb_utils.TritonError("no"))
            match int(tensor[0]):
                case 0:
                    sender.send(flags=FINAL)
                case 1:
                    sender.send(good, FINAL)
                case 2:
                    sender.send(good)
                    sender.send(flags=FINAL)
                case 3:
                    sender.send(bad, FINAL)
                case 4:
                    sender.send(bad)
                    sender.send(flags=FINAL)
        return None
"""
DOUBLED = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor("OUT", np.zeros(2, np.float32)),
                pb_utils.Tensor("OUT", np.ones(3, np.float32)),
            ])
            for request in requests
        ]
"""
# Notes in a folder that it has begun, waits until it is cancelled or may go on, and notes which.
PATIENT = """
import json
import pathlib
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            folder = pathlib.Path(json.loads(request.parameters())["folder"])
            (folder / f"{request.request_id()}.begun").touch()
            end = time.monotonic() + 60
            while not request.is_cancelled() and not (folder / "go").exists():
                if time.monotonic() > end:
                    raise TimeoutError(request.request_id())
                time.sleep(0.005)
            told = "cancelled" if request.is_cancelled() else "not cancelled"
            (folder / f"{request.request_id()}.ended").write_text(told)
            responses.append(pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())]
            ))
        return responses
"""
CLASSES_CONFIG = 'backend: "python" max_batch_size: 8 ' + "".join(
    f'input {{ name: "IN_{name}" data_type: TYPE_{name} dims: [ -1 ] optional: true }} '
    f'output {{ name: "OUT_{name}" data_type: TYPE_{name} dims: [ -1 ] '
    'label_filename: "labels.txt" } '
    for name in ("FP32", "INT8", "BOOL", "FP16")
)
CLASSES_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([
                pb_utils.Tensor(tensor.name().replace("IN", "OUT"), tensor.as_numpy())
                for tensor in request.inputs()
            ])
            for request in requests
        ]
"""
TWICE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for _ in range(2):
                values = request.inputs()[0].as_numpy()
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"
BATCHED = """
max_batch_size: 4
dynamic_batching { priority_levels: 3 default_priority_level: 2 }
"""
SEQUENCE = "max_batch_size: 4 sequence_batching { }"
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
"""
TELLING = CONFIG + 'output { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] } '


def write(repository: Path) -> None:
    """Write them all."""
    write_models(
        repository,
        {"answers": ANSWERS, "fails": FAILS, "sends": SENDS, "doubled": DOUBLED},
        CONFIG,
    )
    write_models(repository, {"types": TYPES_MODEL}, TYPES_CONFIG)
    write_models(repository, {"echo": ECHO}, TELLING)
    write_models(repository, {"batched": ECHO}, TELLING + BATCHED)
    write_models(repository, {"sequence": ECHO}, TELLING + SEQUENCE)
    write_models(repository, {"patient": PATIENT}, CONFIG + "dynamic_batching { }")
    classes = {"1/model.py": CLASSES_MODEL, "labels.txt": "first\nsecond\n"}
    write_models(repository, {"classes": classes}, CLASSES_CONFIG)
    write_models(repository, {"twice": TWICE}, CONFIG + DECOUPLED)
    write_models(repository, {"decoupled": ECHO}, TELLING + DECOUPLED)
