"""Accepts visitors, asks trusted proxies whom they speak for, and calls the edge.

Which edge is the server's mode: ``http_edge`` understands HTTP, ``join_edge`` looks at
the first request only.
"""

import logging

from gevent.pool import Group
from greenlet import GreenletExit

from localtunnel.errors import DeadlineExceeded, VisitorError
from localtunnel.http.forwarding.proxy_header import Origin, ProxyHeader
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline, wait_readable
from localtunnel.net.sockets import Socket
from localtunnel.networks import Networks
from localtunnel.server.config import ServerConfig
from localtunnel.server.visitors.http_edge import Edge
from localtunnel.server.visitors.join_edge import PlainEdge

log = logging.getLogger("localtunnel.server")

READ_SIZE = 64 * 1024


class Frontend:
    """Takes each visitor's connection from the listener to the edge."""

    def __init__(self, config: ServerConfig, edge: Edge | PlainEdge) -> None:
        self._edge = edge
        self._trusted = Networks.parse(config.trusted_proxies)
        self._deadline = config.timeouts.head
        self._greenlets = Group()
        self.accept = self._accept_proxied if config.proxy_protocol else edge.accept
        """Takes over a new connection; a listener's callback."""

    def stop(self) -> None:
        """Drop visitors whose first bytes have not come, and stop the edge."""
        self._greenlets.kill()
        self._edge.stop()

    def _accept_proxied(self, sock: Socket, host: str, port: int) -> None:
        """Take a connection that a trusted proxy begins with a PROXY protocol
        header.
        """
        if host in self._trusted:
            self._greenlets.spawn(self._read_origin, sock, host, port)
        else:
            log.debug("connection without a trusted proxy refused", extra={"peer": host})
            closing.reset(sock)

    def _read_origin(self, sock: Socket, host: str, port: int) -> None:
        header = ProxyHeader()
        deadline = Deadline(self._deadline)
        origin: Origin | None = None
        try:
            while origin is None:
                wait_readable(sock, deadline)
                data = sock.recv(READ_SIZE)
                if not data:
                    raise ConnectionResetError
                origin = header.feed(data)
        except VisitorError as error:
            log.warning("header of the PROXY protocol refused", extra={"peer": host, "detail": str(error)})
            closing.reset(sock)
        except (OSError, DeadlineExceeded, GreenletExit):
            closing.close(sock)
        else:
            self._edge.accept(sock, origin.host or host, origin.port or port, header.rest)
