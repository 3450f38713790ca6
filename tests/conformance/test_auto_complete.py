"""``auto_complete_config``: when it runs, what is taken of what it returns, and what goes wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from broken_models import CONFIG, both_engines, comparable, reasons, write_models
from comparing import Engines
from probing import wait_for_log

from triton_stub.engines.engine import Engine

START = "import json, os, sys\nimport triton_python_backend_utils as pb_utils\n"
# Leaves what it is told beside it: the stub's word under another name than the server's.
INITIALIZE = """
    def initialize(self, args):
        engine = "stub" if pb_utils.__file__.startswith("/opt/") else "native"
        with open(os.path.join(args["model_repository"], engine), "w", encoding="utf-8") as file:
            file.write(args["model_config"])
"""
RAISES = """
    def initialize(self, args):
        raise ValueError(repr({}))
"""


def model(
    body: str,
    config: str | None = CONFIG,
    *,
    before: str = "",
    after: str = INITIALIZE,
    head: str = "@staticmethod\ndef auto_complete_config(c):",
    files: Mapping[str, str] | None = None,
) -> dict[str, str | None]:
    """A model with this body of ``auto_complete_config``; None is no config.pbtxt."""
    method = indent(f"{head}\n{indent(body, '    ')}", "    ")
    code = f"{START}{before}\nclass TritonPythonModel:\n{method}\n{after}"
    return {"1/model.py": code, "config.pbtxt": config, **(files or {})}


def of_versions(first: str, second: str) -> dict[str, str | None]:
    """Two versions with these bodies, both to be loaded."""
    both = model(first, f"{CONFIG} version_policy {{ all {{ }} }}")
    return {**both, "2/model.py": model(second)["1/model.py"]}


def adding(entry: str) -> dict[str, str | None]:
    return model(f"c.add_input({{'name': 'A', 'data_type': 'TYPE_FP32', **{entry}}})\nreturn c")


def changing(key: str, value: str, config: str = CONFIG) -> dict[str, str | None]:
    return model(f"c.as_dict()['{key}'] = {value}\nreturn c", config)


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'


PLAIN = f"{START}class TritonPythonModel:\n{INITIALIZE}"
ALL = (
    "c.set_max_batch_size(4)\nc.set_dynamic_batching()\n"
    "c.add_input({'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [2], 'optional': True})\n"
    "c.add_output({'name': 'B', 'data_type': 'TYPE_STRING', 'dims': (2,)})\n"
    "c.set_model_transaction_policy({'decoupled': True})\nreturn c"
)
DYNAMIC = f"{CONFIG} max_batch_size: 4 dynamic_batching {{ }}"
POLICY = f"{CONFIG} model_transaction_policy {{ decoupled: true }}"
DROPPED = """
c.as_dict().update(
    parameters={'p': {'string_value': 'v'}}, name='x', backend='onnxruntime', platform='x',
    instance_group=[{'name': 'g', 'kind': 'KIND_CPU', 'count': 3}], version_policy={'all': {}},
    default_model_filename='other.py', optimization={'priority': 'PRIORITY_MAX'},
    response_cache={'enable': True}, metric_tags={'a': 'b'})
