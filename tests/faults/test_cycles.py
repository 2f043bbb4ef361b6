"""Nothing on the path of a connection, a session or a tunnel waits for the cyclic collector, which a server slows down.

In both of the server's modes, in the clear and over TLS, each kind of visit and session is run with the collector off:
what they leave behind is found by one run of it, and must be nothing of ours.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import gevent
import pytest
from gevent import socket
from harness import (
    HEADER_0_2,
    LOOPBACK,
    Address,
    RawClient,
    RunningClient,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    read_head,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.garbage import no_cycles
from harness.tls import tls_connect
from harness.v3 import Peer, failed, got, park, read_message, ready

from localtunnel import Server
from localtunnel.client.events import TunnelOpened

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leaks")]

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


@dataclass
class House:
    """A server, and clients with the tunnels ``demo`` and, to an upstream that is down, ``down``."""

    server: Server
    client: RunningClient
    mode: str
    insecure: bool

    @property
    def frontend(self) -> Address:
        return frontend(self.server)

    def peer(self, name: str = "peer", **fields: object) -> Peer:
        """Return a client by hand, which speaks TLS where the others do."""
        return Peer(backend(self.server), name, connect=connect if self.insecure else tls_connect, **fields)


def answer(sock: socket.socket) -> None:
    """Answer requests until there are no more, in the way that each asks for."""
    while head := read_head(sock):
        if b" /upgrade " in head:
            sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\n{UPGRADE}\r\n".encode())
            while data := sock.recv(65536):
                sock.sendall(data)
            return
        if b" /cut " in head:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return
        if b" /nonsense " in head:
            sock.sendall(b"no HTTP\r\n\r\n")
            return
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        if b"Connection: close" in head:
            return


@pytest.fixture(params=[(mode, link) for mode in ("http", "join") for link in ("plain", "TLS")], ids="-".join)
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    mode, link = request.param
    timeouts = {"error_hold": 0.0, "lease": 0.05, "preamble": 1.0, "handshake": 1.0, "pool_wait": 0.3}
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream(answer))
        server = stack.enter_context(running_server(edge=mode, timeouts=timeouts, tcp_ports=free_ports()))
        settings = {"insecure": link == "plain", "timeouts": {"retry_first": 0.01, "retry_longest": 0.02}}
        client = stack.enter_context(running_client(frontend(server), upstream, name="demo", **settings))
        stack.enter_context(running_client(frontend(server), unused_port(), name="down", **settings))
        yield House(server, client, mode, link == "plain")


def free_ports() -> str:
    port = unused_port()
    return f"{port}-{port}"


# Visits.


def visit(house: House, path: str = "/", host: str = "demo.localhost", **more: object) -> None:
    with suppress(OSError, AssertionError, ValueError):
        fetch(house.frontend, request(host, path, fields="Connection: close\r\n", **more))


def upload(house: House) -> None:
    visit(house, method="POST", body=b"x" * 100_000)


def two_requests(house: House) -> None:
    with connect(house.frontend) as visitor:
        for _ in range(2):
            visitor.sendall(request("demo.localhost"))
            while not visitor.recv(65536).endswith(b"0\r\n\r\n"):
                pass


def upgrade(house: House) -> None:
    with connect(house.frontend) as visitor:
        visitor.sendall(request("demo.localhost", "/upgrade", fields=UPGRADE))
        read_head(visitor)
        visitor.sendall(b"echo")
        assert visitor.recv(4) == b"echo"


def gone_at_once(house: House) -> None:
    with connect(house.frontend) as visitor:
        visitor.sendall(request("demo.localhost"))


def gone_within_its_head(house: House) -> None:
    with connect(house.frontend) as visitor:
        visitor.sendall(request("demo.localhost")[:10])


VISITS: list[Callable[[House], None]] = [
    visit,
    upload,
    two_requests,
    upgrade,
    gone_at_once,
    gone_within_its_head,
    lambda house: visit(house, "/cut"),
    lambda house: visit(house, "/nonsense"),
    lambda house: visit(house, host="down.localhost"),
    lambda house: visit(house, host="nobody.localhost"),
    lambda house: visit(house, "/ /"),
]


# Clients, and whoever connects to the backend.


def leaves(house: House) -> None:
    with house.peer() as peer:
        park(house.server, peer, 2)


def floods(house: House) -> None:
    with house.peer(beat=False) as peer:
        peer.control.sendall(frame({"control": "pong"}) * 33)
        with suppress(OSError):
            read_to_end(peer.control)


def releases(house: House) -> None:
    with house.peer() as peer:
        park(house.server, peer)
        peer.control.sendall(frame({"release": True}))
        wait_until(peer.ended)


def is_replaced(house: House) -> None:
    with house.peer() as peer, house.peer():
        wait_until(peer.ended)


def takes_a_visitor(house: House) -> None:
    with house.peer() as peer:
        (proxy,) = park(house.server, peer)
        with connect(house.frontend) as visitor:
            visitor.sendall(request("peer.localhost"))
            number = read_message(proxy)["proxy"]["id"]
            proxy.sendall(got(number) + failed(number, "refused"))
            with suppress(OSError):
                read_to_end(visitor)


def lets_a_visitor_wait(house: House) -> None:
    with house.peer():
        visit(house, host="peer.localhost")


def has_a_tcp_tunnel(house: House) -> None:
    with house.peer("port", kind="tcp") as peer:
        (proxy,) = park(house.server, peer)
        port = int(peer.reply["control"]["host"].rpartition(":")[2])
        with connect((LOOPBACK, port)):
            number = read_message(proxy)["proxy"]["id"]
            proxy.sendall(got(number) + ready(number))
    wait_until(lambda: house.server.registry.find("port") is None)


def is_of_2013(house: House) -> None:
    with RawClient(backend(house.server), "old") as old:
        proxy = old.park()
        visitor = gevent.spawn(visit, house, host="old.localhost")
        with suppress(OSError):
            old.answer_one(proxy)
        visitor.join()


def is_refused(house: House) -> None:
    with connect(backend(house.server)) as sock:
        sock.sendall(HEADER_0_2 + frame({"control": {"name": "-", "client": "c"}}))
        read_to_end(sock)


def says_nonsense(house: House) -> None:
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01 no TLS", b"LTP/9.9", b"LTP/0.3\0\0\0\x02[]", b""):
        with connect(backend(house.server)) as sock:
            sock.sendall(said)
            with suppress(OSError):
                read_to_end(sock)


def comes_back(house: House) -> None:
    """The real client: the server ends its tunnel, and it opens it again."""
    opened = len(house.client.seen(TunnelOpened))
    claim = house.server.registry.find("demo")
    assert claim is not None
    assert claim.tunnel is not None
    claim.tunnel.end("no heartbeat")
    house.client.wait_for(TunnelOpened, opened + 1)
    visit(house)


CLIENTS: list[Callable[[House], None]] = [
    leaves,
    floods,
    releases,
    is_replaced,
    takes_a_visitor,
    lets_a_visitor_wait,
    has_a_tcp_tunnel,
    is_of_2013,
    is_refused,
    says_nonsense,
    comes_back,
]


def test_nothing_is_left_to_the_collector(house: House) -> None:
    """Everything is run twice, since a server makes some things once, and the second time must leave no cycles."""
    tunnels = house.server.stats().tunnels

    def settled() -> bool:
        """Say whether everything has ended; what is kept for a moment, such as a joined connection, goes by itself."""
        stats = house.server.stats()
        busy = stats.joins or stats.kept or stats.returning or stats.visitors or stats.lingering
        busy = busy or house.client.client.visitors
        return not busy and stats.tunnels <= tunnels

    def once() -> None:
        for kind in (*VISITS, *CLIENTS):
            kind(house)
        wait_until(settled, cap=20, what="the end of everything")

    once()
    with no_cycles():
        once()
