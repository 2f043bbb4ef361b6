"""The visitors' side, in stages: accept, identify, then answer or open a tunnel.

A head that has arrived whole is decided in the listener's callback; one that has not gets a greenlet that waits for
the rest. What was read is replayed to the upstream untouched.
"""

import itertools

from gevent.pool import Group
from greenlet import GreenletExit

from localtunnel.errors import DeadlineExceeded, PoolExhausted, RequestTimeout, TunnelNotFound, VisitorError
from localtunnel.http import pages
from localtunnel.http.request import HeadReader, RequestHead
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline, wait_readable
from localtunnel.net.ends import SocketEnd
from localtunnel.net.sockets import Socket, format_address
from localtunnel.protocol.messages import Assignment
from localtunnel.server.config import ServerConfig
from localtunnel.server.join import Join
from localtunnel.server.meta import Meta
from localtunnel.server.registry import Registry

READ_SIZE = 64 * 1024


class Frontend:
    """Takes each visitor from its first byte to its tunnel, or to an answer of the server's own."""

    def __init__(self, config: ServerConfig, registry: Registry, meta: Meta, ids: "itertools.count[int]") -> None:
        self._config = config
        self._registry = registry
        self._meta = meta
        self._ids = ids
        self._greenlets = Group()

    def stop(self) -> None:
        """Drop the visitors whose head has not arrived."""
        self._greenlets.kill()

    def accept(self, sock: Socket, host: str, port: int) -> None:
        """Take over a new connection; a listener's callback."""
        reader = HeadReader(self._config.limits.head_bytes)
        try:
            head = self._read_ready(sock, reader)
        except VisitorError as error:
            _answer(sock, pages.error_answer(error, None))
        except ConnectionError:
            closing.close(sock)
        else:
            if head is None:
                self._greenlets.spawn(self._read_slowly, sock, reader, format_address((host, port)))
            else:
                self._route(sock, head, reader, format_address((host, port)))

    def _read_slowly(self, sock: Socket, reader: HeadReader, peer: str) -> None:
        deadline = Deadline(self._config.timeouts.head)
        head = None
        try:
            while head is None:
                wait_readable(sock, deadline)
                head = self._read_ready(sock, reader)
        except DeadlineExceeded:
            _answer(sock, pages.error_answer(RequestTimeout("The request's head did not arrive in time."), None))
        except VisitorError as error:
            _answer(sock, pages.error_answer(error, None))
        except (OSError, GreenletExit):
            closing.close(sock)
        else:
            self._route(sock, head, reader, peer)

    def _read_ready(self, sock: Socket, reader: HeadReader) -> RequestHead | None:
        """Read what is there. Raises VisitorError for what is no request, OSError when the visitor has gone."""
        try:
            data = sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionResetError
        return reader.feed(data)

    def _route(self, sock: Socket, head: RequestHead, reader: HeadReader, peer: str) -> None:
        self._meta.visitors += 1
        claim = self._registry.route(head.host)
        tunnel = claim.tunnel if claim is not None else None
        if tunnel is not None and not tunnel.ended:
            assignment = Assignment(next(self._ids), peer, "http")

            def refuse(error: VisitorError) -> None:
                _answer(sock, pages.error_answer(error, head, domain=self._config.domain))

            join = Join(assignment, SocketEnd(sock, "visitor"), reader.data, refuse)
            tunnel.open(join, Deadline(self._config.timeouts.pool_wait))
        elif claim is not None:
            error: VisitorError = PoolExhausted("The tunnel's client has lost its connection, and is reconnecting.")
            _answer(sock, pages.error_answer(error, head, domain=self._config.domain))
        elif self._meta.serves(head.host):
            _answer(sock, self._meta.answer(head))
        else:
            error = TunnelNotFound(f"No tunnel is connected at {head.host}.")
            _answer(sock, pages.error_answer(error, head, domain=self._config.domain))


def _answer(sock: Socket, response: bytes) -> None:
    """Send an answer of the server's own, and close once the visitor has had the time to read it."""
    try:
        sent = sock.send(response)
    except OSError:
        sent = 0
    if sent < len(response):
        closing.close(sock)
    else:
        closing.linger(sock)
