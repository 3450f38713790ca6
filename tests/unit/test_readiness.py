"""``is_ready()``: who asks a model, and what becomes of its answer."""

import threading

import pytest
from instances import execute, loaded, model_class

from triton_stub.errors import ServerError, StatusCode
from triton_stub.runtime.readiness import Readiness

PATIENCE = 60


def refusal(readiness, **limit):
    with pytest.raises(ServerError) as caught:
        readiness.check(**limit)
    return caught.value.message, caught.value.code


@pytest.mark.parametrize(
    ("value", "message", "code"),
    [
        (False, "Model 'm_0' is not ready (user-defined check failed).", StatusCode.UNAVAILABLE),
        (None, "is_ready() must return a boolean value", StatusCode.INTERNAL),
        (1, "is_ready() must return a boolean value", StatusCode.INTERNAL),
    ],
)
def test_an_answer_other_than_true(value, message, code):
    assert refusal(Readiness("m_0", lambda: value)) == (message, code)


def test_true_is_ready_every_time():
    answers = [True, False, True]
    readiness = Readiness("m_0", answers.pop)
    readiness.check()
    assert refusal(readiness)[1] is StatusCode.UNAVAILABLE
    readiness.check()


def test_who_asks_meanwhile_gets_the_same_answer():
    asked, answers, gate = [], [], threading.Event()

    def ask():
        asked.append(threading.current_thread().name)
        return gate.wait(PATIENCE)

    def check():
        answers.append(readiness.check())

    readiness = Readiness("m_0", ask)
    threads = [threading.Thread(target=check) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [None] * 3
    assert set(asked) == {"m_0 is_ready"}


def test_a_model_that_does_not_answer():
    gate = threading.Event()
    readiness = Readiness("m_0", lambda: gate.wait(PATIENCE))
    for what in ("user-defined", "in-flight"):
        assert refusal(readiness, limit=0.01) == (
            f"Timed out waiting for {what} is_ready() response",
            StatusCode.UNAVAILABLE,
        )
    gate.set()
    readiness.check(PATIENCE)


@pytest.mark.parametrize("start", ["def", "async def"])
def test_a_model_with_is_ready(tmp_path, start):
    instance = loaded(
        tmp_path, model_class(f"answer = True\n{start} is_ready(self):\n    return self.answer")
    )
    instance.check_ready()
    instance._model.answer = False
    with pytest.raises(ServerError, match="user-defined check failed"):
        instance.check_ready()
    instance.unload()


def test_a_model_whose_is_ready_raises(tmp_path):
    instance = loaded(tmp_path, model_class("def is_ready(self): return 1 / 0"))
    with pytest.raises(ServerError) as caught:
        instance.check_ready()
    assert caught.value.message == (
        f"ZeroDivisionError: division by zero\n\nAt:\n  {tmp_path}/1/model.py(5): is_ready\n"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_model_without_is_ready(tmp_path):
    instance = loaded(tmp_path, execute("return []"))
    instance.check_ready()
    instance._model.is_ready = lambda: False  # too late: it is looked for once
    instance.check_ready()
