"""Instances that wait for each other: which of them is told, and which waits on."""

import contextlib
import threading
from dataclasses import dataclass

import pytest

from triton_stub.core.request import InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.core.waiting import LocalExchange, Waits
from triton_stub.pb_utils.errors import TritonModelException

# A wait whose stack is forgotten would be over.
OPEN: list[contextlib.ExitStack] = []


@pytest.fixture(autouse=True)
def forget():
    yield
    OPEN.clear()


@dataclass(eq=False)
class Instance:
    """An instance of the model that is named like it."""

    instance_name: str
    here: bool = True
    alone: bool = True

    def is_here(self):
        return self.here

    def is_alone(self):
        return self.alone


@dataclass(eq=False)
class Model:
    name: str
    instances: list

    def hosts(self):
        return self.instances


def model(name, count=1):
    return Model(name, [Instance(f"{name}_{number}") for number in range(count)])


def answer(*, final=True):
    return InferenceResponse(model_name="m", model_version="1", final=final)


def waiting(waits, instance, asked, responses, count=0):
    """Begin to wait, until the stack that is returned is closed."""
    stack = contextlib.ExitStack()
    stack.enter_context(waits.wait(instance, asked, responses, count))
    OPEN.append(stack)
    return stack


def test_an_instance_that_asks_its_own_model():
    own = model("a")
    responses = Responses()
    with pytest.raises(TritonModelException, match="'a_0' waits for model 'a': the real server"):
        waiting(Waits(), own.instances[0], own, responses)
    assert responses.withdrawn


def test_another_instance_may_take_the_request():
    own, waits = model("a", 2), Waits()
    wait = waiting(waits, own.instances[0], own, Responses())
    with pytest.raises(TritonModelException, match="'a_0' waits for model 'a', 'a_1' waits for"):
        waiting(waits, own.instances[1], own, Responses())
    wait.close()
    waiting(waits, own.instances[1], own, Responses())


def test_a_circle_of_two():
    a, b, waits = model("a"), model("b"), Waits()
    taken = Responses()
    taken.executor = b.instances[0]
    waiting(waits, a.instances[0], b, taken)
    with pytest.raises(TritonModelException, match="waits for model"):
        waiting(waits, b.instances[0], a, Responses())


@pytest.mark.parametrize("alone", [True, False])
def test_a_sender_may_answer_from_elsewhere(alone):
    a, b, waits = model("a"), model("b"), Waits()
    taken = Responses()
    taken.executor = b.instances[0]
    taken.kept = True
    b.instances[0].alone = alone
    waiting(waits, a.instances[0], b, taken)
    if alone:
        with pytest.raises(TritonModelException, match="waits for model"):
            waiting(waits, b.instances[0], a, Responses())
    else:
        waiting(waits, b.instances[0], a, Responses())


def test_who_has_been_answered_does_not_wait():
    a, b, waits = model("a"), model("b"), Waits()
    taken = Responses()
    taken.executor = b.instances[0]
    taken.put(answer())
    waiting(waits, a.instances[0], b, taken)
    waiting(waits, b.instances[0], a, Responses())


def test_it_is_the_next_response_that_counts():
    a, b, waits = model("a"), model("b"), Waits()
    taken = Responses()
    taken.executor = b.instances[0]
    taken.put(answer(final=False))
    waiting(waits, a.instances[0], b, taken, count=1)
    with pytest.raises(TritonModelException, match="waits for model"):
        waiting(waits, b.instances[0], a, Responses())


def test_an_exchange_counts_what_it_has_got():
    own, waits = model("a"), Waits()
    responses = Responses()
    exchange = LocalExchange(own, responses, waits, own.instances[0])
    responses.put(answer(final=False))
    assert not exchange.get().final
    with pytest.raises(TritonModelException, match="waits for model"):
        exchange.get()


def test_a_thread_of_the_models_own_does_not_block_execute():
    own, waits = model("a"), Waits()
    own.instances[0].here = False
    responses = Responses()
    exchange = LocalExchange(own, responses, waits, own.instances[0])
    threading.Timer(0.05, responses.put, [answer()]).start()
    assert exchange.get().final


def test_cancel():
    responses = Responses()
    LocalExchange(model("a"), responses, Waits(), None).cancel()
    assert responses.cancelled
