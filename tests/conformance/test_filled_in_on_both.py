"""What the server fills in where a configuration says little or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_models import both_engines, write_models
from comparing import Engines
from probing import marked

MODEL = "class TritonPythonModel: pass\n"
TENSORS = """
    input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }
"""
START = (
    'control_input { name: "START" '
    "control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }"
)
PINNED = "optimization { input_pinned_memory { enable: false } }"
CONFIGS = {
    "nothing": None,
    "empty": "",
    "only_name": 'name: "only_name"',
    "only_backend": 'backend: "python"',
    "only_file": 'default_model_filename: "model.py"',
    "only_tensors": TENSORS,
    "batches": f"max_batch_size: 8 {TENSORS}",
    "dynamic": f"max_batch_size: 8 dynamic_batching {{ }} {TENSORS}",
    "dynamic_without_batches": f"dynamic_batching {{ }} {TENSORS}",
    "preferred": f"max_batch_size: 8 dynamic_batching {{ preferred_batch_size: 4 }} {TENSORS}",
    "direct": f"sequence_batching {{ direct {{ }} {START} }} {TENSORS}",
    "oldest": f"max_batch_size: 4 sequence_batching {{ oldest {{ }} {START} }} {TENSORS}",
    "idle": f"sequence_batching {{ max_sequence_idle_microseconds: 5 {START} }} {TENSORS}",
    "policy": f"version_policy {{ latest {{ }} }} {TENSORS}",
    "all": f"version_policy {{ all {{ }} }} {TENSORS}",
    "groups": "instance_group { } instance_group { count: 2 }",
    "named_group": 'instance_group { name: "g" count: -3 }',
    "cpu_group": "instance_group { kind: KIND_CPU count: 1 }",
    "pinned": PINNED,
    "point.python": None,
}
RULES = {
    "4.11-no-config": "nothing point.python",
    "4.13-name": "nothing empty only_name",
    "4.13-backend": "nothing empty only_file point.python",
    "4.13-file-name": "nothing only_backend only_file",
    "4.13-policy": "nothing policy all",
    "4.13-optimization": "nothing pinned",
    "4.13-preferred": "dynamic dynamic_without_batches preferred oldest",
    "4.13-idle": "direct oldest idle",
    "4.13-instances": "nothing groups named_group cpu_group",
    "4.13-batch-size": "nothing only_tensors batches",
    "4.13-tensors": "nothing empty only_tensors",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("filled_in")
    for name, config in CONFIGS.items():
        write_models(repository, {name: MODEL}, config or "")
        if config is None:
            (repository / name / "config.pbtxt").unlink()
    with both_engines(repository) as engines:
        yield engines


@pytest.mark.parametrize("name", marked(CONFIGS, RULES))
def test_what_is_filled_in(filled: Engines, name: str) -> None:
    filled.same(lambda engine: engine.config(name))
    filled.same(lambda engine: engine.metadata(name))


@pytest.mark.rule("4.13-tensors")
def test_a_model_without_inputs_takes_none(filled: Engines) -> None:
    def ask(engine: Any) -> Any:
        return engine.infer("nothing", IN=np.ones(1, np.float32))["OUT"]

    assert "expected 0 inputs but got 1" in filled.same(ask)["error"]


@pytest.mark.rule("4.13-backend")
def test_without_any_file(tmp_path: Path) -> None:
    names = {
        "none": None,
        "empty": "",
        "named": 'name: "named"',
        "file": 'default_model_filename: "other.py"',
    }
    for name, config in names.items():
        (tmp_path / name / "1").mkdir(parents=True)
        if config is not None:
            (tmp_path / name / "config.pbtxt").write_text(config)
    with both_engines(tmp_path) as engines:

        def told(engine: Any) -> Any:
            found = {}
            for name in names:
                line = next(x for x in engine.log().splitlines() if f"directory '{name}'" in x)
                found[name] = line.partition("': ")[2].partition("There is no")[0].strip(' "')
            return found

        stub, native = told(engines.stub), told(engines.native)
        # The stub's texts begin with the file, and end with what to do.
        assert {name: text in stub[name] for name, text in native.items()} == dict.fromkeys(
            names, True
        )
