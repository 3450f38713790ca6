"""gRPC: what becomes of a request whose client has gone, and what all calls have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from comparing import Engines
from grpc_asking import Failure, call, failure, request, same, stub_of, tensor
from observed import wait_for_pending
from patience import PATIENCE, wait_until

from triton_stub.engines.engine import Engine


class Patient:
    """Requests to a model that goes on until it is cancelled, or may stop, and what it notes."""

    def __init__(self, folder: Path, engine: Engine, stub: Any) -> None:
        self._folder = folder / engine.name
        self._folder.mkdir()
        self.engine = engine
        self._stub = stub

    def send(self, name: str, **keywords: Any) -> Any:
        message = request("patient", parameters={"folder": str(self._folder)}, id=name)
        return self._stub.ModelInfer.future(message, **{"timeout": PATIENCE, **keywords})

    def begun(self, name: str) -> None:
        wait_until((self._folder / f"{name}.begun").exists)

    def ended(self, name: str) -> str:
        """How the request has ended, for the model."""
        file = self._folder / f"{name}.ended"
        wait_until(file.exists)
        wait_until(lambda: bool(file.read_text()))
        return file.read_text()

    def go(self) -> None:
        (self._folder / "go").touch()

    def names(self) -> list[str]:
        """Which requests the model has seen."""
        return sorted(path.stem for path in self._folder.glob("*.begun"))

    def counts(self) -> dict[str, int]:
        """The model's statistics, without the times."""
        (row,) = self.engine.statistics("patient")["model_stats"]
        return {
            **{name: int(each.get("count", 0)) for name, each in row["inference_stats"].items()},
            **{name: int(row[name]) for name in ("inference_count", "execution_count")},
        }


def outcome(call: Any) -> Any:
    try:
        return call.result().id
    except grpc.FutureCancelledError:
        return Failure(call.code().name, call.details())
    except grpc.RpcError as error:
        return failure(error)


def deadline(patient: Patient) -> Any:
    call = patient.send("a", timeout=3)
    patient.begun("a")
    return outcome(call), patient.ended("a")


def cancelled(patient: Patient) -> Any:
    call = patient.send("a")
    patient.begun("a")
    call.cancel()
    return outcome(call), patient.ended("a")


def cancelled_in_the_queue(patient: Patient) -> Any:
    first = patient.send("a")
    patient.begun("a")
    second = patient.send("b")
    wait_for_pending(patient.engine, "patient", 1)
    third = patient.send("c")
    wait_for_pending(patient.engine, "patient", 2)
    # In this order over one connection: when the model hears of the one, the other is known, too.
    second.cancel()
    first.cancel()
    patient.begun("c")
    patient.go()
    return (
        *(outcome(call) for call in (first, second, third)),
        patient.ended("a"),
        patient.ended("c"),
        patient.names(),
    )


def not_cancelled(patient: Patient) -> Any:
    call = patient.send("a")
    patient.begun("a")
    patient.go()
    return outcome(call), patient.ended("a")


def counted(patient: Patient) -> Any:
    """How often which count has gone up by calls that are over before their answers."""
    before = patient.counts()
    first = patient.send("a", timeout=3)
    patient.begun("a")  # or the second one may overtake it
    second = patient.send("b")
    outcome(first)
    patient.begun("b")
    second.cancel()
    patient.ended("b")

    def is_told() -> bool:
        return sum(patient.counts()[name] - before[name] for name in ("success", "fail")) == 2

    wait_until(is_told)
    return {name: count - before[name] for name, count in patient.counts().items()}


@pytest.mark.rule("5.2-cancel")
@pytest.mark.parametrize(
    "body", [deadline, cancelled, cancelled_in_the_queue, not_cancelled, counted]
)
def test_cancelled_calls(
    grpc_engines: Engines, tmp_path: Path, body: Callable[[Patient], Any]
) -> None:
    def run(engine: Engine) -> Any:
        with stub_of(engine) as stub:
            return body(Patient(tmp_path, engine, stub))

    stub, native = map(run, grpc_engines)
    assert stub == native


@pytest.mark.rule("5.2-transport")
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(grpc_engines: Engines, compression: grpc.Compression) -> None:
    message = request("echo", tensor(shape=(10_000,)), raw=(bytes(40_000),))
    stub, native = (
        call(engine, "ModelInfer", message, compression=compression) for engine in grpc_engines
    )
    assert stub == native
    assert stub["outputs"][0]["shape"] == ["10000"]


@pytest.mark.rule("5.2-transport")
def test_large_messages(grpc_engines: Engines) -> None:
    """Larger than gRPC takes unless it is told to."""
    size = 5 << 20
    answer = same(
        grpc_engines, "ModelInfer", request("echo", tensor(shape=(size,)), raw=(bytes(4 * size),))
    )
    assert answer["outputs"][0]["shape"] == [str(size)]


@pytest.mark.rule("5.2-transport")
@pytest.mark.parametrize("length", [1_000, 7_000, 30_000])
def test_long_complaints(grpc_engines: Engines, length: int) -> None:
    """Longer than what a client takes of a call's end."""
    stub, native = (call(engine, "ModelInfer", request("x" * length)) for engine in grpc_engines)
    assert stub.code == native.code
    if length < 16_000:
        assert stub == native


@pytest.mark.rule("5.2-transport")
def test_many_calls_at_once(grpc_engines: Engines) -> None:
    def run(engine: Engine) -> set[Any]:
        with stub_of(engine) as stub:
            calls = [
                stub.ModelInfer.future(request("echo", id=str(number)), timeout=PATIENCE)
                for number in range(300)
            ]
            return set(map(outcome, calls))

    stub, native = map(run, grpc_engines)
    assert stub == native == {str(number) for number in range(300)}


@pytest.mark.rule("5.2-transport")
def test_what_comes_besides(grpc_engines: Engines) -> None:
    """No metadata, whether a call is answered or fails."""

    def run(engine: Engine) -> Any:
        with stub_of(engine) as stub:
            _, good = stub.ModelInfer.with_call(request("echo"), timeout=PATIENCE)
            with pytest.raises(grpc.RpcError) as failed:
                stub.ModelInfer(request("nope"), timeout=PATIENCE)
            return [
                (tuple(each.initial_metadata()), tuple(each.trailing_metadata()))
                for each in (good, failed.value)
            ]

    stub, native = map(run, grpc_engines)
    assert stub == native
