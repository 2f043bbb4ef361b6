"""localtunnel.client.sessions.proxies over TLS: connections that come back, and dials that they save."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
import pytest
from harness import LOOPBACK, frame, is_reset, read_message, wait_until
from harness.relays import Bound
from harness.state import server_key
from harness.v3 import SESSION, RawBackend, assignment

from localtunnel.client.sessions import proxies as proxies_module
from localtunnel.client.sessions.proxies import Proxies
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, dial
from localtunnel.net.flow.ends import SocketEnd
from localtunnel.net.tls.context import client_context
from localtunnel.net.tls.handshake import shake_hands, wrap
from localtunnel.net.tls.stream_end import TlsEnd, begin_stream, stream_end
from localtunnel.protocol.messages import ProxyRequest
from localtunnel.protocol.version import LTP_0_3
from localtunnel.protocol.wire.stream import END, chunked

pytestmark = pytest.mark.usefixtures("no_leaks")


class Backend(RawBackend):
    """A backend by hand over TLS."""

    def __init__(self, key: Path) -> None:
        super().__init__()
        self._context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(key)

    def accept_silently(self) -> Any:
        """Return the next connection, of which nothing but the handshake has been read."""
        plain = super().accept_silently()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = self._context.wrap_socket(plain, server_side=True)
        self.sockets.append(sock)
        return sock


class Bench:
    """A pool of ``size`` at a backend by hand. ``taken`` has the ends of the streams of what was assigned."""

    def __init__(self, key: Path, size: int) -> None:
        self.server = Backend(key)
        self.dials = 0
        self.taken: list[TlsEnd] = []
        self.given = 0
        self._context = client_context(roots=False)
        self.pool = Proxies(
            Address(socket.AF_INET, (LOOPBACK, self.server.port)),
            LTP_0_3,
            ProxyRequest("foo", session=SESSION),
            size,
            5.0,
            self._take,
            lambda _: None,
            self._dial,
        )
        self.pool.fill()
        self.parked = [self.server.accept_proxy() for _ in range(size)]
        wait_until(lambda: not any(proxy._dialling for proxy in self.pool._open), what="all are parked")

    def _dial(self, addresses: list[Address], deadline: Deadline) -> Any:
        self.dials += 1
        sock, address = dial(addresses, deadline)
        made = wrap(sock, self._context, host="localhost")
        shake_hands(made, deadline)
        return made, address

    def _take(self, sock: Any, _: object, first: bytes) -> None:
        stream, rest = begin_stream(sock, first)
        assert rest == b""
        end = stream_end(SocketEnd(sock, "server"), stream, goes_on=True)
        assert isinstance(end, TlsEnd)
        self.taken.append(end)

    def assign(self, proxy: Any) -> TlsEnd:
        """Assign ``proxy``, and return the end that the client's visit has then."""
        before = len(self.taken)
        proxy.sendall(assignment(1))
        wait_until(lambda: len(self.taken) > before, what="the assignment")
        return self.taken[before]

    def end_stream(self, end: TlsEnd, proxy: Any, data: bytes = b"") -> None:
        """End the server's direction with ``data`` in the same record, and have the client read the end."""
        proxy.sendall(END + data)
        buffer = bytearray(1 << 16)
        with gevent.Timeout(10):
            while True:
                try:
                    assert end.try_read(buffer) == 0
                    return
                except BlockingIOError:
                    gevent.sleep(0.001)

    def visit(self, proxy: Any, delivered: int = 0) -> None:
        """Have a visit on ``proxy`` that gives it back."""
        end = self.assign(proxy)
        self.end_stream(end, proxy)
        self.pool.take_back(end, delivered)

    def again(self, proxy: Any) -> Any:
        """Read the client's end mark, and return the message that follows it."""
        assert proxy.recv(4) == END
        return read_message(proxy)

    def close(self) -> None:
        self.pool.close()
        self.server.close()
        for end in self.taken:
            with contextlib.suppress(Exception):
                end.watcher.close()
            closing.close(end.sock)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int], Bench]]:
    key = tmp_path / "tls.pem"
    key.write_bytes(server_key())
    made: list[Bench] = []

    def build(size: int) -> Bench:
        made.append(Bench(key, size))
        return made[-1]

    yield build
    for bench in made:
        bench.close()


