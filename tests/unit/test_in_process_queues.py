"""Response queues and event loops of the in-process API."""

import asyncio
import queue
import threading

import numpy as np
import pytest
from gates import GATES
from in_process_models import count, refused, write_models

import triton_stub as tritonserver

HALF = np.random.default_rng(7).random((100,)).astype(np.float16)
TRUTH = HALF > 0.5
TIMEOUT = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = write_models(tmp_path_factory.mktemp("models"))
    with tritonserver.Server(model_repository=str(repository)) as running:
        yield running


@pytest.fixture
def echo(server):
    return server.model("echo")


@pytest.fixture
def counts(server):
    return server.model("counts")


# Queues


def test_responses_go_into_a_queue_too(echo):
    responses: queue.SimpleQueue = queue.SimpleQueue()
    iterators = [
        echo.infer(inputs={"IN_FP16": HALF}, request_id=str(n), response_queue=responses)
        for n in range(2)
    ]
    first, second = (responses.get(timeout=TIMEOUT) for _ in range(2))
    assert {first.request_id, second.request_id} == {"0", "1"}
    assert [response.request_id for each in iterators for response in each] == ["0", "1"]
    assert responses.empty()


def test_a_queue_has_errors_and_the_end(counts):
    responses: queue.SimpleQueue = queue.SimpleQueue()
    counts.infer(inputs=count(-2), response_queue=responses)
    got = [responses.get(timeout=TIMEOUT) for _ in range(3)]
    assert [(response.error is None, response.final) for response in got] == [
        (True, False),
        (False, False),
        (True, True),
    ]


def test_what_cannot_be_read_ends_the_queue(echo):
    responses: queue.SimpleQueue = queue.SimpleQueue()
    echo.infer(inputs={"IN_FP16": HALF}, output_memory_type="gpu", response_queue=responses)
    response = responses.get(timeout=TIMEOUT)
    assert "not supported" in str(response.error)
    assert response.final


def test_a_queue_without_room(counts):
    responses: queue.Queue = queue.Queue(maxsize=2)
    iterator = counts.infer(inputs=count(3), response_queue=responses)
    assert [next(iterator).final, next(iterator).final] == [False, False]
    with pytest.raises(tritonserver.InvalidArgumentError, match="full, with 2 responses"):
        next(iterator)
    assert list(iterator) == []
    assert responses.qsize() == 2


def test_a_queue_of_the_wrong_kind_is_refused(echo):
    text = refused(
        tritonserver.InvalidArgumentError, echo.infer, inputs={}, response_queue=asyncio.Queue()
    )
    assert "queue.SimpleQueue" in text
    text = refused(
        tritonserver.InvalidArgumentError,
        echo.async_infer,
        inputs={},
        response_queue=queue.SimpleQueue(),
    )
    assert "no asyncio.Queue" in text


# Event loops


async def collected(responses):
    return [response async for response in responses]


def test_async(echo):
    async def ask():
        return await collected(echo.async_infer(inputs={"IN_FP16": HALF, "IN_BOOL": TRUTH}))

    (response,) = asyncio.run(ask())
    assert np.from_dlpack(response.outputs["OUT_FP16"]).tolist() == HALF.tolist()
    assert np.from_dlpack(response.outputs["OUT_BOOL"]).tolist() == TRUTH.tolist()


def test_async_errors(server, counts):
    async def ask():
        with pytest.raises(tritonserver.InternalError, match="minus fourteen"):
            await collected(
                server.model("doubles").async_infer(inputs={"IN": np.array([-14], np.float32)})
            )
        return await collected(counts.async_infer(inputs=count(-2), raise_on_error=False))

    got = asyncio.run(ask())
    assert [str(response.error) for response in got] == ["None", "failed half way", "None"]


def test_async_cancel(counts):
    async def ask():
        responses = counts.async_infer(inputs=count(-1))
        assert not (await anext(responses)).final
        responses.cancel()
        return await collected(responses)

    assert asyncio.run(ask())[-1].final


def test_async_queue(echo):
    async def ask():
        responses: asyncio.Queue = asyncio.Queue()
        iterators = [
            echo.async_infer(inputs={"IN_FP16": HALF}, request_id=str(n), response_queue=responses)
            for n in range(2)
        ]
        got = {(await responses.get()).request_id for _ in range(2)}
        again = [r.request_id for each in iterators for r in await collected(each)]
        return got, again, responses.empty()

    assert asyncio.run(ask()) == ({"0", "1"}, ["0", "1"], True)


def test_an_async_queue_without_room(counts):
    async def ask():
        responses: asyncio.Queue = asyncio.Queue(maxsize=1)
        iterator = counts.async_infer(inputs=count(2), response_queue=responses)
        assert not (await anext(iterator)).final
        with pytest.raises(tritonserver.InvalidArgumentError, match="full, with 1 responses"):
            await anext(iterator)
        return await collected(iterator)

    assert asyncio.run(ask()) == []


def test_an_async_queue_needs_an_event_loop(echo):
    with pytest.raises(RuntimeError, match="no running event loop"):
        echo.async_infer(inputs={"IN_FP16": HALF}, response_queue=asyncio.Queue())


def test_one_request_in_two_event_loops(tmp_path):
    name = "two_loops"
    with tritonserver.Server(write_models(tmp_path, name)) as server:
        responses = server.model(name).async_infer(inputs={"IN": np.ones(1, np.float32)})

        async def in_vain():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(responses), 0.01)

        asyncio.run(in_vain())
        GATES[name].opened.set()
        (response,) = asyncio.run(collected(responses))
        assert np.from_dlpack(response.outputs["OUT"]).tolist() == [2]


def test_two_that_wait_for_one_response(tmp_path):
    name = "two_waiters"
    with tritonserver.Server(write_models(tmp_path, name)) as server:

        async def ask():
            responses = server.model(name).async_infer(inputs={"IN": np.ones(1, np.float32)})
            first = asyncio.create_task(anext(responses))
            await asyncio.sleep(0)
            with pytest.raises(tritonserver.AlreadyExistsError, match="concurrently"):
                await anext(responses)
            GATES[name].opened.set()
            return await first

        assert asyncio.run(ask()).error is None


def test_many_event_loops_at_once(echo):
    async def ask(number):
        requests = [
            collected(echo.async_infer(inputs={"IN_INT32": [number]}, request_id=f"{number}.{n}"))
            for n in range(5)
        ]
        return [response.request_id for (response,) in await asyncio.gather(*requests)]

    got = {}

    def run(number):
        got[number] = asyncio.run(ask(np.int32(number)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert got == {number: [f"{number}.{n}" for n in range(5)] for number in range(8)}
