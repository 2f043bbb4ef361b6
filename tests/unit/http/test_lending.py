"""localtunnel.http.lending: what becomes of a connection, by what became of it before and by who may come next.

What an exchange leaves behind is in test_conversation.py and, with sockets, in
server/visitors/test_exchange_lending.py.
"""

import pytest
from harness import request
from harness.exchanges import HOST, OK

from localtunnel.http.conversation import Conversation
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.lending import CLOSED, ENDED, LENT, OWN, PINNED, Fate
from localtunnel.http.message.request import HeadReader

GET = request(HOST)
POST = request(HOST, method="POST", body=b"body")
LOGIN = request(HOST, fields="Authorization: NTLM ann\r\n")
CLOSING = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
BOTH = (False, True)


def fate(
    data: bytes,
    answer: bytes = OK,
    *,
    before: Fate = LENT,
    sent: bool = True,
    shared: bool = False,
    may_own: bool = True,
) -> Fate:
    """Have ``data`` answered, and return what becomes of the connection."""
    reader = HeadReader()
    conversation = Conversation(reader.feed(data), Forwarding("203.0.113.7", "http"), None, memoryview(reader.rest))
    conversation.from_upstream(memoryview(answer), bytearray(), sent=sent, timing=bytes)
    return conversation.fate(sent=sent, before=before, shared=shared, may_own=may_own)


def through_a_proxy(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\r\nVia: 1.1 proxy\r\n", 1)


@pytest.mark.parametrize("may_own", BOTH)
@pytest.mark.parametrize("shared", BOTH)
def test_what_leaves_nothing_is_lent_to_anybody(shared: bool, may_own: bool) -> None:
    assert fate(GET, shared=shared, may_own=may_own) is LENT
    assert fate(through_a_proxy(GET), shared=shared, may_own=may_own) is LENT


def test_what_carried_a_body_is_the_visitors_own_from_then_on() -> None:
    assert fate(POST) is OWN
    assert fate(POST, before=OWN) is OWN
    assert fate(GET, before=OWN) is OWN, "for a GET takes nothing back"


@pytest.mark.parametrize("before", [LENT, OWN])
@pytest.mark.parametrize("data", [POST, through_a_proxy(POST)], ids=["direct", "through a proxy"])
def test_it_is_nobodys_where_others_may_come_on_the_visitors_connection(before: Fate, data: bytes) -> None:
    assert fate(data, before=before, shared=True) is ENDED
    assert fate(through_a_proxy(data), before=before) is ENDED


def test_nor_where_the_client_does_not_tell_what_was_delivered() -> None:
    assert fate(POST, may_own=False) is ENDED


@pytest.mark.parametrize("may_own", BOTH)
@pytest.mark.parametrize("before", [LENT, OWN, PINNED])
def test_a_login_stays_until_the_visitor_goes(before: Fate, may_own: bool) -> None:
    assert fate(LOGIN, before=before, may_own=may_own) is PINNED
    assert fate(POST, before=PINNED, may_own=may_own) is PINNED
    assert fate(GET, before=PINNED, may_own=may_own) is PINNED
    assert fate(GET, before=PINNED, may_own=may_own, shared=True) is ENDED
    assert fate(through_a_proxy(GET), before=PINNED, may_own=may_own) is ENDED


@pytest.mark.parametrize("before", [LENT, OWN, PINNED])
@pytest.mark.parametrize("data", [GET, POST, LOGIN], ids=["GET", "POST", "login"])
def test_what_the_upstream_ends_has_ended_and_what_is_in_flight_is_closed(before: Fate, data: bytes) -> None:
    assert fate(data, CLOSING, before=before) is ENDED
    assert fate(data, OK + b"more", before=before) is ENDED
    assert fate(data, before=before, sent=False) is CLOSED
    assert fate(data, CLOSING, before=before, sent=False) is CLOSED
