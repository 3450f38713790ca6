"""One client of ``crowd.py``: asks what it is told to, one request after the other."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

LIBRARIES: dict[str, Any] = {"http": tritonclient.http, "grpc": tritonclient.grpc}
UNANSWERED = 30.0  # seconds until an answer counts as lost
MOST_COMPLAINTS = 10


def main() -> None:
    """A task is a line of JSON, and so is what becomes of it."""
    model, number = sys.argv[1], int(sys.argv[2])
    client = Client(model, number)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(client.run(**json.loads(line))), flush=True)


class Client:
    """Its requests carry its own number, and their number, which it never uses twice."""

    def __init__(self, model: str, number: int) -> None:
        self._model = model
        self._number = number
        self._next = 0

    def run(self, protocol: str, url: str, seconds: float) -> dict[str, Any]:
        """How long each request took, in seconds, and what was wrong."""
        library = LIBRARIES[protocol]
        spent: list[float] = []
        wrong: list[str] = []
        options = {"network_timeout": UNANSWERED} if protocol == "http" else {}
        waits = {"client_timeout": UNANSWERED} if protocol == "grpc" else {}
        with library.InferenceServerClient(url, **options) as server:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end and len(wrong) < MOST_COMPLAINTS:
                self._next += 1
                numbers = np.array([self._number, self._next])
                tensor = library.InferInput("IN", numbers.shape, "INT64")
                tensor.set_data_from_numpy(numbers)
                name = f"{self._number}.{self._next}"
                start = time.perf_counter()
                try:
                    result = server.infer(self._model, [tensor], request_id=name, **waits)
                except Exception as error:  # noqa: BLE001 - counted, whatever it is
                    wrong.append(f"request {name}: {error!r}")
                    continue
                spent.append(time.perf_counter() - start)
                told = result.as_numpy("OUT").tolist()
                response = result.get_response()
                told_name = response["id"] if protocol == "http" else response.id
                if told != numbers.tolist() or told_name != name:
                    wrong.append(f"request {name} has the answer {told} of request {told_name}")
        return {"seconds": spent, "wrong": wrong}


if __name__ == "__main__":
    main()
