"""localtunnel.server.visitors.exchange: what was begun and cannot be finished; nothing that is cut looks complete."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from harness import CAP, at_most, parse_response, request, running_client, running_upstream, wait_until
from harness.exchanges import HOST, OK, VERSIONS, Site, Stream, running_site
from harness.messages import Message, messages, parameters
from harness.tunnels import Owner
from harness.v3 import end

from localtunnel.net import sockets
from localtunnel.server.app import TICK
from localtunnel.server.visitors import exchange

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
POST = request(HOST, method="POST", fields="Content-Length: 10\r\n")
HOWS = ["FIN", "RST"]
COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param, timeouts={"pool_wait": 5}) as running:
        yield running


def told(visitor: Stream) -> tuple[int, str]:
    """Return status and code of the server's own answer, after which the connection ends."""
    response = parse_response(visitor.rest())
    assert response.fields["connection"] == "close"
    assert int(response.fields["content-length"]) == len(response.body)
    return response.status, response.fields["x-localtunnel-error"]


def sends(stream: Stream, *pieces: bytes) -> bool:
    """Send ``pieces``, and say whether the peer took them all: it has reset the connection if not."""
    try:
        stream.send(*pieces)
    except OSError:
        return False
    return True


def begun(site: Site) -> Any:
    """Return the one exchange that goes on, once it has its proxy connection."""
    (going_on,) = site.server.joins
    wait_until(lambda: going_on._carrier, what="the exchange has begun")
    return going_on


def awaited_head(site: Site) -> bytes:
    """Return what the server has got of a head that is not whole."""
    reader = begun(site)._answer._reader
    return b"" if reader is None else bytes(reader.received)


def stand_still(site: Site, seconds: float) -> None:
    """Let the server look after its exchanges as if nothing had moved for ``seconds``."""
    for _ in range(int(seconds / TICK) + 1):
        site.server._tick()


