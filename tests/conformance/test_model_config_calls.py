"""``ModelConfig``: what each of its methods does, refuses and stumbles over."""

from __future__ import annotations

import pytest
from broken_models import CONFIG, both_engines, comparable, reasons, write_models
from comparing import Engines
from probing import probe

# Two inputs, one of them incomplete, an output, and nothing of the scheduler or the policy.
M = """
import json
d = {"name": "m", "max_batch_size": 4, "input": [
    {"name": "A", "data_type": "TYPE_FP32", "dims": [-1, 3], "optional": False},
    {"name": "B", "data_type": "TYPE_INVALID", "dims": []}],
    "output": [{"name": "C", "data_type": "TYPE_FP32", "dims": [2]},
               {"name": "D", "data_type": "TYPE_INVALID", "dims": []}]}
m = pb_utils.ModelConfig(json.dumps(d))
A = {"name": "A", "data_type": "TYPE_FP32", "dims": [-1, 3]}
C = {"name": "C", "data_type": "TYPE_FP32", "dims": [2]}
N = {"name": "N", "data_type": "TYPE_FP32", "dims": [1]}
"""

# By rule.
CALLS = {
    "1.2-model-config": [
        "pb_utils.ModelConfig('{}').as_dict()",
        "pb_utils.ModelConfig('[1]').as_dict()",
        "pb_utils.ModelConfig(b'{}').as_dict()",
        "pb_utils.ModelConfig('{')",
        "pb_utils.ModelConfig({})",
        "pb_utils.ModelConfig(None)",
        "pb_utils.ModelConfig()",
        "pb_utils.ModelConfig('{}', 1)",
        "pb_utils.ModelConfig(model_config='{}').as_dict()",
        "vars(m) == {'_model_config': m.as_dict()}",
        "m.x = 1; m.x",
        "type(m).__module__, type(m).__qualname__, type(m).__mro__",
        "copy.deepcopy(m).as_dict() == m.as_dict()",
        "sorted(name for name in dir(m) if not name.startswith('__'))",
    ],
    "2.9-as-dict": [
        "m.as_dict() is m.as_dict()",
        "m.as_dict()['x'] = 1; m.as_dict()",
        "m.as_dict()['name'] = 'other'; m.set_max_batch_size(1)",
        "m.as_dict(1)",
    ],
    "2.9-max-batch-size trap-18": [
        "m.set_max_batch_size(3)",
        "m.set_max_batch_size(4)",
        "m.set_max_batch_size(5)",
        "m.set_max_batch_size(max_batch_size=2**40)",
        "m.set_max_batch_size(4.5)",
        "m.set_max_batch_size('5')",
        "m.set_max_batch_size(None)",
        "m.set_max_batch_size(np.int64(9)); type(m.as_dict()['max_batch_size']).__name__",
        "m.set_max_batch_size(float('nan'))",
        "m.set_max_batch_size()",
        "del m.as_dict()['max_batch_size']; m.set_max_batch_size(5)",
        "del m.as_dict()['name']; m.set_max_batch_size(5); m.set_max_batch_size(1)",
        "m.as_dict()['name'] = 3; m.set_max_batch_size(1)",
        "m.as_dict()['max_batch_size'] = 'x'; m.set_max_batch_size(1)",
    ],
    "2.9-dynamic-batching": [
        "m.set_dynamic_batching()",
        "m.set_dynamic_batching(); m.set_dynamic_batching()",
        "m.as_dict()['dynamic_batching'] = {'x': 1}; m.set_dynamic_batching()",
        "m.as_dict()['dynamic_batching'] = None; m.set_dynamic_batching()",
        "m.as_dict()['sequence_batching'] = {}; m.set_dynamic_batching()",
        "m.as_dict()['ensemble_scheduling'] = None; m.set_dynamic_batching()",
        "m.as_dict().update(sequence_batching=1, ensemble_scheduling=2); m.set_dynamic_batching()",
        "m.as_dict().update(sequence_batching=1, name=None); m.set_dynamic_batching()",
        "m._model_config = None; m.set_dynamic_batching()",
        "m._model_config = ['sequence_batching']; m.set_dynamic_batching()",
        "m.set_dynamic_batching(1)",
    ],
    "2.9-input-properties": [
        "m.add_input({**N, 'reshape': {}})",
        "m.add_input({'name': 'N', 'x': 1})",
        "m.add_input({'x': 1, 'name': 'N'})",
        "m.add_input({'x': 1})",
        "m.add_input({'x': 1, 'name': 3})",
        "m.add_input({1: 1, 'name': 'N'})",
        "del m.as_dict()['name']; m.add_input({'x': 1, 'name': 'N'})",
        "m.add_input({**N, 'label_filename': 'x'})",
    ],
    "2.9-input-missing": [
        "m.add_input({})",
        "m.add_input({'data_type': 'TYPE_FP32', 'dims': [1]})",
        "m.add_input({'name': 'N', 'dims': [1]})",
        "m.add_input({'name': 'N', 'data_type': 'TYPE_FP32'})",
        "m.add_input({'name': 3})",
        "m.add_input({'name': 3, 'data_type': 1})",
        "m.add_input()",
        "m.add_input({}, {})",
        "m.add_input(None)",
        "m.add_input(['name', 'data_type', 'dims'])",
        "m.add_input('name')",
        "m.add_input(3)",
        "m.add_input([])",
        "del m.as_dict()['name']; m.add_input({})",
    ],
    "2.9-input-datatype": [
        "m.add_input({**A, 'data_type': 'TYPE_INT32'})",
        "m.add_input({**A, 'data_type': 'type_fp32'})",
        "m.add_input({**A, 'data_type': 11})",
        "m.add_input({**A, 'data_type': None})",
        "m.add_input({**A, 'name': 'B', 'data_type': 'nonsense'})",
        "m.as_dict()['input'][0]['data_type'] = 3; m.add_input(A)",
        "del m.as_dict()['input'][0]['data_type']; m.add_input(A)",
        "del m.as_dict()['name']; m.add_input({**A, 'data_type': 'X'})",
    ],
    "2.9-input-dims trap-18": [
        "m.add_input({**A, 'dims': [3]})",
        "m.add_input({**A, 'dims': []})",
        "m.add_input({**A, 'dims': 3})",
        "m.add_input({**A, 'dims': None})",
        "m.add_input({**A, 'dims': [-1.0, 3.0]})",
        "m.add_input({**A, 'dims': np.array([-1, 3])})",
        "m.add_input({**A, 'dims': np.array([-1])})",
        "m.add_input({**A, 'name': 'B', 'dims': (7, 8)})",
        "del m.as_dict()['input'][0]['dims']; m.add_input(A)",
    ],
    "2.9-dims-tuple trap-18": ["m.add_input({**A, 'dims': (-1, 3)})"],
    "2.9-input-optional": [
        "m.add_input({**A, 'optional': True})",
        "m.add_input({**A, 'optional': False})",
        "m.add_input({**A, 'optional': 0})",
        "m.add_input({**A, 'optional': None})",
        "m.add_input({**A, 'name': 'B', 'optional': True})",
        "m.add_input({**A, 'name': 'B'})",
        "m.add_input({**A, 'optional': 'x', 'dims': [2]})",
    ],
    "2.9-input-added": [
        "m.add_input(A)",
        "e = N; m.add_input(e); m.as_dict()['input'][-1] is e",
        "e = N; m.add_input(e); e['x'] = 1",
        "e = A; m.add_input(e); m.as_dict()['input'][0] is e",
        "e = {**N, 'dims': [5]}; m.add_input({**e, 'name': 'B'}); e['dims'].append(1)",
        "m.add_input(N); m.add_input(N)",
        "m.add_input(N); m.add_input({**N, 'dims': [2]})",
        "m.add_input({**N, 'name': 3}); m.add_input({**N, 'name': 3})",
        "m.add_input({**A, 'name': 'a'})",
        "m.add_input(input=N)",
        "del m.as_dict()['input']; m.add_input(N)",
        "del m.as_dict()['input'][0]['name']; m.add_input(N)",
        "m.as_dict()['input'] = None; m.add_input(N)",
        "m.as_dict()['input'].append({**A, 'dims': [9]}); m.add_input(A)",
        "m.as_dict()['input'].insert(0, {**A, 'dims': [9]}); m.add_input(A)",
    ],
    "2.9-output": [
        "m.add_output({**C, 'optional': False})",
        "m.add_output({**C, 'label_filename': 'x'})",
        "m.add_output({'x': 1})",
        "m.add_output({})",
        "m.add_output({'name': 'N'})",
        "m.add_output({'name': 'N', 'data_type': 'TYPE_FP32'})",
        "m.add_output({**C, 'data_type': 'TYPE_INT8'})",
        "m.add_output({**C, 'dims': (2,)})",
        "m.add_output({**C, 'name': 'D', 'dims': (2,)})",
        "m.add_output(C)",
        "e = N; m.add_output(e); m.as_dict()['output'][-1] is e",
        "m.add_output(output=N)",
        "m.add_output(None)",
        "del m.as_dict()['output']; m.add_output(N)",
    ],
    "2.9-policy-properties": [
        "m.set_model_transaction_policy({'x': 1})",
        "m.set_model_transaction_policy({'decoupled': True, 'x': 1})",
        "m.set_model_transaction_policy(['decoupled'])",
        "m.set_model_transaction_policy(None)",
        "m.set_model_transaction_policy()",
        "del m.as_dict()['name']; m.set_model_transaction_policy({'x': 1})",
    ],
    "2.9-policy-change": [
        "m.set_model_transaction_policy({})",
        "m.set_model_transaction_policy({'decoupled': True})",
        "m.set_model_transaction_policy(transaction_policy_dict={'decoupled': 'x'})",
        "[m.set_model_transaction_policy({'decoupled': value}) for value in (True, True, False)]",
        "[m.set_model_transaction_policy({'decoupled': value}) for value in (0, False, None)]",
        "m.as_dict()['model_transaction_policy'] = {}; "
        "m.set_model_transaction_policy({'decoupled': True})",
        "m.as_dict()['model_transaction_policy'] = None; "
        "m.set_model_transaction_policy({'decoupled': True})",
        "m.as_dict()['model_transaction_policy'] = 'decoupled'; "
        "m.set_model_transaction_policy({'decoupled': True})",
        "m.as_dict()['model_transaction_policy'] = {'decoupled': 1}; del m.as_dict()['name']; "
        "m.set_model_transaction_policy({'decoupled': 2})",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, marks=pytest.mark.rule(*rules.split()))
        for rules, calls in CALLS.items()
        for call in calls
    ],
)
def test_a_call(engines: Engines, call: str) -> None:
    engines.same(lambda engine: probe(engine, M + call))
    # The configuration as the call leaves it, whether it raises or not.
    *lines, last = call.split("; ")
    lines = ["try:", *[f"    {line}" for line in (*lines, last)], "except Exception: pass"]
    engines.same(lambda engine: probe(engine, M + "\n".join([*lines, "m.as_dict()"])))


# What stands in a model's way is what the server prints of its config.pbtxt.
HEAD = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        {}
        return config
"""
OPTIONAL = (
    "config.add_input({'name': 'IN', 'data_type': 'TYPE_FP32', 'dims': [-1], 'optional': True})"
)
DECOUPLED = "config.set_model_transaction_policy({'decoupled': True})"


@pytest.mark.rule("2.9-printed-optional", "2.9-printed-policy", "3.3-format", "trap-18")
def test_defaults_that_the_server_prints(tmp_path_factory: pytest.TempPathFactory) -> None:
    repository = tmp_path_factory.mktemp("printed")
    models = {"optional": HEAD.format(OPTIONAL), "policy": HEAD.format(DECOUPLED)}
    for name, model in models.items():
        write_models(repository, {name: model}, f"{CONFIG} model_transaction_policy {{ }}")
    with both_engines(repository) as engines:
        told = engines.same(lambda engine: {
            name: comparable(text, repository) for name, text in reasons(engine).items()
        })  # fmt: skip
    assert "expects optional True but" in told["optional"]
    assert "trying to change decoupled" in told["policy"]
