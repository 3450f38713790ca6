"""How full the cache of a language model is, told in a header to load balancers that ask (ORCA).

The numbers are gauges of the model's own, under the name that TensorRT-LLM gives them. Source:
server ``src/orca_http.cc`` (25.03 and later).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from triton_stub.endpoints.http import documents
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from triton_stub.server import Server

#: The header that asks, for ``text`` or ``json``, and the one that tells.
FORMAT = "endpoint-load-metrics-format"
HEADER = "endpoint-load-metrics"
_GAUGE = re.compile(r"nv_trt_llm_kv_cache_block_metrics(?:{(.*?)})?\s*(\d+(?:\.\d+)?)", re.ASCII)
_KIND = re.compile(r'\bkv_cache_block_type="([^"]*)"')
_KINDS = ("tokens_per", "used", "max")


def headers(server: Server, form: str | None) -> dict[str, str]:
    """The header for a client that asked for ``form``, if it did; else the log says why not."""
    if form is None:
        return {}
    log = server.log()
    told = ""
    blocks = _blocks(server.metrics())
    if not blocks.keys() >= set(_KINDS):
        log.note(LogLevel.ERROR, "One or more of the kv metrics was not found or invalid.")
    elif form in ("json", "text"):
        told = _told(form, *(blocks[kind] for kind in _KINDS))
    else:
        log.note(LogLevel.ERROR, f"orca_type is set to an invalid type: {form}")
    if told:
        return {HEADER: told}
    log.note(
        LogLevel.ERROR,
        "ENDPOINT_LOAD_METRICS_TYPE request header is set but extracted_kv_metrics is empty, no "
        f"header written. orca_type={form}",
    )
    return {}


def _blocks(metrics: str) -> dict[str, float]:
    """The last gauge of each kind."""
    found = ((_KIND.search(labels or ""), value) for labels, value in _GAUGE.findall(metrics))
    return {kind[1]: float(value) for kind, value in found if kind}


def _told(form: str, tokens_per_block: float, used: float, most: float) -> str:
    utilization = used / most if most else 0.0
    capacity = int(most * tokens_per_block)
    if form == "json":
        named = {"kv_cache_utilization": utilization, "max_token_capacity": capacity}
        return f"JSON {documents.dump({'named_metrics': named}).decode()}"
    return (
        f"TEXT named_metrics.kv_cache_utilization={utilization:f}, "
        f"named_metrics.max_token_capacity={capacity}"
    )
