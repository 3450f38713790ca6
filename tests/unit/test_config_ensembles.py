"""Checks of an ensemble's configuration; their words are compared in ``tests/conformance``."""

import pytest

from triton_stub import config as model_config
from triton_stub.errors import ConfigError

HEAD = """
name: "e" platform: "ensemble"
input { name: "A" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "C" data_type: TYPE_FP32 dims: [ -1 ] }
"""
MODEL = """
name: "m" backend: "python"
input { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
"""


def steps(*described):
    """Steps such as ``"m 1 A B"``: model, version, the tensor behind IN, the one behind OUT."""
    text = ""
    for words in described:
        model, version, taken, made = words.split()
        text += (
            f'step {{ model_name: "{model}" model_version: {version} '
            f'input_map {{ key: "IN" value: "{taken}" }} '
            f'output_map {{ key: "OUT" value: "{made}" }} }}\n'
        )
    return f"ensemble_scheduling {{ {text} }}"


def test_models_of_the_steps_are_named_once_each():
    config = model_config.parse(HEAD + steps("m -1 A B", "n 2 B X", "m -1 X Y", "m 3 Y C"))
    assert model_config.composing_models(config) == [("m", -1), ("n", 2), ("m", 3)]
    assert model_config.is_ensemble(config)


def test_no_other_model_has_steps():
    config = model_config.parse(MODEL)
    assert model_config.composing_models(config) == []
    assert not model_config.is_ensemble(config)


@pytest.mark.parametrize(
    "described",
    [
        ("m -1 A C",),
        ("m -1 B C", "m -1 A B"),
        ("m -1 A B", "m -1 B X", "m -1 X C"),
    ],
)
def test_what_leads_from_inputs_to_outputs_is_right(described):
    config = model_config.parse(HEAD + steps(*described))
    model_config.check_polled(config)
    assert model_config.check_steps(config, [model_config.parse(MODEL)] * len(described)) is False


def test_a_circle_is_looked_at_once():
    config = model_config.parse(HEAD + steps("m -1 A B", "m -1 X Y", "m -1 Y X", "m -1 Y C"))
    with pytest.raises(ConfigError, match="output 'C' for ensemble 'e' is not written: at least"):
        model_config.check_polled(config)


def test_it_is_decoupled_if_a_step_is():
    plain, decoupled = (
        model_config.parse(MODEL + more)
        for more in ("", "model_transaction_policy { decoupled: true }")
    )
    config = model_config.parse(HEAD + steps("m -1 A B", "n -1 B C"))
    assert model_config.check_steps(config, [plain, decoupled]) is True
    assert model_config.check_steps(config, [decoupled, plain]) is True
    assert model_config.check_steps(config, [plain, plain]) is False


@pytest.mark.parametrize(
    ("dims", "others", "expected"),
    [
        ([], [], True),
        ([1, -1], [-1, 2], True),
        ([1, 2], [1, 3], False),
        ([1], [1, 1], False),
        ([-1], [-1], True),
    ],
)
def test_shapes_that_fit(dims, others, expected):
    assert model_config.fits(dims, others) is expected
    assert model_config.fits(others, dims) is expected


def test_nothing_is_filled_in_that_an_ensemble_does_not_have():
    config = model_config.parse(HEAD + steps("m -1 A C"))
    model_config.normalize(config, "e")
    assert config.backend == config.default_model_filename == ""
    assert not config.instance_group
    assert not config.HasField("optimization")
    assert config.version_policy.latest.num_versions == 1
