"""The report of a benchmark: a table on the terminal, and the same table in
docs/benchmarks.md."""

import os
import platform
import textwrap
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from programs import BenchError
from systems import ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that is aligned as plain text: words in the first column,
    numbers in the others."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_row(head, widths), _row(rule, widths), *(_row(row, widths) for row in rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cells[0].ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
    ]
    return f"| {' | '.join(padded)} |"


def machine() -> str:
    """Return the date and the kind of machine of a run, without the machine's name."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    day = time.strftime("%Y-%m-%d")
    return f"{day}; {cores} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def python_versions() -> str:
    """Return the interpreter and the library that ours ran with."""
    return f"Python {platform.python_version()}, gevent {metadata.version('gevent')}"


def write_picture(name: str, svg: str) -> str:
    """Write ``svg`` beside docs/benchmarks.md, and return the line of Markdown that
    shows it."""
    path = DOCUMENT.with_name(f"benchmarks-{name}.svg")
    path.write_text(svg)
    return f"![The same figures as a picture.]({path.name})"


def write(name: str, text: str) -> None:
    """Put ``text`` between the marks of section ``name`` of docs/benchmarks.md. Raises
    BenchError without marks."""
    before, start, rest = DOCUMENT.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    if not start or not end:
        raise BenchError(f"{DOCUMENT} has no section marked {name}; put its two marks back.")
    DOCUMENT.write_text(f"{before}{start}\n{_wrapped(text)}\n\n{end}{after}")


def _wrapped(text: str) -> str:
    """Return ``text`` with its prose in lines as long as those of other documents;
    tables stay as they are."""
    lines = [
        line if line.startswith(("|", "!")) else textwrap.fill(line, 88, break_on_hyphens=False)
        for line in text.split("\n")
    ]
    return "\n".join(lines)
