"""A private import scope for each model instance.

In Triton each instance is a process: every model is called ``1.model``, helpers of the same name
in two models are different modules, and ``triton_python_backend_utils`` exists only there. Here
many instances share one process, so the modules that belong to a model, and what it adds to
``sys.path``, are seen only while the scope is *active*: while the model is loaded, and during
each of its imports. ``sys.argv`` is empty then, as on the server. Everything else (numpy, jax, the
standard library) is imported as always and shared.

A module of the scope runs with its own ``__import__``, so an import statement that is reached
later, in ``execute`` say, still finds the scope's modules; so does ``importlib.import_module``,
because it gets an ``importlib`` of its own. What looks modules up in another way finds them only
while the model is loaded: ``sys.modules[__name__]``, pickle, and ``dataclass`` when annotations
are texts (``deviations.COMPUTED_IMPORTS``).
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
import threading
from collections import Counter
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from triton_stub.pb_utils.modules import PB_UTILS_FILE
from triton_stub.runtime.search_path import SearchPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec


class ImportScope:
    """Imports from the folders of a model, unseen by the rest."""

    # sys.modules, sys.path and sys.meta_path are the process's: one scope has them at a time, for
    # all of its threads, because an import may wait for a thread that imports.
    _turn: ClassVar = threading.Condition()
    _active: ClassVar[ImportScope | None] = None

    def __init__(self, folders: Sequence[Path], backend_modules: Mapping[str, ModuleType]) -> None:
        # Without the working directory: deviations.WORKING_DIRECTORY.
        self._path = SearchPath(tuple(map(str, (*folders, Path(PB_UTILS_FILE).parent))))
        self._backend_modules = frozenset(backend_modules)
        self._modules = dict(backend_modules)
        self._owned: dict[str, bool] = {}
        self._finder = _ScopeFinder(self)
        #: What the modules of the scope have for their builtins, and no others have.
        self.builtins = {**vars(builtins), "__import__": self._import}
        self._loading = 0  # how often ``active`` is entered
        self._waiting = 0  # how often ``suspended`` is entered
        self._imports: Counter[int] = Counter()  # under way, by thread
        self._abandoned = False
        self._process_modules: dict[str, ModuleType] = {}
        self._process_path: list[str] = []
        self._process_argv: list[str] = []
        self._importlib = _Importlib(self)

    def import_module(self, name: str) -> ModuleType:
        """Import ``1.model`` or any other module of the scope."""
        with self.importing():
            # Not importlib.import_module: C code imports this way, and tracebacks show which.
            __import__(name)
            return sys.modules[name]

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the process see the scope's modules and path for a while, in place of its own."""
        with self._turn:
            self._loading += 1
            self._take_turn()
        try:
            yield
        finally:
            with self._turn:
                self._loading -= 1
                self._end_turn()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Let other scopes have their turn while this thread waits for one of them.

        For a model that loads another one in ``initialize``, from any of its threads: whoever
        entered ``active`` may be waiting for that thread. An import that another thread has under
        way is finished first.
        """
        thread = threading.get_ident()
        with self._turn:
            imports = self._imports.pop(thread, 0)
            self._waiting += 1
            self._end_turn()
        try:
            yield
        finally:
            with self._turn:
                self._waiting -= 1
                if imports:
                    self._imports[thread] = imports
                self._take_turn()

    def abandon(self) -> None:
        """Give the turn to others for good, because the model blocks; it imports nothing more."""
        with self._turn:
            self._abandoned = True
            self._imports.clear()
            # Every model's module has the same name, and that has one lock in the process.
            locks = vars(sys.modules["importlib._bootstrap"]).get("_module_locks", {})
            for name in list(locks):
                if self.owns(name):
                    locks.pop(name, None)
            self._end_turn()

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Let the process see the scope's modules and path during one import of this thread."""
        thread = threading.get_ident()
        with self._turn:
            if self._abandoned:
                raise ImportError("this model was given up: it blocked for too long")
            self._imports[thread] += 1
            self._take_turn()
        try:
            yield
        finally:
            with self._turn:
                self._imports[thread] -= 1
                self._imports += Counter()  # drops zeros
                self._end_turn()

    def _is_wanted(self) -> bool:
        if self._abandoned:
            return False
        return bool(self._imports) or (self._loading > 0 and not self._waiting)

    def _take_turn(self) -> None:
        self._turn.wait_for(
            lambda: ImportScope._active in (None, self) or not self._is_wanted(),
        )
        if ImportScope._active is None and self._is_wanted():
            self._swap_in()

    def _end_turn(self) -> None:
        if ImportScope._active is self and not self._is_wanted():
            self._swap_out()
            self._turn.notify_all()

    def owns(self, name: str) -> bool:
        """True if ``name`` is this model's business and not the process's.

        A file beside ``model.py`` wins over the test run's own modules, but, as on the server,
        not over the standard library and installed packages.
        """
        top_level = name.partition(".")[0]
        owned = self._owned.get(top_level)
        if owned is None:
            owned = top_level in self._backend_modules or (
                top_level not in sys.stdlib_module_names and self._path.has(top_level)
            )
            self._owned[top_level] = owned
        return owned

    def find_spec(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Where a module of the scope is; None if it is not the scope's or not there."""
        self._note_path()
        if not self.owns(name):
            return None
        spec = self._path.find(name) if path is None else PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _ScopeLoader(name, spec.loader.path, self.builtins)
        elif spec is not None and spec.loader is None:
            # A namespace package would look itself up again when sys.path changes.
            spec.submodule_search_locations = list(spec.submodule_search_locations or ())
        return spec

    def _swap_in(self) -> None:
        ImportScope._active = self
        self._process_modules = self._take_modules()
        self._process_path = sys.path.copy()
        sys.modules.update(self._modules)
        sys.path[:] = self._path.around(self._process_path)
        self._process_argv, sys.argv = sys.argv, [""]
        sys.meta_path.insert(0, self._finder)

    def _swap_out(self) -> None:
        self._note_path()
        sys.meta_path.remove(self._finder)
        sys.path[:] = self._process_path
        sys.argv = self._process_argv
        self._modules = self._take_modules()
        sys.modules.update(self._process_modules)
        ImportScope._active = None

    def _take_modules(self) -> dict[str, ModuleType]:
        """Take the modules that the scope owns out of ``sys.modules``."""
        # A copy, because other threads import meanwhile.
        taken = {name: module for name, module in sys.modules.copy().items() if self.owns(name)}
        for name in taken:
            del sys.modules[name]
        return taken

    def _note_path(self) -> None:
        """See what the model has done to ``sys.path``: more names may be its own now."""
        with self._turn:
            if ImportScope._active is not self:
                return
            path = self._path.changed(sys.path, self._process_path)
            if path != self._path:
                modules = self._take_modules()
                self._path = path
                self._owned.clear()
                self._process_modules |= self._take_modules()
                sys.modules.update(modules)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        module = None if level or "." in name else self._modules.get(name)
        if module is not None and not (fromlist and hasattr(module, "__path__")):
            # Without waiting: another scope may be active for as long as its model loads.
            return module
        self._note_path()
        # A relative import is made from inside the scope, so it is the scope's.
        if level == 0 and not self.owns(name):
            found = __import__(name, globals, locals, fromlist or (), level)
            return self._importlib if found is importlib else found
        with self.importing():
            return __import__(name, globals, locals, fromlist or (), level)


class _ScopeFinder:
    """Sits first on ``sys.meta_path`` while the scope is active."""

    def __init__(self, scope: ImportScope) -> None:
        self._scope = scope

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002 - the signature of find_spec
    ) -> ModuleSpec | None:
        return self._scope.find_spec(name, path)


class _ScopeLoader(SourceFileLoader):
    """Runs a module with the scope's builtins and leaves no bytecode in the model's folder."""

    def __init__(self, name: str, path: str, scope_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = scope_builtins

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # Not in exec_module: there a frame of ours would show in tracebacks of syntax errors.
        module = ModuleType(spec.name)
        vars(module)["__builtins__"] = self._builtins
        return module

    def _cache_bytecode(self, *_: object) -> None:
        """A ``__pycache__`` in a model folder counts as a change of the model."""


class _Importlib(ModuleType):
    """``importlib`` for the modules of a scope: what it imports by name is the scope's, too."""

    def __init__(self, scope: ImportScope) -> None:
        super().__init__(importlib.__name__, importlib.__doc__)
        self._scope = scope

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """``importlib.import_module``."""
        owner = package if name.startswith(".") else name
        if not owner or not self._scope.owns(owner):
            return importlib.import_module(name, package)
        with self._scope.importing():
            return importlib.import_module(name, package)

    def reload(self, module: ModuleType) -> ModuleType:
        """``importlib.reload``."""
        if not self._scope.owns(module.__name__):
            return importlib.reload(module)
        with self._scope.importing():
            return importlib.reload(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib, name)
