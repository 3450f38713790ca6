"""Requests that come one by one, while the instances of their model are busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batching import MODEL, OUTPUTS, Arrival, Queue, busy, queueing
from broken_models import both_engines, write_models
from comparing import Engines
from patience import wait_until
from tritonclient.grpc import InferenceServerClient, InferInput

from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import ConfigError, LoadError

DELAY = 0.1  # seconds, of the models below
MICROSECONDS = int(DELAY * 1e6)
LONG = 5 * DELAY  # more than six requests take to come
POLICY = "default_queue_policy {{ {} }}"
TIMEOUT = f"default_timeout_microseconds: {MICROSECONDS}"
# What each model has in dynamic_batching.
MODELS = {
    "plain": "",
    "preferred": "preferred_batch_size: 2",
    "late": f"preferred_batch_size: 2 max_queue_delay_microseconds: {5 * MICROSECONDS}",
    "patient": f"max_queue_delay_microseconds: {MICROSECONDS}",
    "small": POLICY.format("max_queue_size: 2"),
    "rejects": POLICY.format(TIMEOUT),
    "delays": POLICY.format(
        "default_timeout_microseconds: 100000000 allow_timeout_override: true timeout_action: DELAY"
    ),
    "priorities": "priority_levels: 2 default_priority_level: 2",
    "unloaded": "",
}
FIXED = 'input { name: "FIXED" data_type: TYPE_FP32 dims: [ 1 ] }'
ONE = Arrival()


def configuration(batching: str, more: str = "") -> str:
    return f"""
        backend: "python" max_batch_size: 8 {FIXED} {OUTPUTS} {more}
        dynamic_batching {{ {batching} }}
    """


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("queues")
    files = {
        name: {"1/model.py": MODEL, "config.pbtxt": configuration(batching)}
        for name, batching in MODELS.items()
    }
    write_models(folder, files)
    options = ["--model-control-mode=explicit", "--load-model=*"]
    with both_engines(
        folder, options=options, model_control_mode="explicit", startup_models=list(MODELS)
    ) as engines:
        yield engines


@pytest.mark.rule("4.5-growing")
def test_a_batch_that_waits_grows(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "plain") as queue:
            with busy(engine, "plain", queue, tmp_path):
                for rows in (3, 4, 1, 2):
                    queue.send(Arrival(rows))
            return queue.outcome()

    calls, _ = both.same(body)
    assert [len(call) for call in calls] == [1, 3, 1]


@pytest.mark.rule("4.5-growing", "4.5-preferred")
def test_a_batch_grows_to_a_preferred_size(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "preferred") as queue:
            with busy(engine, "preferred", queue, tmp_path):
                # Two payloads may wait: only when the first of them is executed do more requests
                # get into the second, and the real batcher looks for room twice a second.
                queue.send(Arrival(parameters={"seconds": "1.5"}))
                for _ in range(5):
                    queue.send(ONE)
            return queue.outcome()

    calls, _ = both.same(body)
    assert [len(call) for call in calls] == [1, 2, 2, 2]


@pytest.mark.rule("4.5-merging", "4.5-delay")
def test_batches_that_are_late_are_merged(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "late") as queue:
            with busy(engine, "late", queue, tmp_path):
                for _ in range(6):
                    queue.send(ONE)
                time.sleep(2 * LONG)
            return queue.outcome()

    # Three exceed the preferred size; the next two are the batch behind; the last has no room.
    calls, _ = both.same(body)
    assert [len(call) for call in calls] == [1, 5, 1]


@pytest.mark.rule("4.5-delay")
def test_a_request_waits_for_others_and_then_goes_alone(both: Engines) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "patient") as queue:
            began = time.monotonic()
            queue.start(ONE, "alone")
            calls, errors = queue.outcome()
            return calls, errors, time.monotonic() - began >= DELAY

    assert both.same(body)[2]


@pytest.mark.rule("4.5-queue-size")
def test_what_is_executed_is_not_in_the_queue(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        before = failures(engine, "small")
        with queueing(engine, "small") as queue:
            with busy(engine, "small", queue, tmp_path):
                queued = [queue.send(ONE) for _ in range(4)]
            return queued, queue.outcome(), failures(engine, "small") - before

    queued, (calls, errors), _ = both.same(body)
    assert queued == [True, True, False, False]
    assert [len(call) for call in calls] == [1, 2]
    assert set(errors.values()) == {
        "[request id: r3] Exceeds maximum queue size",
        "[request id: r4] Exceeds maximum queue size",
    }


@pytest.mark.rule("4.5-reject")
def test_late_requests_are_answered_while_the_instance_is_busy(
    both: Engines, tmp_path: Path
) -> None:
    def body(engine: Engine) -> Any:
        before = failures(engine, "rejects")
        with queueing(engine, "rejects") as queue:
            with busy(engine, "rejects", queue, tmp_path):
                names = ["a", "b"]
                for name in names:
                    queue.send(ONE, name)
                wait_until(lambda: all(queue.is_answered(name) for name in names))
            return queue.outcome(), failures(engine, "rejects") - before

    (calls, errors), _ = both.same(body)
    assert len(calls) == 1
    assert set(errors.values()) == {"Request timeout expired"}


@pytest.mark.rule("4.5-delay-action", "4.5-override")
def test_late_requests_go_last(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "delays") as queue:
            with busy(engine, "delays", queue, tmp_path):
                queue.send(Arrival(5, timeout=MICROSECONDS), "late")
                queue.send(Arrival(5, timeout=MICROSECONDS), "later")
                time.sleep(2 * DELAY)
                queue.send(Arrival(5), "in time")
            return queue.outcome()

    calls, _ = both.same(body)
    assert [call[0].split(" [")[0] for call in calls] == ["first", "in time", "late", "later"]


@pytest.mark.rule("4.5-priority")
def test_a_priority_that_comes_late_goes_first(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "priorities") as queue:
            with busy(engine, "priorities", queue, tmp_path):
                for priority in (2, 2, 1, 0, 1):
                    queue.send(Arrival(3, priority=priority))
            return queue.outcome()

    calls, _ = both.same(body)
    assert [[told.split(" [")[0] for told in call] for call in calls[1:]] == [
        ["r3", "r5"],
        ["r1", "r2"],
        ["r4"],
    ]


@pytest.mark.rule("4.5-cancelled")
def test_what_is_cancelled_in_the_queue_is_not_executed(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        before = failures(engine, "priorities")
        with queueing(engine, "priorities") as queue:
            with busy(engine, "priorities", queue, tmp_path):
                cancel = cancellable(engine, "priorities")
                queue.send(ONE)
                cancel()
                time.sleep(2 * LONG)  # nothing tells when it is known there
            calls, errors = queue.outcome()
            return calls, errors, failures(engine, "priorities") - before

    assert both.same(body)[2] == 1


@pytest.mark.rule("4.5-unloading")
def test_what_is_queued_is_executed_before_the_end(both: Engines, tmp_path: Path) -> None:
    def body(engine: Engine) -> Any:
        with queueing(engine, "unloaded") as queue:
            with busy(engine, "unloaded", queue, tmp_path):
                queue.send(ONE)
                ending = threading.Thread(target=unload, args=(engine, "unloaded"))
                ending.start()
                wait_until(lambda: not engine.ready("unloaded"))
            ending.join()
            return queue.outcome()

    calls, errors = both.same(body)
    assert len(calls) == 2
    assert not errors


@pytest.mark.rule("4.5-preserve-ordering")
@pytest.mark.newer("25.09", "core src/dynamic_batch_scheduler.cc: DelegateResponse")
def test_no_response_waits_for_another_one(tmp_path: Path) -> None:
    # 2.51 answers in the order in which the requests left the queue.
    config = configuration("preserve_ordering: true", "instance_group { count: 2 }")
    models = {"ordered": {"1/model.py": MODEL, "config.pbtxt": config}}
    write_models(tmp_path / "models", models)
    with StubEngine(tmp_path / "models") as engine, queueing(engine, "ordered") as queue:
        with busy(engine, "ordered", queue, tmp_path):
            queue.start(ONE, "quick")
            wait_until(lambda: queue.is_answered("quick"))
            assert not queue.is_answered("first")
        assert not queue.outcome()[1]


@pytest.mark.deviation("ordered-streams")
def test_ordered_streams_are_refused(tmp_path: Path) -> None:
    config = configuration("preserve_ordering: true", "model_transaction_policy {decoupled: true}")
    write_models(tmp_path, {"ordered": {"1/model.py": MODEL, "config.pbtxt": config}})
    with pytest.raises(LoadError, match="sends nothing any more to anybody"):
        StubEngine(tmp_path)


@pytest.mark.deviation("not-imitated")
def test_a_strategy_in_c_is_refused(tmp_path: Path) -> None:
    strategy = 'key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "batching.so" }'
    config = configuration("", f"parameters {{ {strategy} }}")
    write_models(tmp_path, {"own": {"1/model.py": MODEL, "config.pbtxt": config}})
    with pytest.raises((LoadError, ConfigError), match="asks for TRITON_BATCH_STRATEGY_PATH"):
        StubEngine(tmp_path)


def failures(engine: Engine, model: str) -> int:
    (statistics,) = engine.statistics(model)["model_stats"]
    count: int = statistics["inference_stats"]["fail"].get("count", 0)
    return count


def cancellable(engine: Engine, model: str) -> Any:
    """Send a request that is queued when this returns; what is returned cancels it."""
    sent = np.zeros((1, 1), np.float32)
    if isinstance(engine, StubEngine):
        return engine.model(model).infer(inputs={"FIXED": sent}).cancel
    queued = Queue.waiting(engine, model)
    fixed = InferInput("FIXED", [1, 1], "FP32").set_data_from_numpy(sent)
    assert engine.grpc_url is not None
    client = InferenceServerClient(engine.grpc_url)
    call = client.async_infer(model, [fixed], callback=lambda *_, **__: None)
    wait_until(lambda: Queue.waiting(engine, model) > queued)
    return call.cancel


def unload(engine: Engine, model: str) -> None:
    if isinstance(engine, StubEngine):
        engine.server.unload(model)
        return
    with engine.client() as client:
        client.unload_model(model)
