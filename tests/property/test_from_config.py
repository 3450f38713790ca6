"""from_config: every request that it draws is one that the server accepts."""

from pathlib import Path

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, find, given, settings
from hypothesis.errors import InvalidArgument, NoSuchExample
from model_configs import model_configs

from triton_stub import config as model_config
from triton_stub import datatypes
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.core.validation import Validator
from triton_stub.testing import from_config
from triton_stub.testing.configs import read_config

FLOATS = ["TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_BF16"]
RESNET = Path(__file__).parents[2] / "model_repository" / "resnet50"
RARELY = settings(max_examples=40)


def one_input(datatype="TYPE_FP32", dims=(2,), max_batch_size=4, **more):
    x = {"name": "x", "data_type": datatype, "dims": list(dims), **more}
    return {"name": "m", "max_batch_size": max_batch_size, "input": [x]}


def two_inputs(**more):
    inputs = [{"name": name, "data_type": "TYPE_FP32", "dims": [2], **more} for name in "xy"]
    return {"name": "m", "max_batch_size": 4, "input": inputs}


def accepts(config, request):
    """What the server's own checks make of a request."""
    inputs = [Tensor.from_numpy(name, array) for name, array in request.items()]
    return Validator(read_config(config)).validate(
        InferenceRequest(model_name="drawn", inputs=inputs)
    )


def never(strategy, condition):
    with pytest.raises(NoSuchExample):
        find(strategy, condition, settings=settings(max_examples=100))


@given(st.data(), model_configs())
def test_every_request_is_accepted(data, config):
    request = data.draw(from_config(config))
    validated = accepts(config, request)
    assert validated.batch_size <= config["max_batch_size"]
    assert bool(validated.batch_size) == bool(config["max_batch_size"])


@given(st.data(), model_configs())
def test_a_request_is_what_the_configuration_says(data, config):
    entries = {entry["name"]: entry for entry in config["input"]}
    request = data.draw(from_config(config, min_side=2, max_side=5))
    required = [name for name, entry in entries.items() if not entry["optional"]]
    assert [name for name in entries if name in request] == list(request)
    assert set(required) <= set(request)
    rows = set()
    for name, array in request.items():
        assert array.dtype == datatypes.from_config_name(entries[name]["data_type"]).numpy
        shape = array.shape
        if config["max_batch_size"]:
            rows.add(shape[0])
            shape = shape[1:]
        assert len(shape) == len(entries[name]["dims"])
        for size, dim in zip(shape, entries[name]["dims"], strict=True):
            assert 2 <= size <= 5 if dim == -1 else size == dim
        if array.dtype.kind == "O":
            assert {type(element) for element in array.ravel()} == {bytes}
        if array.dtype.kind in "fV":
            assert np.isfinite(array).all()
    assert rows <= {1, 2, 3, 4, 5}
    assert len(rows) <= 1


@given(st.data(), model_configs(), st.integers(1, 8))
def test_a_smaller_batch(data, config, rows):
    assume(config["max_batch_size"])
    request = data.draw(from_config(config, max_batch_size=rows))
    assert len(next(iter(request.values()))) <= min(rows, config["max_batch_size"])


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_every_batch_size_is_drawn(rows):
    assert len(find(from_config(one_input()), lambda request: len(request["x"]) == rows))


@pytest.mark.parametrize("side", range(1, 9))
def test_every_size_is_drawn(side):
    strategy = from_config(one_input(dims=[-1]))
    assert find(strategy, lambda request: request["x"].shape[1] == side)
    never(strategy, lambda request: not 1 <= request["x"].shape[1] <= 8)


def test_open_sizes_are_independent():
    config = one_input(dims=[-1, -1])
    config["input"].append({"name": "y", "data_type": "TYPE_FP32", "dims": [-1]})
    request = find(
        from_config(config), lambda request: len({*request["x"].shape, *request["y"].shape}) == 4
    )
    assert request["x"].shape[0] == request["y"].shape[0]


def test_empty_tensors_on_request():
    strategy = from_config(one_input(dims=[-1, 3]), min_side=0)
    assert find(strategy, lambda request: request["x"].size == 0)["x"].shape == (1, 0, 3)
    never(from_config(one_input(dims=[-1, 3])), lambda request: request["x"].size == 0)


