"""One change of a model at a time, and none that waits for itself."""

import threading
from contextlib import contextmanager

import pytest

from triton_stub import deviations
from triton_stub.core.repository.changes import Changes
from triton_stub.errors import ServerError

PATIENCE = 60


class Plan:
    """A change of some models, and what the others do meanwhile."""

    def __init__(self, *names):
        self.affected = set(names)
        self.busy = None
        self.ended = False

    def begin(self, busy):
        self.busy = set(busy)

    def end(self):
        self.ended = True


class Models:
    def __init__(self):
        self.changes = Changes()

    @contextmanager
    def of(self, *names, loading=None):
        with self.changes.of(lambda: Plan(*names), loading=loading) as plan:
            yield plan
        assert plan.ended


@pytest.fixture
def models():
    return Models()


def circle(models, *names, loading):
    with pytest.raises(ServerError) as caught, models.of(*names, loading=loading):
        pass
    return deviations.LOADING_CIRCLE.server in caught.value.message


def test_models_that_wait_for_each_other(models):
    with models.of("a"):
        assert circle(models, "a", loading="a")
        with models.of("b", loading="a"), models.of("c", loading="b"):
            assert circle(models, "a", loading="c")
            assert circle(models, "b", loading="c")


def test_models_that_are_changed_together(models):
    with models.of("ensemble", "step"):
        assert circle(models, "ensemble", loading="step")
        with models.of("other", loading="step"):
            assert circle(models, "new", "ensemble", loading="other")


def test_a_detour_that_is_over_is_no_circle(models):
    with models.of("a"), models.of("b", loading="a"):
        pass
    with models.of("b"), models.of("a", loading="b"):
        pass


def test_a_plan_knows_what_others_do(models):
    with models.of("a", "b"), models.of("c") as plan:
        assert plan.busy == {"a", "b"}
    with models.of("c") as plan:
        assert plan.busy == set()


def test_a_plan_that_fails_ends(models):
    plan = Plan("a")
    with pytest.raises(ValueError, match=r"^why$"), models.changes.of(lambda: plan):
        raise ValueError("why")
    assert plan.ended
    with models.of("a"):
        pass


def test_one_model_at_a_time(models):
    order = []

    def change():
        with models.of("a", "c"):
            order.append("second")

    with models.of("a"):
        thread = threading.Thread(target=change)
        thread.start()
        with models.of("b"):  # another model does not wait
            order.append("first")
    thread.join(PATIENCE)
    assert order == ["first", "second"]


def test_no_changes_any_more(models):
    begun, release = threading.Event(), threading.Event()

    def change():
        with models.of("a"):
            begun.set()
            assert release.wait(PATIENCE)

    thread = threading.Thread(target=change)
    thread.start()
    assert begun.wait(PATIENCE)
    models.changes.close(0.01)  # not longer than that
    with pytest.raises(ServerError, match=r"^Server not ready$"), models.of("b"):
        pass
    release.set()
    models.changes.close(PATIENCE)
    thread.join(PATIENCE)
    models.changes.open()
    with models.of("b"):
        pass
