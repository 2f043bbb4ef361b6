"""What open connections cost: memory as their number grows, and the CPU time of holding
them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from processes import cpu_seconds, resident_kib
from programs import BenchError
from systems import System
from visitors import crowd, join, settle


@dataclass(frozen=True)
class Held:
    """The cost of a system with ``count`` open connections, each idle after one
    answered request."""

    count: int
    server_kib: int
    client_kib: int | None
    idle_cpu: float
    """CPU time of the server, in percent of a core, while nothing happens."""


def hold(system: System, counts: Sequence[int], window: float) -> list[Held]:
    """Open more and more connections, up to each of ``counts``, and read what they
    cost.

    The CPU is read over ``window`` seconds. Raises BenchError when a connection is not
    answered.
    """
    found: list[Held] = []
    with crowd() as connections:
        for count in counts:
            join(connections, system.requests.address, system.requests.host, count - len(connections))
            found.append(read_held(system, count, window))
    return found


def read_held(system: System, count: int, window: float) -> Held:
    """Return the present cost of a system with ``count`` open connections, its CPU over
    ``window`` seconds."""
    if system.server is None:
        raise BenchError(f"The server of {system.name} is not here to be looked at.")
    settle()
    before = cpu_seconds(system.server)
    time.sleep(window)
    cpu = (cpu_seconds(system.server) - before) / window * 100
    client = None if system.client is None else resident_kib(system.client)
    return Held(count, resident_kib(system.server), client, cpu)


def per_connection(held: Sequence[Held]) -> tuple[float, float | None]:
    """Return the KiB that a connection costs server and client: from the second reading
    on, behind the cost of starting."""
    first, last = held[1 if len(held) > 2 else 0], held[-1]
    more = last.count - first.count
    client = None
    if last.client_kib is not None and first.client_kib is not None:
        client = (last.client_kib - first.client_kib) / more
    return (last.server_kib - first.server_kib) / more, client
