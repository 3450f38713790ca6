"""A model that is loaded again, of which only the instance groups have changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from instance_worlds import CODE, CONFIG, Meeting, World
from observed import series
from patience import wait_until
from repositories import Two, control, two_engines, write

from triton_stub.engines.engine import Engine

ALL = "version_policy { all { } }"
DYNAMIC = "max_batch_size: 2 dynamic_batching { preferred_batch_size: [ 1 ] }"
IDLE = "max_sequence_idle_microseconds: 60000000"
# Loads another model, whose name it is told.
LOADS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        pb_utils.load_model(model_name=given[0].decode())
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", given)])
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("update")
    with two_engines(folder, lambda _: None) as both:
        yield both


STEPS = [
    ("instance_group { count: 1 }", 1),
    ("instance_group { count: 2 }", 2),
    ("instance_group { count: 3 }", 3),
    ("instance_group { count: 3 }", 3),
    ("instance_group { count: 2 }", 2),
    ('instance_group { name: "other" count: 3 }', 3),
    ("", 1),
    ("instance_group { count: 0 }", 1),
    ("instance_group [ { count: 1 }, { count: 1 } ]", 2),
    ("instance_group { count: 2 secondary_devices { kind: KIND_NVDLA } }", 2),
    ("instance_group { count: 1 rate_limiter { priority: 2 } }", 1),
    ("instance_group { count: 1 kind: KIND_MODEL }", 1),
    ("instance_group [ { count: 1 }, { count: 1 kind: KIND_MODEL } ]", 2),
    ("instance_group [ { count: 1 }, { passive: true } ]", 1),
    ("instance_group [ { passive: true } , { count: 1 host_policy: 'x' } ]", 1),
]


@pytest.mark.rule(
    "4.10-update", "4.10-update-order", "4.10-update-alike", "4.10-update-told", "4.10-update-shown"
)
def test_what_is_kept(two: Two) -> None:
    def run(engine: Engine, folder: Path) -> list[Any]:
        world = World(engine, folder, "kept")
        told: list[Any] = []
        for groups, count in STEPS:
            told.append([world.update(groups), world.happened(), world.everyone(count)])
            told.append([world.groups(), world.state()])
        world.unload()
        return [*told, world.happened(2)]

    two.same(run)


@pytest.mark.rule("4.10-update-statistics")
def test_statistics_go_on(two: Two) -> None:
    def run(engine: Engine, folder: Path) -> Any:
        world = World(engine, folder, "counts")
        for count in (1, 2, 1):
            world.update(f"instance_group {{ count: {count} }}")
            world.everyone(count)

        def counted() -> list[Any]:
            (row,) = engine.statistics("counts")["model_stats"]
            labels = (("model", "counts"), ("version", "1"))
            return [row["inference_count"], series(engine)["nv_inference_count", labels]]

        wait_until(lambda: counted() == [4, 4])
        return counted()

    two.same(run)


@pytest.mark.rule("4.10-update-fails", "4.10-update-reason", "4.10-update-refused")
def test_instances_that_fail(two: Two) -> None:
    def run(engine: Engine, folder: Path) -> list[Any]:
        world = World(engine, folder, "fails")
        told: list[Any] = [world.update("instance_group { count: 1 }"), world.everyone(1)]
        for number in (1, 2):
            world.beside(f"fails_0_{number}").touch()
        for groups in (
            "instance_group { count: 4 }",  # one of the new ones does not fail
            "instance_group { count: 3 kind: KIND_MODEL }",
            'instance_group { profile: "x" }',
            "instance_group { gpus: [ 0 ] }",
            "instance_group { count: 1 }",
        ):
            told.append([world.update(groups), world.happened(), world.everyone(1)])
            told.append([world.groups(), world.state()])
        told += [world.update("instance_group { count: 2 }"), world.state()]
        # It is tried again, without anything having changed.
        told.append(world.load())
        world.unload()
        return [*told, world.happened(1), world.state()]

    two.same(run)


@pytest.mark.rule("4.10-update-fails")
def test_the_last_one_that_fails_tells_why(two: Two) -> None:
    def run(engine: Engine, folder: Path) -> Any:
        world = World(engine, folder, "never")
        for number in (1, 2):
            world.beside(f"never_0_{number}").touch()
        return world.update("instance_group { count: 4 }"), world.happened(4), world.state()

    two.same(run)


@pytest.mark.rule("4.10-update-versions", "4.10-update-nothing-else")
def test_versions(two: Two) -> None:
    def run(engine: Engine, folder: Path) -> list[Any]:
        world = World(engine, folder, "versions", ALL)
        told = [world.update("instance_group { count: 1 }", "12"), world.happened()]
        told += [world.update("instance_group { count: 2 }"), world.happened()]
        write(folder, "versions", v3=CODE)  # is loaded, and the others keep an instance each
        told += [world.update("instance_group { count: 1 }"), world.happened()]
        write(folder, "versions", v4="1 / 0")  # is not, and the others get what they should
        _, why = world.update("instance_group { count: 2 }")
        told += [why.partition("\n")[0], world.happened()]
        told += [[world.groups(version) for version in "123"], [len(world.everyone(2))]]
        (folder / "versions" / "4" / "model.py").write_text(CODE)
        policy = "version_policy { specific { versions: [ 4 ] } }"
        told += [world.update("instance_group { count: 1 }", config=policy), world.happened(7)]
        # Whatever else changes, all begins anew.
        (folder / "versions" / "4" / "model.py").write_text(CODE + "\n")
        told += [world.update("instance_group { count: 2 }", config=policy), world.happened(3)]
        more = policy + 'parameters { key: "a" value { string_value: "b" } }'
        told += [world.update("instance_group { count: 1 }", config=more), world.happened(3)]
        return told

    two.same(run)


@pytest.mark.rule("4.10-update-override", "4.10-update-bls")
def test_who_asks_for_it(two: Two) -> None:
    """A configuration that comes with the request, and a model that loads another one."""

    def run(engine: Engine, folder: Path) -> list[Any]:
        world = World(engine, folder, "asked")
        told: list[Any] = [world.update("instance_group { count: 1 }"), world.happened()]
        text = '{"name": "%s", "data_type": "TYPE_STRING", "dims": [2]}'
        tensors = f'"input": [{text % "IN"}], "output": [{text % "OUT"}]'
        config = f'{{"backend": "python", {tensors}, "instance_group": [{{"count": 2}}]}}'
        told += [control(engine, "load", "asked", config=config), world.happened()]
        told += [world.everyone(2), world.groups()]
        write(folder, "loads", CONFIG, v1=LOADS)
        control(engine, "load", "loads")
        (folder / "asked" / "config.pbtxt").write_text(CONFIG + "instance_group { count: 3 }")
        engine.infer("loads", IN=np.array(["asked", ""], object))
        return [*told, world.happened(), world.everyone(3)]

    two.same(run)


@pytest.mark.parametrize("config", ["", DYNAMIC], ids=["default", "dynamic"])
@pytest.mark.rule("4.10-update-busy", "4.10-update-queued")
def test_while_requests_are_under_way(two: Two, config: str) -> None:
    def run(engine: Engine, folder: Path) -> list[Any]:
        world = World(engine, folder, f"busy{len(config)}", config)
        told: list[Any] = [world.update("instance_group { count: 1 }")]
        with Meeting(world, 2) as meeting, ThreadPoolExecutor(1) as pool:
            told.append(meeting.entered(1))
            # A new instance gets what waits; the real server's load waits for that.
            load = pool.submit(world.update, "instance_group { count: 2 }")
            told.append(meeting.entered(2))
            meeting.end()
            told += [load.result(), world.happened()]
        told.append(meeting.told)
        with Meeting(world, 2) as meeting, ThreadPoolExecutor(1) as pool:
            told.append(meeting.entered(2))
            # One too many is waited for.
            load = pool.submit(world.update, "instance_group { count: 1 }")
            wait_until(lambda: engine.log().count(f"loading: {world.name}:1") == 3)
            told += [load.done(), world.happened()]
            meeting.end()
            told += [load.result(), world.happened()]
        told += [meeting.told, world.everyone(1)]
        # All are replaced, and what waits goes to the new one.
        with Meeting(world, 2) as meeting, ThreadPoolExecutor(1) as pool:
            told.append(meeting.entered(1))
            load = pool.submit(world.update, "instance_group { kind: KIND_MODEL }")
            told += [meeting.entered(2), load.done(), world.happened()]
            meeting.end()
            told += [load.result(), world.happened()]
        return [*told, meeting.told]

    two.same(run)


@pytest.mark.parametrize(
    "strategy", ["direct { }", "oldest { max_candidate_sequences: 1 }"], ids=["direct", "oldest"]
)
@pytest.mark.rule("4.10-update-sequences", "4.10-update-backlog")
def test_sequences(two: Two, strategy: str) -> None:
    def run(engine: Engine, folder: Path) -> list[Any]:
        name = strategy[:6]
        world = World(engine, folder, name, f"sequence_batching {{ {strategy} {IDLE} }}")
        told: list[Any] = []

        def update(groups: str) -> None:
            told.append(world.update(f"instance_group {{ {groups} }}"))

        def send(sequence: int, flags: str = "") -> None:
            start, end = "start" in flags, "end" in flags
            request = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
            told.append(world.ask(**request))

        def wait_in_backlog(sequence: int) -> Any:
            done: list[Any] = []
            request = {"sequence_id": sequence, "sequence_start": True, "sequence_end": True}
            thread = threading.Thread(target=lambda: done.append(world.ask(**request)))
            thread.start()
            pending = "nv_inference_pending_request_count", (("model", name), ("version", "1"))
            wait_until(lambda: series(engine)[pending] == 1)
            return thread, done

        update("count: 1")
        send(1, "start")
        update("count: 2")
        send(2, "start")
        # The one too many goes on with its sequence, and nobody waits for it.
        update("count: 1")
        told.append(world.groups())
        send(1)
        send(2)
        thread, done = wait_in_backlog(3)
        send(1, "end")
        send(2, "end")
        thread.join()
        told.append(done)
        # What is in the backlog waits for a sequence to end, also if there is a new instance.
        send(4, "start")
        thread, done = wait_in_backlog(5)
        update("count: 2")
        told.append(list(done))
        send(6, "start end")
        thread.join()
        told.append(done)
        send(4, "end")
        # All are replaced.
        send(7, "start")
        told.append(world.update("instance_group { kind: KIND_MODEL }"))
        send(8, "start")
        send(7, "end")
        send(8, "end")
        world.unload()
        # On a busy machine the real server may never end an instance that is not needed any more.
        return [*told, [note for note in world.happened() if note.endswith("begins")]]

    two.same(run)
