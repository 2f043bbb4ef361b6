"""The page that an open server may put before a tunnel: whose site this is not, and a button to go on.

Anybody can open a tunnel on an open server, and can make it look like anything. The page is for people who were sent a
link: it comes for a navigation of a browser and for nothing else, so that no program and no request of a page gets HTML
that it did not ask for. Pressing the button sets a cookie, which is good for one host and for the address of the
visitor that pressed it: so the tunnel's own server cannot set it for somebody else, nor hand its own to others.
"""

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, urlsplit

from localtunnel.http.accept import choose
from localtunnel.http.document import Button, Document, Hint

CODE = "warning_page"

PATH = "/.localtunnel/continue"
"""Where the button leads, on the tunnel's own host. Nothing else is taken from the tunnel there than such a POST."""

COOKIE = "localtunnel_continue"

COOKIE_AGE = 7 * 86400
"""Seconds that the cookie is good for: who works with a site every day is asked once a week."""

KEY_BYTES = 32
"""Bytes of the key under which cookies are made: new for each run of the server, after which all are asked anew."""

_NAVIGATIONS = frozenset((b"document", b"iframe", b"frame", b"object", b"embed"))
"""What a browser says it wants a page for (Fetch Metadata, ``Sec-Fetch-Dest``), inside another page as well."""

_KEPT = "%/:?[]@!$&'()*+,;=~-._"
"""Characters that stay as they are in a Location: those that a target may have, so that it comes back as it was."""

_OFFERED = ("application/json", "text/plain", "text/html")

Fields = Iterable[tuple[bytes, bytes]]


class WarningPage:
    """``key`` has KEY_BYTES random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def answer(self, method: str, target: str, host: str, address: str, fields: Fields) -> bytes | None:
        """Return the whole answer to a visitor who has to be asked, or has just agreed; None when it may pass.

        ``host`` is the tunnel's, without a port; ``address`` the visitor's, likewise; ``fields`` are those of the
        request, with names in lower case. Close the connection after the answer.
        """
        if method not in ("GET", "POST"):
            return None
        known = {name: value for name, value in fields if name in _LOOKED_AT}
        if method == "POST":
            if target.partition("?")[0] != PATH or not _is_from_same_origin(known):
                return None
            return self._agreed(target, host, address, known)
        if not _is_navigation(known) or self._has_cookie(known, host, address):
            return None
        return _page(target, host)

    def _agreed(self, target: str, host: str, address: str, fields: dict[bytes, bytes]) -> bytes:
        wanted = parse_qs(urlsplit(target).query, encoding="latin-1").get("to", ["/"])[0]
        secure = "; Secure" if fields.get(b"origin", b"").startswith(b"https:") else ""
        cookie = f"{COOKIE}={self._value(host, address)}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Lax{secure}"
        page = Document(303, "", "Going on", "The page that you asked for follows.")
        return page.answer("", head_only=False, fields=(("Location", _local(wanted)), ("Set-Cookie", cookie)))

    def _has_cookie(self, fields: dict[bytes, bytes], host: str, address: str) -> bool:
        wanted = self._value(host, address).encode()
        for pair in fields.get(b"cookie", b"").split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == COOKIE.encode() and hmac.compare_digest(value, wanted):
                return True
        return False

    def _value(self, host: str, address: str) -> str:
        return hmac.new(self._key, f"{host}\0{address}".encode(), hashlib.sha256).hexdigest()[:32]


_LOOKED_AT = frozenset((b"accept", b"cookie", b"host", b"origin", b"sec-fetch-dest", b"sec-fetch-mode"))


def _is_navigation(fields: dict[bytes, bytes]) -> bool:
    """Say whether a browser asks for a page to show. Those that send no Fetch Metadata still ask for HTML by name."""
    accept = fields.get(b"accept", b"").decode("latin-1")
    return (
        "text/html" in accept.lower()
        and choose(accept, _OFFERED) == "text/html"
        and fields.get(b"sec-fetch-mode", b"navigate") == b"navigate"
        and fields.get(b"sec-fetch-dest", b"document") in _NAVIGATIONS
    )


def _is_from_same_origin(fields: dict[bytes, bytes]) -> bool:
    """Say whether the page itself sent this: another site could send its visitors' browsers past the warning."""
    return fields.get(b"origin", b"").partition(b"://")[2].lower() == fields.get(b"host", b"-").lower()


_VISITOR = (
    "Type in no password, and nothing else that you would not give to a stranger, unless you know the owner of this"
    " address."
)
_OWNER = (
    "Visitors see this page once a week each; programs never see it. The server's owner can switch it off: warning_page"
    " in its settings."
)


def _page(target: str, host: str) -> bytes:
    message = (
        f"{host} is served from somebody's own computer through a tunnel. Who runs this tunnel server does not know"
        " what it shows, and anybody can open a tunnel here."
    )
    hints = (Hint("Go on only if you know who sent you here", _VISITOR), Hint("If this is your tunnel", _OWNER))
    action = f"{PATH}?to={quote(_local(target), safe='')}"
    page = Document(403, CODE, "You are about to visit a tunnel", message, hints, Button("Go on", action))
    return page.answer("text/html", head_only=False)


def _local(target: str) -> str:
    """Return ``target`` as a place on the same host: two slashes at the beginning would lead to another one."""
    if not target.startswith("/"):
        return "/"
    return "/" + quote(target.lstrip("/\\").encode("latin-1", "replace"), safe=_KEPT)
