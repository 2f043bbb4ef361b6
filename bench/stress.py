#!/usr/bin/env python3
"""Loads that must not break lt-server: a long load, thousands of open connections, and
deliberately slow visitors.

Each is tried in both modes of the server, over TLS as users have it: a minute of wrk at
64 connections without a failed request; 9,000 connections that are held and then all
answered once more; slowhttptest with slow heads, slow bodies and slow reading, while
every request of a good visitor is answered.

It takes 5 minutes. Exit codes: 0 everything held, 1 something did
not, 2 it cannot be run here. Needs nginx, wrk and slowhttptest of Debian.
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import bars
from costs import Held, read_held
from loads import BULK_NAME, make_bulk, output, requests
from programs import BenchError, Programs, raise_descriptor_limit, require
from systems import EDGES, HOST, NEIGHBOUR, Door, System, Upstreams, localtunnel, nginx, sink
from visitors import Visit, crowd, join, timed, visit

CONNECTIONS = 64
"""Visitors that wrk keeps busy at the same time."""

GOOD_PAUSE = 0.05
"""Seconds between two good visitors."""

GOOD_PATIENCE = 5.0
"""Seconds within which a good visitor must be answered; a person would not wait
longer."""

SLOW = {
    "slow heads": ("-H", f"http://{HOST}/"),
    "slow bodies": ("-B", f"http://{NEIGHBOUR}/"),
    "slow readers": ("-X", f"http://{HOST}/files/{BULK_NAME}"),
}
"""The attacks of slowhttptest: its option, and what it asks for."""

_END_PATIENCE = 60.0
"""Seconds beyond its length after which slowhttptest counts as stuck."""

_BROKEN, _UNAVAILABLE = 1, 2


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    load_seconds: int = 60
    held: int = bars.MANY
    attackers: int = 1000
    attack_seconds: int = 25


QUICK = Scale(load_seconds=1, held=50, attackers=20, attack_seconds=2)
"""A short run that only shows whether everything works."""


@dataclass
class Good:
    """The answers to the good visitors."""

    visits: list[Visit] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Return why they were not answered in time, one each."""
        late = [each for each in self.visits if each.failure is None and (each.seconds or 0) > GOOD_PATIENCE]
        return [each.failure for each in self.visits if each.failure is not None] + ["late" for _ in late]

    def __str__(self) -> str:
        seconds = [each.seconds for each in self.visits if each.seconds is not None]
        if not seconds:
            return "no good visitor was answered"
        return (
            f"{len(seconds)} of {len(self.visits)} good visitors answered, "
            f"in {statistics.median(seconds) * 1000:.1f} ms in the median and {max(seconds) * 1000:.0f} ms at most"
        )


def main() -> int:
    """Try everything in both modes, and say what held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see whether everything runs, in seconds")
    scale = QUICK if parser.parse_args().quick else Scale()
    try:
        raise_descriptor_limit()
        for name in ("nginx", "wrk", "slowhttptest"):
            require(name, name)
        broken = [fault for edge in EDGES for fault in stress(edge, scale)]
    except BenchError as error:
        print(f"bench/stress: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    for fault in broken:
        print(f"bench/stress: {fault}", file=sys.stderr)
    return _BROKEN if broken else 0


def stress(edge: str, scale: Scale) -> list[str]:
    """Try everything on a server in the mode ``edge``; return a sentence for whatever
    did not hold."""
    trials: list[tuple[str, Callable[[System], str]]] = [
        (f"{scale.load_seconds} s of wrk", lambda system: under_load(system, scale)),
        (f"{scale.held:,} open connections", lambda system: held_open(system, scale)),
    ]
    trials += [(name, lambda system, name=name: under_attack(system, name, scale)) for name in SLOW]
    broken = []
    with Programs() as programs:
        files = programs.directory / "files"
        files.mkdir()
        make_bulk(files)
        upstreams = Upstreams(nginx(programs, files).port, sink(programs))
        system = localtunnel(programs, upstreams, edge=edge, encrypted=True)
        for name, trial in trials:
            try:
                print(f"{system.name}, {name}: {trial(system)}", flush=True)
            except BenchError as error:
                broken.append(f"{system.name}, {name}: {error}")
    return broken


def under_load(system: System, scale: Scale) -> str:
    """Ask as fast as the answers come. Raises BenchError when a request fails."""
    rate = requests(system.name, system.requests, scale.load_seconds, connections=CONNECTIONS)
    return f"{rate:,.0f} requests/s, none failed"


def held_open(system: System, scale: Scale) -> str:
    """Open connections, look at the server at rest, and use each once more. Raises
    BenchError when one fails."""
    with crowd() as connections:
        join(connections, system.requests.address, system.requests.host, scale.held)
        held: Held = read_held(system, scale.held, window=2.0)
        slowest = max(timed(sock, system.requests.host) for sock in connections)
    if held.idle_cpu > bars.IDLE_CPU_PERCENT:
        raise BenchError(
            f"The idle server takes {held.idle_cpu:.1f} % of a core; {bars.IDLE_CPU_PERCENT} % is the bar."
        )
    return (
        f"all answered again, in {slowest * 1000:.0f} ms at most; "
        f"the server had {held.server_kib / 1024:.0f} MiB and took {held.idle_cpu:.1f} % of a core while idle"
    )


def under_attack(system: System, name: str, scale: Scale) -> str:
    """Let slowhttptest attack while good visitors come. Raises BenchError when one of
    these is not answered."""
    option, url = SLOW[name]
    address, port = system.requests.address
    command = [require("slowhttptest", "slowhttptest"), option, "-u", url, "-d", f"{address}:{port}", "-v", "1"]
    command += ["-c", str(scale.attackers), "-r", str(max(1, scale.attackers // 5)), "-l", str(scale.attack_seconds)]
    # A few bytes now and then: a follow-up each second, a window of at most 512 bytes
    # read 32 bytes a second.
    command += ["-i", "1", "-n", "1", "-z", "32", "-s", str(1 << 20)]
    with good_visitors(system.requests) as good:
        output(command, scale.attack_seconds + _END_PATIENCE)
    if faults := good.faults():
        raise BenchError(f"{len(faults)} of {len(good.visits)} good visitors failed: {', '.join(sorted(set(faults)))}.")
    return f"{good} beside {scale.attackers:,} attackers"


@contextmanager
def good_visitors(door: Door) -> Iterator[Good]:
    """Let a good visitor come every now and then for as long as the block lasts."""
    good = Good()
    over = threading.Event()

    def come() -> None:
        while not over.wait(GOOD_PAUSE):
            good.visits += visit(door.address, door.host, 1)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        # Some come before the attack.
        time.sleep(5 * GOOD_PAUSE)
        yield good
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
