"""Tells where it runs: what a model finds there, not what a build script has meant to put there."""

import errno
import importlib.metadata
import json
import os
import platform

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        names = pb_utils.get_input_tensor_by_name(request, "PACKAGES").as_numpy()
        shared = os.statvfs("/dev/shm")
        facts = {
            "python": platform.python_version(),
            "user": os.getuid(),
            "packages": {
                name: importlib.metadata.version(name) for name in (each.decode() for each in names)
            },
            "shared_memory": shared.f_frsize * shared.f_blocks,
            "write_beside_model": error_of_writing(pb_utils.get_model_dir()),
        }
        told = np.array([json.dumps(facts).encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("JSON", told)])


def error_of_writing(folder):
    path = os.path.join(folder, "written")
    try:
        with open(path, "x"):
            os.remove(path)
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
