"""Runs the Python of CODE where the model runs, and tells what comes out of it.

TOLD is the ``repr`` of the last expression, or the type and text of what was raised. Whatever the
code puts into the list ``sent`` is sent, too: Triton checks no output, so OUT may be of any type.
"""

import ast
import asyncio
import copy
import gc
import json
import os
import pickle
import sys
import threading
import time
import weakref

import c_python_backend_utils as c
import numpy as np
import triton_python_backend_utils as pb_utils
from triton_python_backend_utils import get_input_tensor_by_name as by_name

MODULES = (ast, asyncio, copy, gc, json, os, pickle, sys, threading, time, weakref)


class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.config = json.loads(args["model_config"])
        self.kept = {}
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(self.config)

    def execute(self, requests):
        if not self.decoupled:
            return [self.answer(request) for request in requests]
        for request in requests:
            sender = request.get_response_sender()
            sender.send(self.answer(request), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None

    def answer(self, request):
        code = by_name(request, "CODE").as_numpy()[0].decode()
        names = {
            **{module.__name__: module for module in MODULES},
            "T": pb_utils.Tensor,
            "E": pb_utils.TritonError,
            "R": pb_utils.InferenceResponse,
            "Q": pb_utils.InferenceRequest,
            "L": pb_utils.Logger,
            "pb_utils": pb_utils,
            "c": c,
            "np": np,
            "by_name": by_name,
            "request": request,
            "self": self,
            "sent": [],
        }
        told = np.array([run(code, names).encode()], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", told), *names["sent"]])


def run(code, names):
    try:
        # The log names this file, and lines as the test wrote them.
        tree = ast.parse(code, "probe.py")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "probe.py", "exec"), names)
        if last is None:
            return repr(None)
        return repr(eval(compile(ast.Expression(last.value), "probe.py", "eval"), names))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__module__}.{type(error).__qualname__}: {error}"
