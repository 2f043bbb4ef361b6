"""The figures of a run: for each system and measure, every round and their median."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from systems import System

KEEP_ALIVE, NEW = "keep-alive requests/s", "new connections/s"
DOWN_1, DOWN_8 = "download MB/s, 1 stream", "download MB/s, 8 streams"
UP_1, UP_8 = "upload MB/s, 1 stream", "upload MB/s, 8 streams"
RATES = (KEEP_ALIVE, NEW, DOWN_1, DOWN_8, UP_1, UP_8)
"""Measures of which more is better, in the order of the tables."""

CPU_SERVER, CPU_CLIENT = "server, {}", "client, {}"
"""CPU time that the two sides took for one unit of a rate: see UNITS."""

UNITS = {KEEP_ALIVE: "µs per request", NEW: "µs per connection", DOWN_1: "ms per GB down", UP_1: "ms per GB up"}
"""The rates whose CPU time is shown, and in what."""

SERVER_KIB, CLIENT_KIB = "KiB per open connection, server", "KiB per open connection, client"
HELD, IDLE_CPU = "connections held", "idle CPU, % of a core"
TUNNEL_KIB = "KiB per idle tunnel with a pool of 4"
REDIALS = "pool redials/s"
REDIAL_SERVER, REDIAL_CLIENT = "server, µs per redial", "client, µs per redial"
PIECES = "p50 ms, answers in two pieces"
CALM_P50, CALM_P99 = "p50 ms, calm", "p99 ms, calm"
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
