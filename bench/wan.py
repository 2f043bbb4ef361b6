#!/usr/bin/env python3
"""Measure how many round trips a visitor waits when the laptop is far away, and whether
the bounds hold.

The server and the visitors are in one network namespace, the client and its nginx in
another; what goes between the two takes half a round trip each way. One visitor is a
new connection, a GET, the whole answer, and the end of the connection; its time is from
the connect to the answer's last byte. The bounds are those of a link without
encryption. TLS, as users have it, comes first and has bars instead, which the table
shows and no exit code; ``ssh -R`` has neither.

Exit codes: 0 every bound holds, 1 one does not, 2 the benchmark cannot be run here.
Needs root (for the namespaces), /dev/net/tun, and on Debian the packages iproute2,
util-linux, nginx, openssh-server and openssh-client.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import bars
import report
from delay import ADDRESSES
from programs import LOOPBACK, NGINX, SSH, BenchError, Programs, raise_descriptor_limit, require, version
from systems import HOST, Route, System, Upstreams, localtunnel, nginx, ours, ssh
from visitors import Visit, visit

ROUND_TRIP = 0.1
"""Seconds: about Europe to the west coast of America, or a laptop on a mobile
network."""

LONE, BURST, BURSTS = 10, 64, 4
"""Visitors one after the other; then so many at once, so many times."""

LONE_PAUSE, BURST_PAUSE = 0.4, 2.0
"""Seconds between two lone visitors, and before each burst: the pool is refilled within
0.2 s."""

LONE_BOUND, FIRST_BURST_BOUND, NEXT_BURST_BOUND = 1.1, 3.2, 1.3
"""Round trips: the median of the lone visitors, the slowest of the first burst, the
slowest of any later one."""

WIRE_TOLERANCE = 0.05
"""How far the wire's round trip may be off, as a fraction, before the run is
invalid."""

_HERE = Path(__file__).resolve()
_BROKEN, _UNAVAILABLE = 1, 2


@dataclass
class Result:
    """The results of one system, in seconds and failures."""

    system: System
    lone: list[Visit] = field(default_factory=list)
    bursts: list[list[Visit]] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Why visitors got no answer, one entry each."""
        visits = chain(self.lone, *self.bursts)
        return [each.failure for each in visits if each.failure is not None]


