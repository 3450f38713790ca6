"""What a container is made of, and what Docker understands of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SIZE = re.compile(r"[1-9]\d*([bkmg]b?)?", re.IGNORECASE)
_GPUS = re.compile(r"all|[1-9]\d*|device=[\w:-]+(,[\w:-]+)*")


@dataclass(frozen=True, slots=True)
class Box:
    """What a container is made of.

    Attributes:
        image: its name.
        command: words, the program first.
        env: environment variables.
        mounts: as ``docker.types.Mount`` takes them: target, source, type, read_only.
        gpus: as :func:`check_gpus` returns it.
        shm_size: size of ``/dev/shm``, as :func:`check_size` returns it.
        user: who runs the command; the image says unless given.
    """

    image: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mapping[str, Any]] = ()
    gpus: str | None = None
    shm_size: str = "1g"
    user: str | None = None

    def device_requests(self) -> list[dict[str, Any]]:
        """The GPUs, as ``docker.types.DeviceRequest`` takes them."""
        if self.gpus is None:
            return []
        which: dict[str, Any] = {"capabilities": [["gpu"]]}
        if self.gpus.startswith("device="):
            which["device_ids"] = self.gpus.removeprefix("device=").split(",")
        else:
            which["count"] = -1 if self.gpus == "all" else int(self.gpus)
        return [which]


def check_gpus(gpus: str | int | None) -> str | None:
    """``gpus`` as text, None for no GPU; ValueError if ``docker run --gpus`` would not take it."""
    if gpus is None:
        return None
    if isinstance(gpus, bool) or not _GPUS.fullmatch(str(gpus)):
        raise ValueError(f"{gpus}: expected all, a number of GPUs, or device=0,1")
    return str(gpus)


def check_size(size: str) -> str:
    """``size`` itself; ValueError if ``docker run --shm-size`` would not take it."""
    if not _SIZE.fullmatch(size):
        raise ValueError(f"{size}: expected a number of bytes with b, k, m or g behind it, as 1g")
    return size
