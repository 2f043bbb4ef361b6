"""localtunnel.server.visitors.exchange: where requests and responses end, and what is
between the two peers meanwhile.
"""

import hashlib
import logging
import os
from collections.abc import Iterator

import gevent
import pytest
from harness import at_most, request, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, running_site

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
BULK = os.urandom(3_000_000)
HELLO_CHUNKS = b"3\r\nhel\r\n2\r\nlo\r\n0\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


def in_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# Where a response ends: whether the visitor's connection stays, and whether the upstream's is used again.

RESPONSES = {
    "counted": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True, True),
    "empty": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True, True),
    "chunked": ("GET", CHUNKED + HELLO_CHUNKS + b"\r\n", b"hello", True, True),
    "with a trailer": ("GET", CHUNKED + HELLO_CHUNKS + b"X-Sum: 1\r\n\r\n", b"hello", True, False),
    "with an extension": ("GET", CHUNKED + b"5;name=value\r\nhello\r\n0\r\n\r\n", b"hello", True, False),
    "closing after it": (
        "GET",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        True,
        False,
    ),
    "until close": ("GET", b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", False, False),
    "HTTP/1.0": ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True, False),
    "HTTP/1.0 that stays": (
        "GET",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        True,
        True,
    ),
    "HTTP/1.0 until close": ("GET", b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", False, False),
    "204, chunked": (
        "GET",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"",
        True,
        False,
    ),
    "204 with a length": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", True, False),
    "304, chunked": ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True, False),
    "204": ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True, False),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True, False),
    "to HEAD, counted": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", True, False),
    "to HEAD, chunked": ("HEAD", CHUNKED, b"", True, False),
    "to HEAD, no length": ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", b"", True, False),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", RESPONSES)
def test_where_a_response_ends(site: Site, case: str, bytewise: bool) -> None:
    method, response, body, stays, reused = RESPONSES[case]
    visitor, upstream = site.join(request(HOST, method=method))
    assert upstream.message().start == f"{method} / HTTP/1.1"
    upstream.send(*(in_bytes(response) if bytewise else [response]))
    if not reused:
        upstream.close()
    told = visitor.message(method)
    assert told.body == body
    assert told.trailer == (b"X-Sum: 1\r\n" if "trailer" in case else b"")
    assert told.fields.get("connection") == (None if stays else "close")
    assert site.server.stats().kept == reused
    if not stays:
        assert visitor.rest() == b""
        return
    if not reused:
        proxy = site.demo.park()
    visitor.send(GET)
    if not reused:
        upstream = site.demo.joined(proxy)
    upstream.message()
    upstream.send(OK)
    assert visitor.message().body == b"ok"


@pytest.mark.parametrize("behind", [b"x", OK], ids=["a byte", "a response"])
def test_what_stands_behind_a_response_is_nobodys(site: Site, behind: bytes) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(OK + behind)
    assert visitor.message().body == b"ok"
    assert site.server.stats().kept == 0
    assert upstream.rest() == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["204, chunked", "204 with a length", "304, chunked", "304 with a length"],
)
def test_a_body_that_may_not_be_is_nobodys(site: Site, answer: bytes) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(answer)
    told = visitor.message()
    assert told.status in (204, 304)
    assert "transfer-encoding" not in told.fields
    assert site.server.stats().kept == 0
    assert upstream.rest() == b""
    assert visitor.waiting() == b""


@pytest.mark.parametrize(
    ("fields", "stays"), [("", False), ("Connection: keep-alive\r\n", True)], ids=["closing", "keep-alive"]
)
def test_a_visitor_of_http_1_0(site: Site, fields: str, stays: bool) -> None:
    visitor, upstream = site.join(as_http_1_0(request(HOST, fields=fields)))
    asked = upstream.message()
    assert (asked.start, "connection" in asked.fields) == ("GET / HTTP/1.1", False)
    upstream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    told = visitor.message()
    assert (told.status, told.body) == (200, b"ok")
    assert told.fields["connection"] == ("keep-alive" if stays else "close")
    if not stays:
        assert visitor.rest() == b""


def as_http_1_0(data: bytes) -> bytes:
    return data.replace(b"HTTP/1.1", b"HTTP/1.0", 1)


CHUNKED_ANSWERS = {
    "chunks": HELLO_CHUNKS + b"\r\n",
    "a trailer": HELLO_CHUNKS + b"X-Sum: 1\r\n\r\n",
    "nothing": b"0\r\n\r\n",
}


@pytest.mark.parametrize("cut", ["whole", "with the head", "bytewise", "all but the end"])
@pytest.mark.parametrize("fields", ["", "Connection: keep-alive\r\n", "Connection: close\r\n"])
@pytest.mark.parametrize("case", CHUNKED_ANSWERS)
def test_a_visitor_of_http_1_0_gets_no_chunks(site: Site, case: str, fields: str, cut: str) -> None:
    chunks = CHUNKED_ANSWERS[case]
    visitor, upstream = site.join(as_http_1_0(request(HOST, fields=fields)))
    upstream.message()
    pieces = {
        "whole": [CHUNKED + chunks],
        "with the head": [CHUNKED, chunks],
        "bytewise": in_bytes(CHUNKED + chunks),
        "all but the end": [CHUNKED, chunks[:-5], chunks[-5:]],
    }
    upstream.send(*pieces[cut])
    told = visitor.head()
    assert "transfer-encoding" not in told.fields
    assert told.fields["connection"] == "close"
    assert visitor.rest() == (b"" if case == "nothing" else b"hello")
    assert site.server.stats().kept == (case != "a trailer")
    wait_until(lambda: not site.server.joins)


