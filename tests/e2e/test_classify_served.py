"""``model_repository/classify`` behind real ports: as on the stub."""

from __future__ import annotations

from classify_cases import (
    test_a_file_that_is_no_picture,
    test_metadata_and_config,
    test_neighbours_do_not_matter,
    test_pictures,
    test_the_steps_one_by_one_give_the_same,
)

__all__ = [
    "test_a_file_that_is_no_picture",
    "test_metadata_and_config",
    "test_neighbours_do_not_matter",
    "test_pictures",
    "test_the_steps_one_by_one_give_the_same",
]
