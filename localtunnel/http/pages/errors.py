"""The pages about errors: the server's, and the client's if the upstream is down.

None says where the upstream is: visitors must not learn that.
"""

import re

from msgspec import Struct

from localtunnel import errors
from localtunnel.http.message.request import RequestHead
from localtunnel.http.pages.document import Document, Hint
from localtunnel.http.pages.own import of_a_proxy, with_port

_VISITOR, _OWNER = "If you are visiting", "If this is your tunnel"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""RFC 1123, section 2.1. Only such a name is put into a command, which a reader may
copy into a shell."""


class _Help(Struct, frozen=True):
    """The words for one code. ``message`` stands in for an error that was raised
    without one.
    """

    title: str
    message: str
    visitor: str
    owner: str


_HELP = {
    errors.NoHost.code: _Help(
        "No host in the request",
        "The request names no host, so that no tunnel can be found.",
        "Open the address in a browser, or use a program that sends a Host field.",
        "Make the program request the tunnel's own URL. A bare address and port do not say which tunnel is meant.",
    ),
    errors.BadRequest.code: _Help(
        "The request was refused",
        "The request is not valid HTTP/1.1.",
        "Check the address and the program that sent the request. If fields are too large, delete this site's cookies.",
        "Your server has not seen this request. What is wrong with it is named above; it is refused rather than"
        " repaired, because two programs may repair it differently.",
    ),
    errors.RequestTimeout.code: _Help(
        "The request took too long",
        "The request's head did not arrive in time.",
        "Try again. If it happens often, the connection is slow, or something on the way holds requests back.",
        "Your server has not seen this request.",
    ),
    errors.Unauthorized.code: _Help(
        "A password is needed",
        "This tunnel asks for a user name and a password.",
        "Load the page again and enter the user name and the password that you got from the owner of the tunnel.",
        "The request carried no Authorization field, or not the user and the password that lt-client was started with.",
    ),
    errors.Forbidden.code: _Help(
        "Not from this address",
        "This tunnel does not admit your address.",
        "Ask the owner of the tunnel to admit your address, or use a network that is admitted.",
        "Add the visitor's address or network to those that lt-client was started with (--allow-ip), or leave the"
        " option out to admit everyone.",
    ),
    errors.TooManyRequests.code: _Help(
        "Too many requests",
        "This server received more requests than it accepts at a time.",
        "Wait a moment, then load the page again.",
        "The server limits the connections and requests of each visitor and each tunnel. Its operator sets the limits.",
    ),
    errors.TunnelNotFound.code: _Help(
        "No such tunnel",
        "No tunnel of this name is connected.",
        "Check the address for a typing mistake, or ask the person who gave it to you if the tunnel is still open.",
        "Start the client again under this name:",
    ),
    errors.ClientOffline.code: _Help(
        "The tunnel's client is offline",
        "The name is taken, but no client is connected for it at the moment.",
        "Load the page again in a moment. If it stays like this, ask the owner of the tunnel to start it again.",
        "Your lt-client has lost its connection, or ended without a goodbye. Start it again with the same token, or as"
        " the same user on the same machine; the name stays yours in the meantime:",
    ),
    errors.PoolExhausted.code: _Help(
        "The tunnel is busy",
        "No connection of the tunnel became free in time.",
        "Wait a moment, then load the page again.",
        "Every connection of the tunnel was in use. Check whether your server is slow to answer, and whether lt-client"
        " still has its connection to the tunnel server.",
    ),
    errors.ServerFull.code: _Help(
        "The server is full",
        "The server has as many visitors as it can serve.",
        "Wait a moment, then load the page again.",
        "The tunnel server has no room for another connection. Its operator can raise the limit.",
    ),
    errors.UpstreamRefused.code: _Help(
        "The server behind the tunnel is not running",
        "The tunnel is open, but the server behind it does not accept connections.",
        "Load the page again in a moment, or tell the owner of the tunnel.",
        "Start your local server on the port that lt-client forwards to. The tunnel itself stays open.",
    ),
    errors.UpstreamUnreachable.code: _Help(
        "The server behind the tunnel cannot be reached",
        "The tunnel is open, but its client cannot reach the server behind it.",
        "Load the page again in a moment, or tell the owner of the tunnel.",
        "Check that the machine that lt-client forwards to is switched on and connected, and that its name is"
        " spelled correctly; lt-client has printed the reason. The tunnel itself stays open.",
    ),
    errors.UpstreamClosed.code: _Help(
        "The server behind the tunnel did not answer",
        "The server behind the tunnel closed the connection without an answer.",
        "Load the page again in a moment, or tell the owner of the tunnel. If you were sending a form, first check"
        " whether it has arrived.",
        "Your local server accepted the connection and ended it without a response. Check whether it crashed or"
        " restarted, and whether it speaks HTTP rather than HTTPS on that port.",
    ),
    errors.UpstreamInvalid.code: _Help(
        "The server behind the tunnel sent a broken answer",
        "The answer of the server behind the tunnel is not valid HTTP/1.1.",
        "Load the page again in a moment, or tell the owner of the tunnel.",
        "Your local server received the request, and what is wrong with its answer is named above. It is refused rather"
        " than repaired, because two programs may repair it differently. Check that it speaks HTTP on that port.",
    ),
    errors.UpstreamTimeout.code: _Help(
        "The server behind the tunnel does not answer",
        "The tunnel is open, but the server behind it did not accept the connection in time.",
        "Load the page again in a moment, or tell the owner of the tunnel.",
        "Your local server, or a firewall in front of it, does not react to new connections. Check whether it is"
        " overloaded or stopped, and whether lt-client forwards to the right machine. The tunnel itself stays open.",
    ),
}
_WITH_COMMAND = (errors.TunnelNotFound.code, errors.ClientOffline.code)
"""Errors that the tunnel's owner fixes by opening the tunnel."""

_OTHER = _Help(
    "The request failed",
    "The request could not be served.",
    "Load the page again in a moment. If it keeps failing, tell the owner of the tunnel.",
    "Look at what lt-client and the tunnel server have logged.",
)


def error_answer(
    error: errors.VisitorError,
    head: RequestHead | None,
    *,
    domain: str = "",
    fields: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return the whole response that tells a visitor of ``error``; close the connection
    after it.

    ``head`` is the request, None if it could not be read. With the server's ``domain``,
    the page for a tunnel that was not found names the command that opens it. ``fields``
    are added to the head.
    """
    words = _HELP.get(error.code, _OTHER)
    command = _open_command(head, domain) if error.code in _WITH_COMMAND else ""
    hints: tuple[Hint, ...] = (Hint(_VISITOR, words.visitor), Hint(_OWNER, words.owner, command))
    if error.code == errors.TunnelNotFound.code and head is not None and domain and not _lies_below(head.host, domain):
        hints += (of_a_proxy(head),)
    page = Document(error.status, error.code, words.title, str(error) or words.message, hints)
    retry = () if error.retry_after is None else (("Retry-After", str(error.retry_after)),)
    return page.answer_to(head, (*error.fields, *retry, *fields))


def _lies_below(host: str, domain: str) -> bool:
    return host.endswith(f".{domain}")


def _open_command(head: RequestHead | None, domain: str) -> str:
    """Return the command that opens the tunnel of ``head``; NAME if that is unknown."""
    name = head.host.removesuffix(f".{domain}") if head is not None and domain else ""
    if head is None or not _LABEL.fullmatch(name):
        return "lt-client --name=NAME PORT"
    return f"lt-client --server={with_port(domain, head.port)} --name={name} PORT"
