"""What ``Server.models`` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton_stub.server.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triton_stub.core.repository import ModelState
    from triton_stub.server.server import Server


class ModelDictionary(dict[tuple[str, int], Model]):
    """Handles of models by name and version.

    A name alone gives the handle of its newest version, as in NVIDIA's API; ``in`` and ``get``
    know names and versions only.
    """

    def __init__(self, server: Server, rows: Iterable[ModelState]) -> None:
        super().__init__()
        self._server = server
        for row in rows:
            version = int(row.version) if row.version else -1
            tried = row.version or row.reason
            self[row.name, version] = Model(
                server, row.name, version, row.state if tried else None, row.reason or None
            )

    def __getitem__(self, key: tuple[str, int] | str) -> Model:
        if isinstance(key, str) and any(name == key for name, _ in self):
            return Model(self._server, key)
        if isinstance(key, tuple) and key in self:
            return super().__getitem__(key)
        raise KeyError(f"Unknown Model: {key}")