def main() -> int:
    """Move into namespaces of our own, and measure there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md as well")
    parser.add_argument("--ours", action="store_true", help="measure what has bounds alone")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.inside:
            makers = (localtunnel,) if arguments.ours else (partial(localtunnel, encrypted=True), localtunnel, ssh)
            return measure(makers, write=arguments.write)
        return run_in_namespaces(sys.argv[1:])
    except BenchError as error:
        print(f"bench/wan: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except KeyboardInterrupt:
        return 130


def run_in_namespaces(arguments: list[str]) -> int:
    """Run this program again as the first process of its own namespaces; they end with
    it, and all that is in them."""
    if os.geteuid() != 0:
        raise BenchError("Network namespaces and TUN devices need root; run it with sudo.")
    if not os.path.exists("/dev/net/tun"):
        raise BenchError("There is no /dev/net/tun; load the module with: modprobe tun")
    unshare = [require("unshare", "util-linux"), "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    return subprocess.call([*unshare, sys.executable, str(_HERE), "--inside", *arguments])


def measure(makers: Sequence[Callable[[Programs, Upstreams, Route], System]], *, write: bool) -> int:
    """Measure what has bounds, and the others; print the table, and return the exit
    code."""
    raise_descriptor_limit()
    with Programs() as programs:
        laptop = start_wire(programs)
        round_trip = check_wire()
        upstreams = Upstreams(nginx(programs, programs.directory, laptop).port)
        route = Route(laptop, ADDRESSES[0])
        results = [measure_system(make(programs, upstreams, route)) for make in makers]
    text = describe(results, round_trip)
    print(text)
    if write:
        report.write("bench/wan", text)
    bound = next(each for each in results if each.system.name == ours(None))
    faults = broken_bounds(bound, round_trip)
    for fault in faults:
        print(f"bench/wan: {fault}", file=sys.stderr)
    return _BROKEN if faults else 0


def start_wire(programs: Programs) -> tuple[str, ...]:
    """Make the laptop's namespace and the wire to it; return what to put before a
    command to run it there."""
    ip, nsenter = require("ip", "iproute2"), require("nsenter", "util-linux")
    # The namespace lives as long as a process is in it; this one reads its stdin, which
    # ends with the benchmark.
    holder = programs.start("laptop", ["unshare", "--net", "sh", "-c", f"{ip} link set lo up && echo up && cat"])
    programs.wait_for_line("laptop", holder)
    subprocess.run([ip, "link", "set", "lo", "up"], check=True)
    command = [sys.executable, str(_HERE.with_name("delay.py")), str(holder.pid), str(ROUND_TRIP / 2)]
    programs.wait_for_line("delay", programs.start("delay", command))
    return (nsenter, f"--net=/proc/{holder.pid}/ns/net")


def check_wire() -> float:
    """Return the wire's median round trip in seconds. Raises BenchError when it is not
    what was asked for."""
    measured = statistics.median(_refused_after() for _ in range(5))
    if abs(measured / ROUND_TRIP - 1) > WIRE_TOLERANCE:
        raise BenchError(f"The wire's round trip is {measured * 1000:.1f} ms; is the machine busy? Run it again.")
    return measured


def _refused_after() -> float:
    """A port on which nothing listens refuses a connection after exactly one round
    trip."""
    with socket.socket() as sock:
        started = time.monotonic()
        code = sock.connect_ex((ADDRESSES[1], 9))
        seconds = time.monotonic() - started
    if not code:
        raise BenchError("Something listens on the discard port of the laptop's namespace, which should be empty.")
    return seconds


def measure_system(system: System) -> Result:
    """Let the lone visitors come, and then the bursts."""
    result = Result(system)
    address = (LOOPBACK, system.port)
    # The first visitor of all finds what is set up on demand; it is nobody's
    # measurement.
    time.sleep(BURST_PAUSE)
    visit(address, HOST, 1)
    for _ in range(LONE):
        time.sleep(LONE_PAUSE)
        result.lone.extend(visit(address, HOST, 1))
    for _ in range(BURSTS):
        time.sleep(BURST_PAUSE)
        result.bursts.append(visit(address, HOST, BURST))
    return result


def broken_bounds(result: Result, round_trip: float) -> list[str]:
    """Return a sentence for every bound that ``result`` does not keep."""
    if result.failures:
        return [f"{len(result.failures)} visitors had no answer: {', '.join(sorted(set(result.failures)))}."]
    first, *later = (_slowest(burst) / round_trip for burst in result.bursts)
    checks = [
        ("A lone visitor, in the median,", _median(result.lone) / round_trip, LONE_BOUND),
        ("The slowest of the first burst", first, FIRST_BURST_BOUND),
        ("The slowest of the later bursts", max(later), NEXT_BURST_BOUND),
    ]
    return [
        f"{what} took {took:.2f} round trips; the bound is {bound}." for what, took, bound in checks if took > bound
    ]


def describe(results: list[Result], round_trip: float) -> str:
    """Return the figures as Markdown."""
    head = ["round trips", "lone, median", "lone, slowest"]
    head += [f"burst {number}, slowest" for number in range(1, BURSTS + 1)] + ["failed"]
    rows = [[each.system.name, *_cells(each, round_trip), str(len(each.failures))] for each in results]
    if len(results) > 1:
        rows.append(_row(f"bar for {ours(None, encrypted=True)}", bars.FAR_LONE, bars.FAR_FIRST, bars.FAR_LATER))
    rows.append(_row(f"bound for {ours(None)}", LONE_BOUND, FIRST_BURST_BOUND, NEXT_BURST_BOUND))
    versions = ", ".join([report.python_versions(), version(require(NGINX, "nginx"), "-v")])
    if len(results) > 1:
        versions += f", {version(require(SSH, 'openssh-client'), '-V')}"
    where = f"{report.machine()}; {versions}; round trip of the wire {round_trip * 1000:.1f} ms; "
    return f"{where}{LONE} lone visitors, {BURSTS} bursts of {BURST}.\n\n{report.table(head, rows)}"


def _row(name: str, lone: float, first: float, later: float) -> list[str]:
    return [name, str(lone), "", str(first), *[str(later)] * (BURSTS - 1), "0"]


def _cells(result: Result, round_trip: float) -> list[str]:
    seconds = [_median(result.lone), _slowest(result.lone), *(_slowest(burst) for burst in result.bursts)]
    return [f"{each / round_trip:.2f}" for each in seconds]


def _median(visits: list[Visit]) -> float:
    return statistics.median(_seconds(visits))


def _slowest(visits: list[Visit]) -> float:
    return max(_seconds(visits))


def _seconds(visits: list[Visit]) -> list[float]:
    """A visitor without an answer counts as infinite time, so that it does not improve
    the others' figures."""
    return [float("inf") if each.seconds is None else each.seconds for each in visits]


if __name__ == "__main__":
    sys.exit(main())
