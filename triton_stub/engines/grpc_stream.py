"""One request over gRPC's stream, which is how clients reach decoupled models."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from triton_stub.core.result import Result
from triton_stub.engines.inputs import to_input
from triton_stub.errors import InferenceError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import numpy as np
    from tritonclient.grpc import InferResult

_FINAL = "triton_final_response"


def responses(
    url: str,
    model_name: str,
    inputs: Mapping[str, np.ndarray],
    *,
    model_version: str,
    outputs: Sequence[str],
    request_id: str,
    sequence_id: int | str,
    sequence_start: bool,
    sequence_end: bool,
    priority: int,
    request_timeout: int,
    parameters: dict[str, Any],
    timeout: float,
) -> Generator[Result | InferenceError]:
    """Yield each response as it comes; an early end cancels the request.

    ``request_timeout`` is the server's, in microseconds. InferenceError if there is none for
    ``timeout`` seconds, or if the server is not there, or no more.
    """
    arrived: queue.SimpleQueue[tuple[InferResult | None, Exception | None]] = queue.SimpleQueue()
    with InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        try:
            client.async_stream_infer(
                model_name,
                [to_input(InferInput, name, array) for name, array in inputs.items()],
                model_version=model_version,
                outputs=[InferRequestedOutput(name) for name in outputs] or None,
                request_id=request_id,
                enable_empty_final_response=True,
                sequence_id=sequence_id,
                sequence_start=sequence_start,
                sequence_end=sequence_end,
                priority=priority,
                timeout=request_timeout or None,
                parameters=parameters or None,
            )
        except InferenceServerException as refused:
            client.stop_stream()  # if the call has failed, its error is there afterwards
            if not arrived.empty():
                raise _lost(url, arrived.get()[1]) from None
            # The client itself refuses, a reserved name say.
            yield InferenceError(refused.message(), StatusCode.INVALID_ARG)
            return

        def end() -> None:
            client.stop_stream()  # returns when the last response is there
            arrived.put((None, None))

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        try:
            while (item := arrived.get(timeout=timeout)) != (None, None):
                result, error = item
                if _status(error) is not None:
                    raise _lost(url, error) from None
                yield _failure(error) if result is None else _result(result)
        except queue.Empty:
            text = f"{model_name}: no response within {timeout:g} s"
            raise InferenceError(text, StatusCode.UNAVAILABLE) from None
        finally:
            if ending.is_alive():
                client.stop_stream(cancel_requests=True)
            ending.join()


def _status(error: Exception | None) -> str | None:
    """The gRPC status of an error; None if the error is that of a response."""
    status: str | None = error.status() if isinstance(error, InferenceServerException) else None
    return status


def _lost(url: str, error: Exception | None) -> InferenceError:
    text = error.message() if isinstance(error, InferenceServerException) else str(error)
    return InferenceError(
        f"{url}: the stream has ended: {text} ({_status(error)})", StatusCode.UNAVAILABLE
    )


def _failure(error: Exception | None) -> InferenceError:
    # The stream carries the text alone.
    text = error.message() if isinstance(error, InferenceServerException) else str(error)
    return InferenceError(text, StatusCode.UNKNOWN)


def _result(result: InferResult) -> Result:
    answer = result.get_response()
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in answer.parameters.items()
    }
    final = parameters.pop(_FINAL, True)
    return Result(
        outputs={output.name: result.as_numpy(output.name) for output in answer.outputs},
        model_name=answer.model_name,
        model_version=answer.model_version,
        request_id=answer.id,
        parameters=parameters,
        final=final,
    )
