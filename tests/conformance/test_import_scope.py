"""What a model's code sees around it: at import, in ``auto_complete_config``, later in ``execute``.

Two models with helpers of the same names keep what each line comes to at each of these moments,
and tell it when they are asked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines

from triton_stub.engines.engine import Engine

CONFIG = """
backend: "python"
output { name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] }
"""
# Statements, and an expression in the end; {stage} is the name of the moment.
LINES = {
    "module": "(__name__, __package__, __spec__.name, __file__)",
    "package": "sys.modules[__package__].__name__",
    "itself": "vars(sys.modules[__name__]) is globals()",
    "argv": "sys.argv",
    "own_paths": "sys.path[-3:-1]",
    "backend_path": "sys.path[-1].endswith('/backends/python')",
    "directory": "os.getcwd()",
    "names": "sorted(name for name in dir(pb_utils) if not name.startswith('_'))",
    "backend_modules": "[sys.modules[m.__name__] is m for m in (pb_utils, c)]",
    "tensor_from": "from triton_python_backend_utils import Tensor; Tensor.__module__",
    "tensor_from_c": "from c_python_backend_utils import Tensor; Tensor.__module__",
    "same_class": "pb_utils.Tensor is c.Tensor",
    "error_code": "pb_utils.TritonError.INTERNAL",
    "logger": "pb_utils.Logger.WARNING",
    "model_dir": "pb_utils.get_model_dir()",
    "helper": "import helper; helper.value, helper.__name__",
    "relative_helper": "from .helper import value; from . import helper; value, helper.__name__",
    "part": "from package.part import value; value",
    "relative_part": "from .package import part; part.value, part.__name__",
    "of_the_model": "import shared; shared.value",
    "lazy": "import lazy_{stage} as lazy; lazy.value",
    "lazy_relative": "from . import relative_{stage} as lazy; lazy.value, lazy.__name__",
    "lazy_in_lazy": "import outer_{stage} as lazy; lazy.value()",
    "by_name": "importlib.import_module('by_name_{stage}').value",
    "by_relative_name": "importlib.import_module('.by_relative_{stage}', __package__).value",
    "by_full_name": "importlib.import_module('1.by_full_{stage}').value",
    "by_name_again": "importlib.import_module('helper') is helper",
    "reload": "importlib.reload(helper) is helper",
    "nowhere": "import nowhere; nowhere",
    "nowhere_by_name": "importlib.import_module('nowhere')",
    "itself_by_name": "vars(importlib.import_module(__name__)) is globals()",
    "itself_again": "import model; model.__name__, model.helper is helper, "
    "model.TritonPythonModel is globals().get('TritonPythonModel')",
    "standard_library": "import json; json is sys.modules['json'], json.__name__",
    "pickle": "type(pickle.loads(pickle.dumps(helper.Value()))) is helper.Value",
    "type_hints": "typing.get_type_hints(helper.Value)",
    "dataclass": "helper.new_dataclass()",
}  # fmt: skip
STAGES = ("import", "auto_complete", "initialize", "execute")
# What a model finds on the stub only while it is loaded.
WHILE_LOADED = {
    "package", "itself", "argv", "own_paths", "backend_path", "backend_modules", "pickle",
    "type_hints", "dataclass",
}  # fmt: skip

MODEL = f"""
import importlib
import os
import pickle
import sys
import typing

import c_python_backend_utils as c
import helper
import triton_python_backend_utils as pb_utils

told = {{}}


def tell(stage):
    told[stage] = {{name: come_to(line.format(stage=stage)) for name, line in {LINES!r}.items()}}


def come_to(line):
    *statements, expression = line.split("; ")
    try:
        exec("\\n".join(statements), globals())
        return repr(eval(expression, globals()))
    except BaseException as error:
        return type(error).__name__ + ": " + str(error)


if __name__ == "1.model":
    tell("import")


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        tell("auto_complete")
        config.add_output({{"name": repr(told), "data_type": "TYPE_STRING", "dims": [1]}})
        return config

    def initialize(self, args):
        config = pb_utils.json.loads(args["model_config"])
        tell("initialize")
        told["auto_complete"] = eval(config["output"][-1]["name"])["auto_complete"]

    def execute(self, requests):
        tell("execute")
        array = pb_utils.np.array([repr(told).encode()], dtype=pb_utils.np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", array)]) for _ in requests]
"""
HELPER = """
from __future__ import annotations

from dataclasses import dataclass

value = {value!r}


class Value:
    other: Value | None = None


def new_dataclass():
    @dataclass
    class Point:
        x: int

    return Point(3).x
"""


def files(name: str) -> dict[str, str]:
    """A model whose helpers know its name."""
    value = f"value = {name!r}\n"
    lazy = {
        f"1/{kind}_{stage}.py": value
        for kind in ("lazy", "relative", "inner", "by_name", "by_relative", "by_full")
        for stage in STAGES
    }
    outer = {
        f"1/outer_{stage}.py": f"""
def value():
    import inner_{stage} as inner
    return inner.value
"""
        for stage in STAGES
    }
    return {
        **lazy,
        **outer,
        "config.pbtxt": CONFIG,
        "1/model.py": MODEL,
        "1/helper.py": HELPER.format(value=name),
        "1/package/part.py": value,
        "shared.py": value,
        "helper.py": "raise AssertionError('the version comes first')",
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("import_scope")
    write_models(repository, {name: files(name) for name in ("first", "second")})
    with both_engines(repository) as engines:
        assert engines.same(reasons) == {"first": "", "second": ""}
        yield engines


def ask(engine: Engine, model: str) -> dict[str, dict[str, str]]:
    # A server's own folder of backends is in the texts of some errors.
    text = re.sub(r"\(/[^()]*/backends/python/", "(…/", engine.infer(model)["TOLD"][0].decode())
    answer: dict[str, dict[str, str]] = ast.literal_eval(text)
    return answer


# The rules that a line shows; the others show how modules are found.
RULES = {
    "module": ("3.1.1-module-name",),
    "package": ("3.1.1-module-name",),
    "itself": ("3.1.1-self-import",),
    "itself_by_name": ("3.1.1-self-import",),
    "itself_again": ("3.1.1-self-import",),
    "argv": ("3.1.1-argv",),
    "own_paths": ("3.1.1-sys-path",),
    "backend_path": ("3.1.1-sys-path",),
    "names": ("1.1-import-names", "1.1-later-names", "trap-01"),
    "tensor_from": ("1.1-import-from", "trap-01"),
    "tensor_from_c": ("1.1-c-module-import",),
    "error_code": ("1.1-annotation",),
    "backend_modules": ("3.10-modules",),
    "model_dir": ("1.2-model-dir",),
}


@pytest.mark.parametrize("model", ["first", "second"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.rule(*RULES.get(name, ("3.1.1-helpers",))))
        for name in LINES
    ],
)
def test_a_line_at_every_moment(told: Engines, name: str, model: str) -> None:
    stub, native = (ask(engine, model) for engine in told)
    for stage in STAGES:
        if stage != "execute" or name not in WHILE_LOADED:
            assert (stage, stub[stage][name]) == (stage, native[stage][name])
