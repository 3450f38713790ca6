"""Requests about shared memory over HTTP, to both servers one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from patience import wait_until
from shared_objects import KEY
from test_http_errors import Answer, ask

SYSTEM, CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"


def forgotten(url: str) -> bool:
    """Unregister all; False while a request that is answered still has a region in use."""
    ask(url, "POST", f"{SYSTEM}/unregister")
    return ask(url, "GET", f"{SYSTEM}/status").document == "[]"


def both(urls: tuple[str, str], body: Callable[[str], Any]) -> Any:
    """What a body returns that may register regions; they are gone afterwards."""

    def clean(url: str) -> Any:
        try:
            return body(url)
        finally:
            wait_until(lambda: forgotten(url))

    stub, native = map(clean, urls)
    assert stub == native
    return native


def register(url: str, name: str = "r", *, of: str = SYSTEM, **body: Any) -> Answer:
    return ask(url, "POST", f"{of}/region/{name}/register", json.dumps(body).encode())


def registered(url: str, size: int = 64) -> None:
    assert register(url, key=KEY, byte_size=size).status == 200


def infer(
    url: str, tensor: dict[str, Any], *outputs: dict[str, Any], model: str = "echo", **fields: Any
) -> Answer:
    datatype = "BYTES" if model == "text" else "FP32"
    document = {"inputs": [{"name": "IN", "datatype": datatype, "shape": [4], **tensor}], **fields}
    if outputs:
        document["outputs"] = [{"name": "OUT", **output} for output in outputs]
    return ask(url, "POST", f"/v2/models/{model}/infer", json.dumps(document).encode())
