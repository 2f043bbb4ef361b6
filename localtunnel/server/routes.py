"""Where a request goes: to the tunnel that its host names, or to the server itself."""

from localtunnel.errors import PoolExhausted, TunnelNotFound
from localtunnel.http.request import RequestHead
from localtunnel.server.meta import Meta
from localtunnel.server.registry import Registry
from localtunnel.server.tunnel import Tunnel


class Routes:
    """One identity is parsed from each request, and used both to route it and to decide what it may do."""

    def __init__(self, registry: Registry, meta: Meta) -> None:
        self._registry = registry
        self._meta = meta

    def find(self, head: RequestHead) -> Tunnel | bytes:
        """Return the open tunnel that ``head`` leads to, or the server's own answer, after which the connection closes.

        Raises TunnelNotFound, and PoolExhausted for a tunnel whose client is away for a moment.
        """
        self._meta.requests += 1
        claim = self._registry.route(head.host)
        if claim is not None:
            tunnel = claim.tunnel
            if tunnel is not None and not tunnel.ended:
                return tunnel
            raise PoolExhausted("The tunnel's client has lost its connection, and is reconnecting.")
        if self._meta.serves(head.host):
            return self._meta.answer(head)
        raise TunnelNotFound(f"No tunnel is connected at {head.host}.")