# The upstream.


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "begun",
    [COUNTED, COUNTED + b"123456789", CHUNKED, CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n0\r\n"],
    ids=["a head", "all but one byte", "a chunked head", "half a chunk", "no trailer"],
)
def test_a_truncated_response_is_cut(site: Site, begun: bytes, how: str) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(begun)
    visitor.head()
    end(upstream.sock, how)
    assert visitor.was_reset()
    wait_until(lambda: not site.server.joins)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    "begun",
    [CHUNKED, CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhello\r\n0\r\n"],
    ids=["a head", "half a chunk", "a whole chunk", "no trailer"],
)
def test_a_truncated_response_to_http_1_0_is_cut(site: Site, begun: bytes, how: str) -> None:
    """The end of the connection is all that tells its end."""
    visitor, upstream = site.join(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    upstream.message()
    upstream.send(begun)
    visitor.head()
    end(upstream.sock, how)
    assert visitor.was_reset()


def test_a_response_that_ends_with_its_connection_is_cut_when_that_is_reset(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
    visitor.head()
    end(upstream.sock, "RST")
    assert visitor.was_reset()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"], ids=["", "103"])
def test_a_request_without_an_answer_is_502(site: Site, begun: bytes, how: str) -> None:
    visitor, upstream = site.join(POST, b"0123456789")
    upstream.message()
    upstream.send(begun)
    if b"103" in begun:
        assert visitor.message().status == 103
    end(upstream.sock, how)
    assert told(visitor) == (502, "upstream_closed")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"], ids=["", "after 103"])
@pytest.mark.parametrize(
    ("begun", "first_line"),
    [
        (b"HTTP/1.1 200", "HTTP/1.1 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nhello", "HTTP/1.1 200 OK"),
        (b"<h1>\x1b[2J</h1>", r"<h1>\x1b[2J</h1>"),
    ],
    ids=["half a line", "no empty line", "no head"],
)
def test_an_answer_that_ends_within_its_head_is_502_and_shown(
    site: Site, before: bytes, begun: bytes, first_line: str, how: str
) -> None:
    site.demo.tunnel.owner = owner = Owner()
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(before + begun)
    if before:
        assert visitor.message().status == 103
    wait_until(lambda: awaited_head(site), what="the beginning has arrived")
    end(upstream.sock, how)
    assert told(visitor) == (502, "upstream_invalid")
    (notice,) = owner.notices
    assert notice.startswith("The server refused a request: 502 upstream_invalid. ")
    assert f'begins with "{first_line}"' in notice


def test_an_upstream_of_another_protocol_is_told_by_its_first_line() -> None:
    """It says so at once, and waits for the visitor then, who would wait for it."""
    with running_site("0.3") as site:
        visitor, upstream = site.join(GET)
        upstream.message()
        upstream.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert told(visitor) == (502, "upstream_invalid")
        (notice,) = wait_until(lambda: site.demo.peer.said("notice"), what="the client is told")
        assert "502 upstream_invalid" in notice
        assert '"SSH-2.0-OpenSSH_9.2"' in notice


INVALID = messages("invalid/responses")


@parameters(INVALID)
@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
def test_an_invalid_response_is_502_or_cut_and_its_connection_is_not_used_again(
    message: Message, in_pieces: bool
) -> None:
    """In one piece with its head even an invalid body is known before the visitor has got anything of it."""
    with running_site("0.3") as site:
        visitor, upstream = site.join(GET)
        upstream.message()
        taken = sends(upstream, *(message.in_pieces() if in_pieces else [message.data]))
        if message.fails_in_body and in_pieces:
            assert visitor.was_reset()
        else:
            assert told(visitor) == (502, message.expected["error"])
        assert not taken or upstream.was_reset()
        assert site.server.stats().kept == 0


@pytest.mark.parametrize(
    ("asked", "response"),
    [
        (GET, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ],
    ids=["an upgrade that nobody asked for"],
)
def test_a_response_that_the_visitor_cannot_take_is_502(site: Site, asked: bytes, response: bytes) -> None:
    visitor, upstream = site.join(asked)
    upstream.message()
    upstream.send(response)
    assert told(visitor) == (502, "upstream_invalid")
    assert upstream.was_reset()


# The visitor.


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("sent", [POST, POST + b"12345"], ids=["a head", "half a body"])
def test_a_visitor_that_leaves_within_its_request_takes_the_upstream_with_it(site: Site, sent: bytes, how: str) -> None:
    visitor, upstream = site.join(sent)
    upstream.head()
    end(visitor.sock, how)
    assert upstream.was_reset()
    wait_until(lambda: not site.server.joins)


def test_a_visitor_that_is_reset_while_it_waits_takes_the_upstream_with_it(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    end(visitor.sock, "RST")
    assert upstream.was_reset()


@pytest.mark.parametrize("how", HOWS)
def test_a_visitor_that_leaves_within_the_response_takes_the_upstream_with_it(site: Site, how: str) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\n")
    visitor.head()
    end(visitor.sock, how)
    with at_most(CAP):
        while sends(upstream, b"x" * 65536):
            pass
    wait_until(lambda: not site.server.joins)


@pytest.mark.parametrize("begun", [b"", b"5\r\nhello\r\n"], ids=["at once", "after a chunk"])
def test_a_body_that_is_none_is_400_and_the_upstream_is_cut(site: Site, begun: bytes) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n"))
    upstream.head()
    visitor.send(begun + b"0x5\r\nhello\r\n")
    assert told(visitor) == (400, "bad_request")
    assert upstream.was_reset()


def test_a_body_that_is_none_cuts_a_response_that_has_begun(site: Site) -> None:
    visitor, upstream = site.join(request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n"))
    upstream.head()
    upstream.send(COUNTED)
    visitor.head()
    visitor.send(b"-1\r\n")
    assert visitor.was_reset()
    assert upstream.was_reset()


# Time.


def test_a_body_that_does_not_come_is_408(site: Site) -> None:
    visitor, upstream = site.join(POST)
    upstream.head()
    stand_still(site, exchange.STALLED - 2 * TICK)
    visitor.send(b"1")
    assert upstream.exactly(1) == b"1"
    stand_still(site, exchange.STALLED - 2 * TICK)
    assert visitor.waiting() == b""
    stand_still(site, 2 * TICK)
    assert told(visitor) == (408, "request_timeout")
    assert upstream.was_reset()


def test_a_visitor_that_does_not_take_its_answer_is_cut(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    going_on = begun(site)
    sending = gevent.spawn(sends, upstream, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 50_000_000)
    wait_until(lambda: going_on._connection.side.backlog, what="the visitor is behind")
    stand_still(site, exchange.STALLED)
    wait_until(lambda: not site.server.joins)
    assert not sending.get()
    assert visitor.was_reset()


def test_a_slow_upstream_is_waited_for(site: Site) -> None:
    visitor, upstream = site.join(GET)
    upstream.message()
    stand_still(site, 10 * exchange.STALLED)
    upstream.send(COUNTED)
    stand_still(site, 10 * exchange.STALLED)
    upstream.send(b"0123456789")
    assert visitor.message().body == b"0123456789"


def test_an_upstream_that_is_slow_to_take_a_body_is_waited_for(site: Site) -> None:
    body = b"x" * 20_000_000
    visitor, upstream = site.join(request(HOST, method="POST", fields=f"Content-Length: {len(body)}\r\n"))
    upstream.head()
    going_on = begun(site)
    sending = gevent.spawn(visitor.send, body)
    wait_until(lambda: going_on._carrier.backlog, what="the upstream is behind")
    stand_still(site, 10 * exchange.STALLED)
    assert upstream.exactly(len(body)) == body
    upstream.send(OK)
    assert visitor.message().body == b"ok"
    sending.get()


def has_ended(going_on: Any) -> bool:
    """Say whether the server knows that the visitor says nothing more."""
    return not going_on._connection.side.reading


def test_a_visitor_that_has_ended_its_side_gets_its_answer_however_long_that_takes(site: Site) -> None:
    visitor, upstream = site.join(GET)
    visitor.sock.shutdown(1)
    upstream.message()
    going_on = begun(site)
    wait_until(lambda: has_ended(going_on))
    stand_still(site, 10 * exchange.STALLED)
    upstream.send(COUNTED)
    stand_still(site, 10 * exchange.STALLED)
    upstream.send(b"0123456789")
    assert visitor.message().body == b"0123456789"
    assert visitor.rest() == b""


def test_a_visitor_that_has_closed_for_good_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own kernel tells, once that has forgotten the connection: a minute later as a rule, here after a second."""
    asking = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}
    monkeypatch.setattr(sockets, "_LIVENESS", [(getattr(socket, name), value) for name, value in asking.items()])
    visitor, upstream = site.join(GET)
    upstream.message()
    visitor.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
    visitor.close()
    assert upstream.was_reset()
    wait_until(lambda: not site.server.joins)


@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH], ids=os.strerror)
def test_a_connection_to_the_client_that_times_out_is_504(site: Site, code: int) -> None:
    visitor, upstream = site.join(POST, b"0123456789")
    upstream.message()
    going_on = begun(site)
    going_on.read_failed(going_on._carrier, OSError(code, "the client does not answer"))
    assert told(visitor) == (504, "upstream_timeout")


# A visitor that goes while nobody reads from it.


def test_a_visitor_that_is_reset_while_it_waits_for_a_connection_is_noticed(site: Site) -> None:
    visitor = site.visit(GET)
    wait_until(lambda: site.server.joins, what="the visitor waits")
    end(visitor.sock, "RST")
    with at_most(4.0, "noticing, long before the wait is over,"):
        wait_until(lambda: not site.server.joins)
    assert not site.edge.connections


@pytest.mark.parametrize("early", [True, False], ids=["with its request", "later"])
def test_a_visitor_that_is_reset_behind_many_more_requests_is_noticed(site: Site, early: bool) -> None:
    more = GET * 5000
    visitor, upstream = site.join(GET + more if early else GET)
    if not early:
        visitor.send(more)
    upstream.message()
    going_on = begun(site)
    wait_until(lambda: has_ended(going_on), what="the visitor is not read any more")
    end(visitor.sock, "RST")
    assert upstream.was_reset()
    wait_until(lambda: not site.server.joins)


def test_a_visitor_that_is_reset_behind_a_body_that_nobody_takes_is_noticed(site: Site) -> None:
    body = b"x" * 50_000_000
    visitor, upstream = site.join(request(HOST, method="POST", fields=f"Content-Length: {len(body)}\r\n"))
    upstream.head()
    going_on = begun(site)
    sending = gevent.spawn(sends, visitor, body)
    wait_until(lambda: going_on._carrier.backlog, what="the upstream is behind")
    stand_still(site, TICK)
    sending.kill()
    end(visitor.sock, "RST")
    wait_until(lambda: not site.server.joins)
    assert upstream.was_reset()


def test_a_whole_upload_that_nobody_read_may_be_ended_before_its_answer(site: Site) -> None:
    """The upstream has stopped reading, and has its say after the visitor's last byte."""
    body = b"x" * 5_000_000
    visitor, upstream = site.join(request(HOST, method="POST", fields=f"Content-Length: {len(body)}\r\n"))
    upstream.head()
    going_on = begun(site)
    going_on.write_failed(going_on._carrier)
    visitor.send(body)
    visitor.sock.shutdown(1)
    wait_until(lambda: has_ended(going_on))
    upstream.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
    assert visitor.message().status == 413


# With both programs.


@contextmanager
def real_tunnel(site: Site, answer: bytes) -> Iterator[list[Stream]]:
    """Let a client of ours serve "real" with an upstream that sends ``answer`` and stays open."""
    seen: list[Stream] = []

    def serve(sock: object) -> None:
        stream = Stream(sock)
        stream.head()
        seen.append(stream)
        stream.send(answer)
        stream.was_reset()

    with running_upstream(serve) as port, running_client(site.address, port, name="real"):
        yield seen


def test_the_upstream_behind_our_client_learns_that_its_visitor_has_gone(site: Site) -> None:
    with real_tunnel(site, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun") as seen:
        visitor = site.visit(request("real.localhost"))
        visitor.head()
        end(visitor.sock, "RST")
        wait_until(lambda: seen and seen[0].sock.closed, what="the upstream's connection has ended")
