"""How much one visitor may have, on real connections: what is refused, what is told, and who gives way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from gevent import socket
from harness import (
    Address,
    Handler,
    answer_hello,
    backend,
    connect,
    fetch,
    frontend,
    parse_response,
    read_head,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)

from localtunnel import Server

FIRST, SECOND, THIRD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
META = request("localhost", "/meta/version")
CLOSE = "Connection: close\r\n"


def limits(**values: object) -> dict[str, object]:
    """Settings in which nobody is exempt, so that addresses of this machine stand for any."""
    return {"limits": {"exempt": [], **values}}


@contextmanager
def tunnel(server: Server, handler: Handler = answer_hello) -> Iterator[None]:
    """Open "demo" at ``server`` without a look at its frontend, which would count as a visit."""
    host, port = backend(server)
    with (
        running_upstream(handler) as target,
        running_client(frontend(server), target, name="demo", backend=f"{host}:{port}"),
    ):
        yield


def refused(address: Address, source: str) -> tuple[int, str, str | None]:
    """Connect from ``source``, send nothing, and return status, code and Retry-After of what comes."""
    with connect(address, source=source) as sock:
        response = parse_response(read_to_end(sock))
    return response.status, response.fields["x-localtunnel-error"], response.fields.get("retry-after")


def served(sock: socket.socket) -> bool:
    """Say whether a connection that was accepted is served."""
    sock.sendall(META)
    return parse_response(read_to_end(sock)).status == 200


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


both_edges = pytest.mark.parametrize("edge", ["http", "join"])


@both_edges
def test_an_address_has_so_many_connections(edge: str) -> None:
    with running_server(edge=edge, **limits(address_visitors=2)) as server:
        address = frontend(server)
        first, second = connect(address, source=FIRST), connect(address, source=FIRST)
        assert refused(address, FIRST) == (429, "too_many_requests", "1")
        with connect(address, source=SECOND) as other:
            assert served(other)
        assert served(first)
        first.close()
        with connect(address, source=FIRST) as third:
            assert served(third)
        second.close()


@both_edges
def test_an_address_makes_so_many_connections_a_second(edge: str) -> None:
    with running_server(edge=edge, **limits(address_connection_rate=0.4)) as server:
        address = frontend(server)
        for _ in range(2):
            assert fetch(address, META).status == 200
        status, code, retry_after = refused(address, "127.0.0.1")
        assert (status, code) == (429, "too_many_requests")
        assert retry_after in ("1", "2", "3")


@both_edges
def test_of_a_flood_only_a_few_are_told_why(edge: str) -> None:
    with running_server(edge=edge, **limits(address_visitors=1)) as server:
        address = frontend(server)
        with connect(address, source=FIRST):
            answers = 0
            for _ in range(300):
                with connect(address, source=FIRST) as sock:
                    try:
                        answers += b" 429 " in read_to_end(sock)
                    except ConnectionResetError:
                        continue
        assert 90 <= answers < 300


def test_an_address_makes_so_many_requests_a_second() -> None:
    with running_server(**limits(address_request_rate=0.6)) as server, tunnel(server):
        with connect(frontend(server), source=FIRST) as sock:
            for _ in range(3):
                sock.sendall(request("demo.localhost"))
                assert b" 200 " in read_head(sock)
            sock.sendall(request("demo.localhost"))
            response = parse_response(read_to_end(sock))
        assert (response.status, response.fields["x-localtunnel-error"]) == (429, "too_many_requests")
        assert 1 <= int(response.fields["retry-after"]) <= 2
        with connect(frontend(server), source=SECOND) as sock:
            sock.sendall(request("demo.localhost", fields=CLOSE))
            assert parse_response(read_to_end(sock)).status == 200


def test_behind_a_trusted_proxy_requests_count_for_the_visitor_that_it_names() -> None:
    settings = {"trusted_proxies": ["127.0.0.1"], **limits(address_visitors=1, address_request_rate=0.2)}
    with running_server(**settings) as server, tunnel(server):

        def status(visitor: str) -> int:
            fields = f"X-Forwarded-For: {visitor}\r\n{CLOSE}"
            return fetch(frontend(server), request("demo.localhost", fields=fields)).status

        assert [status("203.0.113.1"), status("203.0.113.1"), status("203.0.113.2")] == [200, 429, 200]


def test_a_tunnel_has_its_own_rate_which_holds_back_before_it_refuses() -> None:
    with running_server(limits={"tunnel_request_rate": 2.0}) as server, tunnel(server):
        started = time.monotonic()
        visits = [gevent.spawn(fetch, frontend(server), request("demo.localhost", fields=CLOSE)) for _ in range(20)]
        gevent.joinall(visits, raise_error=True)
        statuses = [visit.value.status for visit in visits]
    # A burst of ten at once, four more within the two seconds for which requests are held back.
    assert statuses.count(429) in (5, 6)
    assert statuses.count(200) + statuses.count(429) == 20
    assert time.monotonic() - started > 1.0


@both_edges
def test_in_a_full_server_an_idle_connection_of_who_holds_most_gives_way(edge: str) -> None:
    with running_server(edge=edge, **limits(visitors=6)) as server:
        address = frontend(server)
        many = [connect(address, source=FIRST) for _ in range(5)]
        few = connect(address, source=SECOND)
        with connect(address, source=THIRD) as newcomer:
            assert served(newcomer)
        wait_until(lambda: is_closed(many[0]), what="the oldest has given way")
        assert served(few)
        for sock in many[1:]:
            assert served(sock)
        for sock in (*many, few):
            sock.close()


@both_edges
def test_a_visitor_who_is_being_served_is_not_cut_for_a_newcomer(edge: str) -> None:
    asked = []
    go_on = gevent.event.Event()

    def slow(sock: socket.socket) -> None:
        asked.append(read_head(sock))
        go_on.wait()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

    with running_server(edge=edge, **limits(visitors=3)) as server, tunnel(server, slow):
        busy = [connect(frontend(server), source=FIRST) for _ in range(3)]
        for sock in busy:
            sock.sendall(request("demo.localhost", fields=CLOSE))
        wait_until(lambda: len(asked) == 3, what="all three are being served")
        assert refused(frontend(server), SECOND) == (503, "server_full", "5")
        go_on.set()
        for sock in busy:
            assert parse_response(read_to_end(sock)).body == b"hello"
            sock.close()
        wait_until(lambda: fetch(frontend(server), META).status == 200, what="there is room again")
