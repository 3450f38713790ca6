"""Who decides what is loaded: control modes, registered repositories, models that come and go."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from gates import GATES
from model_files import BROKEN, CONFIG, DOUBLE, write_model
from test_polling import touch

from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository.repository import Repository
from triton_stub.errors import InferenceError, LoadError, ServerError, StatusCode

PYTHON = f'backend: "python" {CONFIG}'
TIMEOUT = 60


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def opened(log):
    repositories = []

    def open_repository(*paths, mode="explicit"):
        repositories.append(Repository(paths, ServerHost(log), mode=mode))
        return repositories[-1]

    yield open_repository
    for repository in repositories:
        repository.unload_all(TIMEOUT)


def ensemble(*steps):
    ends = ["IN", *(f"T{number}" for number in range(1, len(steps))), "OUT"]
    text = "".join(
        f'step {{ model_name: "{step}" model_version: -1 '
        f'input_map {{ key: "IN" value: "{ends[number]}" }} '
        f'output_map {{ key: "OUT" value: "{ends[number + 1]}" }} }}'
        for number, step in enumerate(steps)
    )
    return f'platform: "ensemble" {CONFIG} ensemble_scheduling {{ {text} }}'


def messages(log):
    return [record.message for record in log.records()]


# At the start


def test_all_models_at_the_start(tmp_path, opened):
    write_model(tmp_path, "a")
    write_model(tmp_path, "bad", BROKEN)
    write_model(tmp_path, "both", config=ensemble("a", "a"))
    write_model(tmp_path, "garbled", config="nonsense: 1")
    repository = opened(tmp_path, mode="none")
    errors = repository.start()
    assert list(errors) == ["bad", "garbled"]
    assert repository.loaded_names() == ["a", "both"]


def test_some_models_at_the_start(tmp_path, opened):
    for name in "abc":
        write_model(tmp_path, name)
    repository = opened(tmp_path)
    assert list(repository.start(["a", "nobody", "a"])) == ["nobody"]
    assert repository.loaded_names() == ["a"]


def test_a_star_at_the_start(tmp_path, opened):
    for name in "ab":
        write_model(tmp_path, name)
    repository = opened(tmp_path)
    with pytest.raises(ServerError, match="must be the ONLY startup model"):
        repository.start(["*", "a"])
    assert repository.start(["*"]) == {}
    assert repository.loaded_names() == ["a", "b"]


# Polling


def test_what_is_polled(tmp_path, opened, log):
    write_model(tmp_path, "a", config=PYTHON)
    write_model(tmp_path, "b", config=PYTHON)
    repository = opened(tmp_path, mode="poll")
    repository.start()
    first = repository.find("a")
    assert repository.poll() == {}
    assert repository.find("a") is first
    touch(tmp_path / "a" / "1" / "model.py")
    (tmp_path / "b").rename(tmp_path / "c")
    write_model(tmp_path, "garbled", config="nonsense: 1")
    assert list(repository.poll()) == ["garbled"]
    assert repository.find("a") is not first
    assert repository.loaded_names() == ["a", "c"]
    assert any("Poll failed for model directory 'garbled'" in text for text in messages(log))


@pytest.mark.parametrize("mode", ["none", "explicit"])
def test_nothing_is_polled(tmp_path, opened, mode):
    with pytest.raises(ServerError, match=r"^polling is disabled$") as caught:
        opened(tmp_path, mode=mode).poll()
    assert caught.value.code == StatusCode.UNAVAILABLE


# Several repositories


def test_a_repository_that_is_registered_and_unregistered(tmp_path, opened, log):
    write_model(tmp_path / "one", "a")
    write_model(tmp_path / "two", "b", config=f'name: "b" {PYTHON}')
    repository = opened(tmp_path / "one")
    repository.register(tmp_path / "two", {"other": "b"})
    with pytest.raises(LoadError, match="failed to poll"):
        repository.load("b")
    repository.load("other")
    assert repository.find("other").name == "other"
    assert [row.name for row in repository.index()] == ["a", "other"]
    repository.unregister(tmp_path / "two")
    assert repository.find("other").ready()
    assert [row.name for row in repository.index()] == ["a"]
    assert messages(log)[0] == f"Model repository registered: {tmp_path / 'two'}"
    assert messages(log)[-1] == f"Model repository unregistered: {tmp_path / 'two'}"


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_nothing_is_registered(tmp_path, opened, mode):
    repository = opened(tmp_path, mode=mode)
    for call, what in ((repository.register, "registration"), (repository.unregister, "unreg")):
        with pytest.raises(ServerError, match=what) as caught:
            call(tmp_path / "two")
        assert caught.value.code == StatusCode.UNSUPPORTED


def test_a_model_that_is_ambiguous_now(tmp_path, opened):
    write_model(tmp_path / "one", "a")
    (tmp_path / "two").mkdir()
    repository = opened(tmp_path / "one", tmp_path / "two")
    repository.load("a")
    write_model(tmp_path / "two", "a")
    with pytest.raises(LoadError, match="in more than one repository"):
        repository.load("a")
    assert repository.find("a").ready()
    (row,) = repository.index(only_ready=True)
    assert row.reason == "model appears in two or more repositories"


# States


def test_states_while_a_model_is_loaded(tmp_path, opened):
    waits = DOUBLE.replace(
        "class TritonPythonModel:",
        "import gates\n\nclass TritonPythonModel:\n"
        "    def initialize(self, args):\n        gates.GATES['loaded'].pass_through()\n",
    )
    write_model(tmp_path, "slow", waits)
    repository = opened(tmp_path)
    thread = threading.Thread(target=repository.load, args=["slow"])
    thread.start()
    GATES["loaded"].wait_for_somebody()
    assert [row.state for row in repository.index() if row.name == "slow"] == ["LOADING"]
    with pytest.raises(InferenceError, match="has no available versions"):
        repository.find("slow")
    assert not repository.all_ready()
    GATES["loaded"].opened.set()
    thread.join(TIMEOUT)
    assert repository.loaded_names() == ["slow"]
    assert repository.all_ready()


# Ensembles


def test_the_ensembles_of_a_step(tmp_path, opened):
    for name in "abc":
        write_model(tmp_path, name)
    write_model(tmp_path, "ab", config=ensemble("a", "b"))
    repository = opened(tmp_path)
    repository.load("ab")
    assert repository.loaded_names() == ["a", "ab", "b"]
    repository.unload("a")
    assert repository.loaded_names() == ["b"]
    repository.load("a")
    assert repository.loaded_names() == ["a", "ab", "b"]
    repository.unload("ab", unload_dependents=True)
    # The other step was asked for by name meanwhile.
    assert repository.loaded_names() == ["a"]


def test_what_is_wrong_with_an_ensemble(tmp_path, opened):
    write_model(tmp_path, "bad", BROKEN)
    write_model(tmp_path, "on_bad", config=ensemble("bad"))
    repository = opened(tmp_path)
    with pytest.raises(LoadError, match="'on_bad' depends on 'bad' which has no loaded") as caught:
        repository.load("on_bad")
    cause = caught.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, OSError)
    with pytest.raises(LoadError, match="depends on 'bad'"):
        repository.load("on_bad")


def test_an_ensemble_that_is_not_even_tried_again(tmp_path, opened):
    write_model(tmp_path, "a", config=ensemble("b"))
    write_model(tmp_path, "b", config=ensemble("a"))
    repository = opened(tmp_path)
    with pytest.raises(LoadError, match="circular dependency"):
        repository.load("a")
    with pytest.raises(LoadError, match="no version is available: circular") as caught:
        repository.load("b")
    assert caught.value.told == "failed to load 'b', no version is available"


def test_many_change_ensembles_and_steps_at_once(tmp_path, opened):
    for name in "abc":
        write_model(tmp_path, name)
    for name in ("ab", "bc", "ca"):
        write_model(tmp_path, name, config=ensemble(*name))
    repository = opened(tmp_path)
    names = ["a", "b", "c", "ab", "bc", "ca"]

    def change(number):
        for step in range(12):
            name = names[(number + step) % len(names)]
            if (number + step) % 3:
                with contextlib.suppress(LoadError):  # of a step that somebody has unloaded
                    repository.load(name)
            else:
                repository.unload(name, unload_dependents=bool(step % 2))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4), timeout=TIMEOUT))
    for name in names:
        repository.load(name)
    assert repository.loaded_names() == sorted(names)
    assert repository.all_ready()
