"""What a server prints when it has started: its models, and its options.

Source: core ``src/server.cc``, ``PrintBackendAndModelSummary``, and ``src/tritonserver.cc``,
``TRITONSERVER_ServerNew``. Options that have no effect here are left out.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from triton_stub.cli.table import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triton_stub.server import Server
# Of what the real server's table leaves out.
_WIDTH = 100


def models(server: Server, columns: int = 0) -> str:
    """Each version that was tried and what became of it; and models that never got so far.

    ``columns`` is how wide the terminal is.
    """
    rows = [
        (row.name, row.version, f"{row.state}: {row.reason}" if row.reason else row.state)
        for row in server.index()
        if row.version
    ]
    named = {name for name, *_ in rows}
    rows += [
        (name, "-", textwrap.fill(f"Not loaded: {error.message}", _WIDTH))
        for name, error in server.load_errors.items()
        if name not in named
    ]
    return table(("Model", "Version", "Status"), sorted(rows), columns=columns)


def options(server: Server, columns: int = 0) -> str:
    """The options, as far as they do something."""
    return table(("Option", "Value"), _options(server), columns=columns)


def _options(server: Server) -> Iterator[tuple[str, str]]:
    given, told = server.options, server.metadata()
    yield "server_id", told["name"]
    yield "server_version", told["version"]
    yield "server_extensions", " ".join(told["extensions"])
    # The server keeps both in sets.
    for number, path in enumerate(sorted(set(map(str, given.repositories())))):
        yield f"model_repository_path[{number}]", path
    yield "model_control_mode", f"MODE_{given.control_mode.name}"
    for number, name in enumerate(sorted(set(given.startup_models))):
        yield f"startup_models_{number}", name
    yield "strict_model_config", str(int(given.strict_model_config))
    yield "rate_limit", "EXEC_COUNT" if given.rate_limited else "OFF"
    yield "strict_readiness", str(int(given.strict_readiness))
    yield "exit_timeout", f"{given.exit_timeout:g}"
    yield "cache_enabled", str(int(bool(given.cache_config)))
