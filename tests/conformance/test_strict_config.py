"""``--disable-auto-complete-config`` and ``strict_model_config=True``: config.pbtxt is all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_models import CONFIG, both_engines, comparable, reasons, write_models
from comparing import Engines
from probing import wait_for_log

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import LoadError

START = "import json\nimport triton_python_backend_utils as pb_utils\n"
# Tells what it is given.
ARGS = f"""{START}
class TritonPythonModel:
    def initialize(self, args):
        types = [type(value).__name__ for value in args.values()]
        raise ValueError(json.dumps([types, sorted(args.items())]))
"""
FINE = "class TritonPythonModel: pass\n"
GROUPS = """
instance_group [ {{ count: {} }}, {{ name: "named" kind: KIND_MODEL }}, {{ kind: KIND_CPU }} ]
"""
ONE = 'instance_group { name: "one" kind: KIND_MODEL }'

MODELS = {
    # By rule: why a model does not load, or nothing if it does.
    "3.1-auto-complete-runs": {
        "not_asked": START + "class TritonPythonModel:\n    @staticmethod\n"
        "    def auto_complete_config(c): 1 / 0\n",
        "imported": "1 / 0\n",
        "initialized": f"{FINE[:-5]}\n    def initialize(self, args): 1 / 0\n",
    },
    "3.1.2-io-checks": {
        "nothing_given": {"1/model.py": FINE, "config.pbtxt": ""},
        "only_a_name": {"1/model.py": FINE, "config.pbtxt": 'name: "only_a_name"'},
        "labels": {"1/model.py": FINE, "config.pbtxt": CONFIG.replace(
            'name: "OUT"', 'name: "OUT" label_filename: "nowhere"')},
        "groups": {"1/model.py": FINE, "config.pbtxt": CONFIG + "instance_group { gpus: 0 }"},
    },
    "3.1.1-execution-env": {
        "environment": {"1/model.py": FINE, "config.pbtxt": CONFIG + 'parameters { '
                        'key: "EXECUTION_ENV_PATH" value { string_value: "/nope" } }'},
    },
    "1.1-future-annotations": {
        "future": f"from __future__ import annotations\n{START}"
        f"def f(tensor: pb_utils.Tensor) -> pb_utils.InferenceRequest: ...\n{FINE}",
    },
    "1.1-c-module-import": {
        "from_c": f"from c_python_backend_utils import Tensor, InferenceRequest, Logger\n{FINE}",
    },
    "3.2-keys trap-15": {"args": {"1/model.py": ARGS, "config.pbtxt": CONFIG}},
    "3.2-instance-name 3.2-kind": {
        "named_group": {"1/model.py": ARGS, "config.pbtxt": f"{CONFIG} {ONE}"},
    },
    "3.2-repository 3.2-version 3.2-device-id": {
        "version_three": {"3/model.py": ARGS, "1/model.py": FINE, "config.pbtxt": CONFIG},
    },
    "3.1.1-file-name": {
        "folder_as_a_file": {"1/model.py/x": ""},
        "file_in_a_folder": {"1/sub/model.py": ARGS,
                             "config.pbtxt": f'{CONFIG} default_model_filename: "sub/model.py"'},
        "last_letter": {"1/model.txtpy": FINE,
                        "config.pbtxt": f'{CONFIG} default_model_filename: "model.txtpy"'},
        "name_with_a_dot.python": {"1/model.python": FINE, "config.pbtxt": ""},
    },
}  # fmt: skip
# The server finds these when it polls the repository, and tells its log only.
POLLED = {
    "tensors": {"1/model.py": FINE, "config.pbtxt": f"{CONFIG} input {{ }}"},
    "tensors_before_groups": {
        "1/model.py": FINE,
        "config.pbtxt": f"{CONFIG} input {{ }} instance_group {{ gpus: 0 }}",
    },
    "tensors_before_the_name": {"1/model.py": FINE, "config.pbtxt": 'name: "x" input { }'},
    "no_backend": {"1/other.py": FINE, "config.pbtxt": ""},
    "first_folder_counts": {"1/x": "", "2/model.py": FINE, "config.pbtxt": ""},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strict")
    for models in MODELS.values():
        write_models(folder, models)
    write_models(folder, POLLED)
    write_models(folder, {"no_file": FINE})
    (folder / "no_file" / "config.pbtxt").unlink()
    return folder


@pytest.fixture(scope="module")
def strict(repository: Path) -> Iterator[Engines]:
    with both_engines(repository, strict=True) as engines:
        yield engines


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.rule(*rules.split()))
        for rules, models in MODELS.items()
        for name in models
    ],
)
def test_what_becomes_of_a_model(strict: Engines, repository: Path, name: str) -> None:
    why = strict.same(lambda engine: comparable(reasons(engine)[name], repository))
    assert strict.same(lambda engine: engine.ready(name)) is (why == "")
    if why == "":
        strict.same(lambda engine: engine.config(name))


@pytest.mark.rule("3.1.2-io-checks")
@pytest.mark.parametrize("name", [*POLLED, "no_file"])
def test_what_is_found_when_the_repository_is_polled(strict: Engines, name: str) -> None:
    log = strict.native.log()
    found = re.search(rf"Poll failed for model directory '{name}': (.*)\"$", log, re.MULTILINE)
    assert found is not None
    assert strict.same(lambda engine: reasons(engine)[name]) == ""
    assert isinstance(strict.stub, StubEngine)
    assert json.loads(f'"{found[1]}"') in str(strict.stub.server.load_errors[name])


@pytest.mark.rule("3.2-instance-name", "3.2-kind", "trap-15")
def test_names_of_instances(tmp_path: Path) -> None:
    model = f"{START}class TritonPythonModel:\n    def initialize(self, args):\n" + (
        "        pb_utils.Logger.log_info('I am ' + args['model_instance_name'] + ' '\n"
        "            + args['model_instance_kind'] + args['model_instance_device_id'])\n"
    )
    write_models(tmp_path, {"one": model, "many": model}, CONFIG)
    (tmp_path / "many" / "config.pbtxt").write_text(CONFIG + GROUPS.format(2))
    names = ["many_0_0 CPU0", "many_0_1 CPU0", "many_2_0 CPU0", "named_0 MODEL0", "one_0 CPU0"]

    def told(engine: Engine) -> list[str]:
        for name in names:
            wait_for_log(engine, f"I am {name}")
        return sorted(re.findall(r"I am (\w+ \w+)", engine.log()))

    with both_engines(tmp_path) as engines:
        assert engines.same(told) == names


def told_by_stub(folder: Path, files: dict[str, str]) -> str:
    write_models(folder, {"m": files})
    with pytest.raises(LoadError) as caught:
        StubEngine(folder)
    return str(caught.value)


@pytest.mark.deviation("missing-model-file")
@pytest.mark.rule("3.1.1-missing-file")
def test_no_model_file(tmp_path: Path) -> None:
    told = told_by_stub(tmp_path, {"1/other.py": FINE})
    assert f"Python model file not found in '{tmp_path}/m/1/model.py': the real server" in told


@pytest.mark.deviation("unknown-datatype")
def test_a_datatype_without_a_name(tmp_path: Path) -> None:
    config = f'{CONFIG} input {{ name: "A" data_type: 99 dims: 1 }}'
    told = told_by_stub(tmp_path, {"1/model.py": FINE, "config.pbtxt": config})
    assert "data_type 99, which is no Triton datatype: the real server takes it" in told


@pytest.mark.deviation("odd-decoupled")
def test_a_decoupled_that_is_no_bool(tmp_path: Path) -> None:
    code = f"{START}class TritonPythonModel:\n    @staticmethod\n    def auto_complete_config(c):\n"
    code += "        c.set_model_transaction_policy({'decoupled': 1})\n        return c\n"
    told = told_by_stub(tmp_path, {"1/model.py": code})
    assert "sets decoupled to 1: the real server ends" in told


@pytest.mark.newer("26.02", "core src/model.cc, Model::Init")
def test_labels_outside_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("zero\n")
    config = CONFIG.replace('name: "OUT"', 'name: "OUT" label_filename: "../labels"')
    told = told_by_stub(tmp_path, {"1/model.py": FINE, "config.pbtxt": config})
    assert f"'{tmp_path}/m/../labels' for output 'OUT' in model 'm' is outside model dir" in told
