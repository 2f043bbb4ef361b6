"""What open connections and idle tunnels cost: memory as their number grows, and the
CPU time of holding them."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from processes import cpu_seconds, resident_kib
from programs import LOOPBACK, BenchError
from systems import System
from visitors import REQUEST_TIMEOUT, crowd, join, settle

from localtunnel.protocol.messages import ControlRequest, ProxyRequest
from localtunnel.protocol.version import LTP_0_3
from localtunnel.protocol.wire.codec import encode
from localtunnel.protocol.wire.framing import LENGTH_SIZE

TUNNEL_POOL = 4
"""Idle connections of each tunnel: the first pool of an LTP/0.3 client."""


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


def tunnel_kib(system: System, few: int, many: int) -> float:
    """Return the KiB that an idle tunnel costs the server: the difference at ``many``
    and at ``few``, for each."""
    if system.server is None or system.backend is None:
        raise BenchError(f"{system.name} takes no clients of LTP/0.3.")
    dial = partial(_dial, (LOOPBACK, system.backend), _context() if system.encrypted else None)
    with crowd() as connections:
        readings = []
        for first, last in ((0, few), (few, many)):
            for number in range(first, last):
                _open_tunnel(connections, dial, f"idle{number}")
            settle()
            readings.append(resident_kib(system.server))
    return (readings[1] - readings[0]) / (many - few)


def tunnels_that_leave(system: System, count: int) -> None:
    """Open ``count`` tunnels with their pools, and abandon them."""
    dial = partial(_dial, (LOOPBACK, system.backend), _context() if system.encrypted else None)
    with crowd() as connections:
        for number in range(count):
            _open_tunnel(connections, dial, f"leaves{number}")


def _context() -> ssl.SSLContext:
    """Return what makes TLS connections to a server that is known to be ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _dial(address: tuple[str, int], context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(address, REQUEST_TIMEOUT)
    return sock if context is None else context.wrap_socket(sock)


def _open_tunnel(connections: list[socket.socket], dial: Callable[[], socket.socket], name: str) -> None:
    """Open the control connection of a tunnel and park its pool by hand, without the
    cost of a client."""
    control = dial()
    connections.append(control)
    control.sendall(LTP_0_3.header + encode(ControlRequest(name, "bench@bench;Linux", instance=name)))
    reply = _read_message(control)
    if "control" not in reply:
        raise BenchError(f"The server opened no tunnel: {reply}.")
    for _ in range(TUNNEL_POOL):
        proxy = dial()
        connections.append(proxy)
        proxy.sendall(LTP_0_3.header + encode(ProxyRequest(name, session=reply["control"]["session"])))


def _read_message(sock: socket.socket) -> dict[str, dict[str, str]]:
    length = int.from_bytes(_read(sock, LENGTH_SIZE), "big")
    message: dict[str, dict[str, str]] = json.loads(_read(sock, length))
    return message


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise BenchError(f"The server closed a connection with {data!r} instead of an answer.")
        data += part
    return data
