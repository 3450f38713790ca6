"""The folders of models: one for each, in one or more repositories.

Source: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triton_stub.config.defaults import no_repository
from triton_stub.core.repository.versions import folders
from triton_stub.errors import LoadError, ServerError, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Folders:
    """Where the models of one or more repositories are.

    A model that a repository was registered with under another name is found by that name alone.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = [Path(path).resolve() for path in paths]
        for path in self.paths:
            if not path.is_dir():
                raise LoadError(
                    f"model repository {path} is not a directory. Expected a directory with one "
                    "sub-directory for each model; check the path."
                )
        # By the name of the model: its repository, and its folder.
        self._mapped: dict[str, tuple[Path, Path]] = {}

    def register(self, path: Path, names: Mapping[str, str]) -> None:
        """Add a repository; ``names`` are other names of models, and the folders that they have."""
        path = path.resolve()
        if not path.is_dir():
            raise ServerError(
                f"failed to register '{path}', repository not found", StatusCode.INVALID_ARG
            )
        if path in self.paths:
            raise ServerError(
                f"model repository '{path}' has already been registered", StatusCode.ALREADY_EXISTS
            )
        for name in names:
            if name in self._mapped:
                raise ServerError(
                    f"failed to register '{name}', there is a conflicting mapping for '{name}'",
                    StatusCode.ALREADY_EXISTS,
                )
        self.paths = [*self.paths, path]
        self._mapped |= {name: (path, path / folder) for name, folder in names.items()}

    def unregister(self, path: Path) -> None:
        """Forget a repository. What is loaded from it goes on."""
        path = path.resolve()
        if path not in self.paths:
            raise ServerError(
                f"failed to unregister '{path}', repository not found", StatusCode.INVALID_ARG
            )
        self.paths = [known for known in self.paths if known != path]
        self._mapped = {name: at for name, at in self._mapped.items() if at[0] != path}

    def renamed(self, name: str) -> bool:
        """True if a model has another name than its folder."""
        return name in self._mapped

    def found(self) -> dict[str, list[Path]]:
        """The folders of each model, by its name: more than one of an ambiguous model.

        LoadError if a repository cannot be read.
        """
        return self._found(self.paths)

    def readable(self) -> tuple[dict[str, list[Path]], dict[Path, LoadError]]:
        """The same for the repositories that can be read, and why the others cannot."""
        readable: list[Path] = []
        errors: dict[Path, LoadError] = {}
        for path in self.paths:
            try:
                self._found([path])
            except LoadError as error:
                errors[path] = error
            else:
                readable.append(path)
        return self._found(readable), errors

    def find(self, name: str) -> Path:
        """The folder of a model; LoadError if there is none, or more than one."""
        if name in self._mapped:
            places = [self._mapped[name][1]]
        else:
            mapped = {folder for _, folder in self._mapped.values()}
            places = [path / name for path in self.paths if path / name not in mapped]
        # "." would be the repository itself.
        found = [path for path in places if _is_folder(path) and path not in self.paths]
        if not found:
            there = ", ".join(sorted(self.readable()[0]))
            raise LoadError(
                f"failed to load '{name}', failed to poll from model repository. Expected a "
                f"directory of that name in {', '.join(map(str, self.paths))}; there are: "
                f"{there or 'none'}.{''.join(map(no_repository, self.paths))}",
                told="model not found in any model repository.",
            )
        if len(found) > 1:
            raise ambiguous(name, found)
        return found[0]

    def _found(self, repositories: Iterable[Path]) -> dict[str, list[Path]]:
        names = {folder: name for name, (_, folder) in self._mapped.items()}
        found: dict[str, list[Path]] = {}
        for path in repositories:
            try:
                for folder in folders(path):
                    found.setdefault(names.get(folder, folder.name), []).append(folder)
            except OSError as error:
                raise LoadError(
                    f"cannot read a model repository: {error}. Remove it, or make it readable; the "
                    "server serves nothing of such a repository.",
                    told=f"failed to stat file {error.filename}",
                ) from error
        return found


def ambiguous(name: str, paths: Iterable[Path]) -> LoadError:
    """The error of a model that is in more than one repository."""
    return LoadError(
        f"model '{name}' is in more than one repository: {', '.join(map(str, paths))}. Names must "
        "be unique; rename or remove one.",
        StatusCode.INVALID_ARG,
        told="not unique across all model repositories",
    )


def _is_folder(path: Path) -> bool:
    """Whatever the name is: one that no file can have is none of a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False
