"""What is refused of ``sequence_batching``; the texts are compared with the server's elsewhere."""

import pytest
from queued import read_config

from triton_stub.config.sequences import Control, check_sequence_batching, controls
from triton_stub.errors import ConfigError

FP32 = "fp32_false_true: [ 0, 1 ]"


def control(name, kind, field=FP32):
    return f"control_input {{ name: '{name}' control {{ kind: CONTROL_SEQUENCE_{kind} {field} }} }}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (control("", "START"), "control tensor must have a name for model"),
        (control("A", "START") + control("A", "END"), "'A' is specified for multiple control"),
        (control("A", "START") + control("B", "START"), "multiple CONTROL_SEQUENCE_START tensors"),
        (control("A", "READY", ""), "must specify either 'int32_false_true'"),
        (control("A", "END", FP32 + " bool_false_true: [ true, true ]"), "more than one from"),
        (control("A", "END", "int32_false_true: 1"), "'int32_false_true' must have exactly 2"),
        (control("A", "CORRID", "data_type: TYPE_INT32 " + FP32), "must not specify either"),
        (control("A", "CORRID", "data_type: TYPE_FP32"), "unexpected data type for control"),
        (control("A", "CORRID", ""), "unexpected data type for control CONTROL_SEQUENCE_CORRID"),
        ("oldest { preferred_batch_size: 0 }", "preferred batch size must be positive"),
        ("oldest { preferred_batch_size: 9 }", "must be <= max batch size"),
        ("direct { minimum_slot_utilization: 2 }", "minimum slot utilization must be in range"),
    ],
)
def test_what_is_refused(text, words):
    config = read_config(f"sequence_batching {{ {text} }}")
    with pytest.raises(ConfigError) as refused:
        check_sequence_batching(config)
    assert words in refused.value.message


def test_a_cache_beside_sequences():
    config = read_config("sequence_batching { } response_cache { enable: true }")
    with pytest.raises(ConfigError, match="with sequence batching scheduler"):
        check_sequence_batching(config)


def test_controls_by_kind():
    text = control("C", "CORRID", "data_type: TYPE_STRING") + control("S", "START")
    config = read_config(f"sequence_batching {{ {text} }}")
    check_sequence_batching(config)
    assert controls(config) == {"START": Control("S", 11, [0.0, 1.0]), "CORRID": Control("C", 13)}
    assert controls(read_config("sequence_batching { }")) == {}


def test_one_tensor_for_two_controls():
    two = " ".join(
        f"control {{ kind: CONTROL_SEQUENCE_{kind} {FP32} }}" for kind in ("START", "END")
    )
    config = read_config(f"sequence_batching {{ control_input {{ name: 'A' {two} }} }}")
    check_sequence_batching(config)
    assert [each.name for each in controls(config).values()] == ["A", "A"]
