"""``Server.hold`` and ``Model.hold``, for every kind of scheduler, and a clock of the test."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from model_files import write_model

from triton_stub import InferenceError, ManualClock, Server, StatusCode

TIMEOUT = 60
ONE = np.array([[1]], np.float32)
IO = """
backend: "python"
max_batch_size: 4
input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }
"""
# Answers with the number of requests that are executed together.
TOGETHER = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        count = np.full((1, 1), len(requests), np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", count)]) for _ in requests]
"""
STREAM = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        count = np.full((1, 1), len(requests), np.float32)
        for request in requests:
            response = pb_utils.InferenceResponse([pb_utils.Tensor("OUT", count)])
            request.get_response_sender().send(response, 1)
"""
SEQUENCES = (
    'sequence_batching {{ {} control_input {{ name: "START" control '
    "{{ kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }} }} }}"
)
SCHEDULINGS = {
    "default": ("", 1),
    "dynamic": ("dynamic_batching { }", 3),
    "direct": (SEQUENCES.format("direct { }"), 3),
    "oldest": (SEQUENCES.format("oldest { max_candidate_sequences: 4 }"), 3),
    "iterative": ("sequence_batching { iterative_sequence: true direct { } }", 3),
}


def serve(folder, scheduling, model=TOGETHER, **options):
    write_model(folder, "model", model, IO + scheduling)
    return Server(folder, **options)


def counts(answers):
    return [np.from_dlpack(next(answer).outputs["OUT"]).item() for answer in answers]


@pytest.mark.parametrize("kind", SCHEDULINGS)
def test_what_is_collected_is_executed_together(tmp_path, kind):
    scheduling, together = SCHEDULINGS[kind]
    with serve(tmp_path, scheduling) as server:
        model = server.model("model")
        sequences = [
            {"correlation_id": number, "flags": 1} if kind in ("direct", "oldest") else {}
            for number in (1, 2, 3)
        ]
        with server.hold("model") as held:
            answers = [model.infer(inputs={"IN": ONE}, **sequence) for sequence in sequences]
            held.wait(3)
            assert model.statistics()["model_stats"][0]["execution_count"] == 0
        found = counts(answers)
        assert found == [together] * 3


def test_a_decoupled_model(tmp_path):
    scheduling = "dynamic_batching { } model_transaction_policy { decoupled: true }"
    with serve(tmp_path, scheduling, STREAM) as server:
        with server.model("model").hold():
            answers = [server.model("model").infer(inputs={"IN": ONE}) for _ in range(3)]
        assert counts(answers) == [3] * 3


def test_requests_of_other_threads(tmp_path):
    with serve(tmp_path, "dynamic_batching { }") as server, ThreadPoolExecutor(4) as pool:
        model = server.model("model")
        with model.hold() as held:
            answers = [pool.submit(model, IN=ONE) for _ in range(4)]
            held.wait(4)
        assert [answer.result(TIMEOUT)["OUT"].item() for answer in answers] == [4] * 4


def test_requests_of_an_event_loop(tmp_path):
    async def ask(server):
        model = server.model("model")
        with model.hold() as held:
            answers = [model.async_infer(inputs={"IN": ONE}) for _ in range(3)]
            held.wait(3)
        return [await anext(answer) for answer in answers]

    with serve(tmp_path, "dynamic_batching { }") as server:
        assert counts(iter([answer]) for answer in asyncio.run(ask(server))) == [3] * 3


def test_instances_in_processes_of_their_own(tmp_path):
    with serve(tmp_path, "dynamic_batching { }", isolation="process") as server:
        model = server.model("model")
        with model.hold():
            answers = [model.infer(inputs={"IN": ONE}) for _ in range(3)]
        assert counts(answers) == [3] * 3


@pytest.mark.parametrize(
    "call", [lambda model: model(IN=ONE), lambda model: model.execute([{"IN": ONE}])]
)
def test_who_holds_a_model_does_not_wait_for_it(tmp_path, call):
    with serve(tmp_path, "dynamic_batching { }") as server:
        model = server.model("model")
        with model.hold(), pytest.raises(InferenceError, match="this thread holds model 'model'"):
            call(model)
        call(model)


def test_who_holds_a_model_does_not_wait_for_its_answer(tmp_path):
    with serve(tmp_path, "dynamic_batching { }") as server, server.hold("model"):
        answer = server.model("model").infer(inputs={"IN": ONE})
        with pytest.raises(InferenceError, match="this thread holds model 'model'"):
            next(answer)


def test_a_client_that_waits_is_told_why(tmp_path):
    server = serve(tmp_path, "dynamic_batching { }", response_timeout=0.1)
    with server, server.hold("model"), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.model("model"), IN=ONE)
        with pytest.raises(InferenceError, match=r"It is held, by hold\(\)"):
            answer.result(TIMEOUT)


def test_invalid_requests_are_refused_all_the_same(tmp_path):
    with serve(tmp_path, "dynamic_batching { }") as server, server.hold("model") as held:
        with pytest.raises(InferenceError, match="expected 1 inputs but got 2"):
            server.model("model").infer(inputs={"IN": ONE, "X": ONE})
        assert held.count == 0


def test_a_server_that_stops_lets_them_go(tmp_path):
    with serve(tmp_path, "dynamic_batching { }") as server:
        server.hold("model")
        answers = [server.model("model").infer(inputs={"IN": ONE}) for _ in range(2)]
    assert counts(answers) == [2, 2]


def test_a_model_that_is_not_there(tmp_path):
    with serve(tmp_path, "") as server, pytest.raises(InferenceError) as caught:
        server.hold("other")
    assert caught.value.code is StatusCode.NOT_FOUND


def test_an_ensemble_has_no_queue(tmp_path):
    write_model(
        tmp_path,
        "both",
        "",
        IO.replace('backend: "python"', 'platform: "ensemble"')
        + 'ensemble_scheduling { step { model_name: "model" model_version: -1 '
        'input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" } } }',
    )
    with serve(tmp_path, "dynamic_batching { }") as server:
        with pytest.raises(InferenceError, match="hold the models of its steps"):
            server.hold("both")
        with server.hold("model") as held:
            answers = [server.model("both").infer(inputs={"IN": ONE}) for _ in range(2)]
            held.wait(2)
        assert counts(answers) == [2, 2]


def test_a_clock_of_the_test(tmp_path):
    clock = ManualClock()
    scheduling = "dynamic_batching { max_queue_delay_microseconds: 500000 }"
    with serve(tmp_path, scheduling, clock=clock) as server:
        answers = [server.model("model").infer(inputs={"IN": ONE}) for _ in range(2)]
        clock.advance(0.5)
        assert counts(answers) == [2, 2]


def test_a_clock_that_nobody_advances(tmp_path):
    scheduling = "dynamic_batching { max_queue_delay_microseconds: 500000 }"
    server = serve(tmp_path, scheduling, clock=ManualClock(), response_timeout=0.1)
    with server, pytest.raises(InferenceError, match=r"waits for advance\(\) of the ManualClock"):
        server.model("model")(IN=ONE)


def test_time_does_not_go_back():
    with pytest.raises(ValueError, match=r"time does not go back: advance\(-1\)"):
        ManualClock().advance(-1)


def test_a_timeout_of_the_test(tmp_path):
    clock = ManualClock()
    scheduling = (
        "dynamic_batching { max_queue_delay_microseconds: 900000 "
        "default_queue_policy { default_timeout_microseconds: 500000 } }"
    )
    with serve(tmp_path, scheduling, clock=clock) as server:
        answer = server.model("model").infer(inputs={"IN": ONE})
        clock.advance(0.6)
        with pytest.raises(InferenceError, match=r"^Request timeout expired$"):
            next(answer)
