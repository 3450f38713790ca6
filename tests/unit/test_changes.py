"""One change of a model at a time, and none that waits for itself."""

import threading

import pytest

from triton_stub import deviations
from triton_stub.core.changes import Changes
from triton_stub.errors import ServerError

PATIENCE = 60


@pytest.fixture
def changes():
    return Changes()


def circle(changes, name, loading):
    with pytest.raises(ServerError) as caught, changes.of(name, loading=loading):
        pass
    return deviations.LOADING_CIRCLE.server in caught.value.message


def test_models_that_wait_for_each_other(changes):
    with changes.of("a"):
        assert circle(changes, "a", "a")
        with changes.of("b", loading="a"), changes.of("c", loading="b"):
            assert circle(changes, "a", "c")
            assert circle(changes, "b", "c")


def test_a_detour_that_is_over_is_no_circle(changes):
    with changes.of("a"), changes.of("b", loading="a"):
        pass
    with changes.of("b"), changes.of("a", loading="b"):
        pass


def test_one_model_at_a_time(changes):
    order = []

    def change():
        with changes.of("a"):
            order.append("second")

    with changes.of("a"):
        thread = threading.Thread(target=change)
        thread.start()
        with changes.of("b"):  # another model does not wait
            order.append("first")
    thread.join(PATIENCE)
    assert order == ["first", "second"]


def test_no_changes_any_more(changes):
    begun, release = threading.Event(), threading.Event()

    def change():
        with changes.of("a"):
            begun.set()
            assert release.wait(PATIENCE)

    thread = threading.Thread(target=change)
    thread.start()
    assert begun.wait(PATIENCE)
    changes.close(0.01)  # not longer than that
    with pytest.raises(ServerError, match=r"^Server not ready$"), changes.of("b"):
        pass
    release.set()
    changes.close(PATIENCE)
    thread.join(PATIENCE)
    changes.open()
    with changes.of("b"):
        pass
