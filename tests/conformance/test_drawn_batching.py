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


def configuration(
    inputs: list[Any], batching: dict[str, Any] | None, largest: int
) -> dict[str, Any]:
    """Without ``batching`` there is no dynamic batcher."""
    return {
        "backend": "python",
        "max_batch_size": largest,
        "input": inputs,
        "output": [{"name": "CALL", "data_type": "TYPE_INT32", "dims": [-1]}],
        **({} if batching is None else {"dynamic_batching": batching}),
    }


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
    return configuration(inputs, batching, largest)


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


def one(size: int = 1, **more: Any) -> Arrival:
    return Arrival(sizes={"OPEN": size}, **more)


def of(*priorities: int) -> list[Arrival]:
    return [Arrival(priority=priority) for priority in priorities]


def levels(**more: Any) -> dict[str, Any]:
    return {"priority_levels": LEVELS, "default_priority_level": 2, **more}


def first_level(**policy: Any) -> dict[str, Any]:
    return levels(priority_queue_policy={"1": policy})


SIZES = [1, 1, 1, 2, 2, 2]
ROWS = [Arrival(rows) for rows in (3, 5, 8, 1, 1, 6)]
ONES = [Arrival()] * COUNT
SHORT = [Arrival(timeout=timeout) for timeout in (0, 1, 0, 1, 1, 0)]
OPTIONAL = [Arrival(sizes={"FIXED": 1} | more) for more in 2 * ({}, {"MAYBE": 1}, {"MAYBE": 1})]
# Rules, inputs, what a configuration has, what its dynamic_batching has, and the requests.
CASES: dict[str, tuple[str, list[Any], dict[str, Any] | None, list[Arrival]]] = {
    "no batcher": ("one-at-a-time", [FIXED], None, ONES),
    "rows": ("rows own-tensors delayed-scheduler", [FIXED], {}, ROWS),
    "no batch dimension": ("no-batch-dimension", [FIXED], {}, [Arrival(0)] * COUNT),
    "no batch dimension, delay": (
        "no-batch-dimension",
        [FIXED],
        {"max_queue_delay_microseconds": FOREVER},
        [Arrival(0)] * COUNT,
    ),
    "shapes": ("shapes own-tensors", [OPEN], {}, [one(size) for size in (1, 1, 2, 1, 1, 2)]),
    "shapes of one of two": (
        "shapes ragged",
        [OPEN, RAGGED],
        {},
        [
            Arrival(sizes={"OPEN": n, "RAGGED": m})
            for n, m in zip(SIZES, [1, 2, 3] * 2, strict=True)
        ],
    ),
    "ragged": (
        "ragged own-tensors",
        [RAGGED],
        {},
        [Arrival(sizes={"RAGGED": size}) for size in (1, 2, 3, 1, 2, 3)],
    ),
    "optional": ("optional", [FIXED, MAYBE], {}, OPTIONAL),
    "preferred": ("preferred", [FIXED], {"preferred_batch_size": [2, 4]}, ONES),
    "beyond preferred": ("beyond-preferred", [FIXED], {"preferred_batch_size": [4]}, ROWS[::-1]),
    "preferred, and time": (
        "preferred delay",
        [FIXED],
        {"preferred_batch_size": [COUNT], "max_queue_delay_microseconds": FOREVER},
        ONES,
    ),
    "preferred, and no time": (
        "delay",
        [FIXED],
        {"preferred_batch_size": [4], "max_queue_delay_microseconds": 1},
        ONES,
    ),
    "priorities": ("priority", [FIXED], levels(), of(3, 1, 2, 1, 3, 2)),
    "default priority": ("priority-default", [FIXED], levels(), of(3, 0, 1, 4, 2, 1)),
    "no priorities": ("priority-ignored", [FIXED], {}, of(3, 1, 2, 1, 3, 2)),
    "queue size": (
        "queue-size priority-policy",
        [FIXED],
        first_level(max_queue_size=2),
        of(1, 1, 1, 2, 1, 2, 2, 2),
    ),
    "size of the others": (
        "queue-size priority-policy",
        [FIXED],
        levels(default_queue_policy={"max_queue_size": 1}, priority_queue_policy={"3": {}}),
        of(1, 1, 2, 0, 3, 3, 3, 3),
    ),
    "reject": (
        "reject priority-policy",
        [FIXED],
        first_level(default_timeout_microseconds=1),
        of(1, 2, 1, 3, 2, 1),
    ),
    "delay": (
        "delay-action priority-policy",
        [FIXED],
        first_level(
            default_timeout_microseconds=FOREVER,
            timeout_action="DELAY",
            allow_timeout_override=True,
        ),
        [Arrival(priority=priority, timeout=1 if priority else 0) for priority in (1, 0, 1, 0, 1)]
        + [Arrival(priority=1)],
    ),
    "override": (
        "override reject",
        [FIXED],
        {
            "default_queue_policy": {
                "default_timeout_microseconds": FOREVER,
                "allow_timeout_override": True,
            }
        },
        SHORT,
    ),
    "override that lengthens": (
        "override",
        [FIXED],
        {
            "default_queue_policy": {
                "default_timeout_microseconds": 1,
                "allow_timeout_override": True,
            }
        },
        [Arrival(timeout=FOREVER)] * COUNT,
    ),
    "no default to override": (
        "override-of-zero",
        [FIXED],
        {"default_queue_policy": {"allow_timeout_override": True}},
        SHORT,
    ),
    "no override": (
        "override-of-zero",
        [FIXED],
        {"default_queue_policy": {"default_timeout_microseconds": FOREVER}},
        SHORT,
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=pytest.mark.rule(*(f"4.5-{rule}" for rule in rules.split())))
        for name, (rules, *_) in CASES.items()
    ],
)
def test_a_rule(delayed: Engines, case: str) -> None:
    _, inputs, batching, requests = CASES[case]
    config = configuration(inputs, batching, 8 if requests[0].rows else 0)
    delayed.same(lambda engine: together(engine, config, requests))


@pytest.mark.rule("4.5-no-effect")
def test_what_changes_nothing(delayed: Engines) -> None:
    pinned = {"enable": False}
    config = configuration([FIXED], {}, 4) | {
        "optimization": {
            "eager_batching": True,
            "gather_kernel_buffer_threshold": 1,
            "input_pinned_memory": pinned,
            "output_pinned_memory": pinned,
        }
    }
    calls, _ = delayed.same(lambda engine: together(engine, config, ONES))
    assert [len(call) for call in calls] == [4, 2]


def together(engine: Engine, config: dict[str, Any], requests: list[Arrival]) -> Any:
    """Which of the requests that are all in the queue are executed together, and all errors."""
    load(engine, MODEL_NAME, config)
    taken = 0
    with queueing(engine, MODEL_NAME) as queue:
        with collected(engine, MODEL_NAME):
            for request in requests:
                taken += queue.send(request)
                if taken == COUNT:
                    break
        return queue.outcome()


@pytest.mark.rule("4.5-delayed-scheduler")
@examples(14)
@given(data=st.data())
def test_which_requests_go_together(delayed: Engines, data: st.DataObject) -> None:
    config = data.draw(configurations(), label="configuration")
    requests = data.draw(arrivals(config), label="requests")
    delayed.same(lambda engine: together(engine, config, requests))
