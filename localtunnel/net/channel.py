"""LTP messages on a socket: the protocol's pure decoder and state table, fed from a real connection."""

import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from localtunnel.errors import ConnectionClosed
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline, wait_readable
from localtunnel.net.sockets import translate
from localtunnel.protocol import messages, states
from localtunnel.protocol.framing import Decoder
from localtunnel.protocol.messages import FromClient, FromServer, Message
from localtunnel.protocol.states import State

READ_SIZE = 64 * 1024

Received = TypeVar("Received", FromClient, FromServer)


class Channel(Generic[Received]):
    """Owns ``sock`` until ``close`` or ``detach``. One greenlet receives; anybody may send, for sending never waits."""

    __slots__ = ("_decode", "_decoder", "_peer", "sock", "state")

    def __init__(self, sock: socket.socket, decoder: Decoder, decode: Callable[[bytes], Received], peer: str) -> None:
        self.sock = sock
        self.state = State.START
        self._decoder = decoder
        self._decode: Callable[[bytes], Received] = decode
        self._peer = peer

    @property
    def version(self) -> bytes | None:
        """The header that the peer sent, or None before it has arrived."""
        return self._decoder.version

    def limit(self, size: int) -> None:
        """Take no payload over ``size`` bytes from here on."""
        self._decoder.limit = size

    def receive(self, deadline: Deadline) -> Received:
        """Block the greenlet until the next whole message has come, and return it.

        Raises DeadlineExceeded, ConnectionClosed, or a ProtocolError; after each of them the caller closes.
        """
        while True:
            message = self.receive_ready()
            if message is not None:
                return message
            wait_readable(self.sock, deadline)

    def receive_ready(self) -> Received | None:
        """Return the next message if it has arrived, else None; never waits, so a hub callback may call it.

        Raises ConnectionClosed or a ProtocolError; after each of them the caller closes.
        """
        payload = self._decoder.next_payload()
        while payload is None:
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return None
            except OSError as error:
                raise translate(error, f"reading from {self._peer}") from error
            if not data:
                raise ConnectionClosed(f"The connection was closed by {self._peer}.")
            self._decoder.feed(data)
            payload = self._decoder.next_payload()
        message: Received = self._decode(payload)
        self.state = states.advance(self.state, message)
        return message

    def send(self, message: Message, *, header: bytes = b"") -> None:
        """Send ``header`` and ``message`` in one piece; never waits, so a hub callback may call it.

        A message is small: one for which the socket has no room means that the peer has long stopped reading. Raises
        ConnectionClosed then, or when the peer is gone; the caller closes.
        """
        self.state = states.advance(self.state, message)
        data = header + messages.encode(message)
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise translate(error, f"writing to {self._peer}") from error
        if sent < len(data):
            raise ConnectionClosed(f"The connection is stuck: {self._peer} does not read.")

    def detach(self) -> tuple[socket.socket, bytes]:
        """Give the socket away, with the bytes that were read behind the last message. The caller owns both."""
        return self.sock, self._decoder.take_rest()

    def close(self) -> None:
        """Close the socket. May be called twice."""
        closing.close(self.sock)


def server_channel(sock: socket.socket, peer: str) -> Channel[FromClient]:
    """Return the server's end of a new backend connection: the client's header comes first."""
    return Channel(sock, Decoder(header=True), messages.decode_from_client, peer)


def client_channel(sock: socket.socket, peer: str) -> Channel[FromServer]:
    """Return the client's end of a new backend connection: the server sends no header."""
    return Channel(sock, Decoder(header=False), messages.decode_from_server, peer)
