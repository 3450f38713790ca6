"""Where a thread or a task is, as people are told it."""

import asyncio
import threading
import types
from concurrent.futures import ThreadPoolExecutor

from gates import PATIENCE, Gate

from triton_stub.runtime.stacks import stack_of, stacks_of_loop


def functions(stack):
    """Names of the functions of a stack, outermost first."""
    lines = [line for line in stack.splitlines() if line.startswith("  File ")]
    return [line.rpartition(" in ")[2] for line in lines]


def outer(gate):
    gate.pass_through()


def run(thread, gate, look):
    thread.start()
    gate.wait_for_somebody()
    try:
        return look()
    finally:
        gate.opened.set()
        thread.join(PATIENCE)


def test_a_thread_begins_with_its_own_first_function():
    gate = Gate()
    thread = threading.Thread(target=outer, args=[gate])
    stack = run(thread, gate, lambda: stack_of(thread))
    assert functions(stack)[:2] == ["outer", "pass_through"]
    assert "    gate.pass_through()\n" in stack


def test_a_thread_that_has_ended_is_nowhere():
    thread = threading.Thread(target=int)
    assert stack_of(thread) == ""
    thread.start()
    thread.join(PATIENCE)
    assert stack_of(thread) == ""


def test_a_thread_of_a_pool_begins_with_what_it_works_at():
    gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(outer, gate)
        gate.wait_for_somebody()
        (thread,) = pool._threads
        stack = stack_of(thread)
        gate.opened.set()
        done.result(PATIENCE)
        assert functions(stack)[0] == "outer"


def test_without_python_code_of_its_own_the_place_that_called_it_is_told():
    lock = threading.Lock()
    with lock:
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        stack = stack_of(thread)
    thread.join(PATIENCE)
    lock.release()
    assert len(functions(stack)) == 1


async def sleeper(begun):
    await waits(begun)


@types.coroutine
def waits(begun):
    yield from last(begun)


async def last(begun):
    begun.set()
    await asyncio.Event().wait()


def test_a_task_is_told_down_to_what_it_awaits():
    begun = threading.Event()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(sleeper(begun), loop)
        try:
            assert begun.wait(PATIENCE)
            # The loop may still be on its way from there to its wait.
            stacks = [""]
            while functions(stacks[0])[:1] != ["sleeper"]:
                stacks = stacks_of_loop(loop, thread) or [""]
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE)
    assert functions(stacks[0]) == ["sleeper", "waits", "last", "wait"]


def test_a_loop_that_blocks_is_told_as_a_thread():
    gate = Gate()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.call_soon(outer, gate)
        loop.call_soon(loop.stop)
        thread = threading.Thread(target=loop.run_forever)
        (stack,) = run(thread, gate, lambda: stacks_of_loop(loop, thread))
        assert functions(stack)[:2] == ["outer", "pass_through"]