def test_head_of_http_1_0_is_told_nothing_of_chunks(site: Site) -> None:
    head = as_http_1_0(request(HOST, method="HEAD", fields="Connection: keep-alive\r\n"))
    visitor, upstream = site.join(head)
    upstream.message()
    upstream.send(CHUNKED)
    told = visitor.message("HEAD")
    assert "transfer-encoding" not in told.fields
    assert told.fields["connection"] == "keep-alive"


@pytest.mark.parametrize("size", [1 << 16, 20 << 20], ids=["one chunk", "one that is moved by the kernel"])
def test_a_large_chunk_for_http_1_0_arrives_whole(site: Site, size: int) -> None:
    body = BULK[:65536] * (size >> 16)
    visitor, upstream = site.join(as_http_1_0(GET))
    upstream.message()
    sending = gevent.spawn(upstream.send, CHUNKED + b"%x\r\n" % size + body + b"\r\n0\r\n\r\n")
    visitor.head()
    assert hashlib.sha256(visitor.rest()).digest() == hashlib.sha256(body).digest()
    sending.get()


def test_an_upload_by_http_1_0_does_not_wait_for_a_100(site: Site) -> None:
    data = request(HOST, method="POST", fields="Expect: 100-continue\r\n", body=b"body")
    visitor, upstream = site.join(as_http_1_0(data))
    asked = upstream.message()
    assert (asked.body, "expect" in asked.fields) == (b"body", False)
    upstream.send(OK)
    assert visitor.message().body == b"ok"


def test_a_visitor_that_asks_to_close_is_closed_and_the_upstream_stays(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, fields="Connection: close\r\n"))
    assert "connection" not in upstream.message().fields
    upstream.send(OK)
    assert visitor.message().fields["connection"] == "close"
    assert visitor.rest() == b""
    assert site.server.stats().kept == 1


# Interim responses.


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
def test_interim_responses_are_passed_on(site: Site, bytewise: bool) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(*(in_bytes(interim + OK) if bytewise else [interim + OK]))
    told = [visitor.message(), visitor.message(), visitor.message()]
    assert [message.status for message in told] == [103, 102, 200]
    assert told[0].fields["link"] == "</a.css>"


@pytest.mark.parametrize("field", ["Transfer-Encoding: chunked", "Content-Length: 5"])
@pytest.mark.parametrize("interim", [100, 103])
def test_a_framed_interim_response_passes_without_its_frame(site: Site, interim: int, field: str) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(f"HTTP/1.1 {interim} Interim\r\n{field}\r\nX-Kept: yes\r\n\r\n".encode() + OK)
    told = [visitor.message(), visitor.message()]
    assert [(message.status, message.body) for message in told] == [(interim, b""), (200, b"ok")]
    assert told[0].fields == {"x-kept": "yes"}
    assert site.server.stats().kept == 0


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 16], ids=["at once", "after 16"])
def test_an_upstream_that_sends_nothing_but_interim_responses_is_cut(site: Site, begun: bytes) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(begun)
    hint = b"HTTP/1.1 100 Continue\r\n\r\n"
    with at_most(10.0), pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            upstream.send(hint * 100)
    statuses = []
    while not statuses or statuses[-1] < 200:
        statuses.append(visitor.message().status)
    assert statuses[-1] == 502
    assert len(statuses) <= 17
    assert visitor.rest() == b""


def test_expect_waits_for_the_upstream_and_the_body_follows(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields="Expect: 100-continue\r\nContent-Length: 4\r\n"))
    assert upstream.head().fields["expect"] == "100-continue"
    assert upstream.waiting() == b""
    upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert visitor.message().status == 100
    visitor.send(b"body")
    assert upstream.exactly(4) == b"body"
    upstream.send(OK)
    assert visitor.message().body == b"ok"


def test_an_expectation_that_fails_closes_both(site: Site) -> None:
    """Whether the body comes after all nobody can know, so that there is no next request to be found."""
    visitor, upstream = site.join(request(HOST, method="POST", fields="Expect: 100-continue\r\nContent-Length: 4\r\n"))
    upstream.head()
    upstream.send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
    told = visitor.message()
    assert (told.status, told.fields["connection"]) == (417, "close")
    assert visitor.rest() == b""
    assert upstream.was_reset()