def test_one_comes_back_with_the_same_request_and_what_was_delivered(make):
    bench = make(1)
    (proxy,) = bench.parked
    bench.visit(proxy, delivered=1234)
    assert bench.again(proxy) == {"proxy": {"name": "foo", "session": SESSION, "delivered": 1234}}
    # It is parked like any other, and its next stream begins anew.
    end = bench.assign(proxy)
    proxy.sendall(chunked(b"the next visitor"))
    wait_until(lambda: not end.is_quiet, what="the bytes")
    buffer = bytearray(1 << 16)
    assert buffer[: end.try_read(buffer)] == b"the next visitor"
    end.reset()


def test_a_hundred_visits_take_one_connection(make):
    bench = make(1)
    (proxy,) = bench.parked
    for number in range(100):
        bench.visit(proxy, delivered=number)
        assert bench.again(proxy)["proxy"]["delivered"] == number
    # Until the first has come back nobody knows that any will.
    assert bench.dials <= 2


def test_twice_the_size_are_kept_and_no_more(make):
    bench = make(2)
    ends = []
    for proxy in bench.parked:
        ends.append((proxy, bench.assign(proxy)))
    # Nothing has come back yet, so two more were dialled.
    for _ in range(2):
        bench.parked.append(bench.server.accept_proxy())
    for proxy in bench.parked[2:]:
        ends.append((proxy, bench.assign(proxy)))
    for _ in range(2):
        bench.parked.append(bench.server.accept_proxy())
    for proxy, end in ends:
        bench.end_stream(end, proxy)
        bench.pool.take_back(end, 0)
    assert len(bench.pool) == 4
    for proxy, _ in ends[:2]:
        assert "proxy" in bench.again(proxy)
    for proxy, _ in ends[2:]:
        # These end with the mark, as every stream does.
        assert proxy.recv(4) == END
        assert proxy.recv(1) == b""


def test_those_that_have_come_back_stay_unless_the_size_shrinks(make):
    bench = make(2)
    for _ in range(2):
        bench.assign(bench.parked[-1])
        bench.parked.append(bench.server.accept_proxy())
    for end, proxy in zip(list(bench.taken), bench.parked[1:3], strict=True):
        bench.end_stream(end, proxy)
        bench.pool.take_back(end, 0)
    assert len(bench.pool) == 4
    dials = bench.dials
    for size in (3, 3):
        bench.pool.resize(size)
        assert len(bench.pool) == 4
    bench.pool.resize(2)
    assert len(bench.pool) == 2
    assert bench.dials == dials
    assert not any(end.sock.fileno() < 0 for end in bench.taken), "the oldest are closed"


def test_where_the_server_waits_for_the_number_one_comes_back_though_there_are_enough(make):
    """A POST of which the upstream has got nothing would otherwise be refused."""
    bench = make(1)
    ends = []
    for place in range(3):
        ends.append((bench.parked[place], bench.assign(bench.parked[place])))
        bench.parked.append(bench.server.accept_proxy())
    for proxy, end in ends:
        bench.end_stream(end, proxy)
    bench.pool.take_back(ends[0][1], 40)
    assert len(bench.pool) == 2
    bench.pool.take_back(ends[1][1], 40, True)
    bench.pool.take_back(ends[2][1], 40, False)
    assert bench.again(ends[1][0])["proxy"]["delivered"] == 40
    assert ends[2][0].recv(4) == END
    assert ends[2][0].recv(1) == b""


@pytest.mark.parametrize("how", ["drain", "close"])
def test_a_pool_that_is_over_takes_none_back(make, how):
    bench = make(1)
    (proxy,) = bench.parked
    end = bench.assign(proxy)
    bench.end_stream(end, proxy)
    bench.server.accept_proxy()
    getattr(bench.pool, how)()
    bench.pool.take_back(end, 0)
    assert proxy.recv(4) == END
    assert proxy.recv(1) == b""


