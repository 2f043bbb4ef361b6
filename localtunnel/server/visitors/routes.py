"""Where a request goes: to the tunnel that its host names, or to the server itself.

The server's own pages are /meta/version, /meta/backend, /meta/metrics and the landing
page. They are served on the bare domain and on hosts that are an IP literal or
``localhost``, where no tunnel can be. A client that was given only the frontend's
address finds the backend here (PROTOCOL.md, "Discovery").
"""

import ipaddress
import json
import secrets
import time
from collections.abc import Callable

from localtunnel import __version__
from localtunnel.errors import ClientOffline, TunnelNotFound, VisitorError
from localtunnel.http.message.request import RequestHead
from localtunnel.http.pages import own
from localtunnel.http.pages.warning import KEY_BYTES, WarningPage
from localtunnel.server.names.registry import Registry
from localtunnel.server.stats import Stats
from localtunnel.server.tunnels.tunnel import Tunnel

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Meta:
    """Answers requests for the server itself."""

    def __init__(self, domain: str, stats: Callable[[], Stats]) -> None:
        self._domain = domain
        self._stats = stats
        self._backend_port = 0
        self._started = time.monotonic()

    def publish_backend(self, port: int) -> None:
        """Name the backend's port to clients that ask."""
        self._backend_port = port

    def serves(self, host: str) -> bool:
        """Say whether ``host`` (lower case, no port) is the server's own."""
        return host == self._domain or host == "localhost" or _is_ip(host)

    def answer(self, head: RequestHead) -> bytes:
        """Return the whole response to a request for the server itself."""
        pages = {"/meta/version": self._version, "/meta/backend": self._backend, "/meta/metrics": self._metrics}
        page = pages.get(head.path)
        if page is None and head.path != "/":
            return own.not_found(head)
        if head.method not in ("GET", "HEAD"):
            return own.method_not_allowed(head)
        if page is None:
            return own.landing(self._domain, head)
        text, content_type = page()
        return own.answer(text, content_type, head.method == "HEAD")

    def _version(self) -> tuple[str, str]:
        # Without a line feed, as in 2013, and so is the next one: clients of that time
        # print it within a line, and others read all of it as a number.
        return __version__, TEXT

    def _backend(self) -> tuple[str, str]:
        return str(self._backend_port), TEXT

    def _metrics(self) -> tuple[str, str]:
        """Return counts only, as names are private. ``localtunnel -m`` prints them."""
        stats = self._stats()
        metrics = {
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "tunnels": stats.tunnels,
            "joins": stats.joins,
            "requests_total": stats.requests,
            "assignments_repeated_total": stats.repeated,
        }
        return json.dumps([{"name": name, "value": value} for name, value in metrics.items()]) + "\n", JSON


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Routes:
    """Routes requests.

    The same host decides which tunnel a request reaches and what it may do there.
    ``warns`` puts a page before every tunnel, for browsers that come for the first
    time.
    """

    def __init__(self, registry: Registry, meta: Meta, *, warns: bool) -> None:
        self._registry = registry
        self._meta = meta
        self.requests = 0
        """Requests of visitors since the start."""
        self._warning = WarningPage(secrets.token_bytes(KEY_BYTES)) if warns else None

    def find(self, head: RequestHead, address: str, *, counts: bool = True) -> Tunnel | bytes:
        """Return the open tunnel of ``head``, or an answer of our own, the last one.

        ``address`` is the visitor's. A request that was here before does not count
        again. Raises TunnelNotFound, and ClientOffline for a tunnel whose client is
        away.
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
        """Count a request that was refused before it was routed."""
        claim = self._registry.route(head.host)
        if claim is not None and claim.tunnel is not None:
            claim.tunnel.refused(error)


def _warn(warning: WarningPage, head: RequestHead, address: str) -> bytes | None:
    """Return the page that this visitor gets before the tunnel, if any."""
    fields = ((name, value) for name, value, _ in head.fields)
    return warning.answer(head.method, head.target, head.host, address, fields)
