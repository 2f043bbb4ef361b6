"""A pool that died in silence: the server finds out by a missed ``got``, and has the client park fresh connections."""

import gevent
import pytest
from harness import (
    LOOPBACK,
    backend,
    fetch,
    frontend,
    read_head,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)
from harness.link import Link
from harness.v3 import Peer, RawBackend, frame, park, parked

from localtunnel.client.events import TunnelLost
from localtunnel.protocol import limits
from localtunnel.server.tunnels.pool import Pool

pytestmark = pytest.mark.usefixtures("no_leaks")

NOWHERE = (LOOPBACK, 9)


def answer(sock):
    if read_head(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def test_a_missed_got_renews_the_pool_once():
    with running_server(timeouts={"pool_wait": 1.0}) as server, Peer(backend(server)) as peer:
        park(server, peer, 3)
        visitors = [gevent.spawn(fetch, frontend(server), request("demo.localhost")) for _ in range(2)]
        assert {visitor.get().status for visitor in visitors} == {503}
        assert peer.said("concurrency") == [0, 4]


def test_a_client_that_is_asked_for_none_and_then_for_some_parks_fresh_ones():
    with (
        RawBackend() as raw,
        running_client(NOWHERE, 9, opened=False, name="demo", backend=raw.port, insecure=True),
    ):
        control = raw.open_tunnel(3)
        old = [raw.accept_proxy() for _ in range(3)]
        control.sendall(frame({"concurrency": 0}) + frame({"concurrency": 3}))
        assert [read_to_end(proxy) for proxy in old] == [b"", b"", b""]
        assert len({raw.accept_proxy() for _ in range(3)}) == 3


ROUNDS = 10

FORGETS_AFTER = 0.6
"""Seconds for which the NAT remembers a silent connection: several heartbeats, as with any NAT behind which a control
connection lives."""


def remembered(link):
    return [line for line in link.lines if not line.silent and not line.closed]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("insecure", [False, True], ids=["over TLS", "in the clear"])
def test_behind_a_nat_that_forgets_each_visitor_is_served_within_one_miss(monkeypatch, insecure):
    """Every parked connection is dead at each visitor, and the control connection lives."""
    misses = []
    suspect_all = Pool.suspect_all
    monkeypatch.setattr(Pool, "suspect_all", lambda pool: (misses.append(pool), suspect_all(pool)))
    # Long enough for a client on a busy machine to park a fresh connection within it, so that misses can be counted.
    monkeypatch.setattr(limits, "GOT_TIMEOUT", 0.5)
    with (
        running_upstream(answer) as port,
        running_server(timeouts={"heartbeat": FORGETS_AFTER / 4}) as server,
        Link(backend(server), forgets_after=FORGETS_AFTER) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=insecure) as client,
    ):
        wait_until(lambda: parked(server) == 4)
        control = next(line for line in link.lines if not line.closed)
        held = []
        for _ in range(ROUNDS):
            wait_until(lambda: remembered(link) == [control], what="all but the control connection is forgotten")
            assert fetch(frontend(server), request("demo.localhost", method="POST", body=b"x")).body == b"ok"
            held.append(parked(server))
            wait_until(lambda: len(remembered(link)) > 1)
        assert len(misses) == ROUNDS
        assert max(held) <= 3 * 4, "and what is dead in silence does not pile up"
        assert not client.seen(TunnelLost)


def test_a_visitor_is_served_although_every_parked_connection_is_dead():
    with running_upstream(answer) as port, running_server() as server:
        link = Link(backend(server))
        try:
            with running_client(frontend(server), port, name="demo", backend=link.port, insecure=True):
                wait_until(lambda: parked(server) == 4)
                dead = [line for line in link.lines if line.is_parked]
                assert len(dead) == 4
                for line in dead:
                    line.silence()
                assert fetch(frontend(server), request("demo.localhost")).body == b"ok"
                wait_until(lambda: sum(line.is_parked and not line.silent for line in link.lines) == 4)
        finally:
            link.close()
