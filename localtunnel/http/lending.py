"""Who may have a joined connection next: the one rule by which it goes from one visitor
to another.

An upstream that gets HTTP wrong leaves something behind on its connection: a part of a
request that it has not read, and takes for the next one, or a part of an answer that
the visitor did not get, which the next visitor then gets. No peer can see what an
upstream has read. So a connection changes visitors only after an exchange that can have
left nothing behind, whatever the upstream does. After any other it stays with its
visitor, or its stream ends, and with that the connection to the upstream.

A connection that is kept by this rule is looked at once more before it is used
(``server.tunnels.kept``). docs/security.md lists every other way in which a connection
has more than one visitor.
"""

from enum import Enum

from localtunnel.http.message.answer import Answer
from localtunnel.http.message.request import RequestHead
from localtunnel.http.message.response import ResponseHead

_WITHOUT_CONTENT = frozenset({"DELETE", "GET", "OPTIONS", "TRACE"})
"""Methods whose requests have no body for any reader unless a field announces one.
After a POST without a length, for example, some upstreams wait for a body. HEAD is not
among them: some upstreams send a body in answer to it."""

_DOUBTFUL = frozenset(
    {
        # No body may follow these, and some upstreams send one.
        *(204, 205, 304),
        # These say that the request was not understood, or not read to its end.
        *(400, 408, 411, 413, 414, 417, 431, 501, 505),
    }
)
"""Statuses after which something may be left at the upstream, or in flight from it."""


class Fate(Enum):
    """What becomes of a joined connection when its exchange has ended."""

    LENT = "lent"
    """It is kept for a moment, for the next visitor of the tunnel."""
    OWN = "own"
    """It is kept for a moment, for the next request on the visitor's connection."""
    PINNED = "pinned"
    """It is kept for the visitor's connection, and ends with that."""
    ENDED = "ended"
    """Its stream ends here; nothing is in flight."""
    CLOSED = "closed"
    """It is closed: something may be in flight."""


# Python 3.11 makes two calls of each access to a member of an Enum, and every request
# asks.
LENT, OWN, PINNED, ENDED, CLOSED = Fate


def fate(request: RequestHead, answer: Answer, *, sent: bool, before: Fate, shared: bool, may_own: bool) -> Fate:
    """Return what becomes of the connection after ``request`` and its whole ``answer``.

    ``sent``: all of the request has gone out. ``before`` is what had become of it after
    its last exchange, LENT if there was none. ``shared``: the visitor's connection is
    that of a proxy, which carries several visitors. ``may_own``: the client tells how
    much of a stream has reached the upstream, so that a request which must not come
    twice is safe on a connection that may just be closing.
    """
    head = answer.head
    if head is None or not sent or answer.is_early:
        return CLOSED
    if not answer.is_reusable:
        return ENDED
    if before is PINNED or request.logs_in or head.logs_in:
        after = PINNED
    elif before is OWN or not leaves_nothing(request, answer, head):
        after = OWN if may_own else ENDED
    else:
        return LENT
    return ENDED if shared or request.has_intermediary else after


def leaves_nothing(request: RequestHead, answer: Answer, head: ResponseHead) -> bool:
    """Say whether neither ``request`` nor ``answer``, with its final ``head``, can have
    left anything behind.
    """
    return (
        request.method in _WITHOUT_CONTENT
        and not (request.length or request.chunked)
        and not (request.expects or request.upgrade)
        and head.status not in _DOUBTFUL
        and not (answer.is_early or answer.interim)
        and answer.body is not None
        and answer.body.is_plain
    )
