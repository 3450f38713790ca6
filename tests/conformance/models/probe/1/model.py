"""Runs the Python of CODE where the model runs, and tells what comes out of it.

TOLD is the ``repr`` of the last expression, or the type and text of what was raised. Whatever the
code puts into the list ``sent`` is sent beside it: Triton checks no output, so OUT may be of any
type. In ``probe_decoupled`` the code also has ``sender``, and TOLD comes with the final flag. In
``probe_async`` it may ``await``. If the code says ``silent = True``, it answers the request itself.
"""

import ast
import asyncio
import copy
import gc
import inspect
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
        if pb_utils.using_decoupled_model_transaction_policy(self.config):
            self.execute = self.execute_decoupled
        elif "async" in self.config["parameters"]:
            self.execute = self.execute_async

    def execute(self, requests):
        responses = []
        for request in requests:
            names = self.names(request)
            told = run(names)
            responses.append(None if names.get("silent") else response(told, names))
        return responses

    async def execute_async(self, requests):
        responses = []
        for request in requests:
            names = self.names(request)
            responses.append(response(await run_async(names), names))
        return responses

    def execute_decoupled(self, requests):
        for request in requests:
            names = {**self.names(request), "sender": request.get_response_sender()}
            told = run(names)
            if not names.get("silent"):
                names["sender"].send(
                    response(told, names), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                )
            names.clear()  # a sender that the code has not kept is dropped here

    def names(self, request):
        return {
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
            "attempt": attempt,
            "request": request,
            "self": self,
            "sent": [],
            "__name__": "probe",
        }


def response(told, names):
    told = pb_utils.Tensor("TOLD", np.array([told.encode()], dtype=np.object_))
    return pb_utils.InferenceResponse([told, *names["sent"]])


def run(names):
    try:
        *body, last = compiled(names["request"], 0)
        for part in body:
            exec(part, names)
        return repr(eval(last, names))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        return described(error)


def attempt(call, *args, **kwargs):
    """What a call comes to, as text."""
    try:
        return repr(call(*args, **kwargs))
    except Exception as error:  # noqa: BLE001
        return described(error)


async def run_async(names):
    value = None
    try:
        for part in compiled(names["request"], ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
            value = eval(part, names)
            if part.co_flags & inspect.CO_COROUTINE:
                value = await value
        return repr(value)
    except BaseException as error:  # noqa: BLE001
        return described(error)


def compiled(request, flags):
    """The statements of CODE, and its last expression, which is None if it has none."""
    # The log names this file, and lines as the test wrote them.
    tree = ast.parse(by_name(request, "CODE").as_numpy()[0].decode(), "probe.py")
    last = ast.Constant(None)
    if isinstance(tree.body[-1], ast.Expr):
        last = tree.body.pop().value
    last = ast.fix_missing_locations(ast.Expression(last))
    return [
        compile(part, "probe.py", mode, flags) for part, mode in ((tree, "exec"), (last, "eval"))
    ]


def described(error):
    return f"{type(error).__module__}.{type(error).__qualname__}: {error}"
