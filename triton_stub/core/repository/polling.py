"""What has changed in the repositories since they were looked at last.

Source: core ``src/model_repository_manager/model_repository_manager.cc`` (MRM).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from triton_stub import config as model_config
from triton_stub.core.repository import source as model_source
from triton_stub.core.repository.folders import ambiguous
from triton_stub.errors import ConfigError, LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from triton_stub.core.repository.folders import Folders
    from triton_stub.core.repository.source import LoadParameters, ModelSource, ModelTimes


@dataclass(frozen=True, slots=True)
class Known:
    """What the repository knows of a model that it has seen.

    Attributes:
        source: what it was to be loaded from last.
        times: how old that is; what is newer is loaded again.
        before: how old it was the last time before, if there was one.
        explicit: whether it was asked for by name, and not as a step of an ensemble.
    """

    source: ModelSource
    times: ModelTimes
    before: ModelTimes
    explicit: bool = True


@dataclass(slots=True)
class Polled:
    """Models by what has become of them; of those that are there, what is known now.

    A model whose configuration is refused stays what it was, and is in ``errors``, too. ``lines``
    is what the log says of these.
    """

    known: dict[str, Known] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    modified: set[str] = field(default_factory=set)
    unmodified: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    errors: dict[str, LoadError] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def poll_all(folders: Folders, known: Mapping[str, Known], *, strict: bool) -> Polled:
    """Look at every model. What is not there any more, or ambiguous now, counts as deleted."""
    polled = Polled()
    found, unreadable = folders.readable()
    for path, error in unreadable.items():
        polled.errors[str(path)] = error
        polled.lines.append(f"failed to poll model repository '{path}': {error.told}")
    for name, paths in sorted(found.items()):
        if len(paths) > 1:
            polled.errors[name] = error = ambiguous(name, paths)
            polled.lines.append(f"failed to poll model '{name}': {error.told}")
        else:
            _poll(polled, name, paths[0], {}, known.get(name), strict=strict)
    polled.deleted |= known.keys() - polled.known.keys()
    return polled


def poll_named(
    folders: Folders,
    known: Mapping[str, Known],
    names: Mapping[str, LoadParameters],
    *,
    strict: bool,
) -> Polled:
    """Look at some models, and at those that their steps name, and so on (MRM, ``PollModels``)."""
    polled = Polled()
    seen: set[str] = set()
    ahead = dict(names)
    while ahead:
        for name, parameters in sorted(ahead.items()):
            try:
                own_files = model_source.overrides_files(parameters)
                path = None if own_files else folders.find(name)
            except LoadError as error:
                polled.errors[name] = error
                polled.lines.append(f"failed to poll model '{name}': {error.told}")
                continue
            renamed = folders.renamed(name)
            _poll(polled, name, path, parameters, known.get(name), strict=strict, renamed=renamed)
        seen |= ahead.keys()
        steps = {
            step
            for found in polled.known.values()
            for step, _ in model_config.composing_models(found.source.config)
        }
        ahead = {name: {} for name in steps - seen}
    for name, found in polled.known.items():
        explicit = name in names or (name in known and known[name].explicit)
        polled.known[name] = replace(found, explicit=explicit)
    return polled


def _poll(
    polled: Polled,
    name: str,
    path: Path | None,
    parameters: LoadParameters,
    known: Known | None,
    *,
    strict: bool,
    renamed: bool = False,
) -> None:
    source: ModelSource | None = None
    try:
        if path is None:
            source = model_source.written(name, parameters, strict=strict)
        else:
            times = None if known is None else known.times
            source = model_source.read(
                path, parameters, times, name=name if renamed else "", strict=strict
            )
    except ConfigError as error:
        polled.errors[name] = error
    except OSError as error:
        polled.errors[name] = LoadError(f"cannot read model '{name}': {error}")
        polled.errors[name].__cause__ = error
    if name in polled.errors:
        error_text = polled.errors[name].message
        polled.lines.append(f"Poll failed for model directory '{name}': {error_text}")
    if source is not None:
        before = model_source.ModelTimes() if known is None else known.times
        polled.known[name] = Known(source, source.times, before)
        (polled.added if known is None else polled.modified).add(name)
    elif known is not None:
        polled.known[name] = known
        polled.unmodified.add(name)
