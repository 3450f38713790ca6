"""The response cache: a request that has been answered before is not executed again.

Sources: core ``src/cache_manager.cc`` and ``src/cache_entry.cc`` (what a response is found by, and
what is kept of it), ``src/dynamic_batch_scheduler.cc`` (when); the local cache's
``src/local_cache.cc`` (what makes room for what).
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from triton_stub.core.arena import Arena
from triton_stub.core.request import InferenceResponse
from triton_stub.core.responses import Responses
from triton_stub.errors import LoadError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from triton_stub.core.bell import Bell, LockBell
    from triton_stub.core.clock import Clock
    from triton_stub.core.host import ServerHost
    from triton_stub.core.log import Log
    from triton_stub.core.model import ServedModel
    from triton_stub.core.scheduling.scheduler import Pending
    from triton_stub.core.tensor import Tensor

_UINT32, _UINT64 = range(2**32), range(2**64)
# More than any machine has: there is no need to try.
_TOO_LARGE = 2**47
_FAILED = "Failed to initialize LocalCache: "
EXISTS = "key already exists"


class _Entry(NamedTuple):
    tensors: Sequence[Tensor]
    place: int


class ResponseCache:
    """Outputs of responses by key; the one that was used longest ago goes first.

    Attributes:
        arena: what is taken of its memory.
        hits, misses, evictions: how often each has happened.
        lookup_ns, insertion_ns: how long everybody has looked things up, and put them in.
    """

    def __init__(self, size: int) -> None:
        self.arena = Arena(size)
        self.hits = self.misses = self.evictions = 0
        self.lookup_ns = self.insertion_ns = 0
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, config: Mapping[str, Mapping[str, Any]]) -> ResponseCache | None:
        """The cache of ``cache_config``, None if there is none; LoadError in the server's words."""
        if not config:
            return None
        if len(config) > 1:
            raise LoadError(
                "found multiple cache configurations, but only a single cache is currently "
                "supported",
                StatusCode.INVALID_ARG,
            )
        [(name, settings)] = config.items()
        if name != "local":
            raise LoadError(
                f"unable to find 'libtritoncache_{name}.so' for cache. The one that triton_stub "
                "imitates is 'local'",
                StatusCode.INVALID_ARG,
            )
        size = _size(settings)
        try:
            return cls(size)
        except ValueError:
            raise LoadError(
                f"{_FAILED}Could not initialize buffer in basic_managed_external_buffer constructor"
            ) from None

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, key: int) -> Sequence[Tensor] | None:
        """The outputs that are kept under this key."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return [tensor.copy() for tensor in entry.tensors]

    def took(self, *, lookup_ns: int = 0, insertion_ns: int = 0) -> None:
        """Somebody has looked something up, or put it in, for so long."""
        with self._lock:
            self.lookup_ns += lookup_ns
            self.insertion_ns += insertion_ns

    def insert(self, key: int, tensors: Sequence[Tensor]) -> str:
        """Keep outputs; why not, in the server's words, or an empty text."""
        with self._lock:
            if key in self._entries:
                return EXISTS
            if not all(tensor.byte_size for tensor in tensors):
                return "Response buffer from output was nullptr"
            size = _packed_size(tensors)
            if size > self.arena.size:
                return (
                    f"Requested byte_size: {size} is greater than total cache size: "
                    f"{self.arena.size}"
                )
            while (place := self.arena.allocate(size)) is None:
                if not self._entries:
                    return "Cache is empty, nothing to evict."
                _, oldest = self._entries.popitem(last=False)
                self.arena.free(oldest.place)
                self.evictions += 1
            self._entries[key] = _Entry([tensor.copy() for tensor in tensors], place)
            return ""


