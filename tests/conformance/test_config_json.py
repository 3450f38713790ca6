"""``config.pbtxt``: the same defaults, the same refusals, and the same JSON as the real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_models import both_engines, reasons, write_models
from comparing import Engines
from probing import marked

from triton_stub import config
from triton_stub.errors import ConfigError

PYTHON = 'backend: "python"\n'
IO = """
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
"""
BATCHED = f"{PYTHON} {IO} max_batch_size: 8\n"
# Leaves what it is told beside it: the stub's word under another name than the server's.
MODEL = """
import os
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        engine = "stub" if pb_utils.__file__.startswith("/opt/") else "native"
        with open(os.path.join(args["model_repository"], engine), "w", encoding="utf-8") as file:
            file.write(args["model_config"])
"""


def control(name: str, kind: str, values: str) -> str:
    return (
        f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{kind} {values} }} }}'
    )


DATATYPES = "\n".join(
    f'input {{ name: "{name}" data_type: {name} dims: [ 1, 2 ] }}'
    for name, _ in config.schema().DataType.items()
    if name != "TYPE_INVALID"
)

SERVED = {
    "minimal": f"{PYTHON} {IO}",
    "empty": "",
    "named": f'name: "named" {PYTHON} {IO}',
    "no_backend": f"max_batch_size: 4 {IO}",
    "another_platform": f'platform: "onnxruntime_onnx" {PYTHON} {IO}',
    "text_format": f"{PYTHON} # a comment\nmax_batch_size: 0x10 ; input {{ name: 'I' "
    "data_type: 11, dims: 1, dims: 2 }\r\n",
    "datatypes": f"{PYTHON} {DATATYPES}",
    "tensors": f"""{PYTHON} max_batch_size: 2
        input [
            {{ name: "A" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 2, 3, 4 ]
               optional: true allow_ragged_batch: true }},
            {{ name: "B" data_type: TYPE_INT64 dims: [ 9223372036854775807 ] }},
            {{ name: "C" data_type: TYPE_FP32 dims: [ 4 ] reshape {{ shape: [ 2, 2 ] }} }},
            {{ name: "D" data_type: TYPE_FP32 dims: [ 1 ] reshape {{ }} }},
            {{ name: "E" data_type: TYPE_FP32 dims: [ -1, 2, -1 ]
               reshape {{ shape: [ -1, 1, 2, -1 ] }} }}
        ]
        output {{ name: "O" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels"
                  reshape {{ shape: [ 1, 2 ] }} }}""",
    "twice_the_same_name": f"{PYTHON} {IO} {IO}",
    "dynamic": f"{BATCHED} dynamic_batching {{ }}",
    "dynamic_without_batches": f"{PYTHON} {IO} dynamic_batching {{ }}",
    "dynamic_full": f"""{BATCHED} dynamic_batching {{
        preferred_batch_size: [ 2, 4 ] preserve_ordering: true
        max_queue_delay_microseconds: 18446744073709551615 }}""",
    "priorities": f"""{BATCHED} dynamic_batching {{
        priority_levels: 3 default_priority_level: 2
        default_queue_policy {{ timeout_action: DELAY default_timeout_microseconds: 5000
                                allow_timeout_override: true max_queue_size: 7 }}
        priority_queue_policy {{ key: 3 value {{ max_queue_size: 1 }} }} }}""",
    "groups": f"""{PYTHON} {IO} instance_group [
        {{ count: 2 kind: KIND_CPU }}, {{ name: "named" kind: KIND_MODEL count: -1 }}, {{ }} ]""",
    "group_full": f"""{PYTHON} {IO} instance_group {{
        kind: KIND_CPU host_policy: "cpu_1" passive: true
        rate_limiter {{ priority: 2 resources [
            {{ name: "R1" count: 4 }}, {{ name: "R2" global: true }} ] }}
        secondary_devices {{ kind: KIND_NVDLA device_id: 3 }} }}""",
    "all_versions": f"{PYTHON} {IO} version_policy {{ all {{ }} }}",
    "some_versions": f"{PYTHON} {IO} version_policy {{ specific {{ versions: [ 1, 3 ] }} }}",
    "two_versions": f"{PYTHON} {IO} version_policy {{ latest {{ num_versions: 2 }} }}",
    "no_version_choice": f"{PYTHON} {IO} version_policy {{ }}",
    "optimization": f"""{PYTHON} {IO} optimization {{
        graph {{ level: -1 }} priority: PRIORITY_MAX eager_batching: true
        cuda {{ graphs: true busy_wait_events: true output_copy_stream: true
                graph_spec {{ batch_size: 2 input {{ key: "IN" value {{ dim: [ 3, 4 ] }} }}
                    graph_lower_bound {{ input {{ key: "IN" value {{ dim: 1 }} }} }} }} }}
        execution_accelerators {{
            gpu_execution_accelerator {{ name: "a" parameters {{ key: "p" value: "v" }} }}
            cpu_execution_accelerator {{ name: "b" }} }}
        input_pinned_memory {{ }} gather_kernel_buffer_threshold: 5 }}""",
    "others": f"""{PYTHON} {IO} model_operations {{ op_library_filename: "a.so" }}
        model_transaction_policy {{ }} response_cache {{ enable: true }}
        default_model_filename: "model.py" cc_model_filenames {{ key: "7.5" value: "x" }}
        metric_tags {{ key: "a" value: "1" }}
        parameters {{ key: "grö\\"ße" value {{ string_value: "☃/\\\\\\n\\t<&>\\177" }} }}
        model_warmup {{ name: "w" inputs {{ key: "IN" value {{
            data_type: TYPE_FP32 dims: 2 zero_data: true }} }} }}""",
    "ragged": f"""{BATCHED}
        batch_input {{ kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "COUNT"
                       data_type: TYPE_FP32 source_input: "IN" }}
        batch_output {{ kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "OUT"
                        source_input: "IN" }}""",
    "decoupled": f"{BATCHED} model_transaction_policy {{ decoupled: true }}",
    "sequences": f"""{BATCHED} sequence_batching {{ direct {{
        max_queue_delay_microseconds: 10 minimum_slot_utilization: 0.25 }}
        {control("START", "START", "int32_false_true: [ -2147483648, 2147483647 ]")}
        {control("READY", "READY", "bool_false_true: [ false, true ]")}
        {control("ID", "CORRID", "data_type: TYPE_UINT64")} }}""",
    "oldest_sequence": f"""{BATCHED} sequence_batching {{
        max_sequence_idle_microseconds: 5 iterative_sequence: true
        oldest {{ max_candidate_sequences: 4 max_queue_delay_microseconds: 7 }} }}""",
}
# The same values, but the text differs: the server prints a map in the order of its hash table,
# and floats and members of a oneof in its own way.
SERVED_OTHERWISE = {
    "maps": f"""{PYTHON} {IO} parameters [
            {{ key: "zeta" value {{ string_value: "1" }} }}, {{ key: "Alpha" value {{ }} }},
            {{ key: "twice" value {{ string_value: "a" }} }},
            {{ key: "twice" value {{ string_value: "b" }} }} ]
        metric_tags [ {{ key: "b" value: "2" }}, {{ key: "a" value: "1" }} ]""",
    "control_letters": f'{PYTHON} {IO} parameters {{ key: "k" value {{ string_value: "\\037" }} }}',
    "floats": f"""{BATCHED} sequence_batching {{
        direct {{ minimum_slot_utilization: 0.333333333 }}
        {control("S", "START", "fp32_false_true: [ 0.1, 1e30 ]")}
        {control("E", "END", "fp32_false_true: [ -0.0, 16777216 ]")}
        {control("R", "READY", "fp32_false_true: [ 123456.789, 1e-10 ]")} }}""",
    "state": f"""{BATCHED} sequence_batching {{ state {{
        input_name: "SI" output_name: "SO" data_type: TYPE_INT32 dims: [ -1 ]
        initial_state {{ data_type: TYPE_INT32 dims: 1 zero_data: true name: "n" }} }} }}""",
}
ALL_SERVED = {**SERVED, **SERVED_OTHERWISE}


def tensor(fields: str, start: str = "") -> str:
    return f"{PYTHON} {start} {IO} input {{ {fields} }}"


def reshape(dims: str, shape: str) -> str:
    fields = f'name: "I" data_type: TYPE_FP32 dims: [ {dims} ] reshape {{ shape: [ {shape} ] }}'
    return tensor(fields, "max_batch_size: 1")


FP32 = 'name: "I" data_type: TYPE_FP32'
REFUSED = {
    # When the repository is read
    "misnamed": f'name: "other" {PYTHON} {IO}',
    "unknown_platform": f'platform: "python" {IO}',
    "negative_batch": f"{PYTHON} {IO} max_batch_size: -1",
    "preferred_zero": f"{BATCHED} dynamic_batching {{ preferred_batch_size: [ 2, 0 ] }}",
    "preferred_large": f"{BATCHED} dynamic_batching {{ preferred_batch_size: 9 }}",
    "preferred_without_batches": f"{PYTHON} {IO} dynamic_batching {{ preferred_batch_size: 1 }}",
    "first_of_two": f"{tensor('dims: 0')} max_batch_size: -1",
    "priority_without_default": f"{BATCHED} dynamic_batching {{ priority_levels: 3 }}",
    "priority_of_policy": f"""{BATCHED} dynamic_batching {{ priority_levels: 3
        default_priority_level: 1 priority_queue_policy {{ key: 4 value {{ }} }} }}""",
    "ordered_priorities": f"""{BATCHED} dynamic_batching {{ priority_levels: 3
        default_priority_level: 1 preserve_ordering: true }}""",
    "ordered_delay": f"""{BATCHED} dynamic_batching {{ preserve_ordering: true
        default_queue_policy {{ timeout_action: DELAY default_timeout_microseconds: 1 }} }}""",
    "ordered_delay_of_level": f"""{BATCHED} dynamic_batching {{ preserve_ordering: true
        priority_queue_policy {{ key: 1 value {{
            timeout_action: DELAY default_timeout_microseconds: 1 }} }} }}""",
    "oldest_zero": f"{BATCHED} sequence_batching {{ oldest {{ preferred_batch_size: 0 }} }}",
    "oldest_large": f"{BATCHED} sequence_batching {{ oldest {{ preferred_batch_size: 9 }} }}",
    "slots": f"{BATCHED} sequence_batching {{ direct {{ minimum_slot_utilization: 1.5 }} }}",
    "cached_sequence": f"{BATCHED} sequence_batching {{ }} response_cache {{ enable: true }}",
    "cached_decoupled": f"""{BATCHED} model_transaction_policy {{ decoupled: true }}
        response_cache {{ enable: true }}""",
    "no_ensemble": f"{BATCHED} ensemble_scheduling {{ }}",
    "unknown_file": 'default_model_filename: "other.py"',
    # When the model is loaded
    "no_name": tensor("data_type: TYPE_FP32 dims: 1"),
    "no_datatype": tensor('name: "I" dims: 1'),
    "no_dims": tensor(FP32),
    "dim_zero": tensor(f"{FP32} dims: 0"),
    "dim_negative": tensor(f"{FP32} dims: [ 2, -2 ]"),
    "reshape_zero": reshape("1", "0"),
    "reshape_empty": tensor(f"{FP32} dims: 0 reshape {{ }}"),
    "reshape_not_one": reshape("3", ""),
    "reshape_size": reshape("4", "3"),
    "reshape_fixed": reshape("-1, 2", "2"),
    "reshape_open": reshape("2", "-1, 2"),
    "reshape_parts": reshape("2, -1, 3", "3, -1, 2"),
    "reshape_count": reshape("-1, -1", "-1"),
    "format": tensor(f"{FP32} dims: [ 1, 2 ] format: FORMAT_NCHW is_shape_tensor: true"),
    "shape_tensor": tensor(f"{FP32} dims: 1 is_shape_tensor: true is_non_linear_format_io: true"),
    "non_linear": tensor(f"{FP32} dims: 1 is_non_linear_format_io: true"),
    "output": f"{PYTHON} output {{ {FP32} dims: [ 0 ] label_filename: 'nowhere' }}",
    "output_non_linear": f"{PYTHON} output {{ {FP32} dims: 1 is_non_linear_format_io: true }}",
    "no_labels": f"{PYTHON} output {{ {FP32} dims: 1 label_filename: 'nowhere' }}",
    "cpu_with_gpus": f"{tensor('dims: 0')} instance_group {{ kind: KIND_CPU gpus: 0 }}",
    "model_with_gpus": f'{PYTHON} {IO} instance_group {{ kind: KIND_MODEL gpus: 0 name: "g" }}',
    "auto_with_gpus": f"{PYTHON} {IO} instance_group [ {{ }}, {{ gpus: 3 }} ]",
    "profile": f'{PYTHON} {IO} instance_group {{ profile: "p" }}',
    "unknown_kind": f"{PYTHON} {IO} instance_group {{ kind: 9 }}",
    "batch_input_sources": f"{BATCHED} batch_input {{ data_type: TYPE_FP32 }}",
    "batch_input_type": f"""{BATCHED} batch_input {{ data_type: TYPE_INT64
        source_input: "IN" }}""",
    "batch_input_unknown": f"""{BATCHED} batch_input {{ data_type: TYPE_FP32
        source_input: "X" }}""",
    # With another source_input of a batch_output the real server dies.
    "batch_output_target": f"""{BATCHED} batch_output {{
        source_input: "IN" target_name: "X" }}""",
    "batch_output_twice": f"""{BATCHED} batch_output {{
        source_input: "IN" target_name: "OUT" target_name: "OUT" }}""",
}
RULES = {
    "3.1.2-io-checks": " ".join(REFUSED),
    "4.12-polled": "misnamed first_of_two no_ensemble ordered_delay cached_decoupled",
    "4.12-batch-size": "negative_batch preferred_zero preferred_large preferred_without_batches",
    "4.12-priorities": "priority_without_default priority_of_policy ordered_priorities "
    "ordered_delay ordered_delay_of_level",
    "4.12-sequences": "oldest_zero oldest_large slots",
    "4.12-backend": "unknown_platform unknown_file",
    "4.12-tensors": "no_name no_datatype no_dims output",
    "4.12-dims": "dim_zero dim_negative reshape_zero",
    "4.12-reshape": "reshape_empty reshape_not_one reshape_size reshape_fixed reshape_open "
    "reshape_parts reshape_count",
    "4.12-format": "format shape_tensor non_linear output_non_linear",
    "4.12-labels": "no_labels",
    "4.10-errors": "cpu_with_gpus model_with_gpus auto_with_gpus profile unknown_kind",
    "4.8-refused": "cached_sequence cached_decoupled",
}
ACCEPTED_RULES = {
    "3.2-printed-defaults": " ".join(ALL_SERVED),
    "4.12-accepted": "twice_the_same_name empty another_platform datatypes others",
    "4.10-auto": "groups minimal",
    "4.10-count": "groups",
    "4.10-devices": "group_full",
}
# Each is one line, so that both parsers have to find that line.
UNREADABLE = {
    "no_colon": "max_batch_size 8",
    "no_field": "max_batch_sizes: 8",
    "no_number": 'max_batch_size: "8"',
    "too_large": "max_batch_size: 4294967296",
    "twice": "max_batch_size: 1 max_batch_size: 2",
    "no_value_of_the_enum": "input { data_type: TYPE_FLOAT }",
    "not_closed": 'input { name: "I" ',
    "two_schedulers": "dynamic_batching { } sequence_batching { }",
    "extension": "[foo.bar] { }",
    "byte_order_mark": "\ufeffmax_batch_size: 1",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs")
    unreadable = {name: f"{'#' * 10}\n{text}" for name, text in UNREADABLE.items()}
    for name, text in {**ALL_SERVED, **REFUSED, **unreadable}.items():
        write_models(folder, {name: MODEL}, text)
    (folder / "tensors" / "labels").write_text("zero\none\n")
    return folder


@pytest.fixture(scope="module")
def engines(repository: Path) -> Iterator[Engines]:
    with both_engines(repository) as engines:
        yield engines


@pytest.fixture(scope="module")
def told(engines: Engines) -> dict[str, str]:
    """Why the real server refuses a model: in the index, or in its log."""
    polled = re.findall(
        r"""Poll failed for model directory '(\w+)': (.*)"$""", engines.native.log(), re.MULTILINE
    )
    return {**reasons(engines.native), **{name: json.loads(f'"{text}"') for name, text in polled}}


@pytest.mark.rule("3.2-numbers", "3.2-others")
@pytest.mark.parametrize("name", marked(ALL_SERVED, ACCEPTED_RULES))
def test_the_configuration_with_its_defaults(engines: Engines, repository: Path, name: str) -> None:
    native = engines.native.config(name)
    assert config.to_dict(config.load(repository / name)) == native
    assert engines.stub.config(name) == native


@pytest.mark.rule("3.2-minimal", "3.2-field-order", "3.2-numbers", "trap-16")
@pytest.mark.parametrize("name", SERVED)
def test_the_text_that_a_model_gets(engines: Engines, repository: Path, name: str) -> None:
    text = (repository / name / "native").read_text(encoding="utf-8")
    assert config.to_json(config.load(repository / name)) == text
    assert (repository / name / "stub").read_text(encoding="utf-8") == text


@pytest.mark.rule("3.2-string-leftovers", "3.2-others")
@pytest.mark.parametrize("name", SERVED_OTHERWISE)
def test_the_values_that_a_model_gets(engines: Engines, repository: Path, name: str) -> None:
    native = json.loads((repository / name / "native").read_text(encoding="utf-8"))
    assert json.loads(config.to_json(config.load(repository / name))) == native


@pytest.mark.parametrize("name", marked(REFUSED, RULES))
def test_why_a_configuration_is_refused(
    engines: Engines, told: dict[str, str], repository: Path, name: str
) -> None:
    in_the_index = engines.same(lambda engine: reasons(engine)[name])
    assert not engines.stub.ready(name)
    said = str(engines.stub.server.load_errors[name])
    if in_the_index:  # found when the model was loaded
        assert said == (
            f"load failed for model '{name}': version 1 is at UNAVAILABLE state: {in_the_index};\n"
        )
    else:  # found when the repository was polled; then the server tells its log only
        assert said == f"{repository}/{name}/config.pbtxt: {told[name]}"


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "unknown_file"])
def test_who_does_not_run_the_model_finds_the_same(
    told: dict[str, str], repository: Path, name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(repository / name)
    where, _, reason = str(caught.value).partition(": ")
    assert where == str(repository / name / "config.pbtxt")
    # The index has the code, too.
    assert told[name] in (reason, f"{caught.value.code.label}: {reason}")


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_line_that_cannot_be_read(
    engines: Engines, told: dict[str, str], repository: Path, name: str
) -> None:
    path = repository / name / "config.pbtxt"
    assert told[name] == f"failed to read text proto from {path}"
    before, found, _ = engines.native.log().partition(f"Poll failed for model directory '{name}'")
    assert found
    line = re.findall(r"Error parsing text-format \S+ (\d+):", before)[-1]
    with pytest.raises(ConfigError) as caught:
        config.load(path.parent)
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert not engines.stub.ready(name)
