"""A model in a process of its own, as on the server: its modules and its path are the process's."""

from __future__ import annotations

import builtins
import contextlib
import multiprocessing
import sys
import threading
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

from triton_stub.pb_utils.modules import PB_UTILS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from importlib.machinery import ModuleSpec
    from multiprocessing.process import BaseProcess
    from types import ModuleType

#: What the names of this library's own threads begin with, in such a process.
OWN_THREADS = "triton_stub "


class OwnScope:
    """``ImportScope`` where there is nobody to hide anything from; entered once and for all."""

    def __init__(self, folders: Sequence[Path], backend_modules: Mapping[str, ModuleType]) -> None:
        self.builtins = vars(builtins)
        sys.path += map(str, (*folders, Path(PB_UTILS_FILE).parent))
        sys.modules.update(backend_modules)
        sys.meta_path.insert(0, _CleanFinder(folders[-1]))

    def import_module(self, name: str) -> ModuleType:
        """Import ``1.model``."""
        # Not importlib.import_module: C code imports this way, and tracebacks show which.
        __import__(name)
        return sys.modules[name]

    def active(self) -> AbstractContextManager[None]:
        """Nothing to do: it always is."""
        return contextlib.nullcontext()

    def suspended(self) -> AbstractContextManager[None]:
        """Nothing to do: nobody waits for a turn."""
        return contextlib.nullcontext()

    def abandon(self) -> None:
        """Nothing to do: the process is killed."""


class OwnOffspring:
    """``Offspring`` of which the end of the process takes care."""

    def watch(self) -> None:
        """Nothing to do."""

    forget = end_pools = let_go = watch

    def running(self) -> list[threading.Thread | BaseProcess]:
        """All that the model has started and that runs."""
        own = (threading.main_thread(), threading.current_thread())
        threads = [
            thread
            for thread in threading.enumerate()
            if thread not in own and not thread.name.startswith(OWN_THREADS)
        ]
        return [*threads, *multiprocessing.active_children()]

    def left(self) -> list[threading.Thread | BaseProcess]:
        """What of it keeps the process from ending."""
        return [each for each in self.running() if not each.daemon]

    def daemons(self) -> list[threading.Thread]:
        """None that anybody would have to be told of: they end with the process."""
        return []


class _CleanFinder:
    """Leaves no bytecode in the model's folder, where it would count as a change of the model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,  # noqa: ARG002 - the signature of find_spec
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        if not Path(spec.loader.path).is_relative_to(self._folder):
            return None
        spec.loader = _CleanLoader(name, spec.loader.path)
        return spec


class _CleanLoader(SourceFileLoader):
    def _cache_bytecode(self, *_: object) -> None:
        """Nothing is kept."""
