"""Cases of other files once more, with the stub's models in processes of their own.

These are what goes back and forth between a model and the server. The whole suite runs so with
``pytest tests/conformance --stub-isolation=process``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import test_bls_async
import test_bls_decoupled
import test_bls_forked
import test_logger
import test_requests_and_outputs
import test_sender_calls
import test_tensors
from comparing import Engines
from conftest import MODELS

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

SELECTED = {
    test_bls_async: ("a_line_in_an_async_model", "without_a_loop", "in_a_loop_of_the_models_own"),
    test_bls_decoupled: (
        "a_line_in_a_model",
        "from_a_decoupled_model",
        "a_stream_is_produced_while_it_is_consumed",
        "an_error_in_a_stream",
        "cancel",
        "parameters_of_the_responses",
    ),
    test_bls_forked: (
        "a_line_in_a_model",
        "what_a_worker_would_wait_for_for_ever",
        "a_worker_answers_by_the_sender",
    ),
    test_logger: ("lines_of_execute",),
    test_sender_calls: ("calls_of_a_model_that_is_not_decoupled", "calls_of_a_decoupled_model"),
    test_tensors: ("what_the_client_gets",),
    test_requests_and_outputs: ("outputs_of_any_type_and_shape", "the_status_of_an_error"),
}
for module, names in SELECTED.items():
    for name in names:
        kind = module.__name__.removeprefix("test_")
        globals()[f"test_{kind}_{name}"] = getattr(module, f"test_{name}")


@pytest.fixture(scope="session")
def engines(engines: Engines) -> Iterator[Engines]:
    """The session's, with another stub: its models are in processes."""
    with StubEngine(MODELS, isolation="process") as stub:
        yield Engines(stub, engines.native)


@pytest.fixture(scope="session")
def stub(engines: Engines) -> Engine:
    """That stub, for cases without the real server."""
    return engines.stub
