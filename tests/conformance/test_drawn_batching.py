"""Any requests that wait under any configuration of the dynamic batcher: which go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from batching import INPUTS, MODEL, OUTPUTS, Arrival, collected, load, queueing
from broken_models import both_engines, write_models
from comparing import Engines
from hypothesis import given
from probing import examples

from triton_stub.engines.engine import Engine

# The real server's batcher begins when so many requests are in its queue.
COUNT = 6
LEVELS = 3
FOREVER = 100_000_000  # microseconds
MODEL_NAME = "batched"


@pytest.fixture(scope="module")
def delayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("batched")
    config = f'backend: "python"\nmax_batch_size: 8\n{INPUTS}{OUTPUTS}'
    write_models(folder, {MODEL_NAME: MODEL}, config)
    with both_engines(
        folder,
        options=["--model-control-mode=explicit"],
        env={"TRITONSERVER_DELAY_SCHEDULER": str(COUNT)},
        model_control_mode="explicit",
    ) as engines:
        yield engines


def tensor(name: str, size: int, **fields: Any) -> dict[str, Any]:
    return {"name": name, "data_type": "TYPE_FP32", "dims": [size], **fields}


FIXED, OPEN, MAYBE = tensor("FIXED", 1), tensor("OPEN", -1), tensor("MAYBE", 1, optional=True)
RAGGED = tensor("RAGGED", -1, allow_ragged_batch=True)
POLICIES = [
    {},
    {"max_queue_size": 1},
    {"max_queue_size": 2},
    # A microsecond is over when the batcher begins.
    {"default_timeout_microseconds": 1},
    {"default_timeout_microseconds": 1, "timeout_action": "DELAY"},
    {"default_timeout_microseconds": 1, "allow_timeout_override": True},
    {"default_timeout_microseconds": FOREVER},
    {"default_timeout_microseconds": FOREVER, "allow_timeout_override": True},
    {
        "default_timeout_microseconds": FOREVER,
        "timeout_action": "DELAY",
        "allow_timeout_override": True,
    },
    {"allow_timeout_override": True},
]
UNLIMITED = [policy for policy in POLICIES if "max_queue_size" not in policy]


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration that takes any number of requests of the lowest priority."""
    largest = draw(st.sampled_from([1, 4, 8]))
    batching: dict[str, Any] = {
        "preferred_batch_size": sorted(draw(st.sets(st.integers(1, largest), max_size=3))),
        # Either nobody waits for others, or everybody has waited for long enough.
        "max_queue_delay_microseconds": draw(st.sampled_from([0, 1])),
    }
    if draw(st.booleans()):
        batching["priority_levels"] = LEVELS
        batching["default_priority_level"] = draw(st.integers(1, LEVELS))
        batching["default_queue_policy"] = draw(st.sampled_from(POLICIES))
        batching["priority_queue_policy"] = {
            **draw(st.dictionaries(st.sampled_from(["1", "2"]), st.sampled_from(POLICIES))),
            str(LEVELS): draw(st.sampled_from(UNLIMITED)),
        }
    else:
        policy = draw(st.sampled_from(UNLIMITED))
        batching["default_queue_policy"] = policy
        if policy.get("timeout_action") != "DELAY":
            batching["preserve_ordering"] = draw(st.booleans())
    inputs = draw(
        st.sampled_from([[FIXED], [OPEN], [RAGGED], [OPEN, RAGGED], [FIXED, MAYBE], [OPEN, MAYBE]])
    )
    return {
        "backend": "python",
        "max_batch_size": largest,
        "input": inputs,
        "output": [{"name": "CALL", "data_type": "TYPE_INT32", "dims": [-1]}],
        "dynamic_batching": batching,
    }


@st.composite
def arrivals(draw: st.DrawFn, config: dict[str, Any]) -> list[Arrival]:
    """More requests than the queue must have, of which enough are taken."""

    def arrival(priority: int) -> Arrival:
        sizes = {
            field["name"]: draw(st.integers(1, 2)) if field["dims"] == [-1] else 1
            for field in config["input"]
            if not field.get("optional") or draw(st.booleans())
        }
        rows = draw(st.integers(1, min(3, config["max_batch_size"])))
        timeout = draw(st.sampled_from([0, 0, 1, 2 * FOREVER]))
        return Arrival(rows, sizes, priority=priority, timeout=timeout)

    chosen = draw(st.lists(st.integers(0, LEVELS + 1), min_size=COUNT, max_size=COUNT + 4))
    return [arrival(priority) for priority in [*chosen, *[LEVELS] * COUNT]]


@pytest.mark.rule("4.5-delayed-scheduler")
@examples(14)
@given(data=st.data())
def test_which_requests_go_together(delayed: Engines, data: st.DataObject) -> None:
    config = data.draw(configurations(), label="configuration")
    requests = data.draw(arrivals(config), label="requests")

    def body(engine: Engine) -> Any:
        load(engine, MODEL_NAME, config)
        taken = 0
        with queueing(engine, MODEL_NAME) as queue:
            with collected(engine, MODEL_NAME):
                for request in requests:
                    taken += queue.send(request)
                    if taken == COUNT:
                        break
            return queue.outcome()

    delayed.same(body)
