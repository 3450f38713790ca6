"""Tables as the server draws them.

Source: common ``src/table_printer.cc``, without its folding of what is wider than the terminal.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Header and rows between lines; a cell may have several lines itself."""
    cells = [[cell.splitlines() for cell in row] for row in (header, *rows)]
    widths = [
        max(len(line) for lines in column for line in [*lines, ""])
        for column in zip(*cells, strict=True)
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    drawn = ["\n".join(_lines(row, widths)) for row in cells]
    return "\n".join([rule, drawn[0], rule, *drawn[1:], rule])


def _lines(row: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterable[str]:
    for line in zip_longest(*row, fillvalue=""):
        padded = (f" {part:<{width}} " for part, width in zip(line, widths, strict=True))
        yield "|" + "|".join(padded) + "|"
