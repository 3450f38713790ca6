"""What holds for every batch that model_repository's model.py is given."""

import itertools
from pathlib import Path

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

import triton_stub
from triton_stub.testing import check_outputs, from_config

MODELS = Path(__file__).parent / "resnet_models"
NAMES = ("resnet_powers", "resnet_threes")
IMAGE_SHAPE, CLASSES, MAX_BATCH_SIZE = (24, 16, 3), 7, 8
ALL = settings(max_examples=40, deadline=None)

# Every image that is sent is one of these, so its logits are known before.
IMAGES = np.random.default_rng(1).uniform(size=(24, *IMAGE_SHAPE)).astype(np.float32)
indices = st.integers(0, len(IMAGES) - 1)
rows = st.lists(indices, min_size=1, max_size=MAX_BATCH_SIZE)
names = st.sampled_from(NAMES)


@st.composite
def batches(draw):
    """The rows of IMAGES that each request of one call to execute() holds."""
    rows_of_all = draw(rows)
    starts = draw(st.sets(st.integers(1, len(rows_of_all)), max_size=len(rows_of_all)))
    edges = sorted({0, *starts, len(rows_of_all)})
    return [rows_of_all[start:stop] for start, stop in itertools.pairwise(edges)]


@pytest.fixture(scope="module")
def server():
    with triton_stub.Server(MODELS) as server:
        yield server


@pytest.fixture(scope="module")
def alone(server):
    """Logits of each image when nobody else is there."""
    model = server.model("resnet_powers")
    return np.concatenate([model(image=image[np.newaxis])["fc_out"] for image in IMAGES])


@pytest.fixture(scope="module")
def compilations():
    """What JAX traced or compiled since the fixture began."""
    events = []

    def listener(event, seconds, **_):
        if event.startswith("/jax/core/compile/"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    return events


@pytest.fixture(autouse=True)
def nothing_traces(server, alone, compilations):
    """No test of this module may make JAX trace or compile: all of that was done at load."""
    before = len(compilations)
    jax.config.update("jax_no_tracing", True)
    yield
    jax.config.update("jax_no_tracing", False)
    assert compilations[before:] == []


def close(logits, expected):
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@ALL
@given(name=names, batch=batches())
def test_every_request_gets_its_own_finite_rows(server, name, batch):
    results = server.model(name).execute([{"image": IMAGES[rows]} for rows in batch])
    for rows, result in zip(batch, results, strict=True):
        check_outputs(MODELS / name, result, batch_size=len(rows))
        assert result["fc_out"].dtype == np.float32
        assert result["fc_out"].shape == (len(rows), CLASSES)
        assert np.isfinite(result["fc_out"]).all()


@ALL
@given(name=names, batch=batches())
def test_logits_depend_neither_on_neighbours_nor_on_the_bucket(server, alone, name, batch):
    results = server.model(name).execute([{"image": IMAGES[rows]} for rows in batch])
    for rows, result in zip(batch, results, strict=True):
        close(result["fc_out"], alone[rows])


@ALL
@given(name=names, batch=batches(), data=st.data())
def test_a_ruined_image_ruins_only_its_own_row(server, alone, name, batch, data):
    request = data.draw(st.integers(0, len(batch) - 1), label="request")
    row = data.draw(st.integers(0, len(batch[request]) - 1), label="row")
    images = [IMAGES[rows] for rows in batch]
    images[request][row] = np.nan

    results = server.model(name).execute([{"image": image} for image in images])

    expected = [alone[rows] for rows in batch]
    expected[request][row] = np.nan
    for result, logits in zip(results, expected, strict=True):
        close(result["fc_out"], logits)


@ALL
@given(
    name=names,
    images=from_config(
        MODELS / "resnet_powers", elements={"image": {"min_value": 0, "max_value": 1}}
    ),
)
def test_every_valid_request_is_served(server, name, images):
    result = server.model(name)(**images)
    check_outputs(MODELS / name, result, batch_size=len(images["image"]))
    assert np.isfinite(result["fc_out"]).all()


@pytest.mark.triton(repository=MODELS, models=["resnet_threes"])
@settings(max_examples=20, deadline=None)
@given(rows=rows)
def test_every_engine_gives_the_same_logits(triton, alone, rows):
    close(triton.infer("resnet_threes", image=IMAGES[rows])["fc_out"], alone[rows])


def test_different_images_have_different_logits(alone):
    """Or the tests above would see nothing."""
    spread = np.abs(alone[:, np.newaxis] - alone).max(axis=-1)
    assert spread[~np.eye(len(alone), dtype=bool)].min() > 1e-3


def test_tracing_would_be_noticed(compilations):
    before = len(compilations)
    with pytest.raises(RuntimeError, match="no_tracing"):
        jax.jit(lambda x: x + 1)(np.ones(3))
    jax.config.update("jax_no_tracing", False)
    jax.jit(lambda x: x + 1)(np.ones(5))
    assert compilations[before:]
    del compilations[before:]
