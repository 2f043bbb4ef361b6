"""localtunnel.http.conversation: what becomes of a request and its answer, as tables.

Each case is a request and what the two peers say after its head, in their order, and what
has to come of it. It is run whole and byte by byte; nothing here has a connection.
"""

from typing import NamedTuple

import pytest
from harness import request
from harness.exchanges import HOST, OK
from harness.messages import single_bytes

from localtunnel.errors import BadRequest, UpstreamInvalid
from localtunnel.http.conversation import MAX_HELD_HEAD, Conversation
from localtunnel.http.forwarding.forward import Forwarding
from localtunnel.http.lending import CLOSED, ENDED, LENT, OWN, PINNED, Fate
from localtunnel.http.message.request import HeadReader
from localtunnel.http.options.rules import Rules
from localtunnel.protocol.options import Options

VISITOR, UPSTREAM = "visitor", "upstream"
Event = tuple[str, bytes]

CHUNKED = "Transfer-Encoding: chunked\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
GET = request(HOST)
HEAD = request(HOST, method="HEAD")
UPLOAD = request(HOST, method="POST", fields="Content-Length: 4\r\n")
CHUNKED_UPLOAD = request(HOST, method="POST", fields=CHUNKED)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def old(data: bytes) -> bytes:
    return data.replace(b"HTTP/1.1", b"HTTP/1.0", 1)


def answer(status: str = "200 OK", fields: str = "Content-Length: 2\r\n", body: bytes = b"ok") -> Event:
    return UPSTREAM, f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


class Outcome(NamedTuple):
    """What has come of a conversation, as far as a case says something of it."""

    statuses: tuple[int, ...] = (200,)
    body: bytes = b"ok"
    uploaded: bytes = b""
    request_ended: bool = True
    answer_ended: bool = True
    closes: bool = False
    switched: bytes | None = None
    fate: Fate = LENT


def converse(
    data: bytes, *events: Event, bytewise: bool = False, rules: Rules | None = None, sent: bool = True
) -> Outcome:
    """Have one conversation about the request ``data``, and return its outcome."""
    reader = HeadReader()
    head = reader.feed(data)
    assert head is not None
    conversation = Conversation(head, Forwarding("203.0.113.7", "http"), rules, memoryview(reader.rest))
    uploaded = conversation.first[conversation.head_size :]
    told = b""
    for who, said in events:
        for piece in map(memoryview, single_bytes(said) if bytewise else [said]):
            if who is VISITOR:
                uploaded += piece[: conversation.from_visitor(piece)]
            elif conversation.switched is not None:
                conversation.switched += piece
            elif not (conversation.answer.body and conversation.answer.body.done):
                told += conversation.from_upstream(piece, bytearray(), sent=sent, timing=lambda: b"X-Timing: yes\r\n")
    statuses, body = [], told
    while body.startswith(b"HTTP/1.1 ") and (not statuses or statuses[-1] < 200):
        head_of, _, body = body.partition(b"\r\n\r\n")
        statuses.append(int(head_of.split()[1]))
    ending = conversation.answer.body
    request_ended = conversation.body.done
    return Outcome(
        tuple(statuses),
        body,
        uploaded,
        request_ended,
        ending is not None and ending.done,
        conversation.close,
        conversation.switched,
        conversation.fate(sent=sent and request_ended, before=LENT, shared=False, may_own=True),
    )


