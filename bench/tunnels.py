"""What idle tunnels cost the server: memory, with the pool of a fresh one and with that
of one that nobody has visited for long. Their client is one by hand, so that nothing
but the server is measured."""

import json
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from processes import resident_kib
from programs import LOOPBACK, BenchError, Programs
from systems import Route, System, lt_server
from visitors import REQUEST_TIMEOUT, crowd, settle

from localtunnel.protocol.limits import FIRST_CONCURRENCY, IDLE_CONCURRENCY
from localtunnel.protocol.messages import ControlRequest, ProxyRequest
from localtunnel.protocol.version import LTP_0_3
from localtunnel.protocol.wire.codec import encode
from localtunnel.protocol.wire.framing import LENGTH_SIZE

_SHRINKING = """\
[timeouts]
idle_tunnel = 1.0
heartbeat = 86400.0
"""
"""Settings of a server whose pools shrink soon; the client by hand answers no pings."""

Dial = Callable[[], socket.socket]


class _Tunnel:
    """An open tunnel, and its connections, the oldest first."""

    def __init__(self, connections: list[socket.socket], dial: Dial, name: str) -> None:
        """Open the tunnel and park its pool. All goes to ``connections``, which the
        caller closes."""
        self._control = dial()
        connections.append(self._control)
        self._control.sendall(LTP_0_3.header + encode(ControlRequest(name, "bench@bench;Linux", instance=name)))
        reply = _read_message(self._control)
        if "control" not in reply:
            raise BenchError(f"The server opened no tunnel: {reply}.")
        self._pool = []
        for _ in range(FIRST_CONCURRENCY):
            proxy = dial()
            connections.append(proxy)
            self._pool.append(proxy)
            proxy.sendall(LTP_0_3.header + encode(ProxyRequest(name, session=reply["control"]["session"])))

    def shrink(self) -> None:
        """Wait until the server asks for a smaller pool, and close the oldest
        connections."""
        size = FIRST_CONCURRENCY
        while size > IDLE_CONCURRENCY:
            size = _read_message(self._control).get("concurrency", size)
        while len(self._pool) > size:
            self._pool.pop(0).close()


def tunnel_kib(system: System, few: int, many: int) -> float:
    """Return the KiB that a fresh tunnel costs the server: the difference at ``many``
    and at ``few``, for each."""
    dial, server = _dialler(system)
    with crowd() as connections:
        readings = []
        for first, last in ((0, few), (few, many)):
            for number in range(first, last):
                _Tunnel(connections, dial, f"idle{number}")
            settle()
            readings.append(resident_kib(server))
    return (readings[1] - readings[0]) / (many - few)


def shrunk_kib(programs: Programs, edge: str, counts: Sequence[int]) -> float:
    """Return the KiB that a tunnel over TLS costs a server when its pool has shrunk:
    the difference at the last and at the first of ``counts``, for each.

    Tunnels come in as many crowds as there are counts, and the pools of one shrink
    before the next one comes: memory that was freed serves the next ones, as it does
    where tunnels come over the day, and both readings have that of one crowd too many.
    """
    system = lt_server(programs, Route(), edge, _SHRINKING)
    dial, server = _dialler(replace(system, encrypted=True))
    with crowd() as connections:
        readings = []
        for first, last in zip((0, *counts), counts, strict=False):
            tunnels = [_Tunnel(connections, dial, f"idle{number}") for number in range(first, last)]
            for tunnel in tunnels:
                tunnel.shrink()
            settle()
            readings.append(resident_kib(server))
    return (readings[-1] - readings[0]) / (counts[-1] - counts[0])


def tunnels_that_leave(system: System, count: int) -> None:
    """Open ``count`` tunnels with their pools, and abandon them."""
    dial, _ = _dialler(system)
    with crowd() as connections:
        for number in range(count):
            _Tunnel(connections, dial, f"leaves{number}")


def _dialler(system: System) -> tuple[Dial, int]:
    """Return what connects to the backend of a system of ours, and the process id of
    its server."""
    if system.server is None or system.backend is None:
        raise BenchError(f"{system.name} takes no clients of LTP/0.3.")
    context = None
    if system.encrypted:
        # The server is known to be ours.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return partial(_dial, (LOOPBACK, system.backend), context), system.server


def _dial(address: tuple[str, int], context: ssl.SSLContext | None) -> socket.socket:
    sock = socket.create_connection(address, REQUEST_TIMEOUT)
    return sock if context is None else context.wrap_socket(sock)


def _read_message(sock: socket.socket) -> dict[str, Any]:
    length = int.from_bytes(_read(sock, LENGTH_SIZE), "big")
    message: dict[str, Any] = json.loads(_read(sock, length))
    return message


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise BenchError(f"The server closed a connection with {data!r} instead of an answer.")
        data += part
    return data