return c"""

# By rule: models that both engines load, with the same configuration.
LOADED = {
    "3.1-auto-complete-runs": {
        "complete": model("c.set_max_batch_size(2)\nreturn c"),
    },
    "3.1.2-absent": {
        "absent": {"1/model.py": PLAIN, "config.pbtxt": CONFIG},
        "absent_without_a_file": {"1/model.py": PLAIN, "config.pbtxt": None},
        "getattr_that_raises": {"1/model.py": (
            f"{START}class Odd(type):\n    def __getattr__(cls, name): raise ValueError(name)\n"
            f"class TritonPythonModel(metaclass=Odd):\n{INITIALIZE}")},
    },
    "3.1.2-on-class": {
        "class_method": model("c.set_max_batch_size(2)\nreturn c",
                              head="@classmethod\ndef auto_complete_config(cls, c):"),
        "without_decorator": model("c.set_max_batch_size(2)\nreturn c",
                                   head="def auto_complete_config(c):"),
        "inherited": {"1/model.py": f"{START}class Base:\n    @staticmethod\n"
                      "    def auto_complete_config(c):\n        c.set_max_batch_size(3)\n"
                      f"        return c\nclass TritonPythonModel(Base):\n{INITIALIZE}"},
    },
    "3.1.2-return": {
        "same_object": model("return c"),
        "another_object": model("d = pb_utils.ModelConfig(json.dumps(c.as_dict()))\n"
                                "d.set_max_batch_size(3)\nreturn d"),
        "empty_object": model("return pb_utils.ModelConfig('{}')",
                              f"{POLICY} max_batch_size: 4 {parameter('a', 'b')}"),
        "subclass": model("return Sub(json.dumps(c.as_dict()))",
                          before="class Sub(pb_utils.ModelConfig): pass"),
    },
    "3.1.2-taken": {
        "all_of_nothing": model(ALL, ""),
        "all_without_a_file": model(ALL, None),
        "nothing_without_a_file": model("return c", None),
        "batch_size": changing("max_batch_size", "2", f"{CONFIG} max_batch_size: 5"),
        "no_batch_size": model("del c.as_dict()['max_batch_size']\nreturn c",
                               f"{CONFIG} max_batch_size: 5"),
        "no_tensors": model("c.as_dict().update(input=[], output=[])\nreturn c"),
        "no_input": model("del c.as_dict()['input']\nreturn c"),
        "completed_tensors": model(
            "c.add_input({'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [2]})\n"
            "c.add_output({'name': 'B', 'data_type': 'TYPE_INT8', 'dims': [3]})\nreturn c",
            'input { name: "A" } output { name: "B" data_type: TYPE_INT8 }'),
        "reshape": model("c.as_dict()['input'][0]['reshape'] = {'shape': [1, -1]}\nreturn c"),
        "empty_reshape": model(
            "c.set_max_batch_size(2)\nreturn c",
            f'{CONFIG} input {{ name: "A" data_type: TYPE_FP32 dims: 1 reshape {{ }} }}'),
        "scheduler": model("c.set_max_batch_size(4)\nc.set_dynamic_batching()\nreturn c"),
        "scheduler_without_batches": model("c.set_dynamic_batching()\nreturn c"),
        "scheduler_with_options": model(
            "c.set_max_batch_size(8)\nc.as_dict()['dynamic_batching'] = {\n"
            "    'preferred_batch_size': [4], 'max_queue_delay_microseconds': 100}\nreturn c"),
        "no_other_scheduler": model(
            "c.as_dict().update(dynamic_batching={}, sequence_batching=None)\nreturn c"),
        "larger_batches": model("c.set_max_batch_size(9)\nreturn c", DYNAMIC),
        "decoupled": model("c.set_model_transaction_policy({'decoupled': True})\nreturn c"),
        "empty_policy": model("c.set_model_transaction_policy({})\nreturn c"),
        "policy_off": changing("model_transaction_policy", "{'decoupled': False}", POLICY),
        "no_policy": model("del c.as_dict()['model_transaction_policy']\nreturn c", POLICY),
    },
    "3.1.2-dropped": {
        "dropped": model(DROPPED),
        "options_of_the_scheduler": model(
            "c.as_dict()['dynamic_batching']['max_queue_delay_microseconds'] = 55\nreturn c",
            DYNAMIC),
        "letters": changing("parameters", "{'größe': {'string_value': '☃'}}"),
    },
    "3.1.2-invalid-json": {
        "lower_case": adding("{'data_type': 'type_fp16', 'dims': [2]}"),
        "number_of_a_type": adding("{'data_type': 11, 'dims': [2]}"),
        "text_of_a_number_of_a_type": adding("{'data_type': '11', 'dims': [2]}"),
        "text_for_a_dim": adding("{'dims': ['2', '-1']}"),
        "whole_float": adding("{'dims': [2.0]}"),
        "one_dim": adding("{'dims': 2}"),
        "null_for_a_dim": adding("{'dims': [None, 3]}"),
        "list_for_a_dim": adding("{'dims': [[1], 2, [[3]]]}"),
        **{f"text_for_a_bool_{word}": adding(f"{{'dims': [1], 'optional': '{word}'}}")
           for word in ("true", "FALSE", "yes", "N", "1", "f")},
        "text_for_batch_size": changing("max_batch_size", "'6'"),
        "float_for_batch_size": changing("max_batch_size", "6.0"),
        "null_batch_size": changing("max_batch_size", "None", f"{CONFIG} max_batch_size: 5"),
        "camel_case": changing("maxBatchSize", "3"),
    },
    "3.1.2-args": {
        "unicode_name": adding("{'name': 'größe ☃ \"', 'dims': [2]}"),
    },
}  # fmt: skip
# The server's reader refuses what comes back: it has its own configuration, and the model is told
# the other.
IGNORED = {
    "3.1.2-invalid-json": {
        "unknown_key": changing("nonsense", "1"),
        "unknown_type": adding("{'data_type': 'TYPE_FLOAT', 'dims': [2]}"),
        "half": adding("{'dims': [2.5]}"),
        "bool_for_a_dim": adding("{'dims': [True]}"),
        "text_of_a_float": adding("{'dims': ['2.0']}"),
        "blank_in_a_number": adding("{'dims': [' 2']}"),
        "underscore_in_a_number": adding("{'dims': ['2_0']}"),
        "object_for_a_dim": adding("{'dims': [{}]}"),
        "object_for_dims": adding("{'dims': {'a': 1}}"),
        "huge_dim": adding("{'dims': [2**63]}"),
        "word_for_a_dim": adding("{'dims': ['two']}"),
        "number_for_a_name": adding("{'name': 3, 'dims': [2]}"),
        "number_for_a_bool": adding("{'dims': [1], 'optional': 1}"),
        "word_for_a_bool": adding("{'dims': [1], 'optional': 'maybe'}"),
        "half_a_batch": changing("max_batch_size", "6.5"),
        "huge_batch": changing("max_batch_size", "2**31"),
        "list_for_batch_size": changing("max_batch_size", "[1]"),
        "text_for_tensors": changing("input", "'IN'"),
        "list_for_tensors": changing("input", "[['IN']]"),
        "list_for_an_object": changing("model_transaction_policy", "[{'decoupled': True}]"),
        "object_for_a_text": changing("platform", "{}"),
        "two_schedulers": model(
            "c.as_dict().update(dynamic_batching={}, sequence_batching={})\nreturn c"),
        "other_file": model("c.as_dict().update(default_model_filename='other.py', x=3)\nreturn c",
                            files={"1/other.py": PLAIN}),
    },
    "3.1.2-other-scheduler": {
        "deleted_scheduler": model("del c.as_dict()['dynamic_batching']\nreturn c", DYNAMIC),
        "null_scheduler": changing("dynamic_batching", "None", DYNAMIC),
        "replaced_scheduler": model(
            "del c.as_dict()['dynamic_batching']\nc.as_dict()['sequence_batching'] = {}\nreturn c",
            DYNAMIC),
    },
}  # fmt: skip
REFUSED = {
    "3.1.2-on-class": {
        "plain_method": model("return c", head="def auto_complete_config(self, c):"),
        "no_parameter": model("return c", head="@staticmethod\ndef auto_complete_config():"),
        "two_parameters": model("return c", head="@staticmethod\ndef auto_complete_config(c, d):"),
        "no_function": model("return c", after="    auto_complete_config = 3\n"),
        "none_for_a_function": model("return c", after="    auto_complete_config = None\n"),
    },
    "3.1.2-return": {
        "nothing_returned": model("pass"),
        "dict_returned": model("return c.as_dict()"),
        "coroutine": model("return c", head="@staticmethod\nasync def auto_complete_config(c):"),
        "generator": model("yield c"),
    },
    "3.1.2-exception": {
        "raises": model("raise ValueError('bad')"),
        "exits": model("sys.exit(3)"),
        "interrupted": model("raise KeyboardInterrupt"),
        "refused_by_the_helper": model("c.add_input({'name': 'IN', 'x': 1})\nreturn c"),
        "policy_is_set": model("c.set_model_transaction_policy({'decoupled': True})\nreturn c",
                               f"{CONFIG} model_transaction_policy {{ }}"),
        "no_json": model("pb_utils.ModelConfig('{')\nreturn c"),
        "bls": model("r = pb_utils.InferenceRequest(model_name='x', inputs=[], "
                     "requested_output_names=[])\nr.exec()\nreturn c"),
        "one_of_two_versions": of_versions("return c", "1 / 0"),
    },
    "3.1.2-invalid-json": {
        "bad_without_a_file": changing("nonsense", "1", config=None),
        "not_a_number": changing("x", "float('nan')"),
        "infinite": changing("max_batch_size", "-float('inf')"),
        "no_json_value": changing("x", "b''"),
        "no_attribute": model("del c._model_config\nreturn c"),
        "list": model("c._model_config = [1]\nreturn c"),
        "none": model("c._model_config = None\nreturn c"),
        "no_file_name": model("c._model_config = {'nonsense': 3}\nreturn c"),
        "odd_file_name": model("c.as_dict().update(default_model_filename=3, x=3)\nreturn c"),
    },
    "3.1.2-io-checks": {
        "dim_zero": adding("{'dims': [0]}"),
        "dims_empty": adding("{'dims': []}"),
        "dims_null": adding("{'dims': None}"),
        "name_empty": adding("{'name': '', 'dims': [1]}"),
        "type_null": adding("{'data_type': None, 'dims': [1]}"),
        "type_invalid": adding("{'data_type': 'TYPE_INVALID', 'dims': [1]}"),
        "negative_batch": changing("max_batch_size", "-3"),
        "preferred_too_large": model(
            "c.set_max_batch_size(2)\n"
            "c.as_dict()['dynamic_batching'] = {'preferred_batch_size': [4]}\nreturn c"),
        "batches_too_small": changing("max_batch_size", "2", DYNAMIC),
        "ensemble": changing("ensemble_scheduling", "{'step': []}"),
        "labels": model("c.as_dict()['output'][0]['label_filename'] = 'nowhere'\nreturn c"),
        "tensors_are_checked_late": model(
            "raise ValueError(len(c.as_dict()['input']))", f"{CONFIG} input {{ }}"),
        "tensors_are_checked_before_initialize": model(
            "return c", f"{CONFIG} input {{ }}", after=RAISES.format("0")),
        "groups_are_checked_first": model("1 / 0", f"{CONFIG} instance_group {{ gpus: 0 }}"),
    },
    "3.1.1-force-cpu": {
        "cpu_maybe": model("1 / 0", CONFIG + parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "maybe")),
        "cpu_empty": model("1 / 0", CONFIG + parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "")),
        "cpu_before_environment": model(
            "1 / 0", CONFIG + parameter("FORCE_CPU_ONLY_INPUT_TENSORS", "YES")
            + parameter("EXECUTION_ENV_PATH", "/nope")),
        "groups_before_cpu": model(
            "1 / 0", f"{CONFIG} {parameter('FORCE_CPU_ONLY_INPUT_TENSORS', 'x')} "
            "instance_group { gpus: 0 }"),
    },
    "3.1.1-execution-env": {
        "environment": model("1 / 0", CONFIG + parameter("EXECUTION_ENV_PATH", "/nope.tar.gz")),
        "relative_environment": model("1 / 0", CONFIG + parameter("EXECUTION_ENV_PATH", "no.gz")),
        "environment_in_the_model": model(
            "1 / 0", CONFIG + parameter("EXECUTION_ENV_PATH", "$$TRITON_MODEL_DIRECTORY/no.gz")),
        "environment_with_dots": model(
            "1 / 0", CONFIG + parameter("EXECUTION_ENV_PATH", "/a/b/../nope.tar.gz")),
    },
    "3.1-auto-complete-scope": {
        "globals": model(
            "SEEN.append(1)\npb_utils.mark = 1\nTritonPythonModel.mark = 1\nreturn c",
            f"{CONFIG} instance_group {{ count: 2 }}", before="SEEN = []",
            after=RAISES.format("(SEEN, hasattr(pb_utils, 'mark'), hasattr(self, 'mark'))")),
        "no_instance": model("raise ValueError('first')",
                             after="    def __init__(self): raise ValueError('second')\n"),
    },
}  # fmt: skip
YES = {
    f"cpu_{value}": {
        "1/model.py": PLAIN,
        "config.pbtxt": CONFIG + parameter("FORCE_CPU_ONLY_INPUT_TENSORS", value),
    }
    for value in ("yes", "no")
}
LOADED["3.1.1-force-cpu"] = YES
LOADED["3.1.1-execution-env"] = {
    "no_environment": {
        "1/model.py": PLAIN,
        "config.pbtxt": CONFIG + parameter("EXECUTION_ENV_PATH", ""),
    },
}
LOGS = (
    START
    + """
