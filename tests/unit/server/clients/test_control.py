"""localtunnel.server.clients.control: what a control request is answered, what is said later, and what ends it."""

import json

import gevent
import pytest
from harness import (
    HEADER_0_2,
    RawClient,
    assert_error_and_close,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    read_head,
    read_message,
    read_to_end,
    request,
    running_server,
    unused_port,
    wait_until,
)
from harness.tls import tls_connect
from harness.v3 import HEADER_0_3, Peer, ask, control_request, failed, got, park, parked, ready

from localtunnel.protocol.limits import MESSAGE_BURST, MESSAGE_RATE

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = {"error_hold": 0.0}


@pytest.fixture
def server():
    settings = {"banner": "Welcome.", "pool_size": 7, "custom_hosts": ["www.example.org", "*.localhost"]}
    with running_server(timeouts={**QUICK, "heartbeat": 2.5, "lease": 0.2}, **settings) as running:
        yield running


def test_the_reply_of_0_3(server):
    port = frontend(server)[1]
    with Peer(backend(server)) as peer:
        reply = peer.reply["control"]
        assert len(bytes.fromhex(reply.pop("session"))) == 16
        assert reply == {
            "host": f"demo.localhost:{port}",
            "url": f"http://demo.localhost:{port}",
            "banner": "Welcome.",
            "concurrency": 4,
            "heartbeat": 2.5,
            "real_ip": True,
        }


@pytest.mark.parametrize(("edge", "kind"), [("http", "http"), ("http", "tcp"), ("join", "http")])
def test_a_client_is_told_whether_requests_carry_the_address_of_their_visitor(edge, kind):
    port = unused_port()
    with running_server(edge=edge, tcp_ports=f"{port}-{port}") as server, Peer(backend(server), kind=kind) as peer:
        assert peer.reply["control"].get("real_ip") == (True if (edge, kind) == ("http", "http") else None)


def test_no_id_comes_again_in_another_session(server):
    sessions, ids = set(), set()
    for _ in range(2):
        with Peer(backend(server)) as peer, connect(frontend(server)) as visitor:
            (proxy,) = park(server, peer)
            visitor.sendall(request("demo.localhost"))
            number = read_message(proxy)["proxy"]["id"]
            proxy.sendall(failed(number, "refused"))
            assert read_head(visitor).startswith(b"HTTP/1.1 502 ")
            sessions.add(peer.session)
            ids.add(number)
    assert len(sessions) == len(ids) == 2


def test_a_host_of_its_own_does_not_hide_the_url_of_the_name(server):
    port = frontend(server)[1]
    with Peer(backend(server), domain="www.example.org") as peer:
        reply = peer.reply["control"]
        assert reply["url"] == f"http://www.example.org:{port}"
        assert reply["also"] == [f"http://demo.localhost:{port}"]


def test_the_reply_of_0_2_has_nothing_of_0_3(server):
    with RawClient(backend(server), "demo") as old:
        host = f"demo.localhost:{frontend(server)[1]}"
        assert old.reply == {"control": {"host": host, "banner": "Welcome.", "concurrency": 7}}


def test_each_session_has_a_secret_of_its_own(server):
    with Peer(backend(server), "one") as one, Peer(backend(server), "two") as two:
        assert one.session != two.session
        sock = connect(backend(server))
        with sock:
            sock.sendall(HEADER_0_3 + frame({"proxy": {"name": "one", "session": two.session}}))
            assert read_message(sock)["error"] == "unavailable"
        assert parked(server, "one") == 0


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"name": "-"}, "unavailable", "not a DNS label"),
        ({"name": "www"}, "unavailable", "reserved"),
        ({"name": ""}, "unavailable", "empty"),
        ({"protect": "topsecret"}, "option_refused", "protect"),
        ({"domain": "www.example.net"}, "option_refused", "does not allow"),
        ({"domain": "other.localhost"}, "unavailable", "own domain"),
        ({"kind": "tcp"}, "port_refused", "no TCP tunnels"),
        ({"kind": "udp"}, "invalid_request", "wrong shape"),
        ({"port": 0}, "invalid_request", "wrong shape"),
        ({"instance": ""}, "invalid_request", "wrong shape"),
        ({"resume": "short"}, "invalid_request", "wrong shape"),
    ],
)
def test_requests_that_are_refused(server, fields, code, text):
    request = {"control": {"name": "demo", "client": "me@here;Linux", "instance": "one", **fields}}
    answer = ask(backend(server), HEADER_0_3 + frame(request))
    assert answer["error"] == code
    assert text in answer["message"]
    assert "topsecret" not in json.dumps(answer)
    assert len(server.registry) == 0


def test_a_request_of_0_3_needs_an_instance(server):
    request = {"control": {"name": "demo", "client": "me@here;Linux"}}
    assert ask(backend(server), HEADER_0_3 + frame(request))["error"] == "invalid_request"
    assert "control" in ask(backend(server), HEADER_0_2 + frame(request))


def test_unknown_fields_are_ignored(server):
    with Peer(backend(server), tomorrow={"deep": [1, 2, 3]}) as peer:
        assert "control" in peer.reply


