"""One tunnel flooded, and what a visitor of its neighbour on the same server notices;
beside it, what the same flood does when nothing of it reaches the server."""

import statistics
import subprocess
import time

from figures import BESIDE_P50, BESIDE_P99, CALM_P50, CALM_P99, FLOODED_P50, FLOODED_P99
from loads import read_wrk, wrk
from systems import Door
from visitors import REQUEST_TIMEOUT, crowd, join, timed

CONNECTIONS = 64
"""Visitors of what is flooded, each of which asks again as soon as it is
answered."""

PAUSE = 0.002
"""Seconds between two requests of the neighbour's visitor, which is there all the time
without being a load."""


def neighbour(flooded: Door, calm: Door, upstream: Door, seconds: float) -> dict[str, float]:
    """Return the latencies of ``calm``'s visitor in milliseconds: without a flood, with
    one of ``upstream``, which goes past the tunnels, and with one of ``flooded``.
    Raises BenchError."""
    p50, p99 = _latencies(calm, seconds)
    found = {CALM_P50: p50, CALM_P99: p99}
    p50, p99 = _beside("nginx", upstream, calm, seconds)
    found |= {BESIDE_P50: p50, BESIDE_P99: p99}
    p50, p99 = _beside("The flooded tunnel", flooded, calm, seconds)
    return found | {FLOODED_P50: p50, FLOODED_P99: p99}


def _beside(name: str, flooded: Door, calm: Door, seconds: float) -> tuple[float, float]:
    """Return what ``_latencies`` does, while wrk floods ``flooded``."""
    whole = max(1, round(seconds))
    with subprocess.Popen(wrk(flooded, whole + 1, CONNECTIONS), stdout=subprocess.PIPE, text=True) as flood:
        try:
            # wrk connects first; the flood is on once that is done.
            time.sleep(0.3)
            found = _latencies(calm, whole)
            printed, _ = flood.communicate(timeout=REQUEST_TIMEOUT)
        finally:
            flood.kill()
    read_wrk(name, printed)
    return found


def _latencies(door: Door, seconds: float) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds, of requests on one
    kept connection."""
    taken: list[float] = []
    with crowd() as connections:
        join(connections, door.address, door.host, 1)
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            time.sleep(PAUSE)
            taken.append(timed(connections[0], door.host) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]
