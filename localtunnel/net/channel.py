"""LTP messages on a socket: it feeds the protocol's pure decoder and state table."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from localtunnel.errors import ConnectionClosed
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline, take_turn, wait_readable
from localtunnel.net.sockets import Socket, translate
from localtunnel.protocol import limits, states
from localtunnel.protocol.messages import ControlRequest, FromClient, FromServer, Message, ProxyRequest
from localtunnel.protocol.pace import Pace
from localtunnel.protocol.states import State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version
from localtunnel.protocol.wire import codec
from localtunnel.protocol.wire.framing import Decoder
from localtunnel.protocol.wire.stream import RECORD_SIZE

READS_AT_A_TIME = 16
"""Reads for one message before the hub has a turn: over TLS each brings one record,
perhaps of a single byte."""

MESSAGES_AT_A_TIME = 8
"""Messages that a greenlet takes without a wait before the hub has a turn."""

Received = TypeVar("Received", FromClient, FromServer)
Decode = Callable[[bytes, Version], Received]


class Channel(Generic[Received]):
    """Owns ``sock`` until ``close`` or ``detach``. One greenlet receives; any code may
    send, since that never waits."""

    __slots__ = ("_at_hand", "_decode", "_decoder", "_pace", "_peer", "sock", "state")

    def __init__(self, sock: Socket, decoder: Decoder, decode: Decode[Received], peer: str) -> None:
        self.sock = sock
        self.state = State.START
        self._decoder = decoder
        self._decode: Decode[Received] = decode
        self._peer = peer
        self._pace: Pace | None = None
        self._at_hand = 0
        """Messages returned since the hub had a turn."""

    @property
    def version(self) -> Version:
        """The version of the connection. Before the header has come it is the oldest
        one, so that an error can be sent."""
        return self._decoder.version or LTP_0_2

    @property
    def is_mid_message(self) -> bool:
        """Whether a message has come in part."""
        return not self._decoder.is_empty

    def limit(self, size: int) -> None:
        """Refuse payloads over ``size`` bytes from now on."""
        self._decoder.limit = size

    def limit_pace(self, interval: float) -> None:
        """Refuse a peer that sends more than the protocol allows for heartbeats every
        ``interval`` seconds."""
        self._pace = Pace(interval)

    def receive(self, deadline: Deadline) -> Received:
        """Block the greenlet until the next whole message has come, and return it.

        Raises DeadlineExceeded, ConnectionClosed, or a ProtocolError; after each of
        them the caller closes.
        """
        if self._at_hand >= MESSAGES_AT_A_TIME:
            self._at_hand = 0
            take_turn()
        while True:
            message = self.receive_ready()
            if message is not None:
                self._at_hand += 1
                return message
            self._at_hand = 0
            wait_readable(self.sock, deadline)

    def receive_ready(self) -> Received | None:
        """Return the next message if it has arrived, else None; never waits, so a hub
        callback may call it.

        A message of many reads gives None as well: the socket stays readable, so a
        caller that waits for it goes on in its next turn. Raises ConnectionClosed or a
        ProtocolError; after each of them the caller closes.
        """
        payload = self._decoder.next_payload()
        reads = 0
        while payload is None:
            if reads == READS_AT_A_TIME:
                return None
            reads += 1
            try:
                # No decrypted byte may be left where no watcher tells of it.
                data = self.sock.recv(RECORD_SIZE)
            except BlockingIOError:
                return None
            except OSError as error:
                raise translate(error, f"reading from {self._peer}") from error
            if not data:
                raise ConnectionClosed(f"The connection was closed by {self._peer}.")
            self._decoder.feed(data)
            payload = self._decoder.next_payload()
        if self._pace is not None:
            self._pace.count(time.monotonic())
        message: Received = self._decode(payload, self.version)
        if isinstance(message, ControlRequest | ProxyRequest):
            codec.check_fields(message, self.version)
        self.state = states.advance(self.version, self.state, message)
        return message

    def send(self, message: Message, *, header: bytes = b"") -> None:
        """Send ``header`` and ``message`` in one piece; never waits, so a hub callback
        may call it.

        A message is small: if the socket has no room for one, the peer stopped reading
        long ago. Raises ConnectionClosed then, and when the peer is gone; the caller
        closes.
        """
        self.state = states.advance(self.version, self.state, message)
        data = header + codec.encode(message)
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise translate(error, f"writing to {self._peer}") from error
        if sent < len(data):
            raise ConnectionClosed(f"The connection is stuck: {self._peer} does not read.")

    def detach(self) -> tuple[Socket, bytes]:
        """Return the socket, which the caller owns from now on, and the bytes that were
        read after the last message."""
        return self.sock, self._decoder.take_rest()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        closing.close(self.sock)


def server_channel(sock: Socket, peer: str) -> Channel[FromClient]:
    """Return the server's end of a new connection: the client sends its header
    first."""
    return Channel(sock, Decoder(), codec.decode_from_client, peer)


def client_channel(sock: Socket, version: Version, peer: str) -> Channel[FromServer]:
    """Return the client's end of a new connection in ``version``: the server sends no
    header."""
    return Channel(sock, Decoder(version), codec.decode_from_server, peer)


def parked_channel(sock: Socket, version: Version, peer: str) -> Channel[FromServer]:
    """Return the client's end of a proxy connection that has asked to come back."""
    channel = client_channel(sock, version, peer)
    channel.state = State.PARKED
    return channel


def ended_channel(sock: Socket, received: bytes, peer: str) -> Channel[FromClient]:
    """Return the server's end of an LTP/0.3 proxy connection whose stream has ended;
    ``received`` has come behind that."""
    decoder = Decoder(LTP_0_3)
    decoder.feed(received)
    channel = Channel(sock, decoder, codec.decode_from_client, peer)
    channel.state = State.ENDED
    return channel


def assigned_channel(sock: Socket, peer: str) -> Channel[FromClient]:
    """Return the server's end of an LTP/0.3 proxy connection to which it has sent an
    assignment."""
    channel = Channel(sock, Decoder(LTP_0_3, limit=limits.MAX_HEARTBEAT), codec.decode_from_client, peer)
    channel.state = State.ASSIGNED
    return channel
