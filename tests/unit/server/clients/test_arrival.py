"""localtunnel.server.clients.arrival: connections that have not said what they are, in
the clear or over TLS, and in time.
"""

import resource
import socket
import ssl
import time
from contextlib import contextmanager

import gevent
import pytest
from harness import (
    HEADER_0_2,
    LOOPBACK,
    RawClient,
    answer_hello,
    assert_error_and_close,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    is_reset,
    read_exactly,
    read_message,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.tls import careless_context, tls_connect
from harness.v3 import Peer, control_request, got, park, proxy_request, ready

from localtunnel.net import closing
from localtunnel.protocol.wire.stream import END, chunked

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = {"handshake": 0.3, "preamble": 0.3, "error_hold": 0.0}

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a handshake begins."""


def closed_after(sock):
    """Return how many seconds it took until the server closed ``sock``."""
    began = time.monotonic()
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("start", [b"\x16", HELLO[:5], HELLO])
def test_a_handshake_that_stalls_is_closed_in_time(start):
    with running_server(timeouts=QUICK) as server, connect(backend(server)) as sock:
        sock.sendall(start)
        assert 0.2 < closed_after(sock) < 2.0
        wait_until(lambda: not server.stats().arriving)


def test_a_peer_that_resets_once_its_handshake_has_begun_leaves_nothing():
    """OpenSSL is asked for a handshake on a connection that has failed, and still has bytes to read."""
    with running_server() as server:
        for _ in range(3):
            sock = connect(backend(server))
            sock.sendall(HELLO)
            closing.reset(sock)
        with tls_connect(backend(server)):
            wait_until(lambda: server.stats().arriving == 1)


def test_a_byte_now_and_then_buys_no_time():
    with running_server(timeouts=QUICK) as server, connect(backend(server)) as sock:

        def drip():
            for byte in HELLO + bytes(100):
                sock.sendall(bytes([byte]))
                gevent.sleep(0.05)

        dripping = gevent.spawn(drip)
        assert closed_after(sock) < 2.0
        dripping.kill()


def test_tls_without_a_message_is_answered_in_time():
    with running_server(timeouts=QUICK) as server, tls_connect(backend(server)) as sock:
        assert_error_and_close(sock, "exception")


def test_a_client_hello_may_come_byte_by_byte_and_the_request_with_the_last_of_the_handshake():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with running_server() as server, connect(backend(server)) as sock:
        client = careless_context().wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        for byte in outgoing.read():
            sock.sendall(bytes([byte]))
            gevent.sleep(0)
        while True:
            incoming.write(sock.recv(65536))
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        client.write(control_request("demo"))
        sock.sendall(outgoing.read())
        wait_until(lambda: server.registry.find("demo"), what="the tunnel is open")


def test_http_on_the_backend_is_told_where_to_go_in_the_clear_and_over_tls():
    with running_server() as server:
        for make in (connect, tls_connect):
            with make(backend(server)) as sock:
                sock.sendall(request("localhost"))
                assert read_to_end(sock).startswith(b"HTTP/1.1 400 ")


def test_ltp_0_2_is_not_spoken_over_tls():
    with running_server(timeouts=QUICK) as server, tls_connect(backend(server)) as sock:
        sock.sendall(HEADER_0_2 + frame({"control": {"name": "demo", "client": "me"}}))
        assert_error_and_close(sock, "version")


def test_a_server_of_0_2_only_knows_no_tls():
    with running_server(legacy="only") as server, connect(backend(server)) as sock:
        sock.sendall(HELLO)
        assert closed_after(sock) < 2.0


@pytest.mark.parametrize(("opened", "parked"), [(tls_connect, connect), (connect, tls_connect)], ids=["plain", "tls"])
def test_a_proxy_connection_is_made_as_its_control_connection_was(opened, parked):
    """Whoever has learnt a session cannot use it on a connection that everybody can read."""
    with running_server(timeouts=QUICK) as server, Peer(backend(server), connect=opened) as peer:
        with parked(backend(server)) as sock:
            sock.sendall(proxy_request("demo", peer.session))
            assert_error_and_close(sock, "unavailable")
        park(server, peer)


@contextmanager
def tcp_visitor():
    """Yield a server, a proxy connection over TLS that is assigned to a visitor of a TCP tunnel, and that visitor."""
    port = unused_port()
    with (
        running_server(tcp_ports=f"{port}-{port}") as server,
        Peer(backend(server), connect=tls_connect, kind="tcp") as peer,
    ):
        (proxy,) = park(server, peer)
        with connect((LOOPBACK, port)) as visitor:
            number = read_message(proxy)["proxy"]["id"]
            proxy.sendall(got(number) + ready(number))
            yield proxy, visitor


def test_a_stream_over_tls_is_in_chunks_from_its_first_byte_to_its_mark():
    with tcp_visitor() as (proxy, visitor):
        visitor.sendall(b"question")
        assert read_exactly(proxy, 12) == chunked(b"question")
        proxy.sendall(chunked(b"ans") + chunked(b"wer") + END)
        assert read_to_end(visitor) == b"answer"
        visitor.sendall(b"more")
        assert read_exactly(proxy, 8) == chunked(b"more")
        visitor.shutdown(socket.SHUT_WR)
        assert read_exactly(proxy, 4) == END
        assert read_to_end(proxy) == b""


def test_the_first_bytes_of_a_visitor_are_in_chunks_as_well():
    with running_server() as server, Peer(backend(server), connect=tls_connect) as peer:
        (proxy,) = park(server, peer)
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("demo.localhost"))
            assert "id" in read_message(proxy)["proxy"]
            size = int.from_bytes(read_exactly(proxy, 4), "big")
            head = read_exactly(proxy, size)
            assert head.startswith(b"GET / HTTP/1.1\r\n")
            assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("stream", [END + b"x", chunked(b"all of it") + END + END])
def test_a_stream_that_goes_on_behind_its_mark_is_cut(stream):
    with tcp_visitor() as (proxy, visitor):
        proxy.sendall(stream)
        assert is_reset(visitor)


def test_what_a_parked_connection_sends_over_tls_kills_it():
    with running_server() as server, Peer(backend(server), connect=tls_connect) as peer:
        (proxy,) = park(server, peer)
        proxy.sendall(b"?")
        wait_until(lambda: closed_after(proxy) < 1.0)


HALF_OPEN = 2000

LIFE = 6.0
"""Seconds that a handshake may take: half of them must still be there when the last one comes, on a machine
that does other things as well."""


def test_beyond_what_one_address_may_the_next_takes_the_place_of_the_oldest():
    with running_server(quotas={"strangers_per_address": 20}) as server:
        socks = [half_open(server, number) for number in range(25)]
        assert max(closed_after(sock) for sock in socks[:5]) < 1.0
        assert server.stats().arriving == 20
        for sock in socks:
            sock.close()


def test_two_thousand_half_open_handshakes_delay_nobody_and_are_closed_in_time():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * HALF_OPEN:
        pytest.skip(f"needs {3 * HALF_OPEN} descriptors, and this machine allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with (
            running_server(timeouts={"handshake": LIFE}, quotas={"strangers_per_address": 0}) as server,
            running_upstream(answer_hello) as port,
            running_client(frontend(server), port, name="demo"),
        ):
            before = best_of(server)
            socks = [half_open(server, number) for number in range(HALF_OPEN)]
            began = time.monotonic()
            assert server.stats().arriving > HALF_OPEN * 0.5
            during = best_of(server)
            with RawClient(backend(server), "other") as other:
                assert "control" in other.reply
            took = max(closed_after(sock) for sock in socks)
            assert time.monotonic() - began < LIFE + 6.0
            assert took < LIFE + 6.0
            for sock in socks:
                sock.close()
            assert during < before + 0.25
            wait_until(lambda: not server.stats().arriving)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def half_open(server, number):
    sock = connect(backend(server))
    sock.sendall((b"\x16", HELLO, HELLO[:5])[number % 3])
    return sock


def best_of(server, tries=5):
    """Return how many seconds a visitor takes at best."""
    times = []
    for _ in range(tries):
        began = time.monotonic()
        assert fetch(frontend(server), request("demo.localhost")).body == b"hello"
        times.append(time.monotonic() - began)
    return min(times)
