"""The clients of the soak test: what they ask, what must come back, and what they count."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from soak_models import MODELS
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from triton_stub import InferenceError, Server

Array = np.ndarray
Answer = Array | str  # the text of an error
REFUSED = "Request for unknown model: "
RAISED = "ValueError: cannot"
_CANCELLED = "CANCELLED: "  # the server says nothing else of it
ENDLESS = 1000


@dataclass
class Asked:
    """A request, and the answers that it must get: arrays, or texts that errors have in them."""

    numbers: Array
    answers: list[Answer]
    fields: dict[str, Any] = field(default_factory=dict)
    cancel_after: int | None = None


class Account:
    """What one client has sent and got, by model, and what was wrong with it."""

    def __init__(self, client: int) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.numbers = itertools.count(client * 10**9)
        self.random = random.Random(client)

    def refused(self, name: str) -> None:
        """The model is not there, or about to go."""
        self.counts[name, "refused"] += 1
        if not MODELS[name].restless:
            self.wrong.append(f"{name}: refused, and nobody has unloaded it")

    def judge(self, name: str, asked: Asked, got: list[Answer], finals: int) -> None:
        """Count what came back, if it is what must come back."""
        if finals != 1:
            self.wrong.append(f"{name}: {finals} final responses")
        self.counts[name, "answered"] += 1
        expected = asked.answers
        if asked.cancel_after is not None:
            self.counts[name, "cancelled"] += 1
            if got == [_CANCELLED]:  # before it was executed
                self.counts[name, "dropped"] += 1
                return
            if len(got) >= asked.cancel_after:
                expected = expected[: len(got)]
        self.counts[name, "responses"] += len(got)
        if RAISED in str(got[0] if got else ""):
            self.counts[name, "raised"] += 1
        else:
            self.counts[name, "rows"] += len(asked.numbers) if asked.numbers.ndim > 1 else 1
        if not _same(expected, got):
            self.wrong.append(f"{name}: asked {asked.numbers.tolist()}, got {got}, not {expected}")


def plan(account: Account, name: str) -> Iterator[Asked]:
    """The next requests to a model, one after the other."""
    number, chance = next(account.numbers), account.random.random()
    one = np.array([number])
    batch = one.reshape(1, 1)
    match MODELS[name].client:
        case "one":
            yield Asked(one, [one])
        case "cached":
            yield from [Asked(one, [one])] * 2
        case "rows":
            rows = np.repeat(batch, account.random.randint(1, 3), 0)
            yield Asked(rows, [rows])
        case "cancelled":
            yield Asked(batch, [batch], cancel_after=0 if chance < 0.5 else None)
        case "failing":
            answers = [f"{RAISED} {number}", f"will not {number}", one]
            yield Asked(one, [answers[number % 3]])
        case "stream":
            count, cancel_after = account.random.randint(0, 4), None
            if chance < 0.2:
                count, cancel_after = ENDLESS, 2
            answers = [np.array([number, index]) for index in range(count)]
            yield Asked(np.array([number, count]), answers, cancel_after=cancel_after)
        case "sequence":
            yield from _sequence(account, batch, number + 1)


def _sequence(account: Account, batch: Array, correlation_id: int) -> Iterator[Asked]:
    length = account.random.randint(1, 4)
    for index in range(length):
        flags = (index == 0) | (index == length - 1) << 1
        fields = {"correlation_id": correlation_id, "flags": int(flags)}
        yield Asked(batch, [batch * (index + 1)], fields)


def _same(expected: list[Answer], got: list[Answer]) -> bool:
    return len(expected) == len(got) and all(
        (isinstance(there, str) and here in there)
        if isinstance(here, str)
        else np.array_equal(here, there)
        for here, there in zip(expected, got, strict=True)
    )


def _read(response: Any) -> list[Answer]:
    if response.error is not None:
        return [f"{response.error.code.name}: {response.error}"]
    return [np.from_dlpack(tensor) for tensor in response.outputs.values()]


def ask(server: Server, name: str, asked: Asked, account: Account) -> None:
    """In process, and wait."""
    got: list[Answer] = []
    finals = 0
    try:
        responses = server.model(name).infer(
            inputs={"NUMBER": asked.numbers}, raise_on_error=False, **asked.fields
        )
    except InferenceError as error:
        _check_refusal(name, str(error), account)
        return
    if asked.cancel_after == 0:
        responses.cancel()
    for response in responses:
        got += _read(response)
        finals += response.final
        if len(got) == asked.cancel_after:
            responses.cancel()
    account.judge(name, asked, got, finals)


async def ask_async(server: Server, name: str, asked: Asked, account: Account) -> None:
    """In process, in an event loop."""
    got: list[Answer] = []
    finals = 0
    try:
        responses = server.model(name).async_infer(
            inputs={"NUMBER": asked.numbers}, raise_on_error=False, **asked.fields
        )
    except InferenceError as error:
        _check_refusal(name, str(error), account)
        await asyncio.sleep(0)
        return
    if asked.cancel_after == 0:
        responses.cancel()
    async for response in responses:
        got += _read(response)
        finals += response.final
        if len(got) == asked.cancel_after:
            responses.cancel()
    account.judge(name, asked, got, finals)


def ask_http(client: InferenceServerClient, name: str, asked: Asked, account: Account) -> None:
    """Over HTTP, with the real client."""
    tensor = InferInput("NUMBER", asked.numbers.shape, "INT64")
    tensor.set_data_from_numpy(asked.numbers)
    try:
        answer: Answer = client.infer(name, [tensor]).as_numpy("ANSWER")
    except InferenceServerException as error:
        if error.message().startswith(REFUSED):
            account.refused(name)
            return
        answer = error.message()
    account.judge(name, asked, [answer], 1)


def _check_refusal(name: str, text: str, account: Account) -> None:
    account.refused(name)
    if not text.startswith(REFUSED):
        account.wrong.append(f"{name}: refused with {text!r}")


_ASKED = [name for name, kind in MODELS.items() if kind.client != "nobody"]
# What HTTP has no words for, or would need a client of its own.
_HTTP = [name for name in _ASKED if MODELS[name].client in ("one", "rows", "failing", "cached")]


def run_client(server: Server, account: Account, stop: Any) -> None:
    """Ask in process until it is enough."""
    while not stop.is_set():
        name = account.random.choice(_ASKED)
        for asked in plan(account, name):
            ask(server, name, asked, account)


async def run_client_async(server: Server, account: Account, stop: Any) -> None:
    """The same in an event loop."""
    while not stop.is_set():
        name = account.random.choice(_ASKED)
        for asked in plan(account, name):
            await ask_async(server, name, asked, account)


def run_client_http(server: Server, account: Account, stop: Any) -> None:
    """The same over HTTP."""
    with server.client() as client:
        while not stop.is_set():
            name = account.random.choice(_HTTP)
            for asked in plan(account, name):
                ask_http(client, name, asked, account)
