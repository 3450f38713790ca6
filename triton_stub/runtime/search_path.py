"""Where a model's own modules are looked for: what it has on ``sys.path`` that the process has not.

The backend appends the version directory and the model directory; a model may add more.
"""

from __future__ import annotations

import site
import sysconfig
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class SearchPath:
    """Entries of ``sys.path`` that are one model's: ``front`` come first, the others last.

    ``given`` are the backend's, ``back`` and ``front`` were added by the model.
    """

    given: tuple[str, ...]
    front: tuple[str, ...] = ()
    back: tuple[str, ...] = ()

    def around(self, path: Sequence[str]) -> list[str]:
        """The process's ``sys.path`` with this model's entries."""
        return [*self.front, *path, *self.given, *self.back]

    def changed(self, now: Sequence[str], path: Sequence[str]) -> Self:
        """These entries after the model made ``now`` of ``around(path)``."""
        front = tuple(takewhile(lambda entry: entry not in path, now))
        known = {*path, *self.given}
        back = tuple(entry for entry in now[len(front) :] if entry not in known)
        return replace(self, front=front, back=back)

    def find(self, name: str) -> ModuleSpec | None:
        """A top-level module, as the server would find it; maybe none of the model's own.

        As on the server, the model's files come after installed packages. What else the test run
        has on ``sys.path`` is not there.
        """
        return PathFinder.find_spec(name, self.around(_installed_packages()))

    def has(self, name: str) -> bool:
        """True if a top-level module is the model's own."""
        own = self.around(())
        if PathFinder.find_spec(name, own) is None:
            return False
        spec = self.find(name)
        assert spec is not None
        # A namespace package has folders but no file.
        place = Path(spec.origin or next(iter(spec.submodule_search_locations or ())))
        return any(place.is_relative_to(Path(entry).absolute()) for entry in own)


@cache
def _installed_packages() -> tuple[str, ...]:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        paths.add(site.getusersitepackages())
    return tuple(sorted(paths))