CASES: dict[str, tuple[bytes, list[Event], Outcome]] = {
    "an answer with a length": (GET, [answer()], Outcome()),
    "an empty one": (GET, [answer(fields="Content-Length: 0\r\n", body=b"")], Outcome(body=b"")),
    "a chunked one": (GET, [answer(fields=CHUNKED, body=CHUNKS)], Outcome(body=CHUNKS)),
    "one that ends with its connection": (
        GET,
        [(UPSTREAM, UNTIL_CLOSE)],
        Outcome(body=b"hello", answer_ended=False, closes=True, fate=ENDED),
    ),
    "half of one": (GET, [answer(body=b"o")], Outcome(body=b"o", answer_ended=False, fate=ENDED)),
    "half of a head": (
        GET,
        [(UPSTREAM, OK[:20])],
        Outcome(statuses=(), body=b"", answer_ended=False, fate=CLOSED),
    ),
    "one after hints": (GET, [(UPSTREAM, HINTS), answer()], Outcome(statuses=(103, 200), fate=OWN)),
    "hints for HTTP/1.0, which has none": (
        old(GET),
        [(UPSTREAM, HINTS), answer()],
        Outcome(closes=True, fate=ENDED),
    ),
    "chunks for HTTP/1.0, which has none": (
        old(GET),
        [answer(fields=CHUNKED, body=CHUNKS)],
        Outcome(body=b"hello", closes=True),
    ),
    "an upstream that closes": (
        GET,
        [answer(fields="Connection: close\r\nContent-Length: 2\r\n")],
        Outcome(fate=ENDED),
    ),
    "a visitor that closes": (request(HOST, fields="Connection: close\r\n"), [answer()], Outcome(closes=True)),
    "no body to HEAD": (HEAD, [answer(body=b"")], Outcome(body=b"", fate=OWN)),
    "no body with 304": (
        GET,
        [answer("304 Not Modified", body=b"")],
        Outcome(statuses=(304,), body=b"", fate=OWN),
    ),
    "a trailer": (
        GET,
        [answer(fields=CHUNKED, body=b"0\r\nX: y\r\n\r\n")],
        Outcome(body=b"0\r\nX: y\r\n\r\n", fate=OWN),
    ),
    "an upload": (UPLOAD, [(VISITOR, b"body"), answer()], Outcome(uploaded=b"body", fate=OWN)),
    "an upload that came with its head": (UPLOAD + b"body", [answer()], Outcome(uploaded=b"body", fate=OWN)),
    "an upload in chunks": (
        CHUNKED_UPLOAD,
        [(VISITOR, CHUNKS), answer()],
        Outcome(uploaded=CHUNKS, fate=OWN),
    ),
    "the next request behind an upload": (
        UPLOAD,
        [(VISITOR, b"body" + GET), answer()],
        Outcome(uploaded=b"body", fate=OWN),
    ),
    "an answer before the upload has ended": (
        UPLOAD,
        [(VISITOR, b"bo"), answer(), (VISITOR, b"dy")],
        Outcome(uploaded=b"body", closes=True, fate=CLOSED),
    ),
    "an upload that never ends": (
        UPLOAD,
        [(VISITOR, b"bo"), answer()],
        Outcome(uploaded=b"bo", request_ended=False, closes=True, fate=CLOSED),
    ),
    "another protocol": (
        request(HOST, fields=UPGRADE),
        [(UPSTREAM, SWITCHED + b"\x81\x00")],
        Outcome(statuses=(101,), body=b"", answer_ended=False, switched=b"\x81\x00", fate=CLOSED),
    ),
    "a login": (request(HOST, fields="Authorization: NTLM x\r\n"), [answer()], Outcome(fate=PINNED)),
    "a login through a proxy": (
        request(HOST, fields="Authorization: NTLM x\r\nVia: 1.1 proxy\r\n"),
        [answer()],
        Outcome(fate=ENDED),
    ),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES)
def test_what_comes_of_a_request(case: str, bytewise: bool) -> None:
    data, events, outcome = CASES[case]
    assert converse(data, *events, bytewise=bytewise) == outcome


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2].answer_ended])
def test_what_stands_behind_an_answer_is_not_passed_on_and_its_stream_ends(case: str) -> None:
    data, events, outcome = CASES[case]
    last = max(number for number, (who, _) in enumerate(events) if who is UPSTREAM)
    events = [(who, said + b"more" * (number == last)) for number, (who, said) in enumerate(events)]
    assert converse(data, *events) == outcome._replace(fate=CLOSED if outcome.fate is CLOSED else ENDED)


def test_nor_is_a_connection_whose_answer_began_before_the_request_had_gone_out() -> None:
    assert converse(GET, answer(), sent=False) == Outcome(fate=CLOSED)


REPEATABLE = {
    "GET": (GET, True),
    "HEAD": (HEAD, True),
    "PUT with a body": (request(HOST, method="PUT", body=b"body"), True),
    "PUT whose body has not come": (request(HOST, method="PUT", fields="Content-Length: 4\r\n"), False),
    "POST": (request(HOST, method="POST"), False),
    "an upgrade": (request(HOST, fields=UPGRADE), False),
    "a method of nobody": (request(HOST, method="get"), False),
    "a large head": (request(HOST, fields=f"X: {'x' * MAX_HELD_HEAD}\r\n"), False),
}


@pytest.mark.parametrize("case", REPEATABLE)
def test_which_requests_may_be_sent_again(case: str) -> None:
    data, expected = REPEATABLE[case]
    reader = HeadReader()
    head = reader.feed(data)
    conversation = Conversation(head, Forwarding("203.0.113.7", "http"), None, memoryview(reader.rest))
    assert conversation.is_repeatable == expected


INVALID = {
    "another protocol": (GET, [(UPSTREAM, b"SSH-2.0-OpenSSH_9.2\r\n\r\n")], UpstreamInvalid),
    "a protocol that was not asked for": (GET, [(UPSTREAM, SWITCHED)], UpstreamInvalid),
    "chunks that are none": (GET, [answer(fields=CHUNKED, body=b"x\r\n")], UpstreamInvalid),
    "an upload of chunks that are none": (CHUNKED_UPLOAD, [(VISITOR, b"x\r\n")], BadRequest),
    "the same, with the head": (CHUNKED_UPLOAD + b"x\r\n", [], BadRequest),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", INVALID)
def test_what_is_not_http_is_refused(case: str, bytewise: bool) -> None:
    data, events, error = INVALID[case]
    with pytest.raises(error):
        converse(data, *events, bytewise=bytewise)


def test_a_tunnel_with_server_timing_tells_how_long_the_parts_took() -> None:
    data = b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK
    reader = HeadReader()
    head = reader.feed(GET)
    rules = Rules(b"k" * 16, Options(server_timing=True))
    conversation = Conversation(head, Forwarding("203.0.113.7", "http"), rules, memoryview(b""))
    told = conversation.from_upstream(
        memoryview(data), bytearray(), sent=True, timing=lambda: b"Server-Timing: edge;dur=1.0\r\n"
    )
    assert bytes(told).partition(b"200 OK")[2].count(b"Server-Timing") == 1
