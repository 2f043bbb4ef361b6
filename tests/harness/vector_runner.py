"""A running case of the vectors: the other side of the server or the client that is on trial, whoever made it."""

import json
import re
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from harness.tls import server_side_context
from harness.vector_items import fill, to_bytes
from localtunnel.protocol import limits

SLACK = 3.0
"""Seconds that any step may take on a busy machine, besides the limit that it names."""

EARLY = 0.9
"""The part of a limit that must have passed at least: a hub's timers count from a time that is a little older."""

MOMENT = 0.05
"""Seconds for which nothing may come where nothing is expected."""

LIMITS = {
    "PREAMBLE_TIMEOUT": 0.5,
    "HEARTBEAT_INTERVAL": 0.3,
    "HEARTBEAT_TIMEOUT": 1.0,
    "CLIENT_HEARTBEAT_TIMEOUT": 1.5,
    "ERROR_HOLD": 0.2,
    "GOT_TIMEOUT": limits.GOT_TIMEOUT,
    "READY_TIMEOUT": 0.5,
    "MARK_TIMEOUT": 0.4,
    "ENDED_TIMEOUT": 0.6,
}


def matches(pattern: Any, value: Any, words: dict[str, Any]) -> bool:
    """Say whether ``value`` has at least what ``pattern`` has; ``words`` remembers what a word stood for."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and matches(wanted, value[key], words) for key, wanted in pattern.items()
        )
    if pattern == "<number>":
        return isinstance(value, int | float) and value > 0
    if isinstance(pattern, str) and re.fullmatch("<#[a-z]+>", pattern):
        return matches("<number>", value, words) and words.setdefault(pattern, value) == value
    if isinstance(pattern, str) and re.fullmatch("<[a-z]+>", pattern):
        return isinstance(value, str) and value != "" and words.setdefault(pattern, value) == value
    return bool(pattern == value and type(pattern) is type(value))


class Peer:
    """One connection of a case, and what was received on it and not yet expected."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.last_sent = time.monotonic()
        self.any_rest = False

    def send(self, data: bytes, *, bytewise: bool = False) -> None:
        self.last_sent = time.monotonic()
        for start in range(0, len(data), 1 if bytewise else max(1, len(data))):
            self.sock.sendall(data[start : start + 1] if bytewise else data)
            # The other side, which runs in the same hub, reads each piece by itself.
            gevent.sleep(0)

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            assert data, f"the connection ended after {self.buffer!r}, {size} bytes were expected"
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def take_message(self) -> Any:
        return json.loads(self.take(int.from_bytes(self.take(4), "big")))

    def take_chunk(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def expect_nothing(self) -> None:
        with gevent.Timeout(MOMENT, False):
            self.buffer += self.sock.recv(1)
        assert not self.buffer, f"{self.buffer!r} came where nothing was expected"

    def expect_end(self) -> None:
        data = self.buffer
        with suppress(ConnectionResetError):
            while data or (data := self.sock.recv(65536)):
                assert self.any_rest, f"{data!r} came where the end was expected"
                data = b""


class Run:
    """One case in progress.

    ``connect`` returns the socket of a connection that is mentioned for the first time, ``stop`` stops the subject.
    """

    def __init__(
        self,
        case: dict[str, Any],
        connect: Callable[[str], Any],
        stack: ExitStack,
        stop: Callable[[], None] = lambda: None,
        cut: int = 1,
    ) -> None:
        self.case = case
        self.cut = cut
        """Where the bytes of a step with ``cut`` are cut in two."""
        self.is_cut = False
        self.peers: dict[str, Peer] = {}
        self.words: dict[str, Any] = {}
        self._connect = connect
        self._stack = stack
        self._stop = stop

    def steps(self) -> None:
        for number, step in enumerate(self.case["steps"], 1):
            limit = LIMITS[step["within"]] if "within" in step else 0.0
            late = AssertionError(f"step {number} was not done in time: {str(step)[:300]}")
            with gevent.Timeout(limit + SLACK, late):
                self._step(step)

    def _step(self, step: dict[str, Any]) -> None:
        name = step.get("on", self.case["connection"])
        if step.get("expect") == "not connected":
            assert name not in self.peers
            with pytest.raises(BlockingIOError), gevent.Timeout(0, BlockingIOError()):
                self._connect(name)
            return
        peer = self._peer(name)
        if "send" in step:
            data = to_bytes(fill(step["send"], self.words))
            if step.get("cut", False) and self.cut < len(data):
                self.is_cut = True
                peer.send(data[: self.cut])
                data = data[self.cut :]
            peer.send(data, bytewise=step.get("bytewise", False))
        elif "expect" in step:
            self._expect(name, peer, step["expect"])
        elif "stop" in step:
            self._stop()
        else:
            assert step["close"] is True
            peer.sock.close()
        if "not_before" in step:
            assert time.monotonic() - peer.last_sent >= LIMITS[step["not_before"]] * EARLY

    def _peer(self, name: str) -> Peer:
        if name not in self.peers:
            peer = self.peers[name] = Peer(self._connect(name))
            self._stack.callback(peer.sock.close)
        return self.peers[name]

    def _expect(self, name: str, peer: Peer, expected: Any) -> None:
        match expected:
            case "end":
                peer.expect_end()
            case "nothing":
                peer.expect_nothing()
            case {"bytes": items}:
                wanted = to_bytes(fill(items, self.words))
                assert peer.take(len(wanted)) == wanted
            case {"start": items}:
                wanted = to_bytes(items)
                assert peer.take(len(wanted)) == wanted
                peer.any_rest = True
            case {"chunk": items}:
                assert peer.take_chunk().startswith(to_bytes(items))
            case {"message": pattern}:
                message = peer.take_message()
                assert matches(pattern, message, self.words), f"{message} came where {pattern} was expected"
                if name.endswith("-kept"):
                    self._stack.callback(gevent.spawn(answer_pings, peer).kill)
            case _:
                raise ValueError(f"unknown expectation: {expected}")


def answer_pings(peer: Peer) -> None:
    """Keep a control connection alive until it ends or the greenlet is killed."""
    with suppress(AssertionError, OSError):
        while True:
            if peer.take_message() == {"control": "ping"}:
                peer.send(to_bytes([{"message": {"control": "pong"}}]))


class FakeServer:
    """Listens as backend and as upstream of the client on trial, and accepts when a case mentions a connection.

    A ``version`` that is not the client's first choice: connections that begin with another are closed unanswered.
    """

    def __init__(self, stack: ExitStack, *, version: str, upstream_refuses: bool, tls: Path | None = None) -> None:
        """``tls`` is the file with the key and the certificate of a backend that speaks TLS."""
        self._header = f"LTP/{version}".encode()
        self._context = server_side_context(tls) if tls is not None else None
        self.backend = self._listen(stack)
        self.upstream = self._listen(stack)
        self.backend_port = self.backend.getsockname()[1]
        self.upstream_port = self.upstream.getsockname()[1]
        if upstream_refuses:
            self.upstream.close()

    def connect(self, name: str) -> Any:
        if name.startswith("upstream"):
            return self.upstream.accept()[0]
        while True:
            sock = self.backend.accept()[0]
            if self._context is not None:
                return self._context.wrap_socket(sock, server_side=True)
            if self._header == NEWEST or sock.recv(len(NEWEST), socket.MSG_PEEK) == self._header:
                return sock
            sock.close()

    def answer_again(self, steps: list[dict[str, Any]]) -> None:
        """Give a client that tries once more before it gives up the same answer as before."""
        answer = [to_bytes(step["send"]) for step in steps if "send" in step][-1]
        while True:
            peer = Peer(self.connect("control"))
            peer.take(len(self._header))
            peer.take_message()
            peer.send(answer)
            with suppress(OSError):
                peer.expect_end()
            peer.sock.close()

    def _listen(self, stack: ExitStack) -> Any:
        sock = socket.socket()
        stack.callback(sock.close)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return sock


NEWEST = b"LTP/0.3"
"""What the client on trial tries first."""
