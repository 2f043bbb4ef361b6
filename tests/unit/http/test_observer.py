"""localtunnel.http.observer: the exchanges of a connection, found in its bytes however they are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.http.exchange import Exchange
from localtunnel.http.message.answer import MAX_INTERIM
from localtunnel.http.observer import MAX_FIELDS, MAX_HEAD, MAX_WAITING, Observer

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED_POST = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(path, method="GET", fields=b""):
    return b"%b /%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method.encode(), path.encode(), fields)


def answer(body, status=200, fields=b""):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)


class Seen(Observer[Exchange]):
    """Remembers what it was told, as (what, path, status, received, sent, error)."""

    def __init__(self):
        super().__init__()
        self.told = []

    def begun(self, request):
        return Exchange(request)

    def answered(self, exchange):
        self.told.append(("answered", exchange.request.path, exchange.response.status))

    def finished(self, exchange):
        status = exchange.response.status if exchange.response is not None else None
        self.told.append((exchange.request.path, status, exchange.received, exchange.sent, exchange.error))

    def lost(self):
        self.told.append("lost")

    @property
    def ended(self):
        """What has finished, or was lost."""
        return [each for each in self.told if each[0] != "answered"]


def whole(data):
    return [data] if data else []


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


# Each: what passes, ">" from the visitor and "<" from the upstream, "#" the end of the upstream; what is told of it.
CASES = {
    "a counted answer": ([(">", GET), ("<", OK)], [("/", 200, 0, 2, None)]),
    "two on one connection": (
        [(">", get("a")), ("<", OK), (">", get("b")), ("<", answer(b"", 404))],
        [("/a", 200, 0, 2, None), ("/b", 404, 0, 0, None)],
    ),
    "a counted body": (
        [(">", get("a", "POST", b"Content-Length: 5\r\n") + b"hello"), ("<", OK)],
        [("/a", 200, 5, 2, None)],
    ),
    "a chunked body": ([(">", CHUNKED_POST), ("<", OK)], [("/p", 200, 5, 2, None)]),
    "a chunked answer with a trailer": (
        [(">", GET), ("<", CHUNKED + b"4\r\nWiki\r\n0\r\nX-Sum: 1\r\n\r\n"), (">", get("b")), ("<", OK)],
        [("/", 200, 0, 4, None), ("/b", 200, 0, 2, None)],
    ),
    "a body that looks like a request": (
        [(">", get("a", "POST", b"Content-Length: %d\r\n" % len(GET)) + GET), ("<", OK)],
        [("/a", 200, len(GET), 2, None)],
    ),
    "a body that looks like an answer": (
        [(">", get("a")), ("<", answer(OK)), (">", get("b")), ("<", OK)],
        [("/a", 200, 0, len(OK), None), ("/b", 200, 0, 2, None)],
    ),
    "pipelined": (
        [
            (">", get("a") + get("b", "HEAD") + CHUNKED_POST + get("c")),
            ("<", OK + answer(b"")[:-4] + b"\r\n\r\n" + OK + OK),
        ],
        [("/a", 200, 0, 2, None), ("/b", 200, 0, 0, None), ("/p", 200, 5, 2, None), ("/c", 200, 0, 2, None)],
    ),
    "HEAD with a length": (
        [(">", get("a", "HEAD")), ("<", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"), (">", GET), ("<", OK)],
        [("/a", 200, 0, 0, None), ("/", 200, 0, 2, None)],
    ),
    "204 and 304": (
        [
            (">", get("a")),
            ("<", b"HTTP/1.1 204 No Content\r\n\r\n"),
            (">", get("b")),
            ("<", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        ],
        [("/a", 204, 0, 0, None), ("/b", 304, 0, 0, None)],
    ),
    "interim answers": (
        [
            (">", get("a", "PUT", b"Content-Length: 2\r\nExpect: 100-continue\r\n")),
            ("<", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
            (">", b"hi"),
            ("<", OK),
        ],
        [("/a", 200, 2, 2, None)],
    ),
    "until the end": ([(">", GET), ("<", b"HTTP/1.0 200 OK\r\n\r\nall of it"), ("#", b"")], [("/", 200, 0, 9, None)]),
    "an answer of HTTP/1.0 that is counted": (
        [
            (">", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
            ("<", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            ("#", b""),
        ],
        [("/", 200, 0, 2, None)],
    ),
    "cut before an answer": ([(">", GET), ("#", b"")], [("/", None, 0, 0, "upstream_closed")]),
    "cut in a head": ([(">", GET), ("<", OK[:30]), ("#", b"")], [("/", None, 0, 0, "upstream_closed")]),
    "cut in a body": ([(">", GET), ("<", OK[:-1]), ("#", b"")], [("/", 200, 0, 1, "upstream_closed")]),
    "cut in a chunk": (
        [(">", GET), ("<", CHUNKED + b"4\r\nWik"), ("#", b"")],
        [("/", 200, 0, 3, "upstream_closed")],
    ),
    "the first of two is answered": (
        [(">", get("a") + get("b")), ("<", OK), ("#", b"")],
        [("/a", 200, 0, 2, None), ("/b", None, 0, 0, "upstream_closed")],
    ),
    "a switched protocol": (
        [(">", UPGRADE), ("<", SWITCHED), (">", b"\x81\x80abcd"), ("<", b"\x81\x02hi"), (">", b"GET / ")],
        [("/ws", 101, 12, 4, None)],
    ),
    "a switched protocol whose upstream ends": (
        [(">", UPGRADE), ("<", SWITCHED), ("<", b"bye"), ("#", b""), (">", b"still there")],
        [("/ws", 101, 11, 3, None)],
    ),
    "an early frame": ([(">", UPGRADE + b"\x81\x00"), ("<", SWITCHED + b"\x81\x00")], [("/ws", 101, 2, 2, None)]),
    "an upgrade that is refused": (
        [(">", UPGRADE), ("<", answer(b"no", 403)), (">", GET), ("<", OK)],
        [("/ws", 403, 0, 2, None), ("/", 200, 0, 2, None)],
    ),
    "bytes behind an upgrade that is refused": (
        [(">", UPGRADE + b"\x81\x00"), ("<", answer(b"no", 403)), ("<", b"more")],
        ["lost", ("/ws", 403, 0, 2, None)],
    ),
    "no request": ([(">", b"\x16\x03\x01\x02\x00\x01"), ("<", b"\x15\x03")], ["lost"]),
    "an upstream that speaks first": ([("<", b"SSH-2.0-OpenSSH_9.2\r\n"), (">", b"SSH-2.0-x\r\n")], ["lost"]),
    "an answer that nobody waits for": ([(">", GET), ("<", OK + OK)], [("/", 200, 0, 2, None), "lost"]),
    "no answer": ([(">", GET), ("<", b"<html>hello</html>\r\n\r\n")], [("/", None, 0, 0, "upstream_invalid"), "lost"]),
    "chunks that are none": (
        [(">", GET), ("<", CHUNKED + b"nonsense\r\n")],
        [("/", 200, 0, 0, "upstream_invalid"), "lost"],
    ),
    "a request that is none behind one": (
        [(">", GET + b"\x00\x00\x00\x00\x00\x00\x00\x00\r\n\r\n"), ("<", OK)],
        ["lost", ("/", 200, 0, 2, None)],
    ),
    "a request in pieces that never becomes one": ([(">", b"GET / HTTP/1.1\r\nHo")], []),
}


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("name", CASES)
def test_every_exchange_is_found_however_its_bytes_are_cut(name, cut):
    script, expected = CASES[name]
    seen = Seen()
    for mark, data in script:
        if mark == "#":
            seen.end_answers()
        feed = seen.feed_request if mark == ">" else seen.feed_answer
        for piece in cut(data):
            feed(piece)
    seen.close()
    assert seen.ended == expected


def test_an_early_answer_ends_the_exchange_with_what_had_come_by_then():
    seen = Seen()
    seen.feed_request(get("up", "POST", b"Content-Length: 10\r\n") + b"1234")
    seen.feed_answer(answer(b"too large", 413))
    assert seen.ended == [("/up", 413, 4, 9, None)]
    seen.feed_request(b"567890" + get("next"))
    seen.feed_answer(OK)
    seen.close()
    assert seen.ended[1:] == [("/next", 200, 0, 2, None)]


def test_an_answer_that_goes_on_is_told_of_when_it_begins():
    seen = Seen()
    seen.feed_request(GET)
    seen.feed_answer(OK[:-1])
    assert seen.told == [("answered", "/", 200)]
    seen.feed_answer(OK[-1:])
    assert seen.told[1:] == [("/", 200, 0, 2, None)]


def test_the_reason_for_a_cut_is_that_of_everything_under_way():
    seen = Seen()
    seen.feed_request(get("a") + get("b"))
    seen.feed_answer(OK[:-1])
    seen.close("visitor_gone")
    assert seen.ended == [("/a", 200, 0, 1, "visitor_gone"), ("/b", None, 0, 0, "visitor_gone")]


# What may pass unseen.


def test_all_but_the_end_of_a_body_may_pass_unseen():
    seen = Seen()
    assert (seen.unseen_of_request(), seen.unseen_of_answer()) == (0, 0)
    seen.feed_request(get("a", "POST", b"Content-Length: 100000\r\n"))
    assert seen.unseen_of_request() == 99_999
    seen.skip_request(99_999)
    assert seen.unseen_of_request() == 0
    seen.feed_request(b"x" + GET)
    assert seen.unseen_of_request() == 0
    seen.feed_answer(CHUNKED + b"ffff\r\n")
    assert seen.unseen_of_answer() == 0xFFFF
    seen.skip_answer(0xFFFF)
    assert seen.unseen_of_answer() == 0
    seen.feed_answer(b"\r\n0\r\n\r\n")
    seen.feed_answer(b"HTTP/1.0 200 OK\r\n\r\n")
    assert seen.unseen_of_answer() > 1 << 40
    seen.skip_answer(1 << 30)
    seen.end_answers()
    assert seen.ended == [("/a", 200, 100_000, 0xFFFF, None), ("/", 200, 0, 1 << 30, None)]


def test_everything_may_pass_unseen_once_it_is_not_http():
    seen = Seen()
    seen.feed_answer(b"SSH-2.0-x\r\n")
    assert min(seen.unseen_of_request(), seen.unseen_of_answer()) > 1 << 40
    seen.skip_request(1 << 30)
    seen.skip_answer(1 << 30)
    seen.close()
    assert seen.ended == ["lost"]


# Floods.


def held(seen):
    """Return how many bytes and exchanges the observer holds."""
    readers = [seen._request_reader, seen._answer_reader]
    return sum(len(reader.received) for reader in readers if reader is not None), len(seen._waiting)


@pytest.mark.parametrize("line", [b"X-A: b\r\n", b"x" * 1000])
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_a_head_without_end_is_not_kept(start, line):
    seen = Seen()
    feed = seen.feed_request
    if start.startswith(b"HTTP"):
        seen.feed_request(GET)
        feed = seen.feed_answer
    feed(start)
    most = 0
    for _ in range(4 * MAX_HEAD // len(line)):
        feed(line)
        most = max(most, held(seen)[0])
    assert MAX_HEAD // 2 <= most <= MAX_HEAD
    assert held(seen) == (0, 0)
    assert seen.told[-1] == "lost"


@pytest.mark.parametrize("cut", [whole, bytewise])
def test_more_fields_are_read_than_the_server_lets_in(cut):
    """It adds some of its own, and a request that was not read would hide all that follow."""
    seen = Seen()
    fields = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_FIELDS - 1))
    for piece in cut(get("many", fields=fields)):
        seen.feed_request(piece)
    seen.feed_answer(OK)
    seen.feed_request(get("too-many", fields=fields + b"X: y\r\n"))
    assert seen.ended == [("/many", 200, 0, 2, None), "lost"]


def test_no_more_requests_are_remembered_than_may_wait():
    seen = Seen()
    seen.feed_request(GET * (MAX_WAITING + 100))
    assert held(seen) == (0, MAX_WAITING)
    assert seen.told == ["lost"]
    seen.feed_answer(OK * MAX_WAITING)
    assert seen.told[1:] == [("/", 200, 0, 2, None)] * MAX_WAITING


def test_a_flood_of_interim_answers_is_not_read_on():
    seen = Seen()
    seen.feed_request(GET)
    seen.feed_answer(b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM)
    assert seen.told == []
    seen.feed_answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    assert seen.told == [("/", None, 0, 0, "upstream_invalid"), "lost"]


@given(st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_no_bytes_whatever_are_an_error(to_upstream, to_visitor, asked):
    seen = Seen()
    if asked:
        seen.feed_request(GET)
    seen.feed_request(to_upstream)
    seen.feed_answer(to_visitor)
    seen.feed_request(to_upstream)
    seen.end_answers()
    seen.close()
    assert seen.told.count("lost") <= 1


# Made-up conversations. The oracle knows what it made, and needs no parser.


@st.composite
def exchanges(draw):
    """Return (the request's bytes, the answer's bytes, what is to be told of the exchange)."""
    path = draw(st.text("abc/", max_size=6))
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "DELETE"]))
    content = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        request = get(path, method, b"Content-Length: %d\r\n" % len(content)) + content
    else:
        request = get(path, method, b"Transfer-Encoding: chunked\r\n") + chunks(draw, content)
    reply = b"".join(draw(st.lists(st.just(b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n"), max_size=2)))
    body = draw(st.binary(max_size=40))
    status = draw(st.sampled_from([200, 204, 304, 404, 500]))
    if method == "HEAD" or status in (204, 304):
        reply += b"HTTP/1.1 %d X\r\n%b\r\n" % (status, draw(st.sampled_from([b"", b"ETag: x\r\n"])))
        body = b""
    elif draw(st.booleans()):
        reply += answer(body, status)
    else:
        reply += b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status + chunks(draw, body)
    return request, reply, ("/" + path, status, len(content), len(body), None)


def chunks(draw, content):
    coded, rest = b"", content
    while rest:
        size = draw(st.integers(1, len(rest)))
        coded += b"%x\r\n%b\r\n" % (size, rest[:size])
        rest = rest[size:]
    return coded + b"0\r\n\r\n"


@given(st.lists(exchanges(), min_size=1, max_size=5), st.data())
def test_the_account_is_the_same_however_a_conversation_is_cut(conversation, data):
    """Both streams are cut anywhere, and run beside each other; no answer begins before its request has passed."""
    requests = b"".join(request for request, _, _ in conversation)
    answers = b"".join(reply for _, reply, _ in conversation)
    request_ends = list(itertools.accumulate(len(request) for request, _, _ in conversation))
    answer_ends = [0, *itertools.accumulate(len(reply) for _, reply, _ in conversation)]
    seen, sent, got = Seen(), 0, 0
    while sent < len(requests) or got < len(answers):
        asked = sum(end <= sent for end in request_ends)
        may_answer = answer_ends[asked]
        if got < may_answer and (sent == len(requests) or data.draw(st.booleans())):
            size = data.draw(st.integers(1, may_answer - got))
            seen.feed_answer(memoryview(answers)[got : got + size])
            got += size
        elif sent < len(requests):
            size = data.draw(st.integers(1, len(requests) - sent))
            seen.feed_request(memoryview(requests)[sent : sent + size])
            sent += size
    seen.close()
    assert seen.ended == [told for _, _, told in conversation]


@pytest.mark.parametrize(
    ("asked", "answered", "is_at_rest"),
    [
        (b"", b"", True),
        (GET, b"", False),
        (GET, OK[:-1], False),
        (GET, OK, True),
        (GET + GET, OK, False),
        (GET + GET[:1], OK, False),
        (CHUNKED_POST, OK, True),
        (CHUNKED_POST[:-1], OK, False),
        (GET, OK + b"x", False),
        (b"no HTTP\r\n\r\n", b"", False),
        (UPGRADE, SWITCHED, False),
        (GET, b"HTTP/1.1 200 OK\r\n\r\nup to the end", False),
    ],
)
def test_it_is_at_rest_when_whole_requests_have_whole_answers_and_nothing_else_has_passed(asked, answered, is_at_rest):
    seen = Seen()
    seen.feed_request(asked)
    seen.feed_answer(answered)
    assert seen.is_at_rest == is_at_rest
