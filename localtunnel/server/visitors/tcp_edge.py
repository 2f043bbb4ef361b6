"""Visitors of TCP tunnels: each tunnel has its own listener."""

import itertools
from functools import partial

from localtunnel.errors import ListenError, PortRefused, VisitorError
from localtunnel.net import closing
from localtunnel.net.address import Bind
from localtunnel.net.deadline import Deadline
from localtunnel.net.descriptors import Share
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.listen import Listener, listen
from localtunnel.net.sockets import Socket, format_address
from localtunnel.protocol.messages import Assignment
from localtunnel.server.tunnels.tunnel import Tunnel
from localtunnel.server.visitors.stream_join import StreamJoin


class TcpEdge:
    """Listens for TCP tunnels on ``host``; ``share`` is of descriptors for visitors."""

    def __init__(
        self, host: str | None, ids: "itertools.count[int]", share: Share, *, loopback: bool, wait: float
    ) -> None:
        self._host = host
        self._ids = ids
        self._share = share
        self._loopback = loopback
        self._wait = wait

    def listen_for(self, tunnel: Tunnel, port: int) -> list[Listener]:
        """Listen on ``port`` for the visitors of ``tunnel``; the caller stops the
        listeners. Raises PortRefused.
        """
        try:
            listeners = listen(
                Bind(self._host, port),
                loopback=self._loopback,
                accept=partial(self._accept, tunnel),
                what="tcp-ports",
                share=self._share,
            )
        except ListenError as error:
            raise PortRefused(f"Port {port} cannot be used: another program on the server is using it.") from error
        for listener in listeners:
            listener.start()
        return listeners

    def _accept(self, tunnel: Tunnel, sock: Socket, host: str, port: int) -> None:
        if sock.fileno() >= self._share.below:
            closing.reset(sock)
            return
        try:
            if tunnel.rules is not None:
                tunnel.rules.check_address(host)
        except VisitorError:
            closing.reset(sock)
            return
        assignment = Assignment(next(self._ids), format_address((host, port)), "tcp")
        join = StreamJoin(assignment, SocketEnd(sock, "visitor"), b"", lambda error: closing.reset(sock))
        tunnel.open(join, Deadline(self._wait))
