"""A private import scope for each model instance.

In Triton each instance is a process: every model is called ``1.model``, helpers of the same name
in two models are different modules, and ``triton_python_backend_utils`` exists only there. Here
many instances share one process, so the modules that belong to a model are kept out of
``sys.modules`` except while something of that model is being imported.

A module of the scope runs with its own ``__import__``, so an import statement that is reached
later, in ``execute`` say, still finds the scope's modules. Everything else (numpy, jax, the
standard library) is imported as always and shared.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.machinery
import importlib.util
import site
import sys
import sysconfig
import threading
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType


class ImportScope:
    """Imports from a version directory and its model directory, unseen by the rest."""

    # sys.modules and sys.meta_path are the process's: one scope is active at a time.
    _lock: ClassVar = threading.RLock()

    def __init__(
        self,
        version_directory: Path,
        backend_modules: Mapping[str, ModuleType],
    ) -> None:
        # The order in which the backend appends them to sys.path.
        self._path = [str(version_directory), str(version_directory.parent)]
        self._modules: dict[str, ModuleType] = dict(backend_modules)
        self._owned: dict[str, bool] = dict.fromkeys(backend_modules, True)
        self._finder = _ScopeFinder(self)
        self._depth = 0
        self.builtins = {**vars(builtins), "__import__": self._import}

    def import_module(self, name: str) -> ModuleType:
        """Import ``1.model`` or any other module of the scope."""
        with self.active():
            # Not importlib.import_module: C code imports this way, and tracebacks show which.
            __import__(name)
            return sys.modules[name]

    def owns(self, name: str) -> bool:
        """True if ``name`` is this model's business and not the process's.

        A file beside ``model.py`` wins over the test run's own modules, but, as on the server,
        not over the standard library and installed packages.
        """
        top_level = name.partition(".")[0]
        owned = self._owned.get(top_level)
        if owned is None:
            owned = (
                _find(top_level, self._path) is not None
                and top_level not in sys.stdlib_module_names
                and _find(top_level, _installed_packages()) is None
            )
            self._owned[top_level] = owned
        return owned

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Put the scope's modules into ``sys.modules`` for a while, and take them out again."""
        with self._lock:
            if self._depth:
                yield
                return
            hidden = self._swap_in()
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
                self._swap_out(hidden)

    def _swap_in(self) -> dict[str, ModuleType]:
        # A copy here and below, because other threads import meanwhile.
        hidden = {name: module for name, module in sys.modules.copy().items() if self.owns(name)}
        for name in hidden:
            del sys.modules[name]
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self._finder)
        return hidden

    def _swap_out(self, hidden: dict[str, ModuleType]) -> None:
        sys.meta_path.remove(self._finder)
        self._modules = {
            name: module for name, module in sys.modules.copy().items() if self.owns(name)
        }
        for name in self._modules:
            del sys.modules[name]
        sys.modules.update(hidden)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        # A relative import is made from inside the scope, so it is the scope's.
        if level == 0 and not self.owns(name):
            return __import__(name, globals, locals, fromlist or (), level)
        with self.active():
            return __import__(name, globals, locals, fromlist or (), level)


def _find(name: str, path: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    return importlib.machinery.PathFinder.find_spec(name, path)


def _installed_packages() -> list[str]:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        paths.add(site.getusersitepackages())
    return sorted(paths)


class _ScopeFinder:
    """Finds the modules that the scope owns; sits first on ``sys.meta_path`` while it is active."""

    def __init__(self, scope: ImportScope) -> None:
        self._scope = scope

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002 - the signature of find_spec
    ) -> importlib.machinery.ModuleSpec | None:
        if not self._scope.owns(name):
            return None
        spec = _find(name, self._scope._path if path is None else path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _ScopeLoader(name, spec.loader.path, self._scope.builtins)
        return spec


class _ScopeLoader(importlib.machinery.SourceFileLoader):
    """Runs a module with the scope's builtins and leaves no bytecode in the model's folder."""

    def __init__(self, name: str, path: str, scope_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = scope_builtins

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)

    def _cache_bytecode(self, *_: object) -> None:
        """A ``__pycache__`` in a model folder counts as a change of the model."""