def test_a_domain_leads_to_the_tunnel_too(server):
    with Peer(backend(server), domain="www.example.org") as peer:
        assert peer.reply["control"]["host"].startswith("www.example.org:")
        for host in ("www.example.org", "demo.localhost"):
            (proxy,) = park(server, peer)
            with connect(frontend(server)) as visitor:
                visitor.sendall(request(host))
                number = read_message(proxy)["proxy"]["id"]
                # Answered, since a request that still waits would take the next connection.
                proxy.sendall(got(number) + ready(number) + b"HTTP/1.1 204 No Content\r\n\r\n")
                assert read_head(visitor).startswith(b"HTTP/1.1 204 ")


def test_a_visitor_that_is_turned_away_is_told_to_the_client_but_not_each_time():
    with running_server(timeouts={**QUICK, "pool_wait": 0.05}) as server, Peer(backend(server)) as peer:
        for _ in range(5):
            assert fetch(frontend(server), request("demo.localhost")).status == 503
        wait_until(lambda: peer.said("notice"))
        assert len(peer.said("notice")) == 1
        assert "pool_exhausted" in peer.said("notice")[0]


def test_a_client_that_has_gone_leaves_a_lease_and_one_that_says_so_does_not(server):
    with Peer(backend(server)) as peer:
        park(server, peer)
    wait_until(lambda: not server.registry.tunnels())
    assert len(server.registry) == 1
    wait_until(lambda: not len(server.registry), what="the lease has ended")
    with Peer(backend(server)) as peer:
        proxy = peer.park()
        wait_until(lambda: parked(server) == 1)
        peer.control.sendall(frame({"release": True}))
        wait_until(peer.ended)
        assert len(server.registry) == 0
        assert read_to_end(proxy) == b""


def test_a_protocol_error_is_answered_and_leaves_a_lease(server):
    with Peer(backend(server)) as peer:
        peer.control.sendall(frame({"hello": 1}))
        wait_until(peer.ended)
        assert len(peer.said("error")) == 1
    wait_until(lambda: not len(server.registry))


def test_a_client_of_0_2_has_no_lease(server):
    with RawClient(backend(server), "demo"):
        assert len(server.registry) == 1
    wait_until(lambda: not len(server.registry))


def test_two_versions_do_not_take_names_from_each_other(server):
    with RawClient(backend(server), "demo", "me@here;Linux;one") as old:
        old.beat()
        answer = ask(backend(server), control_request("demo", "me@here;Linux", "one"))
        assert answer["error"] == "unavailable"
    wait_until(lambda: not len(server.registry))
    with Peer(backend(server), client="me@here;Linux"):
        old = {"control": {"name": "demo", "client": "me@here;Linux;one"}}
        assert ask(backend(server), HEADER_0_2 + frame(old))["error"] == "unavailable"


def test_stopping_says_drain_first_and_closes_everything():
    with running_server() as server, Peer(backend(server)) as peer, RawClient(backend(server), "old") as old:
        park(server, peer)
        server.stop(0.0)
        wait_until(peer.ended)
        assert peer.said("drain") == [0.0]
        assert read_message(old.control) == {"control": "ping"}
        assert read_to_end(old.control) == b""


@pytest.mark.parametrize("make", [connect, tls_connect], ids=["in the clear", "over TLS"])
@pytest.mark.parametrize("said", ["ping", "pong"])
def test_a_client_that_floods_is_told_so_and_ended_and_its_name_is_kept(server, make, said):
    with Peer(backend(server), beat=False, connect=make) as peer:
        peer.control.sendall(frame({"control": said}) * (MESSAGE_BURST + 1))
        answers = [read_message(peer.control)]
        while "error" not in answers[-1]:
            answers.append(read_message(peer.control))
        assert answers[-1]["error"] == "flooded"
        assert answers[-1]["message"].endswith(".")
        pongs = answers.count({"control": "pong"})
        assert pongs == (MESSAGE_BURST if said == "ping" else 0)
        wait_until(lambda: not server.registry.tunnels())
        assert len(server.registry) == 1
    wait_until(lambda: not len(server.registry))


def test_a_client_that_uses_its_burst_up_again_and_again_at_the_rate_is_served(server):
    """Over the interval of this server (2.5 s) the rate is 8 a second; a burst that is just allowed cuts nobody."""
    with Peer(backend(server), beat=False) as peer:
        peer.control.sendall(frame({"control": "ping"}) * MESSAGE_BURST)
        for _ in range(3):
            gevent.sleep(2 / MESSAGE_RATE)
            peer.control.sendall(frame({"control": "ping"}) * 2)
        answers = [read_message(peer.control) for _ in range(1 + MESSAGE_BURST + 6)]
        assert answers.count({"control": "pong"}) == MESSAGE_BURST + 6
        assert len(server.registry.tunnels()) == 1


def test_a_client_of_0_2_has_one_word_for_each_ping(server):
    with RawClient(backend(server), "old") as old:
        old.control.sendall(frame({"control": "pong"}) * 2)
        assert read_message(old.control) == {"control": "ping"}
        assert_error_and_close(old.control, "exception")
