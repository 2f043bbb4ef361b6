"""Versions side by side: a 0.2 client with our server, our client with a 0.2 server, and both of them at 0.3."""

from contextlib import contextmanager

import gevent
import pytest
from gevent import socket
from harness import (
    HEADER_0_2,
    LOOPBACK,
    RawClient,
    RawServer,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    is_reset,
    parse_response,
    read_exactly,
    read_head,
    read_message,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.v3 import HEADER_0_3, RawBackend, proxy_request

from localtunnel.client.events import ServerNotice, TunnelOpened
from localtunnel.errors import NameUnavailable

pytestmark = pytest.mark.usefixtures("no_leaks")

ECHO = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def upstream(sock):
    """Answer GET with ``hello``, POST with its body, an Upgrade with an echo, and a half-closed stream at its end."""
    data = read_head(sock)
    head, _, rest = data.partition(b"\r\n\r\n")
    if b"Upgrade: websocket" in head:
        sock.sendall(ECHO + rest)
        while piece := sock.recv(65536):
            sock.sendall(piece)
        return
    if head.startswith(b"POST"):
        body = rest + read_exactly(sock, length_of(head) - len(rest))
    elif b"X-Until-Eof" in head:
        body = rest + read_to_end(sock)
    else:
        body = b"hello"
    sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def length_of(head):
    field = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return int(field.partition(b":")[2])


class OldClient(RawClient):
    """Serves visitors as the client of 2013 does: it dials on the assignment, and closes both when either has ended."""

    def __init__(self, address, target, size=4):
        super().__init__(address, "demo", "ann@old;Linux")
        self._target = (LOOPBACK, target)
        self._greenlets = gevent.pool.Group()
        self.beat()
        for _ in range(size):
            self._open()

    def _open(self):
        self._greenlets.spawn(self._serve, self.park())

    def _serve(self, proxy):
        proxy.settimeout(None)
        try:
            if read_message(proxy) != {"proxy": True}:
                return
            self._open()
            with connect(self._target) as local:
                pumps = [gevent.spawn(pump, proxy, local), gevent.spawn(pump, local, proxy)]
                gevent.joinall(pumps, count=1)
                gevent.killall(pumps)
        except (AssertionError, OSError):
            pass
        finally:
            proxy.close()

    def close(self):
        self._greenlets.kill()
        super().close()


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        return


@contextmanager
def old_client(server, target):
    with OldClient(backend(server), target) as client:
        yield client


@contextmanager
def our_client(server, target):
    with running_client(frontend(server), target, name="demo", legacy=True) as client:
        yield client


PAIRS = {
    "0.2 client, our server": (old_client, {}),
    "our client, 0.2 server": (our_client, {"legacy": "only"}),
    "both 0.3": (our_client, {}),
}


@pytest.fixture(params=["http", "join"])
def edge(request):
    """The server's mode."""
    return request.param


in_join_mode = pytest.mark.parametrize("edge", ["join"], indirect=True)


@pytest.fixture(params=PAIRS)
def pair(request, edge):
    """Return how to open a tunnel ``demo``: ``with pair(target) as (server, client)``."""
    runs_client, settings = PAIRS[request.param]

    @contextmanager
    def opened(target):
        with running_server(edge=edge, **settings) as server, runs_client(server, target) as client:
            yield server, client

    opened.name = request.param
    return opened


@pytest.fixture
def web():
    with running_upstream(upstream) as port:
        yield port


def test_the_pair_speaks_the_version_that_it_should(pair, web):
    with pair(web) as (server, client):
        (tunnel,) = server.registry.tunnels()
        assert tunnel.version.header == (HEADER_0_3 if pair.name == "both 0.3" else HEADER_0_2)
        if pair.name == "our client, 0.2 server":
            assert ["falling back to LTP/0.2" in notice.text for notice in client.seen(ServerNotice)] == [True]


def test_get(pair, web):
    with pair(web) as (server, _):
        answers = [gevent.spawn(fetch, frontend(server), request("demo.localhost")) for _ in range(20)]
        assert {(answer.get().status, answer.get().body) for answer in answers} == {(200, b"hello")}


def test_upload(pair, web):
    body = bytes(range(256)) * 4096
    with pair(web) as (server, _):
        response = fetch(frontend(server), request("demo.localhost", method="POST", body=body))
    assert (response.status, response.body == body) == (200, True)


@in_join_mode
def test_half_close(pair, web, monkeypatch):
    """The visitor ends its direction. Towards 0.2 that is held back for a while, for a client of 2013 closes both."""
    monkeypatch.setattr("localtunnel.net.flow.relay.HELD_EOF_IDLE", 0.3)
    with pair(web) as (server, _), connect(frontend(server)) as visitor:
        visitor.sendall(request("demo.localhost", fields="X-Until-Eof: yes\r\n") + b"body")
        visitor.shutdown(socket.SHUT_WR)
        response = parse_response(read_to_end(visitor))
    if pair.name == "0.2 client, our server":
        assert (response.status, response.fields["x-localtunnel-error"]) == (502, "upstream_closed")
    else:
        assert (response.status, response.body) == (200, b"body")


def test_half_close_after_a_whole_request(pair, web):
    with pair(web) as (server, _), connect(frontend(server)) as visitor:
        visitor.sendall(request("demo.localhost", fields="Connection: close\r\n"))
        visitor.shutdown(socket.SHUT_WR)
        assert read_to_end(visitor).endswith(b"hello")


def test_an_upgraded_connection_echoes_both_ways(pair, web):
    with pair(web) as (server, _), connect(frontend(server)) as visitor:
        visitor.sendall(request("demo.localhost", fields="Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        assert read_exactly(visitor, len(ECHO)) == ECHO
        for number in range(50):
            visitor.sendall(b"%05d" % number)
            assert read_exactly(visitor, 5) == b"%05d" % number


def test_upstream_down(pair):
    with pair(unused_port()) as (server, _):
        response = fetch(frontend(server), request("demo.localhost"))
    # A client of 2013 has no word for it and closes; ours answers itself in 0.2, and tells the server in 0.3.
    code = "upstream_closed" if pair.name == "0.2 client, our server" else "upstream_refused"
    assert response.status == 502
    assert code.encode() in response.body


def test_client_gone(pair, web):
    with pair(web) as (server, client):
        assert fetch(frontend(server), request("demo.localhost")).status == 200
        client.stop() if hasattr(client, "stop") else client.close()
        wait_until(lambda: not len(server.registry), what="the name is free")
        assert fetch(frontend(server), request("demo.localhost")).status == 404


def meeting(raw, **settings):
    """Run a client of ours at a server by hand, which it has not reached yet."""
    timeouts = {"retry_first": 0.01, "retry_longest": 0.01}
    settings = {"name": "demo", "backend": raw.port, "insecure": True, "timeouts": timeouts, **settings}
    return running_client((LOOPBACK, 9), unused_port(), opened=False, **settings)


def test_a_server_that_closes_without_a_reply_is_met_at_0_2():
    """As the server of 2013 does on a header that it does not know."""
    with RawServer() as raw, meeting(raw) as client:
        first = raw.accept_silently()
        assert read_exactly(first, len(HEADER_0_3)) == HEADER_0_3
        read_message(first)
        first.close()
        control, message = raw.accept()
        assert set(message["control"]) == {"name", "client"}
        control.sendall(frame({"control": {"host": "demo.localhost", "concurrency": 1, "banner": "hello"}}))
        client.wait_for(TunnelOpened)
        assert "falling back" in client.wait_for(ServerNotice).text


def test_no_fallback_from_a_server_that_was_met_at_0_3():
    with RawBackend() as raw, meeting(raw) as client:
        raw.open_tunnel().close()
        for _ in range(3):
            raw.accept_control()[0].close()
        assert not client.seen(ServerNotice)


def test_a_proxy_connection_of_the_other_version_is_not_taken():
    with running_server(timeouts={"error_hold": 0.0}) as server, RawClient(backend(server), "old") as old:
        old.beat()
        with connect(backend(server)) as sock:
            sock.sendall(proxy_request("old", "00" * 16))
            assert read_message(sock)["error"] == "unavailable"
            assert read_to_end(sock) == b"" or is_reset(sock)


def test_a_name_that_is_taken_at_an_old_server_is_said_to_be_taken():
    """The client goes back to LTP/0.3 once, for its own ghost might hold the name, and then gives up."""
    with RawServer() as raw, meeting(raw) as client:
        for _ in range(2):
            first = raw.accept_silently()
            assert read_exactly(first, len(HEADER_0_3)) == HEADER_0_3
            read_message(first)
            first.close()
            control, _ = raw.accept()
            control.sendall(frame({"error": "unavailable", "message": "Taken."}))
            control.close()
        assert isinstance(client.ended(), NameUnavailable)
