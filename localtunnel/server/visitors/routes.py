"""Where a request goes: to the tunnel that its host names, or to the server itself."""

import secrets

from localtunnel.errors import ClientOffline, TunnelNotFound, VisitorError
from localtunnel.http.message.request import RequestHead
from localtunnel.http.pages.warning import KEY_BYTES, WarningPage
from localtunnel.server.names.registry import Registry
from localtunnel.server.tunnels.tunnel import Tunnel
from localtunnel.server.visitors.meta import Meta


class Routes:
    """One identity is parsed from each request, and used both to route it and to decide what it may do.

    ``warns`` puts a page before every tunnel, for browsers that come for the first time.
    """

    def __init__(self, registry: Registry, meta: Meta, *, warns: bool) -> None:
        self._registry = registry
        self._meta = meta
        self.requests = 0
        """Requests of visitors since the start."""
        self._warning = WarningPage(secrets.token_bytes(KEY_BYTES)) if warns else None

    def find(self, head: RequestHead, address: str, *, counts: bool = True) -> Tunnel | bytes:
        """Return the open tunnel that ``head`` leads to, or the server's own answer, after which the connection closes.

        ``address`` is the visitor's; a request that was here before ``counts`` no more. Raises TunnelNotFound, and
        ClientOffline for a tunnel whose client is away.
        """
        self.requests += counts
        claim = self._registry.route(head.host)
        if claim is not None:
            page = None if self._warning is None else _warn(self._warning, head, address)
            if page is not None:
                return page
            tunnel = claim.tunnel
            if tunnel is not None and not tunnel.ended:
                return tunnel
        if claim is not None or self._registry.expects(head.host):
            raise ClientOffline(f"The client of {head.host} is not connected at the moment.")
        if self._meta.serves(head.host):
            return self._meta.answer(head)
        raise TunnelNotFound(f"No tunnel is connected at {head.host}.")

    def lets_scripts_in(self, host: str) -> bool:
        """Say whether scripts of any origin may read what is answered for ``host``."""
        claim = self._registry.route(host)
        return claim is not None and claim.cors

    def refused(self, head: RequestHead, error: VisitorError) -> None:
        """Count a request that was refused before anybody looked where it goes."""
        claim = self._registry.route(head.host)
        if claim is not None and claim.tunnel is not None:
            claim.tunnel.refused(error)


def _warn(warning: WarningPage, head: RequestHead, address: str) -> bytes | None:
    """Return the page that stands before the tunnel for this visitor, if there is one."""
    fields = ((name, value) for name, value, _ in head.fields)
    return warning.answer(head.method, head.target, head.host, address, fields)
