"""Tables as the server draws them.

Source: common ``src/table_printer.cc``.
"""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_NARROWEST = 20


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, columns: int = 0) -> str:
    """Header and rows between lines; a cell may have several lines itself.

    Where it is wider than ``columns``, if that is given, the last cells are folded.
    """
    cells = [[cell.splitlines() for cell in row] for row in (header, *rows)]
    widths = _widths(cells)
    excess = sum(width + 3 for width in widths) + 1 - columns
    if columns and excess > 0:
        width = max(widths[-1] - excess, _NARROWEST)
        for row in cells:
            row[-1] = [part for line in row[-1] for part in textwrap.wrap(line, width) or [""]]
        widths = _widths(cells)
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    drawn = ["\n".join(_lines(row, widths)) for row in cells]
    return "\n".join([rule, drawn[0], rule, *drawn[1:], rule])


def _widths(cells: Sequence[Sequence[Sequence[str]]]) -> list[int]:
    return [
        max(len(line) for lines in column for line in [*lines, ""])
        for column in zip(*cells, strict=True)
    ]


def _lines(row: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterable[str]:
    for line in zip_longest(*row, fillvalue=""):
        padded = (f" {part:<{width}} " for part, width in zip(line, widths, strict=True))
        yield "|" + "|".join(padded) + "|"
