"""The warning that an open server may put before a tunnel, with a button to continue.

Anyone can open a tunnel on an open server, and make it look like anything. The page is
for people who were sent a link. It answers every navigation of a browser and nothing
else, so that no program and no script gets HTML that it did not ask for. It does so for
every method: a form on another site may navigate with POST, and its body is not passed
on. The button sets a cookie for one host and for the address of the visitor that
pressed it, so that the tunnel's upstream can neither set it for another visitor nor
give its own to others.
"""

import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, urlsplit

from localtunnel.http.pages.accept import choose
from localtunnel.http.pages.document import Button, Document, Hint

CODE = "warning_page"

PATH = "/.localtunnel/continue"
"""Where the button leads, on the tunnel's own host. The tunnel loses only this POST to
the server."""

COOKIE = "localtunnel_continue"

COOKIE_AGE = 7 * 86400
"""Seconds that the cookie is valid: a daily visitor is asked once a week."""

KEY_BYTES = 32
"""Bytes of the key of the cookies. It is new for each run of the server, which then
asks every visitor again."""

_NAVIGATIONS = frozenset((b"document", b"embed", b"fencedframe", b"frame", b"iframe", b"object"))
"""Values of ``Sec-Fetch-Dest`` for which a browser navigates (Fetch, "navigation
request")."""

_KEPT = "%/:?[]@!$&'()*+,;=~-._"
"""Characters that a Location keeps as they are: those of a target, so that it comes
back unchanged."""

_OFFERED = ("application/json", "text/plain", "text/html")

Fields = Iterable[tuple[bytes, bytes]]


class WarningPage:
    """Answers visitors that have not been warned. ``key`` is KEY_BYTES random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def answer(self, method: str, target: str, host: str, address: str, fields: Fields) -> bytes | None:
        """Return the whole answer for a visitor that has to be asked or has just
        agreed, or None.

        ``host`` is the tunnel's and ``address`` the visitor's, both without a port.
        ``fields`` are those of the request, with names in lower case. Close the
        connection after the answer: a body of the request is not read.
        """
        known = _joined(fields)
        at_button = target.partition("?")[0] == PATH
        if at_button and method == "POST" and _is_from_same_origin(known):
            return self._agreed(target, host, address, known)
        if not _is_navigation(known) or self._has_cookie(known, host, address):
            return None
        return _page(method, _wanted(target) if at_button else target, host)

    def _agreed(self, target: str, host: str, address: str, fields: dict[bytes, bytes]) -> bytes:
        # A Lax cookie does not come with forms of other sites, such as logins and
        # payments, which would then be stopped each time. None gives nothing away, as
        # the cookie says only that its visitor has been warned. Browsers take None over
        # HTTPS only.
        is_https = fields.get(b"origin", b"").startswith(b"https:")
        same_site = "None; Secure" if is_https else "Lax"
        cookie = f"{COOKIE}={self._value(host, address)}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite={same_site}"
        page = Document(303, "", "Continuing", "The page that you asked for follows.")
        location = _local(_wanted(target))
        return page.answer("", head_only=False, fields=(("Location", location), ("Set-Cookie", cookie)))

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


def _joined(fields: Fields) -> dict[bytes, bytes]:
    """Return the fields that are looked at, several of one name joined (RFC 9110,
    section 5.3).
    """
    known: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in known:
            known[name] += (b"; " if name == b"cookie" else b", ") + value
        elif name in _LOOKED_AT:
            known[name] = value
    return known


def _is_navigation(fields: dict[bytes, bytes]) -> bool:
    """Say whether a browser asks for a page to show.

    No script can choose ``Sec-Fetch-Mode`` or make a request of its own a navigation.
    Browsers leave it out over plain HTTP, and older ones always, but ask for HTML by
    name.
    """
    mode = fields.get(b"sec-fetch-mode")
    if mode is not None:
        return mode == b"navigate"
    if fields.get(b"sec-fetch-dest", b"document") not in _NAVIGATIONS:
        return False
    accept = fields.get(b"accept", b"").decode("latin-1")
    return "text/html" in accept.lower() and choose(accept, _OFFERED) == "text/html"


def _is_from_same_origin(fields: dict[bytes, bytes]) -> bool:
    """Say whether the page itself sent this: another site could send its visitors'
    browsers past the warning.
    """
    return fields.get(b"origin", b"").partition(b"://")[2].lower() == fields.get(b"host", b"-").lower()


_FORM = Hint(
    "Your form was not sent",
    "What your browser was about to send has not been passed on. Send it again after you have continued.",
)
_VISITOR = Hint(
    "Continue only if you trust the link that led you here",
    "Do not enter a password, or anything else that you would not give to a stranger, unless you know the owner of this"
    " address.",
)
_OWNER = Hint(
    "If this is your tunnel",
    "Each visitor sees this page once a week; programs never see it. The operator of the server can turn it off with"
    " the setting warning_page.",
)


def _page(method: str, target: str, host: str) -> bytes:
    message = (
        f"{host} is served from someone's own computer through a tunnel. Anyone can open a tunnel on this server, and"
        " its operator does not know what the tunnel shows."
    )
    hints = (_VISITOR, _OWNER) if method in ("GET", "HEAD") else (_FORM, _VISITOR, _OWNER)
    action = f"{PATH}?to={quote(_local(target), safe='')}"
    page = Document(403, CODE, "You are about to visit a tunnel", message, hints, Button("Continue", action))
    return page.answer("text/html", head_only=method == "HEAD")


def _wanted(target: str) -> str:
    """Return where the button leads from ``target``, which is that of its form."""
    return parse_qs(urlsplit(target).query, encoding="latin-1").get("to", ["/"])[0]


def _local(target: str) -> str:
    """Return ``target`` as a place on the same host: two slashes at the beginning would
    lead to another one.
    """
    if not target.startswith("/"):
        return "/"
    return "/" + quote(target.lstrip("/\\").encode("latin-1", "replace"), safe=_KEPT)
