"""localtunnel.server.visitors.frontend: visitors who wait for a connection, and those who have one."""

import pytest
from harness import (
    ANSWER,
    RawClient,
    at_most,
    backend,
    connect,
    fetch,
    forwarded,
    frame,
    frontend,
    parse_response,
    read_exactly,
    read_head,
    read_message,
    read_to_end,
    request,
    running_server,
    wait_until,
)
from harness.peers import assigned
from harness.v3 import Peer, got, park, ready
from harness.web import assert_refused

from localtunnel.net import closing

pytestmark = pytest.mark.usefixtures("no_leaks")

CLOSE = "Connection: close\r\n"


@pytest.fixture
def server():
    with running_server(timeouts={"head": 0.3, "pool_wait": 5}) as running:
        yield running


@pytest.fixture
def client(server):
    """The client of a tunnel ``foo`` of LTP/0.2, with nothing parked yet."""
    with RawClient(backend(server), "foo") as raw:
        yield raw


def test_without_a_connection_in_time_it_is_503_with_retry_after():
    with running_server(timeouts={"pool_wait": 0.1}) as server, RawClient(backend(server), "foo"):
        response = fetch(frontend(server), request("foo.localhost"))
        assert_refused(response, 503, "pool_exhausted")
        assert int(response.fields["retry-after"]) >= 1


def test_visitors_over_the_limit_are_refused_at_once():
    with (
        running_server(limits={"waiting_visitors": 2}, timeouts={"pool_wait": 60}) as server,
        RawClient(backend(server), "foo") as client,
    ):
        waiting = [connect(frontend(server)) for _ in range(2)]
        for sock in waiting:
            sock.sendall(request("foo.localhost"))
        wait_until(lambda: server.stats().waiting == 2)
        with at_most(2):
            assert_refused(fetch(frontend(server), request("foo.localhost")), 503, "pool_exhausted")
        for sock in waiting:
            assert assigned(client.park()) == forwarded(request("foo.localhost"))
            sock.close()


def test_waiting_visitors_are_served_in_the_order_in_which_they_came(server, client):
    visitors = []
    for number in range(5):
        visitor = connect(frontend(server))
        visitor.sendall(request("foo.localhost", f"/{number}"))
        visitors.append(visitor)
        wait_until(lambda: server.stats().waiting == len(visitors))
    served = [assigned(client.park()).split()[1] for _ in visitors]
    assert served == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    for visitor in visitors:
        visitor.close()


def test_waiting_visitors_are_refused_when_the_tunnel_ends(server, client):
    with connect(frontend(server)) as visitor:
        visitor.sendall(request("foo.localhost"))
        wait_until(lambda: server.stats().waiting == 1)
        client.control.close()
        assert_refused(parse_response(read_to_end(visitor)), 503, "pool_exhausted")
    assert_refused(fetch(frontend(server), request("foo.localhost")), 404, "tunnel_not_found")


def test_a_visitor_behind_a_silently_dead_connection_gets_the_next_one(server, client):
    alive, dead = client.park(), client.park()
    wait_until(lambda: server.stats().parked == 2)
    closing.reset(dead)
    with connect(frontend(server)) as visitor:
        visitor.sendall(request("foo.localhost"))
        assert assigned(alive) == forwarded(request("foo.localhost"))


def test_a_visitor_that_leaves_while_it_waits_costs_no_more_than_its_connection(server, client):
    with connect(frontend(server)) as visitor:
        visitor.sendall(request("foo.localhost"))
        wait_until(lambda: server.stats().waiting == 1)
        closing.reset(visitor)
    client.park()
    wait_until(lambda: not server.joins)


def test_keep_alive_stays_on_one_proxy_connection(server, client):
    proxy = client.park()
    keep = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with connect(frontend(server)) as visitor:
        for path in ("/1", "/2", "/3"):
            visitor.sendall(request("foo.localhost", path))
            head = assigned(proxy) if path == "/1" else read_head(proxy)
            assert head == forwarded(request("foo.localhost", path))
            proxy.sendall(keep)
            assert read_exactly(visitor, len(keep)) == keep


def test_a_visitors_fin_is_held_back_from_a_client_of_0_2(server, client):
    """The client of 2013 takes it for the end of both directions, and would drop the answer."""
    proxy = client.park()
    with connect(frontend(server)) as visitor:
        visitor.sendall(request("foo.localhost", fields=CLOSE))
        visitor.shutdown(1)
        assert assigned(proxy) == forwarded(request("foo.localhost"))
        proxy.settimeout(0.1)
        with pytest.raises(TimeoutError):
            proxy.recv(1)
        proxy.settimeout(5)
        proxy.sendall(ANSWER)
        proxy.close()
        assert read_to_end(visitor) == ANSWER


# LTP/0.3.


def test_in_join_mode_a_visitors_fin_is_passed_on_to_a_client_of_0_3():
    with (
        running_server(edge="join") as server,
        Peer(backend(server), "foo") as peer,
        connect(frontend(server)) as visitor,
    ):
        (proxy,) = park(server, peer)
        visitor.sendall(request("foo.localhost"))
        visitor.shutdown(1)
        number = read_message(proxy)["proxy"]["id"]
        proxy.sendall(got(number) + ready(number))
        assert read_to_end(proxy) == request("foo.localhost")
        proxy.sendall(ANSWER)
        proxy.close()
        assert read_to_end(visitor) == ANSWER


def test_a_name_that_is_kept_for_its_client_is_503_until_it_is_given_up():
    with running_server(timeouts={"pool_wait": 60}, custom_hosts=["www.example.org"]) as server:
        peer = Peer(backend(server), "foo", domain="www.example.org")
        peer.close()
        wait_until(lambda: not server.registry.tunnels())
        for host in ("foo.localhost", "www.example.org"):
            with at_most(5, "an answer that has nothing to wait for"):
                response = fetch(frontend(server), request(host))
            assert_refused(response, 503, "client_offline")
            assert int(response.fields["retry-after"]) >= 1
        with Peer(backend(server), "foo") as again:
            again.control.sendall(frame({"release": True}))
            wait_until(lambda: len(server.registry) == 0, what="the end of the lease")
        assert_refused(fetch(frontend(server), request("foo.localhost")), 404, "tunnel_not_found")
