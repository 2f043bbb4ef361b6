"""Two real channels that talk to each other through a network of the test's own, without a socket."""

import errno
from collections import deque
from typing import Any

from localtunnel.errors import LocaltunnelError
from localtunnel.net.channel import Channel, client_channel, server_channel
from localtunnel.protocol.messages import (
    ASSIGNED,
    PING,
    PONG,
    RELEASE,
    Assignment,
    Challenge,
    Concurrency,
    ControlReply,
    ControlRequest,
    Drain,
    ErrorReply,
    Failed,
    Got,
    Message,
    Notice,
    Proof,
    ProxyRequest,
    Ready,
    Replaced,
)
from localtunnel.protocol.states import TABLES, State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version

SESSION = "0123456789abcdef0123456789abcdef"
CONTROL = ControlRequest("demo", "c", instance="i")
REPLY = ControlReply("demo.localhost", 4, "b", session=SESSION)
PROXY = ProxyRequest("demo", "c", SESSION)
ASSIGNMENT = Assignment(7, "203.0.113.7:51234")
ERROR = ErrorReply("exception", "m")
CHALLENGE = Challenge("r=x")
PROOF = Proof("c=x")
NEWS = [Concurrency(9), Drain(3), Notice("n"), Replaced("r")]

VOCABULARY: dict[tuple[Version, str], list[Message]] = {
    (LTP_0_2, "client"): [CONTROL, PROXY, PONG],
    (LTP_0_2, "server"): [REPLY, ASSIGNED, PING, ERROR],
    (LTP_0_3, "client"): [CONTROL, PROOF, PROXY, PING, PONG, Got(7), Ready(7), Failed(7, "refused"), RELEASE],
    (LTP_0_3, "server"): [REPLY, CHALLENGE, ASSIGNMENT, PING, PONG, *NEWS, ERROR],
}
"""What each side says in each version; when it may, the tables know."""

OTHER = {"client": "server", "server": "client"}


class Stream:
    """One direction: frames on their way, bytes that have arrived, and how it ends."""

    def __init__(self) -> None:
        self.flying: deque[bytes] = deque()
        self.arrived = bytearray()
        self.end: str | None = None

    def arrive(self, size: int) -> None:
        """Let the next ``size`` bytes arrive."""
        while size > 0 and self.flying:
            piece = self.flying.popleft()
            self.arrived += piece[:size]
            if piece[size:]:
                self.flying.appendleft(piece[size:])
            size -= len(piece)


class Line:
    """What a channel takes for its socket."""

    def __init__(self, incoming: Stream, outgoing: Stream) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def recv(self, size: int) -> bytes:
        if self._incoming.arrived:
            data = bytes(self._incoming.arrived[:size])
            del self._incoming.arrived[:size]
            return data
        if self._incoming.end == "reset":
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        if self._incoming.end == "closed":
            return b""
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        self._outgoing.flying.append(data)
        return len(data)


class Pair:
    """The two ends of a connection. A side is ``over`` when it has left the protocol, for the error in ``errors``."""

    def __init__(self, version: Version) -> None:
        self.version = version
        to_server, to_client = Stream(), Stream()
        self.streams = {"client": to_server, "server": to_client}
        """By who sends."""
        client_end: Any = Line(to_client, to_server)
        server_end: Any = Line(to_server, to_client)
        self.channels: dict[str, Channel[Any]] = {
            "client": client_channel(client_end, version, "the server"),
            "server": server_channel(server_end, "the client"),
        }
        self.errors: dict[str, LocaltunnelError] = {}
        self.received: dict[str, list[Message]] = {"client": [], "server": []}

    def state(self, side: str) -> State:
        return self.channels[side].state

    def over(self, side: str) -> bool:
        return side in self.errors or self.state(side) in (State.CLOSED, State.JOINED)

    def may_say(self, side: str) -> list[Message]:
        if self.over(side):
            return []
        row = TABLES[self.version][self.state(side)]
        return [message for message in VOCABULARY[self.version, side] if type(message) in row]

    def say(self, side: str, message: Message) -> None:
        first = side == "client" and self.state("client") is State.START
        self.channels[side].send(message, header=self.version.header if first else b"")

    def listen(self, side: str) -> None:
        """Let ``side`` read what has arrived. Anything but an error of ours comes through."""
        while not self.over(side):
            try:
                message = self.channels[side].receive_ready()
            except LocaltunnelError as error:
                self.errors[side] = error
                return
            if message is None:
                return
            self.received[side].append(message)
