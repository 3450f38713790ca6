"""One process of ``load.py``: some of its clients, each a thread.

Speaks lines of JSON. A task comes in, ``"warm"`` goes out when every client has one answer, another
line comes in and starts (open loop) or ends (closed loop) the measurement, and what became of every
request goes out: when it was to be sent, when it was answered, both on the system's clock that
``time.perf_counter`` reads, and whether the answer was one.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import shared_memory, triton_to_np_dtype

LIBRARIES: dict[str, Any] = {"http": tritonclient.http, "grpc": tritonclient.grpc}
PATIENCE = 600.0  # seconds until an answer counts as lost
MOST_ERRORS = 100  # of one client, which then sends no more

Told = dict[str, Any]


def main() -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(Clients(**task).run(sys.stdin.readline)), flush=True)


class Clients:
    """The clients of one process, and what they are to do.

    Args:
        url: ``host:port`` of the protocol's endpoint.
        model: gets requests of one row for each of its inputs.
        protocol: ``http`` or ``grpc``.
        numbers: one for each client: seeds of what they send.
        schedule: when the requests are due, in seconds after the start; None in a closed loop.
        shared: whether inputs lie in the system's shared memory.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        protocol: str,
        numbers: list[int],
        schedule: list[float] | None,
        shared: bool,
    ) -> None:
        self._url, self._model, self._shared = url, model, shared
        self._library = LIBRARIES[protocol]
        # gRPC's own client waits for ever unless told otherwise.
        self._options = {"network_timeout": PATIENCE} if protocol == "http" else {}
        self._waits = {} if protocol == "http" else {"client_timeout": PATIENCE}
        self._numbers = numbers
        self._schedule = schedule
        self._next = itertools.count()
        self._spans: list[tuple[float, float, bool]] = []
        self._errors: list[str] = []
        self._warm = threading.Semaphore(0)  # as many as have their first answer
        self._begin = 0.0
        self._go = threading.Event()
        self._stop = threading.Event()

    def run(self, wait: Callable[[], object]) -> Told:
        """Have all clients ask; ``wait`` returns when the measurement is to start, or to end."""
        threads = [
            # Of a process whose other end is gone, nobody waits for them.
            threading.Thread(target=self._client, args=(number,), daemon=True)
            for number in self._numbers
        ]
        for thread in threads:
            thread.start()
        for _ in threads:
            self._warm.acquire()
        print(json.dumps("warm"), flush=True)
        told = wait()
        if self._schedule is not None:
            self._begin = float(told)
        self._go.set()
        self._stop.set()
        for thread in threads:
            thread.join()
        return {"spans": self._spans, "errors": self._errors}

    def _client(self, number: int) -> None:
        try:
            with (
                closing(self._library.InferenceServerClient(self._url, **self._options)) as server,
                self._request(server, number) as inputs,
            ):
                self._send(lambda: server.infer(self._model, inputs, **self._waits))
        except Exception as error:  # noqa: BLE001 - it never had a request to send
            self._errors.append(f"{type(error).__name__}: {error}")
            self._warm.release()

    def _send(self, ask: Callable[[], object]) -> None:
        """Ask once to warm up, then as often as the kind of loop wants."""
        failed = not self._ask(time.perf_counter(), ask)
        self._warm.release()
        if self._schedule is None:
            while not self._stop.is_set() and failed < MOST_ERRORS:
                failed += not self._ask(time.perf_counter(), ask)
            return
        self._go.wait()
        while (index := next(self._next)) < len(self._schedule):
            due = self._begin + self._schedule[index]
            time.sleep(max(0.0, due - time.perf_counter()))
            # Counted from when it was due: a server that makes clients late is not to gain by it.
            self._ask(due, ask)

    def _ask(self, due: float, ask: Callable[[], object]) -> bool:
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - counted, whatever it is
            self._errors.append(f"{type(error).__name__}: {error}")
            self._spans.append((due, time.perf_counter(), False))
            return False
        self._spans.append((due, time.perf_counter(), True))
        return True

    @contextmanager
    def _request(self, server: Any, number: int) -> Iterator[list[Any]]:
        """Inputs of one row of random numbers, as the model's metadata wants them."""
        generator = np.random.default_rng(number)
        tensors = metadata(server, self._model)
        batched = config(server, self._model)["max_batch_size"] > 0
        inputs = []
        with ExitStack() as stack:
            for name, datatype, sizes in tensors:
                shape = [1 if size < 0 else size for size in sizes]
                if batched:
                    shape[0] = 1
                largest = 1 if datatype.startswith(("FP", "BF")) else 100
                data = (generator.random(shape) * largest).astype(triton_to_np_dtype(datatype))
                tensor = self._library.InferInput(name, data.shape, datatype)
                if self._shared:
                    region = stack.enter_context(self._region(server, name, number, data))
                    tensor.set_shared_memory(region, data.nbytes)
                else:
                    tensor.set_data_from_numpy(data)
                inputs.append(tensor)
            yield inputs

    @contextmanager
    def _region(self, server: Any, name: str, number: int, data: np.ndarray) -> Iterator[str]:
        """The name of registered shared memory that holds an input."""
        region = f"load_{id(self):x}_{name}_{number}"
        handle = shared_memory.create_shared_memory_region(region, f"/{region}", data.nbytes)
        try:
            shared_memory.set_shared_memory_region(handle, [data])
            server.register_system_shared_memory(region, f"/{region}", data.nbytes)
            yield region
            server.unregister_system_shared_memory(region)
        finally:
            shared_memory.destroy_shared_memory_region(handle)


def metadata(server: Any, model: str) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape of each input, over either protocol."""
    told = server.get_model_metadata(model)
    if isinstance(told, dict):
        return [(each["name"], each["datatype"], each["shape"]) for each in told["inputs"]]
    return [(each.name, each.datatype, list(each.shape)) for each in told.inputs]


def config(server: Any, model: str) -> dict[str, Any]:
    """The model's configuration, over either protocol."""
    told = server.get_model_config(model)
    return told if isinstance(told, dict) else {"max_batch_size": told.config.max_batch_size}


if __name__ == "__main__":
    main()
