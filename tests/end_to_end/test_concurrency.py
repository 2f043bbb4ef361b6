"""Pools that follow the demand: a burst makes them larger, calm makes them smaller, and ceilings hold."""

import re

import gevent
import pytest
from gevent.event import Event
from harness import (
    backend,
    fetch,
    frontend,
    read_head,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)
from harness.v3 import Peer, parked

pytestmark = pytest.mark.usefixtures("no_leaks")

BURST = 64
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Gate:
    """An upstream that answers nobody before it is opened, so that all visitors of a burst are there together."""

    def __init__(self):
        self.open = Event()
        self.waiting = 0

    def __call__(self, sock):
        if read_head(sock):
            self.waiting += 1
            self.open.wait()
            sock.sendall(OK)


@pytest.fixture
def gate():
    upstream = Gate()
    with running_upstream(upstream) as upstream.port:
        yield upstream


def visit(server, count, name="demo"):
    """Send ``count`` visitors at once; return their greenlets."""
    return [gevent.spawn(fetch, frontend(server), request(f"{name}.localhost")) for _ in range(count)]


def burst(server, gate, count=BURST, name="demo", then=lambda: None):
    """Send ``count`` visitors, let them all in, call ``then``, and wait until all have been served."""
    gate.waiting = 0
    gate.open.clear()
    visitors = visit(server, count, name)
    wait_until(lambda: gate.waiting == count, what=f"{count} visitors are at the upstream")
    then()
    gate.open.set()
    assert {visitor.get().status for visitor in visitors} == {200}


def size_of(server, name="demo"):
    return server.registry.find(name).tunnel.size


def waiting(server):
    """Return how many visitors wait for a connection, as the tunnels' repr says."""
    return sum(int(re.search(r"waiting=(\d+)", repr(tunnel))[1]) for tunnel in server.registry.tunnels())


def test_a_pool_begins_with_four(gate):
    with running_server() as server, running_client(frontend(server), gate.port, name="demo", insecure=True):
        assert size_of(server) == 4
        wait_until(lambda: parked(server) == 4)


def test_a_burst_makes_the_pool_larger_than_itself_and_the_next_one_waits_for_nothing(gate):
    with running_server() as server, running_client(frontend(server), gate.port, name="demo", insecure=True):
        burst(server, gate)
        assert size_of(server) > BURST
        wait_until(lambda: parked(server) == size_of(server), what="the client has opened as many")
        longest = 0
        gate.waiting = 0
        gate.open.clear()
        visitors = visit(server, BURST)
        while gate.waiting < BURST:
            longest = max(longest, waiting(server))
            gevent.sleep(0)
        assert longest == 0
        gate.open.set()
        assert {visitor.get().status for visitor in visitors} == {200}


def test_a_pool_shrinks_when_it_is_calm_and_the_client_closes_what_is_too_much(gate, monkeypatch):
    # Longer than the burst takes on a busy machine, which would be calm in between.
    monkeypatch.setattr("localtunnel.server.tunnels.demand.DECAY_AFTER", 1.0)
    with running_server() as server, running_client(frontend(server), gate.port, name="demo", insecure=True):
        sizes = []
        burst(server, gate, 32, then=lambda: sizes.append(size_of(server)))
        assert sizes[0] > 32
        while sizes[-1] > 4:
            sizes.append(size_of(server))
            gevent.sleep(0.01)
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) > 3
        wait_until(lambda: parked(server) == 4, what="the client has closed the others")
        burst(server, gate, 4)


def test_a_client_by_hand_is_told_once_of_a_burst(gate, monkeypatch):
    """The rule of PROTOCOL.md: a window with more visitors than the pool has makes it that many and a quarter more.

    The pool grows by steps while the burst comes: 6, 8, 11 …; the client is told of the last.
    """
    monkeypatch.setattr("localtunnel.server.tunnels.demand.WINDOW", 60.0)
    monkeypatch.setattr("localtunnel.server.tunnels.demand.GATHER", 0.5)
    monkeypatch.setattr("localtunnel.server.tunnels.demand.GATHER_LONGEST", 60.0)
    with running_server(timeouts={"pool_wait": 0.3}) as server, Peer(backend(server)) as peer:
        assert peer.reply["control"]["concurrency"] == 4
        visitors = visit(server, BURST)
        wait_until(lambda: peer.said("concurrency"))
        assert peer.said("concurrency") == [size_of(server)]
        assert size_of(server) > BURST
        assert {visitor.get().status for visitor in visitors} == {503}
        assert len(peer.said("concurrency")) == 1


def test_one_tunnel_stays_below_its_ceiling(gate):
    with (
        running_server(limits={"tunnel_concurrency": 16}) as server,
        running_client(frontend(server), gate.port, name="demo"),
    ):
        burst(server, gate)
        assert size_of(server) == 16
        # The client may keep twice as many, if they have come back.
        wait_until(lambda: 16 <= parked(server) <= 32)
        burst(server, gate)
        assert size_of(server) == 16
        wait_until(lambda: 16 <= parked(server) <= 32)


def test_all_tunnels_together_stay_below_the_total(gate):
    names = ["one", "two", "three"]
    with running_server(limits={"total_concurrency": 40}) as server:
        clients = [running_client(frontend(server), gate.port, name=name) for name in names]
        with clients[0], clients[1]:
            with clients[2]:
                for name in names:
                    burst(server, gate, 30, name)
                    assert sum(size_of(server, name) for name in names) <= 40
                assert size_of(server, "one") == 40 - 4 - 4
                wait_until(lambda: 40 <= sum(parked(server, name) for name in names) <= 80)
            wait_until(lambda: server.registry.find("three") is None)
            # What the third one has given back is there for the others.
            burst(server, gate, 30, "two")
            assert size_of(server, "two") == 8


def test_a_server_that_stops_has_the_client_open_no_more(gate):
    with running_server() as server, Peer(backend(server)) as peer:
        stopping = gevent.spawn(server.stop, 0.2)
        wait_until(lambda: peer.said("drain"))
        assert peer.said("drain") == [0.2]
        stopping.join()
        wait_until(peer.ended)
