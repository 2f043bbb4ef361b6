"""An upstream that sends each answer in two pieces, with Nagle's algorithm: what a
request on a kept connection takes.

That is Python's http.server, which many use at first. The second piece waits until the
first one is acknowledged, and a reader with nothing to say acknowledges after 40 ms,
unless it asks the kernel to do so at once.
"""

import statistics
import sys
from collections.abc import Callable

from figures import PIECES, Figures, measure
from programs import Programs, unused_port
from systems import EDGES, Door, System, Upstreams, localtunnel
from visitors import crowd, join, timed

REQUESTS = 40
"""Requests of one round: the kernel acknowledges the first few of any connection at
once."""


def measure_pieces(rounds: int, say: Callable[[str], None], figures: Figures) -> None:
    """Ask the upstream directly and through ours, in each of its modes. Raises
    BenchError."""
    with Programs() as programs:
        port = unused_port()
        command = [sys.executable, "-m", "http.server", "--protocol=HTTP/1.1", "--bind=127.0.0.1"]
        name = "http.server"
        process = programs.start(name, [*command, f"--directory={programs.directory}", str(port)])
        programs.wait_for_port(name, process, port)
        systems = [System("http.server, direct", Door(port))]
        systems += [localtunnel(programs, Upstreams(port), edge=edge, encrypted=True) for edge in EDGES]
        measure(systems, {"answers in two pieces": _median}, rounds, say, figures)


def _median(system: System) -> dict[str, float]:
    """Return the median of requests one after the other on one connection, in
    milliseconds."""
    door = system.requests
    with crowd() as connections:
        join(connections, door.address, door.host, 1)
        return {PIECES: statistics.median(timed(connections[0], door.host) * 1000 for _ in range(REQUESTS))}
