"""A closed-loop load generator: so many clients, each sends its next request after an answer.

Runs as a process of its own, so that the clients' Python does not slow down an embedded server.
Prints one line of JSON with perf_analyzer's names: throughput in inferences per second, latency
percentiles in microseconds.
"""

from __future__ import annotations

import argparse
import json
import threading
import time

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import triton_to_np_dtype


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    with InferenceServerClient(arguments.url, network_timeout=600.0) as client:
        tensor = client.get_model_metadata(arguments.model)["inputs"][0]
    print(json.dumps(measure(arguments, tensor)))


def measure(arguments: argparse.Namespace, tensor: dict) -> dict[str, float]:
    """Throughput and latencies of what was sent and answered while all clients ran."""
    spans: list[tuple[float, float]] = []
    errors: list[BaseException] = []
    # Everybody's first request only warms up.
    warm = threading.Barrier(arguments.clients + 1)
    stop = threading.Event()

    def client(seed: int) -> None:
        try:
            rows = np.random.default_rng(seed).random((1, *tensor["shape"][1:]))
            data = rows.astype(triton_to_np_dtype(tensor["datatype"]))
            request = InferInput(tensor["name"], data.shape, tensor["datatype"])
            request.set_data_from_numpy(data)
            with InferenceServerClient(arguments.url, network_timeout=600.0) as server:
                server.infer(arguments.model, [request])
                warm.wait()
                while not stop.is_set():
                    start = time.perf_counter()
                    server.infer(arguments.model, [request])
                    spans.append((start, time.perf_counter()))
        except BaseException as error:
            errors.append(error)
            warm.abort()
            raise

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(arguments.clients)]
    for thread in threads:
        thread.start()
    warm.wait()
    begin = time.perf_counter()
    time.sleep(arguments.seconds)
    # Requests under way are let finish: cutting them off would favour the fast ones.
    stop.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    wall = max(end for _, end in spans) - begin
    latencies = np.array([end - start for start, end in spans]) * 1e6
    percentiles = {f"p{q}": float(np.percentile(latencies, q)) for q in (50, 90, 95, 99)}
    return {"throughput": len(spans) / wall, "requests": len(spans), **percentiles}


if __name__ == "__main__":
    main()
