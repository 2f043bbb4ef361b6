"""Which message may come when, on both connection types: one table for each version,
shared by server and client.

A message's type tells which side sends it, so one table serves both sides. Each side
advances its state for every message, sent or received. MessageError refuses a message
that the table does not have.
"""

import enum

from localtunnel.errors import MessageError
from localtunnel.protocol.messages import (
    Assigned,
    Assignment,
    Challenge,
    Concurrency,
    ControlReply,
    ControlRequest,
    Drain,
    ErrorReply,
    Failed,
    Got,
    Message,
    Notice,
    Ping,
    Pong,
    Proof,
    ProxyRequest,
    Ready,
    Release,
    Replaced,
)
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, Version


class State(enum.Enum):
    """Where a connection stands: the first message makes it a control connection or a
    proxy connection."""

    START = "new"

    REQUESTED = "requested"
    CHALLENGED = "challenged"
    PROVED = "proved"
    OPEN = "open"
    PINGED = "pinged"

    PARKED = "parked"
    ASSIGNED = "assigned"
    TAKEN = "taken"
    JOINED = "joined"
    ENDED = "ended"

    CLOSED = "closed"


Table = dict[State, dict[type, State]]

START: Table = {
    State.START: {ControlRequest: State.REQUESTED, ProxyRequest: State.PARKED, ErrorReply: State.CLOSED},
    State.CLOSED: {},
}
"""The first message is a request; a server that cannot read it may answer with an
error."""

CONTROL_0_2: Table = {
    State.REQUESTED: {ControlReply: State.OPEN, ErrorReply: State.CLOSED},
    State.OPEN: {Ping: State.PINGED, ErrorReply: State.CLOSED},
    State.PINGED: {Pong: State.OPEN, ErrorReply: State.CLOSED},
}
"""The control connection: a request, a reply, then pings and pongs in turn; the server
may end it with an error."""

PROXY_0_2: Table = {State.PARKED: {Assigned: State.JOINED, ErrorReply: State.CLOSED}, State.JOINED: {}}
"""The proxy connection: a request, silence while it is parked, the assignment, and then
no message ever again."""

CONTROL_0_3: Table = {
    State.REQUESTED: {ControlReply: State.OPEN, Challenge: State.CHALLENGED, ErrorReply: State.CLOSED},
    State.CHALLENGED: {Proof: State.PROVED, ErrorReply: State.CLOSED},
    State.PROVED: {ControlReply: State.OPEN, ErrorReply: State.CLOSED},
    State.OPEN: {
        Ping: State.OPEN,
        Pong: State.OPEN,
        Concurrency: State.OPEN,
        Drain: State.OPEN,
        Notice: State.OPEN,
        Replaced: State.CLOSED,
        Release: State.CLOSED,
        ErrorReply: State.CLOSED,
    },
}
"""The control connection: a login by token takes one challenge and one proof before the
reply. Once it is open, both sides send when they like, and three messages end it."""

PROXY_0_3: Table = {
    State.PARKED: {Assignment: State.ASSIGNED, ErrorReply: State.CLOSED},
    State.ASSIGNED: {Got: State.TAKEN, Failed: State.CLOSED},
    State.TAKEN: {Ready: State.JOINED, Failed: State.CLOSED},
    State.JOINED: {},
    State.ENDED: {ProxyRequest: State.PARKED},
}
"""The proxy connection: the visitor's stream follows the assignment at once, the
upstream's follows ``ready``. No message leads from joined to ended, but the end marks of
both directions, where client and server have agreed on that."""

TABLES: dict[Version, Table] = {
    LTP_0_2: {**START, **CONTROL_0_2, **PROXY_0_2},
    LTP_0_3: {**START, **CONTROL_0_3, **PROXY_0_3},
}


def advance(version: Version, state: State, message: Message) -> State:
    """Return the state after ``message``. Raises MessageError when it may not come in
    ``state``."""
    following = TABLES[version][state].get(type(message))
    if following is None:
        raise MessageError(f"{type(message).__name__} may not come while the connection is {state.value}.")
    return following
