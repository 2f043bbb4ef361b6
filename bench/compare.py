#!/usr/bin/env python3
"""Ours beside its peers on loopback, in one run: requests and connections per second, bulk, memory per connection.

Every system stands in front of the same nginx, and every figure is the median of several rounds, in each of which all
systems take their turn, so that a busy moment of the machine does not single one out. What is not installed is named
and left out; nginx, wrk and curl have to be there.

Exit codes: 0 measured, 2 the benchmark cannot be run here.
"""

import argparse
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import report
from programs import (
    HAPROXY,
    LOOPBACK,
    NGINX,
    SSH,
    BenchError,
    Programs,
    find,
    raise_descriptor_limit,
    require,
    resident_kib,
    version,
)
from systems import HOST, Route, System, haproxy, localtunnel, nginx, ssh
from visitors import crowd, join, settle

ROUNDS = 3
LOAD_SECONDS = 3
"""How long one load of wrk lasts."""

CONNECTIONS = 32
"""Visitors that wrk keeps busy at the same time."""

BULK_BYTES = 1_000_000_000
HELD = (1000, 2000)
"""Open connections at which memory is read; the difference is what a connection costs, and not what a start does."""

KEEP_ALIVE, NEW, BULK, MEMORY = "keep-alive requests/s", "new connections/s", "bulk MB/s", "KiB per open connection"

_UNAVAILABLE = 2

Figures = dict[str, dict[str, float]]
"""Medians: by system, then by measure."""


def main() -> int:
    """Measure, print, and write when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often each system is measured ({ROUNDS})")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md as well")
    arguments = parser.parse_args()
    try:
        text = compare(arguments.rounds)
        print(text)
        if arguments.write:
            report.write("bench/compare", text)
    except BenchError as error:
        print(f"bench/compare: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    return 0


def compare(rounds: int) -> str:
    """Start every system, measure all of them, end them, and return the report as Markdown."""
    raise_descriptor_limit()
    wrk, curl = require("wrk", "wrk"), require("curl", "curl")
    with Programs() as programs:
        files = programs.directory / "files"
        files.mkdir()
        with (files / "bulk").open("wb") as bulk:
            bulk.truncate(BULK_BYTES)
        direct = nginx(programs, files)
        systems = [direct, *(make(programs, direct.port) for make in _installed())]
        measures: dict[str, Callable[[System], float]] = {
            KEEP_ALIVE: lambda system: load(wrk, system),
            NEW: lambda system: load(wrk, system, "-H", "Connection: close"),
            BULK: lambda system: download(curl, system),
        }
        # Memory comes first: what the loads have freed again would take up connections without a trace.
        memory = {system.name: held_memory(system) for system in systems if system.server is not None}
        figures = measure(systems, measures, rounds)
    return describe(figures, memory)


def _installed() -> list[Callable[[Programs, int], System]]:
    """Return how to start each peer that this machine has, and ours."""
    makers: list[Callable[[Programs, int], System]] = []
    if find(HAPROXY) is None:
        _say("haproxy is not installed (sudo apt-get install haproxy); it is left out.")
    else:
        makers.append(haproxy)
    if find(SSH) is None or find("sshd") is None:
        _say("ssh or sshd is not installed (sudo apt-get install openssh-client openssh-server); ssh -R is left out.")
    else:
        makers.append(lambda programs, port: ssh(programs, port, Route()))
    makers.append(lambda programs, port: localtunnel(programs, port, Route()))
    return makers


def measure(systems: list[System], measures: dict[str, Callable[[System], float]], rounds: int) -> Figures:
    """Return the median of every measure of every system; within a round they are measured one after the other."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(1, rounds + 1):
        for name, take in measures.items():
            _say(f"round {number} of {rounds}: {name}")
            for system in systems:
                found[system.name][name].append(take(system))
    return {
        system: {name: statistics.median(values) for name, values in of_system.items()}
        for system, of_system in found.items()
    }


