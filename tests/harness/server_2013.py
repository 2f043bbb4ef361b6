"""The server of 2013 as its clients see it: LTP/0.2, its silences and its faults (progrium/localtunnel, branch v2)."""

import re
from contextlib import suppress
from typing import Any

from gevent import socket
from gevent.server import StreamServer

from harness.peers import HEADER_0_2, frame, read_message
from harness.sockets import Address, listening
from harness.waiting import CAP, wait_until

_FINDABLE = re.compile(r"\w+")
"""The names that its frontend finds for a Host: what has anything else in it is answered 410."""


class Server2013:
    """A backend. ``taken`` are names that other clients have, for which it closes the connection without a word.

    ``openings`` has what each connection began with, ``requests`` the control requests, ``controls`` the connections of
    open tunnels. It asks nobody for a password, and knows neither options nor hosts of a tunnel's own.
    """

    def __init__(self, *taken: str, concurrency: int = 1) -> None:
        self.taken = set(taken)
        self.openings: list[bytes] = []
        self.requests: list[dict[str, Any]] = []
        self.controls: list[socket.socket] = []
        self._concurrency = concurrency
        self._clients: dict[str, str] = {}
        self._server = StreamServer(listening(), self._serve)
        self._server.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        address: Address = self._server.address
        return address[1]

    def finds(self, name: str) -> bool:
        """Say whether its frontend finds the tunnel for a visitor."""
        return _FINDABLE.fullmatch(name) is not None

    def end_tunnels(self) -> None:
        """End every control connection, as a restart does."""
        while self.controls:
            self.controls.pop().shutdown(socket.SHUT_RDWR)

    def wait_for_openings(self, count: int) -> list[bytes]:
        """Return what connections began with, once there have been ``count``."""
        wait_until(lambda: len(self.openings) >= count, what=f"{count} connections")
        return self.openings

    def _serve(self, sock: socket.socket, _: object) -> None:
        sock.settimeout(CAP)
        header = sock.recv(len(HEADER_0_2))
        self.openings.append(header)
        if header != HEADER_0_2:
            return
        message = read_message(sock)
        if "proxy" in message:
            self._serve_proxy(sock, message["proxy"])
        elif message["control"]["name"] not in self.taken:
            self._serve_control(sock, message["control"])

    def _serve_control(self, sock: socket.socket, asked: dict[str, Any]) -> None:
        self.requests.append(asked)
        self._clients[asked["name"]] = asked["client"]
        reply = {"host": f"{asked['name']}.example.com", "concurrency": self._concurrency, "banner": "Thanks."}
        self.controls.append(sock)
        sock.sendall(frame({"control": reply}))
        _hold(sock)

    def _serve_proxy(self, sock: socket.socket, asked: dict[str, Any]) -> None:
        if asked["name"] not in self._clients:
            sock.sendall(frame({"error": "expired", "message": "This tunnel has expired"}))
        elif self._clients[asked["name"]] == asked["client"]:
            _hold(sock)

    def close(self) -> None:
        """Close every connection."""
        self._server.stop(timeout=0)

    def __enter__(self) -> "Server2013":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _hold(sock: socket.socket) -> None:
    """Wait for the end of the connection; what comes before that is of no interest."""
    sock.settimeout(None)
    with suppress(OSError):
        while sock.recv(1024):
            pass