class ModelCache:
    """The cache as one version of a model uses it.

    Of an ensemble it keeps no errors, and it tells more of what it does not keep.
    """

    def __init__(
        self,
        cache: ResponseCache,
        model: ServedModel,
        clock: Clock,
        log: Log,
        *,
        is_ensemble: bool = False,
    ) -> None:
        self._cache = cache
        self._is_ensemble = is_ensemble
        self._name, self._version = model.name, model.version
        self._statistics = model.statistics
        self._clock = clock
        self._log = log

    @classmethod
    def of(
        cls, model: ServedModel, server: ServerHost, *, is_ensemble: bool = False
    ) -> ModelCache | None:
        """That of a model; None unless both the server and the model's configuration have one."""
        if server.cache is None or not model.config.response_cache.enable:
            return None
        return cls(server.cache, model, server.clock, server.log, is_ensemble=is_ensemble)

    def new_responses(self, timeout: float | None, where: Callable[[], str]) -> CachedResponses:
        """What a request that may be looked up is answered with."""
        return CachedResponses(self, timeout, where)

    def answer(self, pending: Pending) -> bool:
        """Answer a request from the cache; False if it is not there, but will be."""
        key = self._key(pending.validated.inputs)
        start = self._clock.now()
        tensors = self._cache.lookup(key)
        end = self._clock.now()
        self._cache.took(lookup_ns=end - start)
        if tensors is None:
            assert isinstance(pending.answer, CachedResponses)
            pending.answer.key = key
            pending.answer.lookup_ns = end - start
            return False
        self._statistics.count_cache_hit(pending.enqueued, start, end)
        pending.answer.put(
            InferenceResponse(
                model_name=self._name,
                model_version=str(self._version),
                request_id=pending.request.request_id,
                tensors=tensors,
            )
        )
        if (trace := pending.answer.trace) is not None:
            trace.ended()
        return True

    def keep(self, key: int, answer: CachedResponses, response: InferenceResponse) -> None:
        """Keep a response. Of one that is an error nothing is left but that it has no outputs."""
        if self._is_ensemble:
            if response.error is not None or response.bare:
                return
        elif answer.executor is None:  # dropped before a model has seen it
            return
        start = self._clock.now()
        reason = (
            "response is nullptr" if response.bare else self._cache.insert(key, response.tensors)
        )
        if reason == EXISTS:
            return
        insertion_ns = self._clock.now() - start
        self._cache.took(insertion_ns=insertion_ns)
        self._statistics.count_cache_miss(answer.lookup_ns + insertion_ns)
        if reason:
            self._log.note(
                LogLevel.ERROR, f"Failed to insert key [{key}] into response cache: {reason}"
            )

    def _key(self, inputs: Sequence[Tensor]) -> int:
        """What a response is found by: neither datatypes nor shapes, neither outputs nor the id."""
        whole = hashlib.blake2b(f"{self._name}/{self._version}".encode(), digest_size=8)
        for name, tensor in sorted((tensor.name.encode(), tensor) for tensor in inputs):
            data = tensor.to_bytes()
            whole.update(b"%d/%d/%s" % (len(name), memoryview(data).nbytes, name))
            whole.update(data)
        return int.from_bytes(whole.digest(), "little")


class CachedResponses(Responses):
    """Responses that are kept for requests to come."""

    __slots__ = ("_cache", "key", "lookup_ns")

    def __init__(self, cache: ModelCache, timeout: float | None, where: Callable[[], str]) -> None:
        super().__init__(timeout, where)
        self._cache = cache
        #: Set if the answer is to be kept.
        self.key: int | None = None
        self.lookup_ns = 0

    def add(self, response: InferenceResponse) -> Bell | LockBell | None:
        """Add a response, and keep it."""
        if self.key is not None and not self.closed:
            self._cache.keep(self.key, self, response)
        return super().add(response)


def _packed_size(tensors: Sequence[Tensor]) -> int:
    """Bytes that the server packs outputs into."""
    size = 4  # number of outputs
    for tensor in tensors:
        # Each of four parts, and the whole, after its length.
        size += 8 + 4 + len(tensor.name.encode()) + 4 + len(tensor.datatype.name)
        size += 4 + 8 * len(tensor.shape) + 8 + tensor.byte_size
    return size


def _size(settings: Mapping[str, Any]) -> int:
    if "size" not in settings:
        raise LoadError(
            f"{_FAILED}config didn't contain a valid 'size' field.", StatusCode.INVALID_ARG
        )
    given = settings["size"]
    if isinstance(given, str):
        size = _stoull(given)
    elif isinstance(given, int) and not isinstance(given, bool) and given in _UINT32:
        size = given
    else:
        raise LoadError(
            f"{_FAILED}'size' config must be a string or uint type", StatusCode.INVALID_ARG
        )
    if size > _TOO_LARGE:
        raise LoadError(f"{_FAILED}failed to allocate buffer")
    return size


def _stoull(text: str) -> int:
    """``std::stoull``: leading digits count, a minus wraps around."""
    found = re.match(r"\s*([+-]?\d+)", text, re.ASCII)
    if found is None or abs(int(found[1])) not in _UINT64:
        raise LoadError(f"{_FAILED}stoull")
    return ctypes.c_uint64(int(found[1])).value
