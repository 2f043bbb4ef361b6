"""The bars that localtunnel must reach beside its peers, and its goals, as data; and
the table that compares them with a run."""

from collections.abc import Callable
from dataclasses import dataclass

from figures import (
    BESIDE_P99,
    CLIENT_KIB,
    DOWN_1,
    FLOODED_P99,
    HELD,
    HTTP_1_0,
    IDLE_CPU,
    KEEP_ALIVE,
    NEW,
    POST,
    SERVER_KIB,
    SHRUNK_KIB,
    TUNNEL_KIB,
    UP_1,
    Figures,
)
from systems import EDGES, HOP, HTTP, JOIN, SSH_R, ours

FAR_LONE, FAR_FIRST, FAR_LATER = 1.05, 4.2, 1.2
"""Round trips of 100 ms over TLS that ``bench/wan`` compares with: the median of the lone
visitors, the slowest of the first burst, the slowest of any later one."""

MANY = 9000
"""Open connections that one server process must hold, with two descriptors each in join
mode."""

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


Measured = Callable[[Figures], float | None]


def _share(edge: str, measure: str, peer: str, *, encrypted: bool = False) -> Measured:
    return lambda figures: figures.ratio(ours(edge, encrypted=encrypted), measure, peer)


def _per(edge: str, measure: str, other: str) -> Measured:
    return lambda figures: figures.per(ours(edge, encrypted=True), measure, other)


def _cost(edge: str, measure: str, *, encrypted: bool = False) -> Measured:
    return lambda figures: figures.get(ours(edge, encrypted=encrypted), measure)


def _bulk(*, encrypted: bool) -> list[Bar]:
    """TLS costs each byte a cipher, which haproxy's do not have and those of ssh do."""
    hop_bar, hop_goal, ssh_bar = (0.75, 1.0, 1.5) if encrypted else (1.0, 1.25, 2.0)
    bars = []
    for edge in EDGES:
        for way, measure in (("download", DOWN_1), ("upload", UP_1)):
            what = f"{edge}{', TLS' if encrypted else ''}: {way}, one stream, of "
            hop, ssh = (_share(edge, measure, peer, encrypted=encrypted) for peer in (HOP, SSH_R))
            bars.append(Bar(f"{what}haproxy", hop, hop_bar, hop_goal, unit=" x"))
            bars.append(Bar(f"{what}ssh -R", ssh, ssh_bar, unit=" x"))
    return bars


def _rates() -> list[Bar]:
    """Requests and connections over TLS, as users have it."""

    def of_haproxy(edge: str, measure: str, bar: float, goal: float) -> Bar:
        return Bar(
            f"{edge}, TLS: {measure}, of haproxy", _share(edge, measure, HOP, encrypted=True), bar, goal, unit=" x"
        )

    def of_ssh(edge: str) -> Bar:
        share = _share(edge, KEEP_ALIVE, SSH_R, encrypted=True)
        return Bar(f"{edge}, TLS: {KEEP_ALIVE}, of ssh -R", share, 0.9, unit=" x")

    return [
        of_haproxy(HTTP, KEEP_ALIVE, 0.36, 0.45),
        of_ssh(HTTP),
        Bar(f"http, TLS: {POST}, of {KEEP_ALIVE}", _per(HTTP, POST, KEEP_ALIVE), 0.8, 1.0, unit=" x"),
        of_haproxy(HTTP, NEW, 0.75, 0.9),
        of_haproxy(HTTP, HTTP_1_0, 0.35, 0.5),
        of_haproxy(JOIN, KEEP_ALIVE, 0.48, 0.6),
        of_ssh(JOIN),
        # The goal is bore, which encrypts nothing.
        of_haproxy(JOIN, NEW, 0.35, 0.52),
    ]


def _at_most(what: str, figure: Measured, bar: float, goal: float | None = None, unit: str = " KiB") -> Bar:
    return Bar(what, figure, bar, goal, at_most=True, unit=unit)


BARS = [
    *_rates(),
    *_bulk(encrypted=True),
    *(_at_most(f"{edge}, TLS: idle tunnel, server", _cost(edge, SHRUNK_KIB, encrypted=True), 60, 40) for edge in EDGES),
    *(
        _at_most(
            f"{edge}, TLS: p99 beside a flooded tunnel, of that beside nginx flooded",
            _per(edge, FLOODED_P99, BESIDE_P99),
            3,
            2,
            " x",
        )
        for edge in EDGES
    ),
    Bar(f"http: {NEW}, of haproxy", _share(HTTP, NEW, HOP), 0.9, 1.2, unit=" x"),
    Bar(f"join: {KEEP_ALIVE}, of haproxy", _share(JOIN, KEEP_ALIVE, HOP), 0.55, 0.75, unit=" x"),
    Bar(f"join: {KEEP_ALIVE}, of ssh -R", _share(JOIN, KEEP_ALIVE, SSH_R), 1.3, unit=" x"),
    *_bulk(encrypted=False),
    _at_most("http: visitor idle between requests, server", _cost(HTTP, SERVER_KIB), 12, 5),
    _at_most("join: open connection, server", _cost(JOIN, SERVER_KIB), 10, 4),
    _at_most("join: open connection, client", _cost(JOIN, CLIENT_KIB), 8, 4),
    *(_at_most(f"{edge}: fresh tunnel with a pool of 4, server", _cost(edge, TUNNEL_KIB), 20, 8) for edge in EDGES),
    *(Bar(f"{edge}: open connections held", _cost(edge, HELD), MANY) for edge in EDGES),
    *(
        _at_most(f"{edge}: idle CPU of a core while they are held", _cost(edge, IDLE_CPU), IDLE_CPU_PERCENT, unit=" %")
        for edge in EDGES
    ),
]


def rows(figures: Figures) -> list[list[str]]:
    """Return every bar as cells of a table with HEAD."""
    return [bar.row(figures) for bar in BARS]
