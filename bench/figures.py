"""The figures of a run: for each system and measure, every round and their median."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from systems import System

KEEP_ALIVE, POST = "keep-alive GETs/s", "keep-alive POSTs/s"
NEW, HTTP_1_0 = "new connections/s", "HTTP/1.0 visitors/s"
DOWN_1, DOWN_8 = "download MB/s, 1 stream", "download MB/s, 8 streams"
UP_1, UP_8 = "upload MB/s, 1 stream", "upload MB/s, 8 streams"
RATES = (KEEP_ALIVE, POST, NEW, HTTP_1_0, DOWN_1, DOWN_8, UP_1, UP_8)
"""Measures of which more is better, in the order of the tables."""

CPU_SERVER, CPU_CLIENT = "server, {}", "client, {}"
"""CPU time that the two sides took for one unit of a rate: see UNITS."""

REQUEST_UNITS = {
    KEEP_ALIVE: "µs per GET",
    POST: "µs per POST",
    NEW: "µs per connection",
    HTTP_1_0: "µs per HTTP/1.0 visitor",
}
BULK_UNITS = {DOWN_1: "ms per GB down", UP_1: "ms per GB up"}
UNITS = REQUEST_UNITS | BULK_UNITS
"""The rates whose CPU time is shown, and in what."""

SERVER_KIB, CLIENT_KIB = "KiB per open connection, server", "KiB per open connection, client"
HELD, IDLE_CPU = "connections held", "idle CPU, % of a core"
TUNNEL_KIB = "KiB per fresh tunnel, pool of 4"
SHRUNK_KIB = "KiB per idle tunnel, pool of 2"
REDIALS = "connections/s"
REDIAL_SERVER, REDIAL_CLIENT = "server, µs each", "client, µs each"
PIECES = "p50 ms, answers in two pieces"
CALM_P50, CALM_P99 = "p50 ms, calm", "p99 ms, calm"
BESIDE_P50, BESIDE_P99 = "p50 ms, nginx flooded directly", "p99 ms, nginx flooded directly"
"""What the same flood does to the visitor when it goes past the tunnels."""

FLOODED_P50, FLOODED_P99 = "p50 ms, flooded", "p99 ms, flooded"


class Figures:
    """Figures of every round, by system and measure."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, system: str, measure: str, figure: float) -> None:
        """Take one more round's figure."""
        self._rounds[system, measure].append(figure)

    def get(self, system: str, measure: str) -> float | None:
        """Return the median; None where nothing was measured."""
        rounds = self._rounds.get((system, measure))
        return statistics.median(rounds) if rounds else None

    def systems(self, measure: str) -> list[str]:
        """Return the systems for which ``measure`` has a figure, in the order in which
        they were measured first."""
        return [system for system, name in self._rounds if name == measure]

    def ratio(self, system: str, measure: str, to: str) -> float | None:
        """Return the median as a multiple of that of the system ``to``; None where one
        of them was not measured."""
        mine, its = self.get(system, measure), self.get(to, measure)
        return mine / its if mine is not None and its else None

    def per(self, system: str, measure: str, other: str) -> float | None:
        """Return the median as a multiple of that of the measure ``other`` of the same
        system; None where one of them was not measured."""
        figure, unit = self.get(system, measure), self.get(system, other)
        return figure / unit if figure is not None and unit else None

    def spread(self, system: str, measure: str) -> float:
        """Return how far apart the rounds were, as a fraction of their median; 0 with
        one round."""
        rounds = self._rounds[system, measure]
        return (max(rounds) - min(rounds)) / statistics.median(rounds)


def measure(
    systems: Sequence["System"],
    measures: dict[str, Callable[["System"], dict[str, float]]],
    rounds: int,
    say: Callable[[str], None],
    figures: Figures,
) -> None:
    """Let every system take its turn at every measure in every round, so that a busy
    moment singles none out.

    A measure returns its figures by name, none where the system cannot do it; they are
    added to ``figures``.
    """
    for number in range(1, rounds + 1):
        for name, take in measures.items():
            say(f"round {number} of {rounds}: {name}")
            for system in systems:
                for found, figure in take(system).items():
                    figures.add(system.name, found, figure)