from c_python_backend_utils import Logger
Logger.log_info("at import")

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        for level in ("info", "warn", "error", "verbose"):
            getattr(pb_utils.Logger, f"log_{level}")(f'in "auto-complete": {level}')
        pb_utils.Logger.log("two\\nlines", pb_utils.Logger.ERROR)
        return config

    def __init__(self):
        pb_utils.Logger.log_info("in the constructor")

    def initialize(self, args):
        pb_utils.Logger.log_info("in initialize")
        pb_utils.Logger.log_verbose("never seen")
"""
)


def params(table: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    more = {"3.1.2-return", "3.1.2-taken", "3.1.2-dropped", "3.1-auto-complete-scope"}
    return [
        pytest.param(name, marks=pytest.mark.rule(rule, *(["trap-17"] if rule in more else [])))
        for rule, models in table.items()
        for name in models
    ]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auto_complete")
    models: dict[str, Mapping[str, str | None]] = {
        "logs": {"1/model.py": LOGS},
        "two_versions": of_versions(
            "c.set_max_batch_size(2)\nreturn c", "c.set_max_batch_size(5)\nreturn c"
        ),
    }
    for table in (LOADED, IGNORED, REFUSED):
        for named in table.values():
            assert not models.keys() & named.keys()
            models |= named
    for name, files in models.items():
        given = {key: text for key, text in files.items() if text is not None}
        write_models(folder, {name: given}, "" if "config.pbtxt" in files else CONFIG)
        if files.get("config.pbtxt", "") is None:
            (folder / name / "config.pbtxt").unlink()
    return folder


@pytest.fixture(scope="module")
def engines(repository: Path) -> Iterator[Engines]:
    with both_engines(repository, options=["--model-load-thread-count=16"]) as engines:
        yield engines


@pytest.fixture(scope="module")
def told(engines: Engines) -> list[dict[str, str]]:
    return [reasons(engine) for engine in engines]


def seen(repository: Path, name: str) -> list[str]:
    """What the model was told on the stub, and on the real server."""
    return [(repository / name / engine).read_text("utf-8") for engine in ("stub", "native")]


@pytest.mark.parametrize("name", params(LOADED))
def test_what_is_taken_over(
    engines: Engines, told: list[dict[str, str]], repository: Path, name: str
) -> None:
    assert [reasons[name] for reasons in told] == ["", ""]
    config = engines.same(lambda engine: engine.config(name))
    stub, native = seen(repository, name)
    assert stub == native
    assert json.loads(stub) == config


@pytest.mark.parametrize("name", params(IGNORED))
def test_what_is_ignored(
    engines: Engines, told: list[dict[str, str]], repository: Path, name: str
) -> None:
    assert [reasons[name] for reasons in told] == ["", ""]
    config = engines.same(lambda engine: engine.config(name))
    stub, native = (json.loads(text) for text in seen(repository, name))
    assert stub == native != config
    assert f"model '{name}': what auto_complete_config returns is no" in engines.stub.log()


@pytest.mark.parametrize("name", params(REFUSED))
def test_what_fails_the_load(told: list[dict[str, str]], repository: Path, name: str) -> None:
    stub, native = (comparable(reasons[name], repository) for reasons in told)
    assert native != ""
    assert stub == native


@pytest.mark.rule("3.1.2-taken")
def test_each_version_completes_its_own_configuration(engines: Engines) -> None:
    def sizes(engine: Engine) -> list[Any]:
        return [engine.config("two_versions", version)["max_batch_size"] for version in "12"]

    assert engines.same(sizes) == [2, 5]


def test_what_is_logged_before_the_server_listens(engines: Engines) -> None:
    def lines(engine: Engine) -> list[str]:
        text = wait_for_log(engine, '] "in initialize"')
        found = re.findall(r"^([A-Z])\d{4} [\d:.]+ \d+ (model\.py:\d+\] .*)$", text, re.MULTILINE)
        return [" ".join(line) for line in found if "model.py" in line[1]]

    assert '] "in initialize"' in engines.same(lines)[-1]
    assert "\nlines\n" in engines.stub.log()
