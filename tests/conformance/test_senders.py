"""Responses that are sent and responses that are returned, and both: what clients get of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from comparing import Engines
from probing import marked, wait_for_log
from programs import both_with_programs, run, sent, write_programs

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine
from triton_stub.errors import InferenceError

LATER = "threading.Timer(0.05, lambda: [{}]).start()"
PLAIN = {
    "returned": "return [response(1)]",
    "sent": "sender.send(response(1), 1)",
    "sent_and_none": "sender.send(response(1), 1)\nreturn [None]",
    "sent_and_ended": "sender.send(response(1))\nsender.send(flags=1)",
    "sent_later": LATER.format("sender.send(response(1), 1)") + "\nreturn [None]",
    "sent_and_ended_later": LATER.format("sender.send(response(1)), sender.send(flags=1)"),
    "error_sent": "sender.send(error('mine'), 1)",
    "sent_and_returned": "sender.send(response(1), 1)\nreturn [response(2)]",
    "sent_by_a_thread": (
        "thread = threading.Thread(target=lambda: sender.send(response(1), 1))\n"
        "thread.start()\nthread.join()"
    ),
    "bare_end": "sender.send(flags=1)",
    "release_flags": "request.set_release_flags(1)\nreturn [response(request.flags())]",
    "release_flags_none": "request.set_release_flags(0)\nreturn [response(1)]",
    "reschedule_and_response": "request.set_release_flags(AGAIN)\nreturn [response(1)]",
    "reschedule_and_sent": "request.set_release_flags(AGAIN)\nsender.send(response(1), 1)",
    "reschedule_and_sent_later": (
        "request.set_release_flags(AGAIN)\n" + LATER.format("sender.send(response(1), 1)")
    ),
    "more_flags_and_response": "request.set_release_flags(3)\nreturn [response(1)]",
    "flags_by_name": "return [response(attempt(lambda: request.set_release_flags(flags=2)))]",
    "number_of_responses_first": "request.set_release_flags(AGAIN)\nreturn [response(1), 'no']",
}
PLAIN_RULES = {
    "2.8-send-later": "sent_later sent_and_ended_later",
    "2.8-send-then-return": "sent_and_returned",
    "2.8-send-then-none": "sent sent_and_none sent_by_a_thread",
    "2.8-send-then-final": "sent_and_ended",
    "2.8-final-first": "bare_end",
    "3.4-already-sent": "sent_and_returned",
    "3.4-rescheduled-element": "reschedule_and_response",
    "3.4-order-of-checks": "number_of_responses_first",
    "2.5-release-flags": (
        "release_flags release_flags_none flags_by_name reschedule_and_sent "
        "reschedule_and_sent_later more_flags_and_response"
    ),
}
DECOUPLED = {
    "nothing": "sender.send(flags=1)",
    "three": "for n in range(3):\n    sender.send(response(n))\nsender.send(flags=1)",
    "last_with_flag": "for n in range(3):\n    sender.send(response(n), n == 2)",
    "error_in_the_middle": (
        "sender.send(response(1))\nsender.send(error('mine'))\nsender.send(response(2))\n"
        "sender.send(flags=1)"
    ),
    "error_last": "sender.send(response(1))\nsender.send(error('mine'), 1)",
    "exception": "sender.send(response(1))\nraise ValueError('boom')",
    "exception_after_the_end": "sender.send(response(1), 1)\nraise ValueError('boom')",
    "later": LATER.format("sender.send(response(1)), sender.send(flags=1)"),
    "empty_list": "return []",
    "list": "return [response(1)]",
    "list_after_the_end": "sender.send(response(1), 1)\nreturn [None]",
    "same_response_again": "r = response(1)\nsender.send(r)\nsender.send(r, 1)",
    "changed_after_it_was_sent": (
        "array = np.array([b'a'], object)\n"
        "sender.send(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', array)]))\n"
        "array[0] = b'b'\n"
        "sender.send(pb_utils.InferenceResponse([pb_utils.Tensor('OUT', array)]), 1)"
    ),
    "reschedule": "request.set_release_flags(AGAIN)\nsender.send(response(1), 1)",
    "reschedule_and_exception": "request.set_release_flags(AGAIN)\nraise ValueError('boom')",
}
DECOUPLED_RULES = {
    "2.8-decoupled-any": "nothing three last_with_flag later",
    "2.8-errors-mid-stream": "error_in_the_middle error_last",
    "3.4-decoupled-exception": "exception",
    "3.4-decoupled-exception-late": "exception_after_the_end",
    "3.4-decoupled-return": "empty_list list list_after_the_end",
    "2.8-order-of-sends": "three",
}
BACKGROUND = {
    "sent": "await asyncio.sleep(0)\nsender.send(response(1))\nsender.send(flags=1)",
    "returned_too": "sender.send(response(1), 1)\nreturn [response(2)]",
    "exception_after_the_end": "sender.send(response(1), 1)\nraise ValueError('boom')",
    "by_tasks": (
        "async def one(n):\n    await asyncio.sleep(0.05 * (3 - n))\n    sender.send(response(n))\n"
        "await asyncio.gather(*map(one, range(3)))\nsender.send(flags=1)"
    ),
    "after_execute": (
        "async def later():\n    await asyncio.sleep(0.05)\n    sender.send(response(1), 1)\n"
        "self.task = asyncio.create_task(later())"
    ),
}
ASYNCHRONOUS = {
    "returned": "await asyncio.sleep(0)\nreturn [response(1)]",
    "sent": "sender.send(response(1), 1)",
    "tuple": "return (response(1),)",
    "exception": "await asyncio.sleep(0)\nraise ValueError('boom')",
    "one_loop": (
        "loops = self.kept.setdefault('loops', set())\nloops.add(asyncio.get_running_loop())\n"
        "return [response(len(loops), threading.current_thread() is threading.main_thread())]"
    ),
}
CLOSED = (
    "old = self.kept.pop('old')\n"
    "told = [attempt(old.send, response(1)), attempt(old.send, None, 1), attempt(old.send)]\n"
    "sender.send(response(*told), 1)"
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    folder = tmp_path_factory.mktemp("senders")
    kinds = ("plain", "decoupled", "asynchronous", "background", "three")
    with both_with_programs(folder, *kinds) as engines:
        yield engines


@pytest.mark.parametrize("name", marked(PLAIN, PLAIN_RULES))
def test_a_model_that_is_not_decoupled(programs: Engines, name: str) -> None:
    programs.same(lambda engine: run(engine, "plain", PLAIN[name]))


@pytest.mark.parametrize("name", marked(PLAIN, {}))
def test_a_model_that_is_not_decoupled_over_http(programs: Engines, name: str) -> None:
    def infer(engine: Engine) -> Any:
        try:
            return engine.infer("plain", CODE=sent(PLAIN[name], "plain"))["OUT"].tolist()
        except InferenceError as error:
            return error.message.partition("\n")[0], error.code.http_status

    programs.same(infer)


@pytest.mark.parametrize("name", marked(DECOUPLED, DECOUPLED_RULES))
def test_a_decoupled_model(programs: Engines, name: str) -> None:
    programs.same(lambda engine: run(engine, "decoupled", DECOUPLED[name]))


@pytest.mark.rule("3.4-async-decoupled")
@pytest.mark.parametrize("name", BACKGROUND)
def test_a_decoupled_model_with_async_execute(programs: Engines, name: str) -> None:
    programs.same(lambda engine: run(engine, "background", BACKGROUND[name]))


@pytest.mark.rule("3.4-async-exception", "3.4-async-loop", "3.4-async-serial")
@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_a_model_with_async_execute(programs: Engines, name: str) -> None:
    programs.same(lambda engine: run(engine, "asynchronous", ASYNCHRONOUS[name]))


@pytest.mark.rule("3.4-async-decoupled")
def test_background_executes_interleave(programs: Engines) -> None:
    program = (
        "both = self.kept.setdefault('both', [])\nboth.append(1)\n"
        "while len(both) < 2:\n    await asyncio.sleep(0.01)\nsender.send(response('met'), 1)"
    )

    def meet(engine: Engine) -> Any:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda _: run(engine, "background", program), range(2)))

    programs.same(meet)


@pytest.mark.rule("2.8-closed", "trap-21")
@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("plain", "raise ValueError('boom')"),
        ("plain", "return [response(0)]"),
        ("plain", "return 3"),
        ("decoupled", "raise ValueError('boom')"),
        ("decoupled", "return []"),
    ],
)
def test_a_sender_is_closed_by_what_execute_comes_to(
    programs: Engines, kind: str, ending: str
) -> None:
    def body(engine: Engine) -> Any:
        return run(engine, kind, f"self.kept['old'] = sender\n{ending}"), run(engine, kind, CLOSED)

    programs.same(body)


@pytest.mark.rule("2.5-retained")
def test_a_request_that_is_kept(programs: Engines) -> None:
    asking = (
        "r = self.kept.pop('r')\narray = r.inputs()[0].as_numpy()\n"
        "return [response(len(array[0]), r.request_id(), sorted(r.requested_output_names()), "
        "r.correlation_id(), r.flags(), r.timeout(), r.parameters(), "
        "r.get_response_sender() is r.get_response_sender())]"
    )

    def body(engine: Engine) -> Any:
        keeping = "self.kept['r'] = request\nreturn [response(0)]"
        first = run(engine, "plain", keeping, request_id="x7", outputs=["OUT"])
        return first, run(engine, "plain", asking)

    programs.same(body)


@pytest.mark.rule("2.6-pruning", "trap-03")
@pytest.mark.parametrize("ending", ["return [r]", "sender.send(r, 1)"])
def test_what_nobody_asked_for_is_taken_out_of_the_response(programs: Engines, ending: str) -> None:
    making = (
        "r = self.kept['r'] = pb_utils.InferenceResponse([tensor(1), tensor(2, name='MORE')])\n"
    )
    asking = "return [response(*(t.name() for t in self.kept['r'].output_tensors()))]"

    def body(engine: Engine) -> Any:
        return run(engine, "plain", making + ending, outputs=["MORE"]), run(engine, "plain", asking)

    programs.same(body)


def three(engine: Engine, program: str) -> list[Any]:
    """The answers to three requests of one batch, in its order."""
    program = program.replace("OTHERS", "[response(n) for n in range(3)]")
    with ThreadPoolExecutor(3) as pool:
        return sorted(map(str, pool.map(lambda _: run(engine, "three", program), range(3))))


@pytest.mark.rule("3.4-none-element", "3.4-order-of-checks", "3.4-whole-batch")
@pytest.mark.parametrize(
    "program",
    [
        "r = OTHERS\nrequests[1].get_response_sender().send(r[1], 1)\nr[1] = None\nreturn r",
        "for q, r in zip(requests, OTHERS):\n    q.get_response_sender().send(r, 1)\n"
        "return [None, None, None]",
        "r = OTHERS\nrequests[1].get_response_sender().send(response('sent'), 1)\nreturn r",
        "r = OTHERS\nr[1] = error('mine')\nreturn r",
        "r = OTHERS\nr[2] = 'text'\nrequests[0].set_release_flags(AGAIN)\nreturn r",
        "r = OTHERS\nr[0] = 'text'\nrequests[2].set_release_flags(AGAIN)\nreturn r",
    ],
)
def test_a_batch(programs: Engines, program: str) -> None:
    programs.same(lambda engine: three(engine, program))


@pytest.mark.rule("2.8-send-then-return")
def test_a_response_that_was_returned_too_late_is_logged(programs: Engines) -> None:
    text = "message: Unable to send response. Non-decoupled model cannot send more than one"
    for engine in programs:
        run(engine, "plain", PLAIN["sent_and_returned"])
        assert text in wait_for_log(engine, text)


def stub_of(folder: Path, *kinds: str) -> StubEngine:
    write_programs(folder, kinds)
    return StubEngine(folder)


@pytest.mark.deviation("failed-after-end")
@pytest.mark.parametrize("ending", ["raise ValueError('boom')", "return 5"])
def test_execute_fails_after_the_end(tmp_path: Path, ending: str) -> None:
    program = f"sender.send(response(1), 1)\n{ending}"
    with stub_of(tmp_path, "plain") as stub:
        assert run(stub, "plain", program) == [({"OUT": ["1"]}, True)]
        (later,) = run(stub, "plain", "return [response(1)]")
        assert deviations.FAILED_AFTER_END.server in later
        assert deviations.FAILED_AFTER_END.server in stub.log()


@pytest.mark.deviation("failed-while-open")
@pytest.mark.rule("2.8-open-then-fail")
@pytest.mark.parametrize("ending", ["raise ValueError('boom')", "return [response(2)]"])
def test_execute_fails_while_the_sender_is_open(programs: Engines, ending: str) -> None:
    program = f"sender.send(response(1))\n{ending}"
    first, last = run(programs.stub, "plain", program)
    assert first == ({"OUT": ["1"]}, False)
    assert deviations.FAILED_WHILE_OPEN.server in last
    with pytest.raises(InferenceError) as caught:
        programs.stub.infer("plain", CODE=sent(program, "plain"))
    assert deviations.FAILED_WHILE_OPEN.server in str(caught.value)


@pytest.mark.deviation("no-answer")
@pytest.mark.rule("2.8-dropped")
@pytest.mark.parametrize(
    ("kind", "program"),
    [
        ("plain", "sender.send(response(1))"),
        ("background", "return [response(1)]"),
        ("background", "sender.send(response(1))"),
        # In a circle of references, which Python has to find first.
        ("plain", "circle = [sender]\ncircle.append(circle)"),
    ],
)
def test_a_sender_that_is_dropped(programs: Engines, kind: str, program: str) -> None:
    *_, last = run(programs.stub, kind, program)
    assert deviations.NO_ANSWER.server in last
