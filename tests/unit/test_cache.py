"""What the response cache keeps, and who finds it."""

import numpy as np
import pytest
from model_files import CONFIG, write_model

from triton_stub import config as model_config
from triton_stub.core.backend_model import BackendModel
from triton_stub.core.cache import EXISTS, ResponseCache
from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository.loading import Settings
from triton_stub.core.request import InferenceRequest
from triton_stub.core.tensor import Tensor
from triton_stub.errors import LoadError

COUNTS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        self.count += 1
        out = pb_utils.Tensor("OUT", np.array([self.count], np.float32))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""


def tensor(*values):
    return Tensor.from_numpy("T", np.array(values, np.float32))


def test_nothing_is_found_that_was_not_kept():
    cache = ResponseCache(1000)
    assert cache.lookup(1) is None
    assert cache.insert(1, [tensor(1)]) == ""
    found = cache.lookup(1)
    assert [each.to_numpy().tolist() for each in found] == [[1]]
    assert (cache.hits, cache.misses, cache.evictions, len(cache)) == (1, 1, 0, 1)


def test_nobody_changes_what_is_kept():
    cache = ResponseCache(1000)
    given = np.ones(2, np.float32)
    cache.insert(1, [Tensor.from_numpy("T", given)])
    given[:] = 2
    cache.lookup(1)[0].data[:] = 3
    assert cache.lookup(1)[0].to_numpy().tolist() == [1, 1]


def test_a_key_is_kept_once():
    cache = ResponseCache(1000)
    cache.insert(1, [tensor(1)])
    assert cache.insert(1, [tensor(2)]) == EXISTS
    assert cache.lookup(1)[0].to_numpy().tolist() == [1]


def test_what_was_used_longest_ago_makes_room():
    cache = ResponseCache(1000)
    for key in (1, 2, 3):
        assert cache.insert(key, [tensor(*range(45))]) == ""
    cache.lookup(1)
    assert cache.insert(4, [tensor(*range(45))]) == ""
    assert [cache.lookup(key) is None for key in (1, 2, 3, 4)] == [False, True, False, False]
    assert cache.evictions == 1


def test_a_response_as_large_as_the_cache_empties_it_and_is_not_kept():
    cache = ResponseCache(1000)
    cache.insert(1, [tensor(1)])
    assert cache.insert(2, [tensor(*range(238))]) == "Cache is empty, nothing to evict."
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (True, "must be a string or uint type"),
        (1.5, "must be a string or uint type"),
        (-1, "must be a string or uint type"),
        (2**32, "must be a string or uint type"),
        ("", "stoull"),
        ("99999999999999999999999", "stoull"),
        (100, "Could not initialize buffer"),
    ],
)
def test_sizes_that_are_none(size, text):
    with pytest.raises(LoadError, match=text):
        ResponseCache.of({"local": {"size": size}})


@pytest.mark.parametrize("size", [1024, "1024", " 1024x"])
def test_sizes(size):
    assert ResponseCache.of({"local": {"size": size}}).arena.size == 1024


def test_no_cache():
    assert ResponseCache.of({}) is None


@pytest.fixture
def model(tmp_path):
    """A model with a cache, and its log."""
    log = Log()
    directory = write_model(tmp_path, "m", COUNTS, CONFIG + "response_cache { enable: true }")
    settings = Settings.of(model_config.load(directory))
    server = ServerHost(log, cache_config={"local": {"size": 1000}})
    loaded = BackendModel(directory, 1, settings, server)
    loaded.load()
    yield loaded, log
    loaded.unload()


def ask(model, *values, **fields):
    array = np.array(values, np.float32)
    request = InferenceRequest(model_name="m", inputs=[Tensor.from_numpy("IN", array)], **fields)
    return model.submit(request).result(60)


def test_a_model_is_not_executed_again(model):
    model, _ = model
    first, second = (ask(model, 1, request_id=name) for name in "ab")
    assert first.result()["OUT"] == second.result()["OUT"] == [1]
    assert (first.request_id, second.request_id) == ("a", "b")
    assert ask(model, 2).result()["OUT"] == [2]


def test_a_batch_for_one_execute_is_executed(model):
    model, _ = model
    ask(model, 1)
    request = InferenceRequest(model_name="m", inputs=[tensor(1).with_shape((1,))])
    request.inputs[0].name = "IN"
    (answer,) = model.submit_batch([request])
    assert answer.result(60).result()["OUT"] == [2]


def test_what_is_not_kept_is_said(model):
    model, log = model
    model._cache._cache.insert = lambda *_: "no"
    ask(model, 1)
    assert any("into response cache: no" in record.message for record in log.records())


def test_a_request_that_was_dropped_is_not_kept(model):
    model, _ = model
    pending = model.prepare(
        InferenceRequest(model_name="m", inputs=[Tensor.from_numpy("IN", np.ones(1, np.float32))])
    )
    assert not model._cache.answer(pending)
    model._drop(pending, LoadError("dropped"))
    assert len(model._cache._cache) == 0


def test_how_long_it_takes_is_added_up_by_one_at_a_time():
    cache = ResponseCache(1000)

    class Guarded(int):
        def __add__(self, other):
            assert cache._lock.locked()
            return Guarded(int(self) + other)

    cache.lookup_ns, cache.insertion_ns = Guarded(), Guarded()
    for _ in range(2):
        cache.took(lookup_ns=3)
        cache.took(insertion_ns=5)
    assert (cache.lookup_ns, cache.insertion_ns) == (6, 10)
