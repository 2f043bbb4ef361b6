"""Who may have a joined connection next: the one place that lets it go from one visitor to another.

An upstream that gets HTTP wrong leaves something behind on its connection: a part of a
request that it has not read, and takes for the next one, or a part of an answer that
the visitor did not get, who is then followed by somebody who does. Nobody can see what
an upstream has read. So a connection changes visitors only after an exchange in which
nothing can have been left, whatever the upstream does, and ends after any other.

Two steps lead to another visitor, and both are here: ``fate`` says after an exchange
whose the connection is, and ``may_go_on`` looks at it once more before it is used.
docs/security.md lists every other way on which a connection has more than one visitor.
"""

from enum import Enum

from localtunnel.http.message.answer import Answer
from localtunnel.http.message.request import RequestHead
from localtunnel.http.message.response import ResponseHead
from localtunnel.net.flow.pump import Side

_WITHOUT_CONTENT = frozenset({"DELETE", "GET", "OPTIONS", "TRACE"})
"""Methods whose requests have no body to any reader where no field announces one. After a POST without a length, say,
there are upstreams that wait for a body. HEAD is not among them: some send a body in answer to it."""

_DOUBTFUL = frozenset(
    {
        # No body may follow these, and some upstreams send one.
        *(204, 205, 304),
        # These say that the request was not understood, or not read to its end.
        *(400, 408, 411, 413, 414, 417, 431, 501, 505),
    }
)
"""Statuses behind which something may be left at the upstream, or on the way from it."""


class Fate(Enum):
    """What becomes of a joined connection when its exchange has ended."""

    LENT = "lent"
    """It is kept for a moment, for whoever asks next."""
    PINNED = "pinned"
    """It is kept for the same connection of the same visitor, and ends with that."""
    CLOSED = "closed"


def fate(request: RequestHead, answer: Answer, *, sent: bool, pinned: bool, shared: bool) -> Fate:
    """Return whose the connection is that has carried ``request`` and the whole of ``answer``.

    ``sent``: all of the request has gone out. ``pinned``: the connection was the visitor's own before. ``shared``: the
    visitor's connection is that of a proxy, which carries several visitors.
    """
    head = answer.head
    if head is None or not (sent and answer.is_reusable):
        return Fate.CLOSED
    if pinned or request.logs_in or head.logs_in:
        return Fate.CLOSED if shared or request.has_intermediary else Fate.PINNED
    return Fate.LENT if leaves_nothing(request, answer, head) else Fate.CLOSED


def leaves_nothing(request: RequestHead, answer: Answer, head: ResponseHead) -> bool:
    """Say whether neither the request nor ``answer``, with its final ``head``, can have left anything behind."""
    return (
        request.method in _WITHOUT_CONTENT
        and not (request.length or request.chunked)
        and not (request.expects or request.upgrade)
        and head.status not in _DOUBTFUL
        and not (answer.is_early or answer.interim)
        and answer.body is not None
        and answer.body.is_plain
    )


def may_go_on(carrier: Side) -> bool:
    """Say whether nothing has come on ``carrier`` since its exchange ended, not a byte and not the end.

    The watcher of a kept connection tells of the same, but only in the next turn of the hub. What is still on its way
    nobody can see.
    """
    return carrier.end.is_quiet
