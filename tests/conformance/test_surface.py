"""Every name of the two modules, every member and every signature, and when they are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, write_models
from probing import comparable

#: What 2.51 has not: name, and the release that it came with.
NEWER = {
    "c_python_backend_utils.InferenceResponse.parameters": "25.02",
    "c_python_backend_utils.ResponseIterator.cancel": "25.04",
}
MOMENTS = ("import", "auto_complete_config", "initialize", "execute")
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }
"""
MODEL = r'''
"""Tells what it finds in the two modules, and when."""

import inspect
import json
import re
import types

import c_python_backend_utils
import numpy as np
import triton_python_backend_utils

MODULES = (triton_python_backend_utils, c_python_backend_utils)


# What is there because of how a module or a class was made.
HIDDEN = {"__annotations__", "__builtins__", "__cached__", "__del__", "__doc__", "__file__"}
HIDDEN |= {"__loader__", "__module__", "__package__", "__slots__", "__spec__", "__weakref__"}
HIDDEN |= {"__slotnames__"}  # which copying or pickling an object leaves in its class
# What pybind11 gives to some classes in place of what every class has.
OWN = {"__eq__", "__getstate__", "__hash__", "__init__", "__ne__", "__repr__", "__str__"}
# How they are called is Python's business.
PYTHONS = OWN - {"__init__"} | {"__index__", "__int__", "__setstate__"}


def public(names):
    """Also those with two underscores, which are Python's or pybind11's."""
    return sorted(name for name in names if re.match("[^_]|__", name) and name not in HIDDEN)


def names():
    return {module.__name__: public(dir(module)) for module in MODULES}


def describe(value):
    """What there is to say of a value that two processes can compare."""
    if isinstance(value, type):
        if not value.__module__.endswith("python_backend_utils"):
            return {"class": value.__name__}
        members = {*dir(value)} - {*dir(Exception)} | OWN
        return {
            "class": [value.__module__, value.__qualname__, value.__name__],
            "metaclass": type(value).__name__,
            "bases": sorted({base.__name__ for base in value.__mro__ if is_known(base)}),
            "members": {
                name: "Python's own" if name in PYTHONS else describe(getattr(value, name))
                for name in public(members)
            },
        }
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__}
    if callable(value):
        # pybind11 writes the signature into the docstring.
        told = re.match(r".*\) -> .*$", value.__doc__ or "", re.MULTILINE)
        signature = told and told[0]
        if isinstance(value, types.FunctionType) and not told and value.__name__ in PLAIN:
            signature = f"{value.__name__}{inspect.Signature(unannotated(value))}"
        return {"signature": signature}
    return {"value": repr(value), "type": type(value).__qualname__}


def unannotated(function):
    parameters = inspect.signature(function).parameters.values()
    return [parameter.replace(annotation=parameter.empty) for parameter in parameters]


def is_known(kind):
    """Not how pybind11, or an imitation of it, makes classes out of others."""
    return kind.__module__ == "builtins" or kind.__module__.endswith("python_backend_utils")


def is_of_both(name):
    """True if both modules have the very same object."""
    here, there = (getattr(module, name, module) for module in MODULES)
    return here is there


AT_IMPORT = names()
# What is plain Python on the server: functions, and methods of ModelConfig.
PLAIN = {*AT_IMPORT[MODULES[0].__name__], *dir(triton_python_backend_utils.ModelConfig)}
PLAIN -= {"__init__"}


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        # The only way out of here into the process that executes: as the name of an output.
        config.add_output({"name": json.dumps(names()), "data_type": "TYPE_FP32", "dims": [1]})
        return config

    def initialize(self, args):
        (told,) = (
            output["name"]
            for output in json.loads(args["model_config"])["output"]
            if output["name"] != "OUT"
        )
        self.names = {
            "import": AT_IMPORT,
            "auto_complete_config": json.loads(told),
            "initialize": names(),
        }

    def execute(self, requests):
        told = {
            "names": {**self.names, "execute": names()},
            "surface": {
                f"{module.__name__}.{name}": describe(getattr(module, name))
                for module in MODULES
                for name in public(dir(module))
                if module is c_python_backend_utils or not is_of_both(name)
            },
            "of both": [name for name in names()[MODULES[0].__name__] if is_of_both(name)],
        }
        out = np.array([json.dumps(told).encode()], dtype=np.object_)
        pb_utils = triton_python_backend_utils
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", out)])]
'''


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the model has found on each engine."""
    folder = tmp_path_factory.mktemp("surface")
    write_models(folder, {"surface": MODEL}, CONFIG)
    with both_engines(folder) as engines:
        return {
            engine.name: json.loads(
                engine.infer("surface", IN=np.zeros(1, np.float32))["OUT"].item()
            )
            for engine in engines
        }


@pytest.mark.rule("1.1-import-names", "1.1-later-names", "1.1-c-module-only", "trap-01")
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_names_of_both_modules(told: dict[str, Any], moment: str) -> None:
    assert told["stub"]["names"][moment] == told["native"]["names"][moment]


def test_names_appear_between_import_and_auto_complete_config(told: dict[str, Any]) -> None:
    at = told["native"]["names"]
    assert at["import"] != at["auto_complete_config"] == at["initialize"] == at["execute"]


@pytest.mark.rule(
    "1.3-tensor", "1.3-request", "1.3-response", "1.3-sender", "1.3-iterator", "1.3-error",
    "1.3-exception", "1.3-preferred-memory", "1.3-memory-type", "1.3-trace", "1.3-logger",
    "1.3-metric-family", "1.3-metric", "1.3-metric-kind", "1.3-shared-memory", "1.3-metaclass",
    "1.4-to-dlpack", "1.4-from-dlpack", "1.4-dlpack", "1.2-model-config",
)  # fmt: skip
def test_every_name_member_and_signature(
    told: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    stub, native = (flat(told[engine]["surface"]) for engine in ("stub", "native"))
    newer = {name: stub.pop(name, "missing") for name in NEWER}
    assert stub == native
    assert told["stub"]["of both"] == told["native"]["of both"]
    assert "missing" not in newer.values()
    rows = [(name, signature(facts), "same") for name, facts in stub.items()]
    rows += [(name, signature(facts), f"newer ({NEWER[name]})") for name, facts in newer.items()]
    record_property("surface", sorted(rows))


def flat(surface: dict[str, Any]) -> dict[str, Any]:
    """Members of classes beside the classes, each by its full name."""
    found: dict[str, Any] = {}
    for name, facts in surface.items():
        found[name], members = facts, {}
        if isinstance(facts, dict):
            members = facts.get("members", {})
            found[name] = {
                key: json.loads(comparable(json.dumps(fact, ensure_ascii=False)))
                for key, fact in facts.items()
                if key != "members"
            }
        found |= flat({f"{name}.{member}": facts for member, facts in members.items()})
    return found


def signature(facts: Any) -> str:
    """What the page of results shows of a name."""
    return (
        str(facts.get("signature") or facts.get("value") or "") if isinstance(facts, dict) else ""
    )
