#!/usr/bin/env python3
"""Measure how the server's memory grows while visitors and clients come and go, in its
default mode and over TLS.

Visitors come with a connection each, tunnels are opened and left, at a rate that leaves
the machine idle for most of the time. The first five minutes fill caches and tables;
the growth after them is a line fitted to the readings.

It takes 15 minutes. Exit codes: 0 the bar held, 1 it did not, 2 it
cannot be run here. Needs nginx.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field

from processes import resident_kib
from programs import BenchError, Programs, raise_descriptor_limit, require
from systems import System, Upstreams, localtunnel, nginx
from tunnels import tunnels_that_leave
from visitors import visit

BAR = 1024
"""KiB that the server may grow by in ten minutes."""

VISITS = 20
"""Visitors in a step, each with a connection of its own."""

TUNNELS = 2
"""Tunnels in a step that are opened, with their pool, and abandoned."""

STEP = 0.5
"""Seconds from one step to the next."""

FEW = 100
"""One visitor in this many may fail."""

READ_EVERY = 10.0
"""Seconds between two readings of the memory."""

_BROKEN, _UNAVAILABLE = 1, 2


@dataclass
class Growth:
    """The server's memory over time."""

    seconds: list[float] = field(default_factory=list)
    kib: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Why visitors were not answered: a busy machine tells some to try again."""

    def in_ten_minutes(self, since: float) -> float:
        """Return the KiB that it grows by in ten minutes, by a line through the
        readings from ``since`` on."""
        first = next(at for at, second in enumerate(self.seconds) if second >= since)
        return statistics.linear_regression(self.seconds[first:], self.kib[first:]).slope * 600


def main() -> int:
    """Let visitors and clients come and go, and report the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settle", type=float, default=300.0, help="seconds that are not counted (300)")
    parser.add_argument("--count", type=float, default=600.0, help="seconds that are (600)")
    arguments = parser.parse_args()
    try:
        raise_descriptor_limit()
        require("nginx", "nginx")
        with Programs() as programs:
            files = programs.directory / "files"
            files.mkdir()
            system = localtunnel(programs, Upstreams(nginx(programs, files).port), encrypted=True)
            growth = churn(system, arguments.settle + arguments.count)
    except BenchError as error:
        print(f"bench/churn: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    slope = growth.in_ten_minutes(arguments.settle)
    print(f"{slope:,.0f} KiB in ten minutes, after {arguments.settle:.0f} s; at most {BAR:,} are wanted")
    return 0 if slope <= BAR else _BROKEN


def churn(system: System, seconds: float) -> Growth:
    """Let visitors and clients come and go for the given time, and read the server's
    memory meanwhile."""
    if system.server is None:
        raise BenchError(f"The server of {system.name} is not here to be looked at.")
    growth = Growth()
    began = read_at = time.monotonic()
    step = 0
    while (now := time.monotonic()) - began < seconds:
        if now >= read_at:
            read_at += READ_EVERY
            growth.seconds.append(now - began)
            growth.kib.append(resident_kib(system.server))
            print(f"{now - began:6.0f} s {growth.kib[-1]:10,} KiB", flush=True)
        visits = visit(system.requests.address, system.requests.host, VISITS)
        growth.failures += [each.failure for each in visits if each.failure is not None]
        tunnels_that_leave(system, TUNNELS)
        step += 1
        time.sleep(max(0.0, began + step * STEP - time.monotonic()))
    if len(growth.failures) * FEW > step * VISITS:
        raise BenchError(f"{len(growth.failures)} of {step * VISITS} visitors failed: {growth.failures[0]}.")
    return growth


if __name__ == "__main__":
    sys.exit(main())
