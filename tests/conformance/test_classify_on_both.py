"""``model_repository/classify``: pictures in, labels and probabilities out, on both engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from classify_cases import (
    test_a_file_that_is_no_picture,
    test_metadata_and_config,
    test_neighbours_do_not_matter,
    test_pictures,
    test_the_steps_one_by_one_give_the_same,
    write_classify,
)
from comparing import Engines

from triton_stub.engines.native import NativeEngine
from triton_stub.engines.stub import StubEngine

__all__ = [
    "test_a_file_that_is_no_picture",
    "test_metadata_and_config",
    "test_neighbours_do_not_matter",
    "test_pictures",
    "test_the_steps_one_by_one_give_the_same",
]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Both engines with the ensemble and its steps."""
    repository = tmp_path_factory.mktemp("classify")
    write_classify(repository)
    # Only the ensemble is asked for: its steps come with it.
    with (
        NativeEngine(repository, models=["classify"]) as native,
        StubEngine(repository, models=["classify"]) as stub,
    ):
        yield Engines(stub, native)
