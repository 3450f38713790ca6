"""Runs the Python of CODE, which another model has sent, and does with the request what it says.

The last expression is the response; ``told(value)`` makes one with the ``repr`` of a value. In
``called_decoupled`` the code answers by itself, with ``send(response, flags)``.
"""

import ast
import json
import os
import threading
import time

import c_python_backend_utils as c
import numpy as np
import triton_python_backend_utils as pb_utils
from triton_python_backend_utils import get_input_tensor_by_name as by_name

MODULES = (json, os, threading, time)


class TritonPythonModel:
    def initialize(self, args):
        self.instance = args["model_instance_name"]
        self.kept = {}
        config = json.loads(args["model_config"])
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(config)

    def execute(self, requests):
        responses = []
        for request in requests:
            names = self.names(request, requests)
            responses.append(run(names))
            names.clear()  # a sender that the code has not kept is dropped here
        return None if self.decoupled else responses

    def names(self, request, requests):
        names = {
            **{module.__name__: module for module in MODULES},
            "T": pb_utils.Tensor,
            "E": pb_utils.TritonError,
            "R": pb_utils.InferenceResponse,
            "Q": pb_utils.InferenceRequest,
            "pb_utils": pb_utils,
            "c": c,
            "np": np,
            "by_name": by_name,
            "told": told,
            "request": request,
            "requests": requests,
            "self": self,
        }
        if self.decoupled:
            names["send"] = request.get_response_sender().send
        return names


def run(names):
    code = by_name(names["request"], "CODE").as_numpy().item(0).decode()
    tree = ast.parse(code, "called.py")
    last = ast.Constant(None)
    if isinstance(tree.body[-1], ast.Expr):
        last = tree.body.pop().value
    exec(compile(tree, "called.py", "exec"), names)
    last = ast.fix_missing_locations(ast.Expression(last))
    return eval(compile(last, "called.py", "eval"), names)


def told(value):
    text = np.array([repr(value).encode()], dtype=np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", text)])