@pytest.mark.parametrize("datatype", FLOATS)
@pytest.mark.parametrize("size", [2, 100])
def test_what_is_not_finite_on_request(datatype, size):
    config = one_input(datatype, dims=[size])
    strategy = from_config(config, allow_nan=True, allow_infinity=True)
    assert find(strategy, lambda request: np.isnan(request["x"]).any())
    assert find(strategy, lambda request: np.isinf(request["x"]).any())
    never(from_config(config, allow_nan=True), lambda request: np.isinf(request["x"]).any())
    never(from_config(config, allow_infinity=True), lambda request: np.isnan(request["x"]).any())
    never(from_config(config), lambda request: not np.isfinite(request["x"]).all())


def test_large_bfloat16():
    largest = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    strategy = from_config(one_input("TYPE_BF16"))
    assert find(strategy, lambda request: (abs(request["x"]).astype(float) > largest / 4).any())


@pytest.mark.parametrize("datatype", ["TYPE_UINT8", "TYPE_INT64", "TYPE_BOOL", "TYPE_STRING"])
@pytest.mark.parametrize("size", [3, 1000])
def test_different_elements(datatype, size):
    strategy = from_config(one_input(datatype, dims=[size], max_batch_size=1))
    request = find(strategy, lambda request: request["x"][0, 0] != request["x"][0, 2])
    assert len(np.unique(request["x"])) == 2


@pytest.mark.parametrize("size", [2, 5000])
def test_requests_shrink_to_one_row_of_zeros(size):
    strategy = from_config(one_input(dims=[size, -1]))
    smallest = find(strategy, lambda request: True)["x"]
    assert smallest.shape == (1, size, 1)
    assert not smallest.any()
    ones = find(strategy, lambda request: (request["x"] >= 1).all())["x"]
    assert ones.shape == (1, size, 1)
    assert (ones == 1).all()


def test_few_elements_of_an_image_are_drawn():
    images = []

    @given(from_config(RESNET, max_batch_size=2))
    @RARELY
    def collect(request):
        assert accepts(RESNET, request)
        images.append(request["image"])

    collect()
    assert max(len(np.unique(image)) for image in images) in range(3, 17)


IMAGES = {"min_value": 0, "max_value": 1}


@pytest.mark.parametrize("elements", [IMAGES, st.floats(0, 1, width=32)], ids=["dict", "strategy"])
@pytest.mark.parametrize("size", [2, 5000])
def test_elements(elements, size):
    strategy = from_config(one_input(dims=[size]), elements={"x": elements})
    never(strategy, lambda request: request["x"].min() < 0 or request["x"].max() > 1)
    assert find(strategy, lambda request: request["x"].min() > 0)["x"].dtype == np.float32


def test_elements_that_the_datatype_has_not():
    with pytest.raises(InvalidArgument, match="cannot be represented as dtype"):
        find(from_config(one_input("TYPE_UINT8"), elements={"x": st.just(0.5)}), lambda _: True)


def test_elements_of_bytes_and_bfloat16():
    words = from_config(one_input("TYPE_STRING"), elements={"x": st.sampled_from([b"a", "ä"])})
    assert find(words, lambda request: "ä" in request["x"])
    large = from_config(one_input("TYPE_BF16"), elements={"x": st.just(np.float32(3.4e38))})
    assert np.isinf(find(large, lambda _: True)["x"].astype(float)).all()


OPTIONAL = two_inputs(optional=True)


def test_optional_inputs():
    strategy = from_config(OPTIONAL)
    for names in (["x"], ["y"], ["x", "y"]):
        assert find(strategy, lambda request, names=names: list(request) == names)
    never(strategy, lambda request: not request)


def test_all_inputs_may_be_absent_without_batching():
    assert find(from_config({**OPTIONAL, "max_batch_size": 0}), lambda _: True) == {}
    assert find(from_config({"name": "m"}), lambda _: True) == {}


def arrays(rows):
    return st.just(np.full((rows, 2), 7, np.float32))


def test_an_override_gives_its_batch_size_to_the_rest():
    @given(from_config(two_inputs(), overrides={"y": arrays(3)}))
    def check(request):
        assert list(request) == ["x", "y"]
        assert (request["y"] == 7).all()
        assert len(request["x"]) == len(request["y"]) == 3

    check()


