"""The bars that localtunnel must reach beside its peers, and its goals, as data; and
the table that compares them with a run."""

from collections.abc import Callable
from dataclasses import dataclass

from figures import (
    CALM_P99,
    CLIENT_KIB,
    DOWN_1,
    FLOODED_P99,
    HELD,
    IDLE_CPU,
    KEEP_ALIVE,
    NEW,
    SERVER_KIB,
    TUNNEL_KIB,
    UP_1,
    Figures,
)
from systems import EDGES, HOP, HTTP, JOIN, SSH_R, ours

MANY = 9000
"""Open connections that one server process must hold: two descriptors each, of the
usual 20,000."""

IDLE_CPU_PERCENT = 5
"""CPU time that the server may take while it holds them idle, in percent of a core."""

HEAD = ["what", "bar", "goal", "measured", ""]


@dataclass(frozen=True)
class Bar:
    """A figure that must be at least (or at most) ``bar``, and should be ``goal``."""

    what: str
    figure: Callable[[Figures], float | None]
    bar: float
    goal: float | None = None
    at_most: bool = False
    unit: str = ""

    def row(self, figures: Figures) -> list[str]:
        """Return the bar as cells of a table."""
        sign = "≤" if self.at_most else "≥"
        figure = self.figure(figures)
        goal = "" if self.goal is None else f"{sign} {self.goal:,g}{self.unit}"
        measured = "not measured" if figure is None else f"{figure:,.{2 if figure < 100 else 0}f}{self.unit}"
        return [self.what, f"{sign} {self.bar:,g}{self.unit}", goal, measured, self._verdict(figure)]

    def _verdict(self, figure: float | None) -> str:
        if figure is None:
            return ""
        if not self._reached(figure, self.bar):
            return "missed"
        return "goal" if self.goal is not None and self._reached(figure, self.goal) else "bar"

    def _reached(self, figure: float, wanted: float) -> bool:
        return figure <= wanted if self.at_most else figure >= wanted


def _share(edge: str, measure: str, peer: str, *, encrypted: bool = False) -> Callable[[Figures], float | None]:
    return lambda figures: figures.ratio(ours(edge, encrypted=encrypted), measure, peer)


def _cost(edge: str, measure: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.get(ours(edge), measure)


def _flooded(edge: str) -> Callable[[Figures], float | None]:
    def ratio(figures: Figures) -> float | None:
        calm, flooded = figures.get(ours(edge), CALM_P99), figures.get(ours(edge), FLOODED_P99)
        return flooded / calm if calm and flooded is not None else None

    return ratio


def _bulk() -> list[Bar]:
    bars = []
    for edge in (JOIN, HTTP):
        for way, measure in (("download", DOWN_1), ("upload", UP_1)):
            what = f"{edge}: {way}, one stream, of "
            bars.append(Bar(f"{what}haproxy", _share(edge, measure, HOP), 1.0, 1.25, unit=" x"))
            bars.append(Bar(f"{what}ssh -R", _share(edge, measure, SSH_R), 2.0, unit=" x"))
    return bars


def _encrypted() -> list[Bar]:
    bars = []
    for edge in EDGES:
        keep_alive = _share(edge, KEEP_ALIVE, SSH_R, encrypted=True)
        bars.append(Bar(f"{edge}, TLS: keep-alive requests/s, of ssh -R", keep_alive, 0.9, unit=" x"))
        for way, measure in (("download", DOWN_1), ("upload", UP_1)):
            share = _share(edge, measure, SSH_R, encrypted=True)
            bars.append(Bar(f"{edge}, TLS: {way}, one stream, of ssh -R", share, 1.5, unit=" x"))
    return bars


BARS = [
    Bar("join: keep-alive requests/s, of haproxy", _share(JOIN, KEEP_ALIVE, HOP), 0.55, 0.75, unit=" x"),
    Bar("join: keep-alive requests/s, of ssh -R", _share(JOIN, KEEP_ALIVE, SSH_R), 1.3, unit=" x"),
    Bar("http: keep-alive requests/s, of haproxy", _share(HTTP, KEEP_ALIVE, HOP), 0.25, 0.5, unit=" x"),
    Bar("http: new connections/s, of haproxy", _share(HTTP, NEW, HOP), 0.9, 1.2, unit=" x"),
    Bar("join: new connections/s, of haproxy", _share(JOIN, NEW, HOP), 0.35, 0.5, unit=" x"),
    *_bulk(),
    *_encrypted(),
    Bar("join: open connection, server", _cost(JOIN, SERVER_KIB), 10, 4, at_most=True, unit=" KiB"),
    Bar("join: open connection, client", _cost(JOIN, CLIENT_KIB), 8, 4, at_most=True, unit=" KiB"),
    Bar("http: visitor idle between requests, server", _cost(HTTP, SERVER_KIB), 12, 5, at_most=True, unit=" KiB"),
    *(
        Bar(f"{edge}: idle tunnel with a pool of 4, server", _cost(edge, TUNNEL_KIB), 20, 8, at_most=True, unit=" KiB")
        for edge in (JOIN, HTTP)
    ),
    *(Bar(f"{edge}: open connections held", _cost(edge, HELD), MANY) for edge in (JOIN, HTTP)),
    *(
        Bar(
            f"{edge}: idle CPU of a core while they are held",
            _cost(edge, IDLE_CPU),
            IDLE_CPU_PERCENT,
            at_most=True,
            unit=" %",
        )
        for edge in (JOIN, HTTP)
    ),
    *(
        Bar(f"{edge}: a neighbour's p99 while one tunnel is flooded", _flooded(edge), 3, at_most=True, unit=" x")
        for edge in (JOIN, HTTP)
    ),
]


def rows(figures: Figures) -> list[list[str]]:
    """Return every bar as cells of a table with HEAD."""
    return [bar.row(figures) for bar in BARS]
