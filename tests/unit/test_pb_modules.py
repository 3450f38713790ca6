"""The two fake modules: which name is where, and when."""

from types import ModuleType

import numpy as np
import pytest
from instances import Lines

from triton_stub.errors import UnsupportedFeatureError
from triton_stub.pb_utils.modules import BackendModules

AT_IMPORT = {
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "json",
    "np",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "struct",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "using_decoupled_model_transaction_policy",
}
CLASSES = {
    "InferenceRequest",
    "InferenceResponse",
    "Logger",
    "Tensor",
    "TritonError",
    "TritonModelException",
}


@pytest.fixture
def modules(tmp_path):
    return BackendModules(tmp_path / "m" / "1", Lines())


def names(module):
    return {name for name in dir(module) if not name.startswith("_")}


def test_while_the_model_is_imported(modules):
    assert names(modules.pb_utils) == AT_IMPORT
    assert names(modules.c_pb_utils) == CLASSES


def test_once_the_model_is_imported(modules):
    modules.reveal_classes()
    assert names(modules.pb_utils) == AT_IMPORT | CLASSES | {"get_model_dir"}
    assert names(modules.c_pb_utils) == CLASSES
    assert modules.pb_utils.Tensor is modules.c_pb_utils.Tensor


def test_they_are_modules(modules):
    assert isinstance(modules.pb_utils, ModuleType)
    assert modules.pb_utils.np is np
    assert modules.pb_utils.__file__.endswith("/backends/python/triton_python_backend_utils.py")
    assert not hasattr(modules.c_pb_utils, "__file__")


def test_the_model_directory_is_that_of_the_version(modules, tmp_path):
    modules.reveal_classes()
    assert modules.pb_utils.get_model_dir() == str(tmp_path / "m" / "1")


@pytest.mark.parametrize("name", ["Tensor", "MetricFamily", "load_model", "InferenceTrace"])
def test_a_name_that_the_real_module_does_not_have_yet(modules, name):
    with pytest.raises(AttributeError) as caught:
        getattr(modules.pb_utils, name)
    assert str(caught.value) == (f"module 'triton_python_backend_utils' has no attribute '{name}'")


def test_a_name_that_no_module_has(modules):
    modules.reveal_classes()
    for module in (modules.pb_utils, modules.c_pb_utils):
        assert not hasattr(module, "Nonsense")


@pytest.mark.parametrize("name", ["Metric", "InferenceTrace", "shared_memory"])
def test_a_name_that_only_c_pb_utils_has(modules, name):
    modules.reveal_classes()
    assert not hasattr(modules.pb_utils, name)
    with pytest.raises(UnsupportedFeatureError):
        getattr(modules.c_pb_utils, name)


@pytest.mark.parametrize("name", ["ModelConfig", "MetricFamily", "load_model"])
def test_of_what_is_not_imitated_it_is_said_so(modules, name):
    modules.reveal_classes()
    with pytest.raises(UnsupportedFeatureError) as caught:
        getattr(modules.pb_utils, name)
    assert str(caught.value) == (
        f"triton_python_backend_utils.{name} is not imitated by this release of triton_stub: "
        "test this model with --triton-engine=native"
    )


def test_while_the_model_is_imported_that_is_model_config_alone(modules):
    with pytest.raises(UnsupportedFeatureError):
        modules.pb_utils.ModelConfig  # noqa: B018


def test_each_instance_has_its_own(modules, tmp_path):
    other = BackendModules(tmp_path / "other" / "1", Lines())
    modules.pb_utils.note = "mine"
    assert not hasattr(other.pb_utils, "note")
    assert modules.c_pb_utils.Logger is not other.c_pb_utils.Logger
