#!/usr/bin/env python3
"""Draw which part of the package, and which room of a part, imports which; as SVG, on
stdout.

usage: tools/architecture.py >docs/architecture.svg

An arrow that follows from others is left out: where A imports B and B imports C, none
is drawn from A to C. Everything stands above what it imports. A module that stands in
no room is drawn as one in the parts whose rules name it, and not at all in the others.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "localtunnel"

MODULES_AS_ROOMS = {"server", "http"}
"""Parts whose modules without a room have a rule each in the layering test, as rooms
have."""

Graph = dict[str, set[str]]

STYLE = """
text { font: 13px sans-serif; fill: #1b1f24; text-anchor: middle; }
text.part { font-weight: bold; font-size: 15px; }
rect { rx: 5px; fill: #ffffff; stroke: #8c959f; }
rect.part { fill: #f3f6f9; }
path { fill: none; stroke: #57606a; marker-end: url(#head); }
path.part { stroke: #0a53be; stroke-width: 1.6; marker-end: url(#part-head); }
"""


class Box(NamedTuple):
    width: float
    height: float


class Drawing(NamedTuple):
    width: float
    height: float
    places: dict[str, tuple[float, float]]
    """The upper left corner of each box."""
    arrows: list[list[tuple[float, float]]]
    """The points that each arrow runs through, from above to below."""


# --- What imports what ---


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}".removeprefix("localtunnel.")
                yield name if name in modules else name.rpartition(".")[0]


def room_of(module: str) -> str | None:
    """Return the room in which a module stands; None where it has none."""
    part, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    is_room = name and (part in MODULES_AS_ROOMS or (PACKAGE / part / name).is_dir())
    return f"{part}.{name}" if is_room else None


def read() -> tuple[Graph, Graph]:
    """Return the imports between parts, and those between the rooms of each part."""
    paths = {dotted(path): path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[0] != "_"}
    parts: Graph = {module.partition(".")[0]: set() for module in paths}
    rooms: Graph = {room: set() for module in paths if (room := room_of(module))}
    for module, path in paths.items():
        part = module.partition(".")[0]
        room = room_of(module)
        for other in imported(path, set(paths)):
            other_part = other.partition(".")[0]
            if other_part != part:
                if other_part in parts and other != "protocol.limits":
                    parts[part].add(other_part)
            elif room and (other_room := room_of(other)) and other_room != room:
                rooms[room].add(other_room)
    return parts, rooms


def reduced(graph: Graph) -> Graph:
    """Return the arrows that do not follow from others."""
    reach: Graph = {}
    for node in TopologicalSorter(graph).static_order():
        reach[node] = graph[node].union(*(reach[other] for other in graph[node]))
    return {node: {one for one in to if not any(one in reach[other] for other in to)} for node, to in graph.items()}


# --- Where it stands ---


def arrange(boxes: dict[str, Box], graph: Graph, gap: float, drop: float) -> Drawing:
    """Put each box in a row above those that it points to.

    An arrow over several rows runs through a place of its own in each of them, so that
    it crosses no box.
    """
    rows: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        rows[node] = max((rows[other] + 1 for other in graph[node]), default=0)
    boxes = dict(boxes)
    chains: list[list[str]] = []
    for start in sorted(graph):
        for end in sorted(graph[start]):
            chain = [start]
            for row in range(rows[start] - 1, rows[end], -1):
                chain.append(f"{start} {end} {row}")
                rows[chain[-1]] = row
                boxes[chain[-1]] = Box(2, 0)
            chains.append([*chain, end])
    levels = [sorted(name for name in rows if rows[name] == row) for row in range(max(rows.values()), -1, -1)]
    sort_levels(levels, chains)
    widths = [sum(boxes[name].width for name in level) + gap * (len(level) - 1) for level in levels]
    places: dict[str, tuple[float, float]] = {}
    ends: dict[str, float] = {}
    y = 0.0
    for level, width in zip(levels, widths, strict=True):
        height = max(boxes[name].height for name in level)
        # What is left of the widest row is shared out between the boxes of the others.
        space = (max(widths) - width) / (len(level) + 1)
        x = space
        for name in level:
            places[name] = x, y
            ends[name] = y + height
            x += boxes[name].width + gap + space
        y += height + drop
    arrows = []
    for chain in chains:
        line = []
        for name in chain:
            x, top = places[name]
            x += boxes[name].width / 2
            # Down to the end of the row first, since another box of it may be higher.
            line += [(x, top), (x, top + boxes[name].height), (x, ends[name])]
        arrows.append(line[1:-2])
    return Drawing(max(widths), y - drop, {name: places[name] for name in graph}, arrows)


def sort_levels(levels: list[list[str]], chains: list[list[str]]) -> None:
    """Order each row by where its neighbours are, downwards and upwards in turn, so
    that few arrows cross."""
    beside: Graph = {name: set() for level in levels for name in level}
    for upper, lower in (pair for chain in chains for pair in pairwise(chain)):
        beside[upper].add(lower)
        beside[lower].add(upper)
    for turn in range(8):
        for before, level in pairwise(levels if turn % 2 == 0 else levels[::-1]):
            where = {name: (place + 0.5) / len(before) for place, name in enumerate(before)}
            wanted = {}
            for place, name in enumerate(level):
                found = [where[other] for other in sorted(beside[name]) if other in where]
                wanted[name] = sum(found) / len(found) if found else (place + 0.5) / len(level)
            level.sort(key=wanted.__getitem__)


# --- What is drawn ---


def curve(line: list[tuple[float, float]], x: float, y: float, kind: str) -> str:
    start, *rest = line
    steps = [f"M{start[0] + x:.0f},{start[1] + y:.0f}"]
    above = start
    for here in rest:
        middle = (above[1] + here[1]) / 2 + y
        steps.append(
            f"C{above[0] + x:.0f},{middle:.0f} {here[0] + x:.0f},{middle:.0f} {here[0] + x:.0f},{here[1] + y:.0f}"
        )
        above = here
    return f'<path class="{kind}" d="{" ".join(steps)}"/>'


def rectangle(x: float, y: float, box: Box, kind: str, title: str, below: float) -> Iterator[str]:
    yield f'<rect class="{kind}" x="{x:.0f}" y="{y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}"/>'
    center = x + box.width / 2
    yield f'<text class="{kind}" x="{center:.0f}" y="{y + below:.0f}">{escape(title)}</text>'


def picture() -> str:
    parts, rooms = read()
    inner: dict[str, Drawing] = {}
    boxes: dict[str, Box] = {}
    small = {room: Box(8 * len(room.partition(".")[2]) + 18, 26) for room in rooms}
    for part in parts:
        own = {room: to for room, to in reduced(rooms).items() if room.startswith(f"{part}.")}
        drawing = arrange({room: small[room] for room in own}, own, 18, 26) if own else Drawing(0, 0, {}, [])
        inner[part] = drawing
        boxes[part] = Box(max(drawing.width, 9 * len(part)) + 32, drawing.height + (46 if own else 30))
    whole = arrange(boxes, reduced(parts), 34, 46)
    body: list[str] = [curve(line, 20, 20, "part") for line in whole.arrows]
    for part, (x, y) in sorted(whole.places.items()):
        x, y = x + 20, y + 20
        body += rectangle(x, y, boxes[part], "part", part, 21)
        drawing = inner[part]
        left = x + (boxes[part].width - drawing.width) / 2
        top = y + boxes[part].height - drawing.height - 14
        body += [curve(line, left, top, "room") for line in drawing.arrows]
        for room, (room_x, room_y) in sorted(drawing.places.items()):
            name = room.partition(".")[2]
            body += rectangle(left + room_x, top + room_y, small[room], "room", name, 18)
    width, height = whole.width + 40, whole.height + 40
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path style="marker-end: none; stroke: none; fill: {colour}" d="M0,0 L8,4 L0,8 z"/></marker>'
        for name, colour in (("head", "#57606a"), ("part-head", "#0a53be"))
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">',
            "<title>The parts of the package and their rooms; an arrow is an import</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{heads}</defs>",
            f'<rect style="stroke: none; rx: 0" width="{width:.0f}" height="{height:.0f}"/>',
            *body,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    print(picture(), end="")
