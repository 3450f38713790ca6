"""``ModelConfig``: the helper that a model completes its configuration with."""

import json

import pytest

from triton_stub.pb_utils.model_config import ModelConfig

GIVEN = {
    "name": "m",
    "max_batch_size": 4,
    "input": [
        {"name": "A", "data_type": "TYPE_FP32", "dims": [3], "optional": False},
        {"name": "B", "data_type": "TYPE_INVALID", "dims": []},
    ],
    "output": [{"name": "C", "data_type": "TYPE_FP32", "dims": [2]}],
}
A = {"name": "A", "data_type": "TYPE_FP32", "dims": [3]}
NEW = {"name": "N", "data_type": "TYPE_INT8", "dims": [1]}


@pytest.fixture
def config():
    return ModelConfig(json.dumps(GIVEN))


def refusal(call, *given):
    with pytest.raises(ValueError, match="'m'") as caught:
        call(*given)
    return str(caught.value)


def test_the_dict_is_the_configuration(config):
    assert config.as_dict() == GIVEN
    assert config.as_dict() is config.as_dict()


def test_batches_may_only_grow(config):
    config.set_max_batch_size(9)
    assert config.as_dict()["max_batch_size"] == 9
    assert refusal(config.set_max_batch_size, 8) == (
        "configuration specified max_batch_size 9, but in auto-complete-config function for model "
        "'m' specified max_batch_size 8"
    )


@pytest.mark.parametrize("scheduler", ["sequence_batching", "ensemble_scheduling"])
def test_the_dynamic_batcher(config, scheduler):
    config.set_dynamic_batching()
    config.set_dynamic_batching()
    assert config.as_dict()["dynamic_batching"] == {}
    config.as_dict()[scheduler] = {}
    assert refusal(config.set_dynamic_batching) == (
        f"Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config "
        "function for model 'm' tries to set scheduling_choice as 'dynamic_batching'"
    )


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_new_tensor_becomes_a_part_of_the_configuration(config, kind):
    getattr(config, f"add_{kind}")(NEW)
    assert config.as_dict()[kind][-1] is NEW


def test_a_tensor_is_completed_in_place(config):
    entry = config.as_dict()["input"][1]
    config.add_input({"name": "B", "data_type": "TYPE_BOOL", "dims": [1], "optional": True})
    assert entry == {"name": "B", "data_type": "TYPE_BOOL", "dims": [1], "optional": True}
    assert len(config.as_dict()["input"]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 1}, "input 'A' in auto-complete-config function for model 'm' contains property "
         "other than 'name', 'data_type', 'dims' and 'optional'."),
        ({"data_type": "TYPE_BOOL"}, "unable to load model 'm', configuration expects datatype "
         "TYPE_FP32 for input 'A', model provides TYPE_BOOL"),
        ({"dims": (3,)}, "model 'm', tensor 'A': the model expects dims (3,) but the model "
         "configuration specifies dims [3]"),
        ({"optional": True}, "model 'm', tensor 'A': the model expects optional True but the "
         "model configuration specifies optional False"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit(config, change, message):
    assert refusal(config.add_input, {**A, **change}) == message
    assert config.as_dict() == GIVEN


@pytest.mark.parametrize("missing", ["name", "data_type", "dims"])
@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_tensor_that_is_not_whole(config, missing, kind):
    entry = {key: value for key, value in NEW.items() if key != missing}
    named = kind if missing == "name" else f"{kind} 'N'"
    assert refusal(getattr(config, f"add_{kind}"), entry) == (
        f"{named} in auto-complete-config function for model 'm' is missing '{missing}' property."
    )


def test_an_output_is_never_optional(config):
    assert refusal(config.add_output, {**NEW, "optional": False}) == (
        "output 'N' in auto-complete-config function for model 'm' contains property other than "
        "'name', 'data_type' and 'dims'."
    )


def test_names_are_joined_as_texts(config):
    with pytest.raises(TypeError, match=r'can only concatenate str \(not "int"\) to str'):
        config.add_input({"name": 3})
    with pytest.raises(KeyError, match="name"):
        config.add_input({"x": 1})


def test_the_transaction_policy(config):
    config.set_model_transaction_policy({})
    assert config.as_dict()["model_transaction_policy"] == {}
    for _ in range(2):
        config.set_model_transaction_policy({"decoupled": True})
    assert refusal(config.set_model_transaction_policy, {"decoupled": False}) == (
        "trying to change decoupled property in auto-complete-config for model 'm', which is "
        "already set to 'True'."
    )
    assert refusal(config.set_model_transaction_policy, {"x": 1}) == (
        "model transaction property in auto-complete-config function for model 'm' contains "
        "property other than 'decoupled'."
    )
