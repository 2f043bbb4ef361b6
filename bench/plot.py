"""Plots as SVG text, made of strings: bars side by side, and lines over a growing
number. They follow dark mode."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
"""Of a plot, in pixels: what a page of documentation has room for."""

_LEFT, _RIGHT, _LINE, _BAR = 190, 70, 22, 14
"""Pixels: room for names, room for figures, a line of text, and the height of a bar."""

_PLOT_HEIGHT = 240

# Told apart by most people with colour blindness (Okabe and Ito), and clear on white
# and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")

_STYLE = """\
<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.rule { stroke: #8c959f; stroke-width: 1; stroke-opacity: .4 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
</style>"""


@dataclass(frozen=True)
class Bars:
    """One group of bars: what they measure, and a name and a figure for each."""

    title: str
    bars: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Lines:
    """Lines over a number that grows: for each a name and its points, in one unit."""

    title: str
    across: str
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]]


def svg(parts: Sequence[Bars | Lines]) -> str:
    """Return one picture with ``parts`` below each other; a name keeps its colour
    throughout."""
    names: dict[str, str] = {}
    drawn: list[str] = []
    top = 0.0
    for part in parts:
        for name in _names(part):
            names.setdefault(name, _COLOURS[len(names) % len(_COLOURS)])
        body, height = _bars(part, names, top) if isinstance(part, Bars) else _lines(part, names, top)
        drawn += body
        top += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" width="{WIDTH}" role="img">'
    return "\n".join([head, _STYLE, *drawn, "</svg>"]) + "\n"


def _names(part: Bars | Lines) -> list[str]:
    return [name for name, _ in (part.bars if isinstance(part, Bars) else part.lines)]


def _bars(group: Bars, colours: dict[str, str], top: float) -> tuple[list[str], float]:
    most = max((figure for _, figure in group.bars), default=0) or 1
    drawn = [_text(0, top + 16, group.title, "title")]
    y = top + _LINE
    for name, figure in group.bars:
        width = figure / most * (WIDTH - _LEFT - _RIGHT)
        drawn += [
            _text(_LEFT - 8, y + _BAR - 2, name, anchor="end"),
            f'<rect x="{_LEFT}" y="{y:.0f}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colours[name]}"/>',
            _text(_LEFT + width + 6, y + _BAR - 2, _number(figure)),
        ]
        y += _LINE - 2
    return drawn, y - top + 14


def _lines(plot: Lines, colours: dict[str, str], top: float) -> tuple[list[str], float]:
    points = [point for _, line in plot.lines for point in line]
    right, most = max(x for x, _ in points), _round_up(max(y for _, y in points))
    left, width, bottom = 60, WIDTH - 60 - _LEFT, top + _LINE + _PLOT_HEIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / right * width, bottom - y / most * (_PLOT_HEIGHT - 10)

    drawn = [_text(0, top + 16, plot.title, "title")]
    for share in (0, 0.25, 0.5, 0.75, 1):
        _, y = place(0, most * share)
        drawn.append(f'<path class="rule" d="M{left} {y:.1f}H{left + width}"/>')
        drawn.append(_text(left - 6, y + 4, _number(most * share), anchor="end"))
    for x in sorted({x for x, _ in points}):
        # Names of points that lie too close to each other would be written over each
        # other.
        if x == right or x >= right / 12:
            drawn.append(_text(place(x, 0)[0], bottom + 16, _number(x), anchor="middle"))
    drawn.append(_text(left + width / 2, bottom + 34, plot.across, anchor="middle"))
    ends = sorted((place(*line[-1])[1], name) for name, line in plot.lines)
    free = 0.0
    for y, name in ends:
        free = max(y, free + 15)
        drawn.append(_text(left + width + 8, free + 4, name))
        drawn.append(f'<circle cx="{left + width + 3}" cy="{free:.1f}" r="3" fill="{colours[name]}"/>')
    for name, line in plot.lines:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in line))
        drawn.append(f'<path d="M{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
    return drawn, bottom - top + 50


def _round_up(figure: float) -> float:
    """Return the next number that looks well on an axis."""
    unit = 10.0 ** math.floor(math.log10(figure)) if figure > 0 else 1.0
    return next(unit * step for step in (1, 2, 4, 6, 8, 10) if unit * step >= figure)


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 20 or figure == int(figure) else f"{figure:.1f}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    marks = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{marks}>{escape(text)}</text>'