def test_overrides_that_follow_the_batch_size():
    sizes = set()

    @given(from_config(two_inputs(), overrides={"x": arrays, "y": arrays}))
    def check(request):
        assert len(request["x"]) == len(request["y"])
        sizes.add(len(request["x"]))

    check()
    assert sizes == {1, 2, 3, 4}


def test_a_fixed_override_beside_one_that_follows():
    request = find(
        from_config(two_inputs(), overrides={"x": arrays, "y": arrays(2)}), lambda _: True
    )
    assert len(request["x"]) == len(request["y"]) == 2


def test_overrides_without_batching():
    config = {**two_inputs(), "max_batch_size": 0}
    request = find(from_config(config, overrides={"x": arrays, "y": st.just(1)}), lambda _: True)
    assert request["x"].shape == (0, 2)  # the function is told 0
    assert request["y"] == 1


def test_an_override_of_an_optional_input_may_be_absent():
    strategy = from_config(OPTIONAL, overrides={"x": arrays(2)})
    assert "x" not in find(strategy, lambda request: "x" not in request)
    assert len(find(strategy, lambda request: len(request) == 2)["y"]) == 2


@pytest.mark.parametrize(
    ("config", "arguments", "complaint"),
    [
        (one_input(), {"min_side": -1}, "min_side=-1, max_side=6: expected 0 <= min_side"),
        (one_input(), {"min_side": 3, "max_side": 2}, "min_side=3, max_side=2: expected 0 <="),
        (one_input(), {"max_batch_size": 0}, "max_batch_size=0: expected at least 1"),
        (
            one_input(),
            {"overrides": {"z": st.none()}},
            r"overrides names 'z', but the inputs of model 'm' are \['x'\]",
        ),
        (one_input(), {"elements": {"z": st.none()}}, "elements names 'z', but the inputs"),
        (
            one_input(),
            {"overrides": {"x": arrays(1)}, "elements": {"x": st.just(1)}},
            "input 'x' is in overrides, .* and in elements, .*; give one of the two",
        ),
        (one_input(), {"overrides": {"x": 7}}, r"overrides\['x'\] is 7; expected a strategy"),
        (one_input(), {"overrides": {"x": lambda rows: rows}}, r"overrides\['x'\] is <function"),
        (
            one_input(),
            {"overrides": {"x": st.just(1.0)}},
            r"overrides\['x'\] drew 1\.0, which has no batch dimension",
        ),
        (
            two_inputs(),
            {"overrides": {"x": arrays(1), "y": arrays(2)}},
            r"overrides\['y'\] drew a batch of 2 where another override drew one of 1; give func",
        ),
        (
            {"name": "m", "max_batch_size": 1},
            {},
            r"model 'm' batches \(max_batch_size: 1\) but has no input",
        ),
        (
            {**one_input(), "input": one_input()["input"] * 2},
            {},
            "model 'm' has several inputs of the same name",
        ),
        (one_input(dims=[0]), {}, "model input 'x' dimension must be integer >= 1"),
        ("no/such/model", {}, "no/such/model is no readable file"),
        (None, {}, "expected a model configuration, found None"),
    ],
)
def test_what_makes_no_sense_is_said_when_the_test_runs(config, arguments, complaint):
    strategy = from_config(config, **arguments)

    @given(strategy)
    @settings(suppress_health_check=[HealthCheck.too_slow])
    def check(request):
        pytest.fail("nothing can be drawn")

    with pytest.raises(InvalidArgument, match=complaint):
        check()


def test_repr():
    assert repr(from_config("models/m")) == "from_config('models/m')"
    strategy = from_config(RESNET, max_side=3, elements={"image": IMAGES}, allow_nan=True)
    assert repr(strategy) == (
        f"from_config({RESNET!r}, elements={{'image': {IMAGES!r}}}, max_side=3, allow_nan=True)"
    )


def test_a_configuration_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.pbtxt").write_text('input { name: "x" data_type: TYPE_BOOL dims: 2 }')
    read = []
    load = model_config.load
    monkeypatch.setattr(model_config, "load", lambda path: read.append(path) or load(path))
    find(from_config(tmp_path / "m"), lambda request: request["x"].any())
    assert read == [tmp_path / "m"]


@pytest.mark.triton(repository="../../model_repository", models=[])
@given(from_config(one_input(), max_batch_size=1))
def test_beside_the_fixture(triton, request):
    assert triton.ready()
    assert list(request) == ["x"]