@pytest.mark.parametrize("behind", [b"\0", END, frame({"proxy": {"id": 2}})], ids=["a byte", "a mark", "an assignment"])
def test_bytes_behind_the_servers_mark_cost_the_connection(make, behind):
    bench = make(1)
    (proxy,) = bench.parked
    end = bench.assign(proxy)
    # Before the client's own mark, the stream itself takes them for a broken one.
    end.shutdown_write()
    bench.end_stream(end, proxy, behind)
    bench.pool.take_back(end, 0)
    with contextlib.suppress(ssl.SSLError):
        is_reset(proxy)
    assert end.sock.fileno() < 0
    bench.server.accept_proxy()


def test_bytes_behind_the_mark_that_come_later_cost_the_parked_connection(make):
    bench = make(1)
    (proxy,) = bench.parked
    bench.visit(proxy)
    bench.again(proxy)
    proxy.sendall(b"\0\0\0\1x")
    wait_until(lambda: bench.taken[0].sock.fileno() < 0, what="it is closed")


def test_an_end_without_marks_is_closed(make):
    bench = make(1)
    bound = Bound()
    bench.pool.take_back(SocketEnd(bound.sock_a, "server"), 0)
    assert bound.a.recv(1) == b""
    for sock in (bound.b, bound.sock_b, bound.a):
        sock.close()
    bound.relay._b.end.watcher.close()
    bound.relay._a.end.watcher.close()


# Dials.


def learn(bench: Bench) -> Any:
    """Have visits until the pool of one knows that connections come back at once; return the one that is parked."""
    (proxy,) = bench.parked
    for number in range(8):
        bench.visit(proxy)
        bench.again(proxy)
        if not number:
            # The one that was dialled before anything had come back. It is the older one from now on.
            bench.server.accept_proxy()
    # Only a size that shrinks closes what has come back.
    bench.pool.resize(2)
    bench.pool.resize(1)
    wait_until(lambda: len(bench.pool) == 1 and bench.pool._timer is None, what="the pool is at rest")
    return proxy


def test_one_that_is_about_to_come_back_is_not_replaced(make, monkeypatch):
    monkeypatch.setattr(proxies_module, "PATIENCE", 60.0)
    bench = make(1)
    proxy = learn(bench)
    dials = bench.dials
    end = bench.assign(proxy)
    assert len(bench.pool) == 0
    bench.pool.fill()
    assert bench.dials == dials
    bench.end_stream(end, proxy)
    bench.pool.take_back(end, 0)
    assert len(bench.pool) == 1
    bench.pool.fill()
    assert bench.dials == dials


def test_one_that_does_not_come_back_in_time_is_replaced(make, monkeypatch):
    monkeypatch.setattr(proxies_module, "PATIENCE", 60.0)
    bench = make(1)
    proxy = learn(bench)
    monkeypatch.setattr(proxies_module, "PATIENCE", 0.05)
    bench.assign(proxy)
    assert len(bench.pool) == 0
    bench.server.accept_proxy()


def test_a_pool_that_is_renewed_waits_for_none(make, monkeypatch):
    monkeypatch.setattr(proxies_module, "PATIENCE", 60.0)
    bench = make(1)
    bench.assign(learn(bench))
    bench.pool.renew()
    bench.server.accept_proxy()


def test_visits_that_last_are_replaced_at_once(make, monkeypatch):
    monkeypatch.setattr(proxies_module, "PATIENCE", 0.0)
    bench = make(1)
    proxy = learn(bench)
    for _ in range(8):
        wait_until(lambda: len(bench.pool) >= 1, what="one is parked")
        bench.assign(proxy)
        proxy = bench.server.accept_proxy()
    monkeypatch.setattr(proxies_module, "PATIENCE", 60.0)
    bench.assign(proxy)
    bench.server.accept_proxy()