def load(wrk: str, system: System, *options: str) -> float:
    """Return the requests per second that wrk gets answered. Raises BenchError when one is not."""
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{LOAD_SECONDS}", "-H", f"Host: {HOST}", *options]
    printed = _output([*command, f"http://{LOOPBACK}:{system.port}/"], LOAD_SECONDS + 30)
    rate = 0.0
    for line in printed.splitlines():
        name, _, value = line.strip().partition(":")
        if name == "Requests/sec":
            rate = float(value)
        elif name == "Non-2xx or 3xx responses" or (name == "Socket errors" and not _only_closed(value)):
            raise BenchError(f"{system.name} did not answer every request: {line.strip()}.")
    if not rate:
        raise BenchError(f"wrk reported no rate for {system.name}: {printed!r}")
    return rate


def _only_closed(errors: str) -> bool:
    """wrk counts a connection that is closed after a whole answer, as asked for, as a read error at times."""
    counts = dict(part.split() for part in errors.split(","))
    return all(int(count) == 0 for name, count in counts.items() if name != "read")


def download(curl: str, system: System) -> float:
    """Return the speed of one large download in MB/s. Raises BenchError when it is not whole."""
    url = f"http://{LOOPBACK}:{system.port}/files/bulk"
    wanted = "%{http_code} %{size_download} %{speed_download}"
    printed = _output([curl, "-s", "-o", "/dev/null", "-H", f"Host: {HOST}", "-w", wanted, url], 120)
    status, size, speed = printed.split()
    if status != "200" or int(size) != BULK_BYTES:
        raise BenchError(f"{system.name} answered {status} and {size} bytes instead of 200 and {BULK_BYTES}.")
    return float(speed) / 1e6


def held_memory(system: System) -> tuple[float, float | None]:
    """Return what an open connection costs the server and the client, in KiB; None where there is no client."""
    owners = [pid for pid in (system.server, system.client) if pid is not None]
    address = (LOOPBACK, system.port)
    readings = []
    _say(f"memory of {system.name}")
    with crowd() as connections:
        for count in HELD:
            join(connections, address, HOST, count - len(connections))
            settle()
            readings.append([resident_kib(pid) for pid in owners])
    costs = [(many - few) / (HELD[1] - HELD[0]) for few, many in zip(*readings, strict=True)]
    return costs[0], costs[1] if len(costs) > 1 else None


def describe(figures: Figures, memory: dict[str, tuple[float, float | None]]) -> str:
    """Return the figures, and ours as a share of each peer's, as Markdown."""
    rows = []
    for name, of_system in figures.items():
        costs = ["none" if cost is None else f"{cost:.1f}" for cost in memory.get(name, (None, None))]
        rows.append([name, *(f"{of_system[measure]:,.0f}" for measure in (KEEP_ALIVE, NEW, BULK)), " / ".join(costs)])
    head = ["system", KEEP_ALIVE, NEW, BULK, f"{MEMORY}, server / client"]
    ours = figures["localtunnel"]
    shares = [
        [f"of {name}", *(f"{ours[measure] / of_system[measure]:.0%}" for measure in (KEEP_ALIVE, NEW, BULK))]
        for name, of_system in figures.items()
        if of_system is not ours
    ]
    parts = [
        f"{report.machine()}; {'; '.join(_versions())}.",
        report.table(head, rows),
        "localtunnel as a share of each:",
        report.table(["localtunnel", KEEP_ALIVE, NEW, BULK], shares),
    ]
    return "\n\n".join(parts)


def _versions() -> list[str]:
    commands = {NGINX: ["-v"], HAPROXY: ["-v"], SSH: ["-V"]}
    found = [version(path, *options) for name, options in commands.items() if (path := find(name)) is not None]
    return [report.python_versions(), *found]


def _output(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name} ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _say(text: str) -> None:
    print(f"bench/compare: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
