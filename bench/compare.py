#!/usr/bin/env python3
"""Ours beside its peers on loopback, in one run: requests and connections per second,
bulk, memory, a neighbour's wait. What users run by default comes first.

Every system stands in front of the same local servers, and every rate is the median of
several rounds, in each of which all systems take their turn, so that a busy moment of
the machine does not single one out. What is not installed is named and left out; nginx
and wrk have to be there.

Another tunnel takes part with --peer: let its laptop side lead to --upstream-port of
this machine, which is nginx while the benchmark runs, and name its public side.
--peer-upload names the public side of the port after it.

Exit codes: 0 measured, 2 the benchmark cannot be run here.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import bars
import report
import tables
from costs import hold, per_connection
from figures import CLIENT_KIB, HELD, IDLE_CPU, SERVER_KIB, SHRUNK_KIB, TUNNEL_KIB, measure
from flood import neighbour
from loads import all_loads, make_bulk
from pieces import measure_pieces
from programs import HAPROXY, SSH, SSHD, BenchError, Programs, find, raise_descriptor_limit
from redials import measure_redials
from systems import EDGES, HOST, JOIN, Door, System, Upstreams, haproxy, localtunnel, nginx, ours, sink, ssh
from tunnels import shrunk_kib, tunnel_kib

from localtunnel.net.descriptors import for_visitors

Maker = Callable[[Programs, Upstreams], System]

_UNAVAILABLE = 2


@dataclass(frozen=True)
class Scale:
    """How much is measured, and for how long."""

    rounds: int
    seconds: float
    """How long each load lasts."""
    held: tuple[int, ...]
    """Open connections at which memory and idle CPU are read."""
    window: float
    """Seconds over which idle CPU is read."""
    tunnels: tuple[int, int]
    """Fresh tunnels at which memory is read; the difference counts."""
    shrunk: tuple[int, ...]
    """The same for tunnels whose pools have shrunk; one crowd after another."""
    flood_rounds: int
    pool: int
    """Connections of a pool that is opened again; a client opens 1000 at most."""


FULL = Scale(
    rounds=5,
    seconds=2,
    held=(10, 1000, 2000, 5000, bars.MANY),
    window=3,
    tunnels=(1, 200),
    shrunk=(50, 100, 150, 200),
    flood_rounds=3,
    pool=1000,
)
QUICK = Scale(
    rounds=1,
    seconds=0.2,
    held=(10, 40),
    window=0.1,
    tunnels=(1, 5),
    shrunk=(2, 4),
    flood_rounds=1,
    pool=16,
)
"""A short run that only shows whether everything works."""

OTHERS_HELD = 2000
"""Open connections at which growth ends but for the plain link of ours: ssh has a limit
of its own, and neither theirs nor that of TLS is the question here."""


SPARE = 500
"""Descriptors that the server has for other things than visitors that are held."""


def main() -> int:
    """Measure, print, and write when asked to."""
    arguments = _parser().parse_args()
    scale = QUICK if arguments.quick else FULL
    if arguments.rounds is not None:
        scale = replace(scale, rounds=arguments.rounds)
    try:
        raise_descriptor_limit()
        peers = read_peers(arguments.peer, arguments.peer_upload, arguments.host)
        results = compare(scale, peers, arguments.upstream_port)
        text = tables.describe(results)
        print(text)
        if arguments.write:
            report.write("bench/compare", f"{text}\n\n{report.write_picture('compare', tables.picture(results))}")
    except BenchError as error:
        print(f"bench/compare: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help=f"how often each system is measured ({FULL.rounds})")
    parser.add_argument("--quick", action="store_true", help="see whether everything runs; the figures mean nothing")
    parser.add_argument("--write", action="store_true", help="put tables and picture into docs/ as well")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=HOST:PORT", help="one more tunnel")
    parser.add_argument(
        "--peer-upload", action="append", default=[], metavar="NAME=HOST:PORT", help="where that tunnel takes uploads"
    )
    parser.add_argument("--host", default=HOST, help=f"the Host field of requests to --peer ({HOST})")
    parser.add_argument("--upstream-port", type=int, help="where nginx listens; the port after it takes uploads")
    return parser


def read_peers(peers: list[str], uploads: list[str], host: str) -> list[System]:
    """Return the systems named by --peer and --peer-upload. Raises BenchError."""
    doors = {name: Door(port, host, address) for name, address, port in map(_read_peer, uploads)}
    systems = [
        System(name, Door(port, host, address), doors.pop(name, None)) for name, address, port in map(_read_peer, peers)
    ]
    for name in doors:
        raise BenchError(f"--peer-upload names {name}, for which there is no --peer.")
    return systems


def _read_peer(text: str) -> tuple[str, str, int]:
    name, equals, address = text.partition("=")
    host, colon, port = address.rpartition(":")
    if not (name and equals and host and colon and port.isdecimal()):
        raise BenchError(f"{text!r} is not NAME=HOST:PORT.")
    return name, host.strip("[]"), int(port)


def compare(scale: Scale, peers: list[System], upstream_port: int | None = None) -> tables.Results:
    """Start every system, measure all of them, end them. Raises BenchError when one
    does not work."""
    results = tables.Results()
    makers = _installed()
    with Programs() as programs:
        files = programs.directory / "files"
        files.mkdir()
        bulk = make_bulk(files)
        direct = nginx(programs, files, port=upstream_port)
        upstreams = Upstreams(direct.port, sink(programs, upstream_port and upstream_port + 1))
        direct = replace(direct, uploads=Door(upstreams.ports[1]))
        # Memory comes first, from fresh programs: connections would fit into memory
        # that earlier loads had freed.
        for make in makers:
            _measure_costs(make, upstreams, scale, results)
        _measure_shrunk(scale, results)
        systems = [*(make(programs, upstreams) for make in makers), direct, *peers]
        measure(systems, all_loads(bulk, scale.seconds), scale.rounds, _say, results.figures)
    _measure_flood(scale, results)
    measure_redials(scale.pool, scale.rounds, _say, results.figures)
    measure_pieces(scale.rounds, _say, results.figures)
    return results


def _installed() -> list[Maker]:
    """Return the starters of ours in each mode, as users run it and plain, and of each
    installed peer."""
    makers: list[Maker] = [
        partial(localtunnel, edge=edge, encrypted=encrypted) for encrypted in (True, False) for edge in EDGES
    ]
    if find(HAPROXY) is None:
        _say("haproxy is not installed (sudo apt-get install haproxy); it is left out.")
    else:
        makers.append(haproxy)
    if find(SSH) is None or find(SSHD) is None:
        _say("ssh or sshd is not installed (sudo apt-get install openssh-client openssh-server); ssh -R is left out.")
    else:
        makers.append(ssh)
    return makers


def _measure_costs(make: Maker, upstreams: Upstreams, scale: Scale, results: tables.Results) -> None:
    """Measure what connections and tunnels cost a system that is started for that
    alone."""
    figures = results.figures
    with Programs() as programs:
        system = make(programs, upstreams)
        is_ours = system.backend is not None
        _say(f"memory of {system.name}")
        most = _most_held(system) if is_ours and not system.encrypted else OTHERS_HELD
        counts = sorted({min(count, most) for count in scale.held})
        held = hold(system, counts, scale.window)
    results.held[system.name] = held
    server, client = per_connection(held)
    figures.add(system.name, SERVER_KIB, server)
    if client is not None:
        figures.add(system.name, CLIENT_KIB, client)
    if is_ours:
        figures.add(system.name, HELD, held[-1].count)
        figures.add(system.name, IDLE_CPU, held[-1].idle_cpu)
        with Programs() as programs:
            figures.add(system.name, TUNNEL_KIB, tunnel_kib(make(programs, upstreams), *scale.tunnels))


def _most_held(system: System) -> int:
    """Return how many open connections the plain link of ours has descriptors for: in
    join mode each takes two of the server's, which keeps a part for clients."""
    if system.name != ours(JOIN):
        return bars.MANY
    most = (for_visitors() - SPARE) // 2
    if most < bars.MANY:
        _say(f"The limit of descriptors is too low for {bars.MANY:,} connections in join mode; {most:,} are held.")
    return min(most, bars.MANY)


def _measure_shrunk(scale: Scale, results: tables.Results) -> None:
    """Measure what tunnels over TLS cost each mode of the server when nobody has
    visited them for long."""
    for edge in EDGES:
        name = ours(edge, encrypted=True)
        _say(f"memory of {name}, without visitors for long")
        with Programs() as programs:
            results.figures.add(name, SHRUNK_KIB, shrunk_kib(programs, edge, scale.shrunk))


def _measure_flood(scale: Scale, results: tables.Results) -> None:
    """Flood one tunnel of ours, and look at a neighbour that has a client and an nginx
    of its own."""
    with Programs() as first, Programs() as second:
        upstreams = Upstreams(nginx(first, first.directory).port, nginx(second, second.directory).port)
        systems = [localtunnel(first, upstreams, edge=edge, encrypted=True) for edge in EDGES]

        def flood(system: System) -> dict[str, float]:
            if system.uploads is None:
                return {}
            return neighbour(system.requests, system.uploads, Door(upstreams.requests), scale.seconds)

        measure(systems, {"a flood": flood}, scale.flood_rounds, _say, results.figures)


def _say(text: str) -> None:
    print(f"bench/compare: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
