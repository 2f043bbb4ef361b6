"""What the server tells about itself: /meta/version, /meta/backend and /meta/metrics, and a page on the bare domain.

Served on the bare domain, and on hosts that are an IP literal or ``localhost``, where no tunnel can be: a client that
was given only the frontend's address finds the backend through it (PROTOCOL.md, "Discovery").
"""

import ipaddress
import json
import time
from collections.abc import Callable

from localtunnel import __version__
from localtunnel.http.message.request import RequestHead
from localtunnel.http.pages import errors as pages
from localtunnel.server.stats import Stats

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
        if head.path == "/":
            if head.method not in ("GET", "HEAD"):
                return pages.meta_method_not_allowed(head)
            return pages.landing(self._domain, head)
        pages_of_ours = {"/meta/version": self._version, "/meta/backend": self._backend, "/meta/metrics": self._metrics}
        body = pages_of_ours.get(head.path)
        if body is None:
            return pages.meta_not_found(head)
        return self._answer_with(body, head)

    def _answer_with(self, body: Callable[[], tuple[str, str]], head: RequestHead) -> bytes:
        if head.method not in ("GET", "HEAD"):
            return pages.meta_method_not_allowed(head)
        text, content_type = body()
        return pages.meta_answer(text, content_type, head.method == "HEAD")

    def _version(self) -> tuple[str, str]:
        # As in 2013, without a line feed, and so is the next one: a client of that time prints what it gets in the
        # middle of a line, and others read all of it as a number.
        return __version__, TEXT

    def _backend(self) -> tuple[str, str]:
        return str(self._backend_port), TEXT

    def _metrics(self) -> tuple[str, str]:
        """Counts only: names of tunnels are nobody else's business. The list is what ``localtunnel -m`` prints."""
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
