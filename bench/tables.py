"""The report of ``bench/compare``: tables in Markdown, and a picture of the same
figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import bars
import plot
import report
from costs import Held
from figures import (
    BESIDE_P50,
    BESIDE_P99,
    BULK_UNITS,
    CALM_P50,
    CALM_P99,
    CLIENT_KIB,
    CPU_CLIENT,
    CPU_SERVER,
    FLOODED_P50,
    FLOODED_P99,
    KEEP_ALIVE,
    NEW,
    PIECES,
    RATES,
    REDIAL_CLIENT,
    REDIAL_SERVER,
    REDIALS,
    REQUEST_UNITS,
    SERVER_KIB,
    SHRUNK_KIB,
    TUNNEL_KIB,
    UNITS,
    Figures,
)
from programs import HAPROXY, NGINX, SSH, find, version
from systems import HOP, JOIN, ours

_NONE = "-"
"""A cell for what was not measured, or does not exist."""

COMES_BACK = "a whole visit on one that comes back"
"""The row beside the redials: what no redial is needed for."""


@dataclass
class Results:
    """Everything that one run has measured."""

    figures: Figures = field(default_factory=Figures)
    held: dict[str, list[Held]] = field(default_factory=dict)


def describe(results: Results) -> str:
    """Return all tables as Markdown."""
    figures = results.figures
    parts = [
        f"{report.machine()}; {'; '.join(_versions())}.",
        "The bars, and what is aimed at:",
        report.table(bars.HEAD, bars.rows(figures)),
        "Rates, as medians, and how many times haproxy's they are:",
        report.table(["system", *RATES], _rates(figures)),
        "CPU time that the two sides take, of all cores together:",
        report.table(*_medians(figures, *_both_sides(REQUEST_UNITS))),
        report.table(*_medians(figures, *_both_sides(BULK_UNITS))),
        "Memory, in KiB; a tunnel's is the server's:",
        report.table(*_medians(figures, SERVER_KIB, CLIENT_KIB, TUNNEL_KIB, SHRUNK_KIB)),
        "Resident memory of the server in MiB, and its CPU while nothing happens, as open connections grow:",
        report.table(*_growth(results.held)),
        "A visitor of one tunnel while another one on the same server is flooded, and while its nginx is, directly:",
        report.table(*_flood(figures)),
        "A pool that is opened again at once, by the client's own dialler. Below it a whole visit in join mode over "
        "TLS with a new connection of the visitor: its proxy connection comes back to the pool, which saves a redial.",
        report.table(*_redials(figures)),
        "A request to Python's http.server on a kept connection; it sends head and body by themselves:",
        report.table(*_medians(figures, PIECES, digits=1)),
    ]
    return "\n\n".join(parts)


def _rates(figures: Figures) -> list[list[str]]:
    rows = []
    for name in figures.systems(KEEP_ALIVE):
        cells = []
        for measure in RATES:
            share = figures.ratio(name, measure, HOP)
            cells.append(_cell(figures.get(name, measure)) + (f" ({share:.2f})" if share is not None else ""))
        rows.append([name, *cells])
    return rows


def _both_sides(units: dict[str, str]) -> list[str]:
    return [side.format(unit) for unit in units.values() for side in (CPU_SERVER, CPU_CLIENT)]


def _flood(figures: Figures) -> tuple[list[str], list[list[str]]]:
    measures = (CALM_P50, BESIDE_P50, FLOODED_P50, CALM_P99, BESIDE_P99, FLOODED_P99)
    head, rows = _medians(figures, *measures, digits=2)
    return [*head, "p99, flooded, of nginx flooded"], [
        [*row, _cell(figures.per(row[0], FLOODED_P99, BESIDE_P99), 2)] for row in rows
    ]


def _redials(figures: Figures) -> tuple[list[str], list[list[str]]]:
    """Return the table of redials, with a visit that needs none in its last row."""
    head, rows = _medians(figures, REDIALS, REDIAL_SERVER, REDIAL_CLIENT, of="proxy connection")
    visit = [NEW, *_both_sides({NEW: UNITS[NEW]})]
    return head, [*rows, [COMES_BACK, *(_cell(figures.get(ours(JOIN, encrypted=True), each)) for each in visit)]]


def _growth(held: dict[str, list[Held]]) -> tuple[list[str], list[list[str]]]:
    counts = sorted({each.count for readings in held.values() for each in readings})
    rows = []
    for name, readings in held.items():
        by_count = {each.count: each for each in readings}
        rows.append([name, *(_held_cell(by_count.get(count)) for count in counts)])
    return ["open connections", *(f"{count:,}" for count in counts)], rows


def _held_cell(held: Held | None) -> str:
    return _NONE if held is None else f"{held.server_kib / 1024:.1f} ({held.idle_cpu:.1f} %)"


def _medians(
    figures: Figures, *measures: str, of: str = "system", digits: int | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of ``measures``: a row for each system that has the
    first."""
    names = figures.systems(measures[0])
    return [of, *measures], [[name, *(_cell(figures.get(name, each), digits) for each in measures)] for name in names]


def picture(results: Results) -> str:
    """Return the rates as bars, and memory over open connections as lines, as SVG."""
    figures = results.figures
    parts: list[plot.Bars | plot.Lines] = []
    for measure in RATES:
        found = [(name, figures.get(name, measure)) for name in figures.systems(measure)]
        parts.append(plot.Bars(measure, [(name, figure) for name, figure in found if figure is not None]))
    lines = [(name, _resident(readings)) for name, readings in results.held.items() if readings]
    parts.append(plot.Lines("resident memory of the server, MiB", "open connections", lines))
    return plot.svg(parts)


def _resident(readings: Sequence[Held]) -> list[tuple[float, float]]:
    return [(each.count, each.server_kib / 1024) for each in readings]


def _cell(figure: float | None, digits: int | None = None) -> str:
    if figure is None:
        return _NONE
    if digits is None:
        digits = 0 if figure >= 100 else 1
    return f"{figure:,.{digits}f}"


def _versions() -> list[str]:
    commands = {NGINX: ["-v"], HAPROXY: ["-v"], SSH: ["-V"]}
    found = [version(path, *options) for name, options in commands.items() if (path := find(name)) is not None]
    return [report.python_versions(), *found]
