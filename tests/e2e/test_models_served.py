"""Behind real ports: metadata, configuration, what a model is told, batching and errors."""

from __future__ import annotations

from served_cases import (
    test_a_model_that_fails,
    test_a_request_that_is_refused,
    test_answer,
    test_config,
    test_different_shapes_are_not_batched,
    test_metadata,
    test_requests_are_batched,
    test_versions,
    test_what_a_model_is_told,
)

__all__ = [
    "test_a_model_that_fails",
    "test_a_request_that_is_refused",
    "test_answer",
    "test_config",
    "test_different_shapes_are_not_batched",
    "test_metadata",
    "test_requests_are_batched",
    "test_versions",
    "test_what_a_model_is_told",
]
