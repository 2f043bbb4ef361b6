"""Rows for a terminal, each column as wide as its widest cell."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return ``head`` and ``rows`` as lines. They have the same number of cells,
    cleaned by the caller."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)