# Request bodies.


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (f"Content-Length: {len(BULK)}\r\n", BULK),
        ("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", HELLO_CHUNKS + b"X-Sum: 1\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", b"10000\r\n" + BULK[:65536] + b"\r\n0\r\n\r\n"),
    ],
    ids=["counted", "chunked with a trailer", "chunked"],
)
def test_a_request_body_arrives_untouched(site: Site, fields: str, body: bytes) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields=fields))
    upstream.head()
    sending = gevent.spawn(visitor.send, body + GET)
    assert upstream.exactly(len(body)) == body
    sending.get()
    proxy = site.demo.park()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    fresh = site.demo.joined(proxy)
    fresh.message()
    fresh.send(OK)
    assert visitor.message().body == b"ok"
    assert upstream.rest() == b"", "and what follows the body is not sent behind it"


def test_a_chunked_body_may_come_byte_by_byte(site: Site) -> None:
    body = HELLO_CHUNKS + b"X-Sum: 1\r\n\r\n"
    visitor, upstream = site.join(*in_bytes(request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n")))
    upstream.head()
    visitor.send(*in_bytes(body))
    assert upstream.exactly(len(body)) == body
    upstream.send(OK)
    assert visitor.message().body == b"ok"


def test_neither_body_is_buffered(site: Site) -> None:
    """Each piece is sent once the one before it has arrived."""
    visitor, upstream = site.join(request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n"))
    upstream.head()
    for _ in range(3):
        visitor.send(b"4\r\nping\r\n")
        assert upstream.exactly(9) == b"4\r\nping\r\n"
    upstream.send(CHUNKED)
    assert visitor.head().status == 200
    for _ in range(3):
        upstream.send(b"4\r\npong\r\n")
        assert visitor.exactly(9) == b"4\r\npong\r\n"
        visitor.send(b"4\r\nping\r\n")
        assert upstream.exactly(9) == b"4\r\nping\r\n"


def test_an_upload_that_is_refused_early_hears_why(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields=f"Content-Length: {len(BULK)}\r\n"))
    upstream.head()
    sending = gevent.spawn(visitor.send, BULK)
    upstream.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
    told = visitor.message()
    assert (told.status, told.fields["connection"], told.body) == (413, "close", b"big")
    assert visitor.rest() == b""
    assert upstream.was_reset()
    sending.get()


@pytest.mark.parametrize("closes", [True, False], ids=["and closes", "and stays"])
def test_an_answer_to_an_upload_over_a_slow_link_is_read_behind_its_last_byte(site: Site, closes: bool) -> None:
    """A browser sends all of a request before it reads, and may need many times what a silent peer is given."""
    site.server._lingering._idle = 0.5
    fields = "Content-Length: 1000000\r\n"
    visitor, upstream = site.join(request(HOST, method="POST", fields=fields))
    upstream.head()
    upstream.send(OK)
    if closes:
        upstream.close()
    wait_until(lambda: site.server.stats().lingering, what="the answer has gone out")
    for _ in range(15):
        visitor.send(bytes(1000))
        gevent.sleep(0.1)
    assert site.server.stats().lingering == 1
    assert visitor.message().body == b"ok"
    wait_until(lambda: not site.server.stats().lingering, what="the visitor was silent for too long")


def test_a_response_may_begin_before_the_request_has_ended(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields=f"Content-Length: {len(BULK)}\r\n"))
    upstream.head()
    upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BULK))
    sending = gevent.spawn(visitor.send, BULK)
    echoed = gevent.spawn(lambda: visitor.message().body)
    for _ in range(30):
        upstream.send(upstream.exactly(100_000))
    assert echoed.get() == BULK
    sending.get()


def test_a_visitor_that_has_ended_its_side_gets_its_answer(site: Site) -> None:
    visitor, upstream = site.join(GET)
    visitor.sock.shutdown(1)
    upstream.message()
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    assert visitor.rest() == b""


def test_what_went_through_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "localtunnel.server")
    visitor, upstream = site.join(GET)
    sent = len(upstream.message().head)
    upstream.send(OK)
    visitor.message()
    (record,) = [record for record in caplog.records if record.getMessage() == "join ended"]
    assert (record.tunnel, record.reason) == ("demo", "answered")
    assert (record.received, record.sent) == (sent, len(OK))


# Back pressure.


@pytest.mark.parametrize("reading", ["visitor", "upstream"])
def test_who_does_not_read_stops_the_other_and_gets_everything_in_the_end(site: Site, reading: str) -> None:
    body = os.urandom(1_000_000) * 25
    head = request(HOST, method="POST", fields=f"Content-Length: {len(body)}\r\n") if reading == "upstream" else GET
    visitor, upstream = site.join(head)
    upstream.head()
    reader, writer = (visitor, upstream) if reading == "visitor" else (upstream, visitor)
    if reading == "visitor":
        upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        visitor.head()
    sending = gevent.spawn(writer.send, body)
    (exchange,) = site.server.joins
    wait_until(lambda: exchange._carrier, what="the exchange has begun")
    behind = exchange._connection.side if reading == "visitor" else exchange._carrier
    wait_until(lambda: behind.backlog, what="the reader is behind")
    counted = exchange.sent + exchange.received
    gevent.idle()
    assert not sending.dead
    assert exchange.sent + exchange.received - counted < 1_000_000
    with at_most(10.0, "reading everything"):
        digest = hashlib.sha256(reader.exactly(len(body))).digest()
    assert digest == hashlib.sha256(body).digest()
    sending.get()
