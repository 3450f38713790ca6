"""Every kind of client of tritonclient, called in one way, on either engine.

    flavours.same("grpc.aio", lambda client: client.tried("get_model_metadata", "pair"))

``seen`` makes of what a method returns, and of what it raises, something that ``==`` compares.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import numpy as np
import tritonclient.grpc
import tritonclient.http
from comparing import Engines, normalise
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from triton_stub.endpoints.clients import Kind
from triton_stub.engines.engine import Engine

KINDS = get_args(Kind)
Arrays = Mapping[str, Any]


class Flavour:
    """A client of one kind for one engine."""

    def __init__(self, engine: Engine, kind: Kind, runner: asyncio.Runner, **options: Any) -> None:
        self.engine = engine
        self.kind = kind
        self._runner = runner
        self.library: Any = tritonclient.grpc if kind.startswith("grpc") else tritonclient.http

        async def make() -> Any:
            return engine.client(kind, **options)

        # One for asyncio is made within its event loop.
        self.client: Any = runner.run(make()) if self.is_aio else engine.client(kind, **options)

    @property
    def is_aio(self) -> bool:
        return self.kind.endswith("aio")

    def close(self) -> None:
        self.finish(self.client.close())

    def finish(self, value: Any) -> Any:
        """What becomes of an awaitable; anything else is as it is."""
        if not inspect.isawaitable(value):
            return value

        async def wait() -> Any:
            return await value

        return self._runner.run(wait())

    def call(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        """What a method of the client returns."""
        return self.finish(getattr(self.client, method)(*arguments, **named))

    def tried(self, method: str, /, *arguments: Any, **named: Any) -> Any:
        """What a method of the client returns or raises."""
        return tried(lambda: self.call(method, *arguments, **named))

    def inputs(self, arrays: Arrays, **options: Any) -> list[Any]:
        return [
            self.library.InferInput(
                name, list(array.shape), np_to_triton_dtype(array.dtype)
            ).set_data_from_numpy(array, **options)
            for name, array in arrays.items()
        ]

    def infer(self, model: str, arrays: Arrays, **options: Any) -> Any:
        """What a request returns or raises; ``outputs`` may be names."""
        outputs = [
            self.library.InferRequestedOutput(output) if isinstance(output, str) else output
            for output in options.pop("outputs", ())
        ]
        return self.tried("infer", model, self.inputs(arrays), outputs=outputs or None, **options)

    def stream(self, requests: Sequence[Mapping[str, Any]], **options: Any) -> list[Any]:
        """What comes of requests over one stream of gRPC, in its order."""
        if self.is_aio:
            return list(self._runner.run(self._stream(requests, options)))
        came: list[Any] = []
        self.client.start_stream(
            lambda result, error: came.append(seen(error or result)), **options
        )
        try:
            for request in requests:
                self.client.async_stream_infer(**request)
        finally:
            self.client.stop_stream()
        return came

    async def _stream(
        self, requests: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> list[Any]:
        async def sent() -> Any:
            for request in requests:
                yield dict(request)

        came = []
        try:
            async for result, error in self.client.stream_infer(sent(), **options):
                came.append(seen(error or result))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is compared
            came.append(seen(error))
        return came


class Flavours:
    """Clients of all kinds for both engines, made when they are asked for."""

    def __init__(self, engines: Engines, runner: asyncio.Runner) -> None:
        self.engines = engines
        self.runner = runner
        self._clients: dict[tuple[str, Kind], Flavour] = {}

    def of(self, engine: Engine, kind: Kind) -> Flavour:
        """The client that all cases share."""
        key = engine.name, kind
        if key not in self._clients:
            self._clients[key] = Flavour(engine, kind, self.runner)
        return self._clients[key]

    def same(self, kind: Kind, body: Callable[[Flavour], Any]) -> Any:
        """Run ``body`` with a client of either engine, compare, and return what comes out."""
        return self.engines.same(lambda engine: body(self.of(engine, kind)))

    @contextmanager
    def new(self, engine: Engine, kind: Kind, **options: Any) -> Iterator[Flavour]:
        """A client that is this case's alone."""
        client = Flavour(engine, kind, self.runner, **options)
        try:
            yield client
        finally:
            client.close()

    def close(self) -> None:
        with ExitStack() as closing:
            for client in self._clients.values():
                closing.callback(client.close)


@contextmanager
def all_flavours(engines: Engines) -> Iterator[Flavours]:
    with asyncio.Runner() as runner:
        flavours = Flavours(engines, runner)
        try:
            yield flavours
        finally:
            flavours.close()


def tried(call: Callable[[], Any]) -> Any:
    """What a call returns or raises."""
    try:
        return seen(call())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return seen(error)


def seen(value: Any) -> Any:
    """What can be compared of an answer, or of an exception."""
    if isinstance(value, InferenceServerException):
        return {"error": value.message(), "status": value.status()}
    if isinstance(value, BaseException):
        return {"raised": type(value).__name__, "text": str(value)}
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True)
    if hasattr(value, "get_response"):
        return _result(value)
    return normalise(value)


def _result(result: Any) -> dict[str, Any]:
    response = result.get_response()
    if isinstance(response, Message):
        names = [output.name for output in response.outputs]
        response = MessageToDict(response, preserving_proto_field_name=True)
        response.pop("raw_output_contents", None)
    else:
        names = [output["name"] for output in response.get("outputs", ())]
    arrays = {name: normalise(_array(result, name)) for name in names}
    return {"response": response, "arrays": arrays, "unknown": result.as_numpy("no such output")}


def _array(result: Any, name: str) -> np.ndarray | None:
    array: np.ndarray | None = result.as_numpy(name)
    return array
