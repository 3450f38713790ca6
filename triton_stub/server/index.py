"""Models by their names: what ``Server.models`` returns, and the names of folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triton_stub.errors import InvalidArgumentError
from triton_stub.server.model import Model

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from triton_stub.core.repository.repository import ModelState
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


def names_of_models(path: str | os.PathLike[str], named: Mapping[str, str]) -> dict[str, str]:
    """Folders by the names of their models, out of names of models by their folders.

    Source of the texts: core ``src/tritonserver.cc``, TRITONSERVER_ServerRegisterModelRepository.
    """
    folders: dict[str, str] = {}
    for folder, name in named.items():
        if not isinstance(name, str):
            raise InvalidArgumentError(
                f"Mapped model name must be a string, found another type for {folder}"
            )
        if name in folders:
            raise InvalidArgumentError(
                f"failed to register '{path}', there is a conflicting mapping for '{name}'"
            )
        folders[name] = folder
    return folders
