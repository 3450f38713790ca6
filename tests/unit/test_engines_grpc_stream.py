"""What becomes of a stream's request when its server is not there, or no more."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from patience import PATIENCE
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_stub.engines.http import HttpEngine
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator

IN = np.ones(1, np.float32)


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers each request with an error, and ends the call if it is asked for that."""

    status = grpc.StatusCode.UNAVAILABLE

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        for request in request_iterator:
            yield service_pb2.ModelStreamInferResponse(error_message=f"no {request.model_name}")
            if request.model_name == "fails":
                context.abort(self.status, "somebody has ended it")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def engine(service: Service) -> Iterator[HttpEngine]:
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with HttpEngine("127.0.0.1:1", grpc_url=f"127.0.0.1:{port}", timeout=PATIENCE) as engine:
        yield engine
    server.stop(None).wait()


def test_errors_of_responses_are_yielded(engine: HttpEngine) -> None:
    (error,) = engine.stream("model", IN=IN)
    assert isinstance(error, InferenceError)
    assert (error.message, error.code) == ("no model", StatusCode.UNKNOWN)


def test_nobody_there() -> None:
    with socket.socket() as taken:  # and nobody listens on it
        taken.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            HttpEngine("127.0.0.1:1", grpc_url=url, timeout=PATIENCE) as engine,
            pytest.raises(InferenceError, match="failed to connect") as caught,
        ):
            list(engine.stream("model", IN=IN))
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert str(caught.value).startswith(f"{url}: the stream has ended: ")


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_call_that_the_server_ends(
    engine: HttpEngine, service: Service, status: grpc.StatusCode
) -> None:
    service.status = status
    responses = engine.stream("fails", IN=IN)
    assert isinstance(next(responses), InferenceError)
    with pytest.raises(InferenceError, match=rf"\({status}\)$") as caught:
        next(responses)
    assert caught.value.code is StatusCode.UNAVAILABLE


def test_a_request_that_the_client_refuses_is_an_answer(engine: HttpEngine) -> None:
    (error,) = engine.stream("model", IN=IN, parameters={"sequence_id": 1})
    assert isinstance(error, InferenceError)
    assert error.code is StatusCode.INVALID_ARG
    assert "sequence_id" in error.message
