"""The two fake modules: what they are; which names they have, and when, the real server tells."""

from types import ModuleType

import numpy as np
import pytest
from instances import Lines, Surroundings

from triton_stub.pb_utils.modules import BackendModules


@pytest.fixture
def modules(tmp_path):
    return BackendModules(tmp_path / "m" / "1", Surroundings(Lines(), "m_0"))


def test_the_classes_are_revealed_once_the_model_is_imported(modules):
    before = set(dir(modules.pb_utils))
    modules.reveal_classes()
    revealed = set(dir(modules.pb_utils)) - before
    assert {"Tensor", "InferenceRequest", "InferenceResponse", "Logger"} < revealed
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


def test_each_instance_has_its_own(modules, tmp_path):
    other = BackendModules(tmp_path / "other" / "1", Surroundings(Lines(), "other_0"))
    modules.pb_utils.note = "mine"
    assert not hasattr(other.pb_utils, "note")
    assert modules.c_pb_utils.Logger is not other.c_pb_utils.Logger
    assert modules.c_pb_utils.InferenceRequest is not other.c_pb_utils.InferenceRequest
