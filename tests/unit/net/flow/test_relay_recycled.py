"""localtunnel.net.flow.relay: connections that are given back, and what of a stream has reached the upstream."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import CAP, at_most, pair, read_exactly, read_to_end, wait_until
from harness.sockets import wait_until_arrived
from harness.state import server_key
from harness.tls import tls_pair

from localtunnel.client.visits.requests import RequestLog, RequestTap
from localtunnel.net import closing
from localtunnel.net.flow import relay as relay_module
from localtunnel.net.flow.ends import End, SocketEnd
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.metered import Allowance, MeteredEnd
from localtunnel.net.flow.relay import Relay
from localtunnel.net.flow.tapped import TappedRelay
from localtunnel.net.tls import context as tls
from localtunnel.net.tls.stream_end import TlsEnd, begin_stream, stream_end
from localtunnel.protocol.wire.stream import END, Unchunker, chunked

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> tls.ServerContext:
    path = Path(tmp_path_factory.mktemp("own")) / "tls.pem"
    path.write_bytes(server_key())
    return tls.server_context(path, path)


class Far:
    """The peer of a TLS connection, by hand: what it heard of the stream, and whether that has ended."""

    def __init__(self, sock: tls.TlsSocket) -> None:
        self.sock = sock
        self.heard = b""
        self._stream = Unchunker()
        self._stream.goes_on = True

    def send(self, data: bytes) -> None:
        self.sock.send(chunked(data))

    def end(self) -> None:
        self.sock.send(END)

    @property
    def has_end(self) -> bool:
        """Whether the mark has come; reads all that has."""
        with contextlib.suppress(BlockingIOError):
            while not self._stream.ended:
                data = self.sock.recv(65536)
                assert data, "the connection ended without a mark"
                self.heard += self._stream.feed(data)
        return self._stream.ended

    @property
    def rest(self) -> bytes:
        """What has come behind the mark, with it or later."""
        with contextlib.suppress(BlockingIOError):
            self._stream.rest += self.sock.recv(65536)
        return self._stream.rest

    def hears(self, data: bytes) -> None:
        """Wait for ``data``."""
        wait_until(lambda: self.has_end or len(self.heard) >= len(data), what="the bytes")
        assert self.heard == data
        self.heard = b""

    def hears_the_end(self) -> None:
        """Wait for the mark, before which nothing else may come."""
        wait_until(lambda: self.has_end, what="the mark")
        assert self.heard == b""


class Joined:
    """A relay between a TLS connection, whose peer is ``far``, and a plain one, whose peer is ``near``.

    ``client`` is how a client binds them, with a server that reads HTTP; otherwise the plain end is ``a``, as at the
    server. ``given`` has what was given back, and ``delivered`` what the relay then said of it.
    """

    def __init__(
        self,
        context: tls.ServerContext,
        *,
        client: bool = True,
        http: bool = False,
        goes_on: bool = True,
        limit: Callable[[End], End] = lambda end: end,
        half_closed: HalfClosed | None = None,
    ) -> None:
        self.sock, far = tls_pair(context)
        self.far = Far(far)
        plain, self.near = pair()
        self.given: list[End] = []
        self.delivered: int | None = None
        self.reasons: list[str] = []
        self.log = RequestLog(lambda _: None)
        tap = RequestTap(self.log, 1, None, real_ip=False) if http else None
        stream, _ = begin_stream(self.sock, b"")
        ends = [limit(stream_end(SocketEnd(self.sock, "tls"), stream, goes_on=goes_on)), SocketEnd(plain, "plain")]
        back = self._given_back
        self.relay: Relay
        if client:
            self.relay = TappedRelay(
                *ends, self.reasons.append, tap=tap, half_closed=half_closed, give_back=back, ends_when_answered=http
            )
        else:
            self.relay = Relay(*reversed(ends), self.reasons.append, half_closed=half_closed, give_back=back)
        self.relay.start()

    def _given_back(self, end: End) -> None:
        self.given.append(end)
        if isinstance(self.relay, TappedRelay):
            self.delivered = self.relay.delivered

    def ended(self) -> str:
        """Wait for the end, and return its reason."""
        wait_until(lambda: self.reasons, what="the end of the relay")
        assert self.relay.ended
        return self.reasons[0]

    def came_back(self) -> TlsEnd:
        """Wait for the end, after which the connection must have been given back, as the last thing before that."""
        assert self.ended() == "closed"
        (end,) = self.given
        tls_end = end.unlimited()
        assert isinstance(tls_end, TlsEnd)
        assert tls_end.sock is self.sock
        assert not tls_end.watcher.active
        return tls_end

    def did_not(self) -> None:
        """Hold the connection to being closed."""
        assert self.given == []
        wait_until(lambda: self.sock.fileno() < 0, what="it is closed")

    def close(self) -> None:
        self.relay.abort("over")
        for end in self.given:
            end.unlimited().reset()
        self.far.sock.close()
        self.near.close()
        self.log.close()


@pytest.fixture
def join(context: tls.ServerContext) -> Iterator[Callable[..., Joined]]:
    made: list[Joined] = []

    def build(**settings: Any) -> Joined:
        made.append(Joined(context, **settings))
        return made[-1]

    yield build
    for each in made:
        each.close()


def both_end(joined: Joined, first: str) -> None:
    """Send something in both directions, and end them one after the other."""
    joined.far.send(b"question")
    assert read_exactly(joined.near, 8) == b"question"
    joined.near.sendall(b"answer")
    joined.far.hears(b"answer")
    if first == "far":
        joined.far.end()
        assert read_to_end(joined.near) == b""
        joined.near.close()
    else:
        joined.near.shutdown(socket.SHUT_WR)
        joined.far.hears_the_end()
        joined.far.end()
        assert read_to_end(joined.near) == b""


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("first", ["near", "far"])
def test_a_connection_comes_back_when_both_directions_have_ended(join, client, first):
    joined = join(client=client)
    both_end(joined, first)
    end = joined.came_back()
    assert end.written == len(b"answer")
    # The mark is sent once, and what follows it is the next thing on the connection.
    assert end.part(b"next")
    wait_until_arrived(joined.sock)
    joined.far.hears_the_end()
    assert joined.far.rest == b"next"
    if client:
        assert joined.delivered == len(b"question")


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_one_that_is_limited_comes_back_without_the_limit(join, client):
    joined = join(client=client, limit=lambda end: MeteredEnd(end, Allowance(1_000_000)))
    both_end(joined, "near")
    assert isinstance(joined.given[0], MeteredEnd)
    assert joined.given[0].written == len(b"answer")
    assert joined.given[0].goes_on
    joined.came_back()


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_one_whose_peer_has_not_agreed_is_closed(join, client):
    joined = join(client=client, goes_on=False)
    both_end(joined, "far")
    assert joined.ended() == "closed"
    joined.did_not()


def abort(joined: Joined) -> None:
    joined.relay.abort("stopped")


def reset_near(joined: Joined) -> None:
    closing.reset(joined.near)


def reset_far(joined: Joined) -> None:
    closing.reset(joined.far.sock)


def end_without_a_mark(joined: Joined) -> None:
    joined.far.sock.close()


def go_on_behind_the_mark(joined: Joined) -> None:
    joined.far.sock.send(END + b"x")


def reset_one_way(joined: Joined) -> None:
    joined.far.end()
    assert read_to_end(joined.near) == b""
    closing.reset(joined.near)


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize(
    "how",
    [abort, reset_near, reset_far, end_without_a_mark, go_on_behind_the_mark, reset_one_way],
    ids=lambda f: f.__name__,
)
def test_one_whose_stream_was_cut_is_closed(join, client, how):
    joined = join(client=client)
    joined.far.send(b"question")
    assert read_exactly(joined.near, 8) == b"question"
    how(joined)
    assert joined.ended() != "closed"
    joined.did_not()


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("first", ["near", "far"])
def test_one_that_is_half_closed_for_too_long_is_closed(join, client, first):
    half_closed = HalfClosed(0.1)
    joined = join(client=client, half_closed=half_closed)
    if first == "near":
        joined.near.shutdown(socket.SHUT_WR)
    else:
        joined.far.end()
    assert joined.ended().endswith("silent")
    joined.did_not()
    half_closed.close()


def test_one_whose_upstream_takes_no_more_is_closed(join, monkeypatch):
    monkeypatch.setattr(closing, "IDLE", 0.05)
    joined = join()
    joined.near.sendall(b"early")
    joined.far.hears(b"early")
    joined.near.close()
    joined.far.hears_the_end()
    # The upstream has closed, so that one of these fails.
    wait_until(lambda: joined.relay._a.discarding or joined.far.send(b"x"), what="a write that fails")
    joined.ended()
    joined.did_not()


def test_one_whose_visitor_takes_no_more_is_closed(join, monkeypatch):
    monkeypatch.setattr(relay_module, "ABANDONED", 0.05)
    joined = join(client=False)
    joined.near.sendall(b"question")
    joined.far.hears(b"question")
    joined.near.close()
    joined.far.hears_the_end()
    wait_until(lambda: joined.relay._b.discarding or joined.far.send(b"x"), what="a write that fails")
    joined.ended()
    joined.did_not()


# A server that reads HTTP ends its direction behind a whole answer.


def exchange(joined: Joined, asked: bytes = GET, answered: bytes = OK) -> None:
    """Have one exchange on the connection."""
    joined.far.send(asked)
    assert read_exactly(joined.near, len(asked)) == asked
    joined.near.sendall(answered)
    joined.far.hears(answered)


def test_the_upstream_is_closed_at_once_when_it_has_answered(join):
    joined = join(http=True)
    exchange(joined)
    exchange(joined, POST)
    joined.far.end()
    # It has not ended its own direction.
    joined.came_back()
    assert read_to_end(joined.near) == b""
    assert joined.delivered == len(GET + POST)
    wait_until(lambda: is_gone(joined.near), what="the upstream's connection is closed")


def is_gone(sock: Any) -> bool:
    """Whether the peer has closed and not only ended its direction: it then answers bytes with a reset."""
    try:
        sock.send(b"x")
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(GET, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), (WEBSOCKET, SWITCHED), (GET, b"no HTTP\r\n\r\n")],
    ids=["an answer is owed", "another protocol", "lost"],
)
def test_otherwise_it_may_go_on(join, asked, answered):
    joined = join(http=True)
    exchange(joined, asked, answered)
    joined.far.end()
    assert read_to_end(joined.near) == b""
    joined.near.sendall(b"more")
    joined.far.hears(b"more")
    assert joined.reasons == []
    joined.near.close()
    joined.came_back()
    assert joined.delivered == len(asked)


def test_a_request_that_has_begun_is_owed_an_answer(join):
    joined = join(http=True)
    exchange(joined)
    joined.far.send(GET[:20])
    assert read_exactly(joined.near, 20) == GET[:20]
    # Servers refuse a head that comes too slowly, or is too large, before they have all of it.
    joined.near.sendall(TIMEOUT)
    joined.far.hears(TIMEOUT)


# What was delivered.


def test_a_request_behind_the_upstreams_end_is_not_delivered(join):
    joined = join(http=True)
    exchange(joined)
    joined.near.close()
    joined.far.hears_the_end()
    # The server has sent it before it knew.
    joined.far.send(POST)
    joined.far.end()
    joined.came_back()
    assert joined.delivered == len(GET)


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize("reads", ["server", "upstream"])
def test_nor_is_one_that_arrives_together_with_that(join, end, reads):
    joined = join(http=True)
    exchange(joined)
    # Neither is looked at before both are there; which one comes first is the kernel's business.
    sides = [joined.relay._a, joined.relay._b] if reads == "server" else [joined.relay._b, joined.relay._a]
    joined.far.send(POST)
    closing.reset(joined.near) if end == "RST" else joined.near.close()
    wait_until_there(joined.relay._a.end, joined.relay._b.end)
    for side in sides:
        if side.reading:
            side._ready()
    joined.far.hears_the_end()
    joined.far.end()
    joined.came_back()
    assert joined.delivered == len(GET)


def wait_until_there(*ends: End) -> None:
    """Wait for something to read at all of these, without giving the hub a turn."""
    with at_most(CAP):
        for end in ends:
            while end.is_quiet:
                pass


def test_a_request_before_the_upstreams_end_is_delivered(join):
    joined = join(http=True)
    exchange(joined)
    joined.far.send(POST)
    assert read_exactly(joined.near, len(POST)) == POST
    joined.near.close()
    joined.far.hears_the_end()
    joined.far.end()
    joined.came_back()
    assert joined.delivered == len(GET + POST)


def test_a_part_of_a_request_counts_as_well(join):
    joined = join(http=True)
    exchange(joined)
    joined.far.send(POST[:10])
    assert read_exactly(joined.near, 10) == POST[:10]
    joined.near.close()
    joined.far.hears_the_end()
    joined.far.send(POST[10:])
    joined.far.end()
    joined.ended()
    # If a write has failed, nothing is said of it at all.
    assert joined.delivered is None or joined.delivered > len(GET)


def test_a_first_request_is_given_to_the_upstream_in_any_case(join):
    """The upstream was dialled for it, and its error is the visitor's."""
    joined = join(http=True)
    joined.near.shutdown(socket.SHUT_WR)
    joined.far.hears_the_end()


