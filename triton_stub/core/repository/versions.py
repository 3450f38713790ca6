"""Versions of a model on disk, and which of them are to be loaded.

Source: core ``src/model_repository_manager/model_lifecycle.cc`` (MLC).
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Any

from triton_stub import deviations
from triton_stub.errors import LoadError, StatusCode
from triton_stub.pb_utils.logger import LogLevel

if TYPE_CHECKING:
    from pathlib import Path

    from triton_stub.core.log import Log

_NO_VERSION = frozenset({"warmup", "initial_state", "configs"})
# As std::stoll reads: what comes after the number does not count.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")


def wanted_versions(directory: Path, config: Any, log: Log) -> list[int]:
    """Versions that the policy names and that are there (MLC 84-143).

    LoadError, beside the server's words with what to do, if there is none (MLC 453-458).
    """
    present = _present_versions(directory, log)
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    wanted = present
    if choice == "specific":
        # One that is asked for twice counts as there the second time, as on the server.
        there, wanted = set(present), []
        for version in policy.specific.versions:
            if version in there:
                wanted.append(version)
                continue
            there.add(version)
            log.note(
                LogLevel.ERROR,
                f"version {version} is specified for model '{config.name}', but the "
                "version directory is not present",
            )
        wanted = sorted(set(wanted))
    elif choice == "latest":
        count = policy.latest.num_versions
        wanted = present[-count:] if count else []
    if not wanted:
        raise LoadError(
            "at least one version must be available under the version policy of model "
            f"'{config.name}'. Expected {directory}/1/{config.default_model_filename}, or "
            "another directory named by a number (every directory of a repository is a "
            f"model); there are: {', '.join(map(str, present)) or 'none'}.",
            StatusCode.INVALID_ARG,
            told="at least one version must be available under the version policy of model "
            f"'{config.name}'",
        )
    return wanted


def folders(path: Path) -> list[Path]:
    """Directories in a directory; OSError if one entry is a link to nowhere, as on the server."""
    return sorted(entry for entry in path.iterdir() if stat.S_ISDIR(entry.stat().st_mode))


def _present_versions(directory: Path, log: Log) -> list[int]:
    present: set[int] = set()
    for folder in folders(directory):
        name = folder.name
        if name in _NO_VERSION:
            continue
        number = _NUMBER.match(name)
        if len(name) > 1 and name.startswith("0"):
            problem = "contains leading zeros in its directory name"
        elif number is None:
            problem = "fails to convert to integral number"
        else:
            present.add(_integer(number[1], folder))
            continue
        log.note(LogLevel.WARNING, f"ignore version directory '{name}' which {problem}")
    return sorted(present)


def _integer(digits: str, folder: Path) -> int:
    version = int(digits)
    if not 0 <= version < 2**63:
        raise LoadError(
            deviations.ODD_VERSION.text(f"{folder} is named by {version}", "Rename it.")
        )
    return version