@pytest.mark.parametrize("reads", ["server", "upstream"])
def test_what_an_idle_upstream_says_is_no_answer(join, reads):
    joined = join(http=True)
    exchange(joined)
    sides = [joined.relay._a, joined.relay._b] if reads == "server" else [joined.relay._b, joined.relay._a]
    joined.far.send(POST)
    joined.near.sendall(TIMEOUT)
    wait_until_there(joined.relay._a.end, joined.relay._b.end)
    for side in sides:
        if side.reading:
            side._ready()
    joined.far.hears_the_end()
    joined.far.end()
    joined.came_back()
    assert joined.delivered == len(GET)
    # The upstream has read nothing of the request.
    with contextlib.suppress(ConnectionResetError):
        assert read_to_end(joined.near) == b""


def test_what_it_says_while_nobody_asks_is_not_passed_on(join):
    joined = join(http=True)
    exchange(joined)
    joined.near.sendall(TIMEOUT)
    joined.far.hears_the_end()
    joined.far.send(POST)
    joined.far.end()
    joined.came_back()
    assert joined.delivered == len(GET)


def test_a_reset_while_nobody_asks_costs_nothing_but_the_upstream(join):
    joined = join(http=True)
    exchange(joined)
    closing.reset(joined.near)
    joined.far.hears_the_end()
    joined.far.send(POST)
    joined.far.end()
    joined.came_back()
    assert joined.delivered == len(GET)


def test_a_server_that_does_not_end_either_is_waited_for_a_while(join, monkeypatch):
    monkeypatch.setattr(closing, "IDLE", 0.05)
    joined = join(http=True)
    exchange(joined)
    joined.near.close()
    joined.far.hears_the_end()
    assert joined.ended() == "plain closed early"
    joined.did_not()


def test_in_another_mode_the_bytes_of_the_upstream_are_nobodys_business(join):
    joined = join(http=False)
    exchange(joined)
    joined.near.sendall(TIMEOUT)
    joined.far.hears(TIMEOUT)
    joined.near.shutdown(socket.SHUT_WR)
    joined.far.hears_the_end()
    joined.far.send(POST)
    assert read_exactly(joined.near, len(POST)) == POST
