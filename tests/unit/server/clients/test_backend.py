"""localtunnel.server.clients.backend: control and proxy connections of LTP/0.2."""

import gevent
import pytest
from harness import (
    ANSWER,
    HEADER_0_2,
    LOOPBACK,
    RawClient,
    assert_error_and_close,
    at_most,
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
    running_server,
    wait_until,
)
from harness.inprocess import nothing_but

from localtunnel.net import closing
from localtunnel.protocol import limits

pytestmark = pytest.mark.usefixtures("no_leaks")

ME = "me@laptop;Linux;1"
QUICK = {"preamble": 0.3, "error_hold": 0.05}

CONTROL = HEADER_0_2 + frame({"control": {"name": "foo", "client": ME}})
PROXY = HEADER_0_2 + frame({"proxy": {"name": "other", "client": ME}})


@pytest.fixture
def server():
    with running_server(timeouts=QUICK, custom_hosts=["www.example.org"]) as running:
        yield running


# Requests and their replies.


def test_a_control_request_opens_a_tunnel(server):
    with RawClient(backend(server), "foo", ME) as client:
        port = frontend(server)[1]
        assert client.reply == {
            "control": {"host": f"foo.localhost:{port}", "concurrency": 10, "banner": "Tunnel open on localhost."}
        }
        nothing_but(server, "foo")
        client.serve_one_visitor(frontend(server))


def test_banner_and_pool_size_are_the_servers_settings():
    with (
        running_server(banner="Welcome.", pool_size=3, domain="tunnels.example") as server,
        RawClient(backend(server), "foo") as client,
    ):
        control = client.reply["control"]
        assert control["banner"] == "Welcome."
        assert control["concurrency"] == 3
        assert control["host"].startswith("foo.tunnels.example:")


def test_port_80_goes_without_saying():
    with running_server(public_url="http://localhost") as server, RawClient(backend(server), "foo") as client:
        assert client.reply["control"]["host"] == "foo.localhost"


def test_a_reply_of_0_2_fits_into_one_read_of_the_client_of_2013():
    with (
        running_server(banner="b" * limits.MAX_BANNER, domain="d" * 60 + ".example") as server,
        RawClient(backend(server), "n" * limits.MAX_NAME) as client,
    ):
        assert len(frame(client.reply)) < 1024


def test_unknown_fields_are_ignored(server):
    with RawClient(backend(server), "foo", ME, colour="blue", options={"a": [1]}) as client:
        assert "control" in client.reply


@pytest.mark.parametrize("cut", range(1, len(CONTROL)))
def test_a_control_request_may_be_cut_anywhere(server, cut):
    with connect(backend(server)) as sock:
        sock.sendall(CONTROL[:cut])
        # Two turns of the hub: the server accepts, and reads what there is.
        gevent.idle()
        gevent.idle()
        sock.sendall(CONTROL[cut:])
        assert read_message(sock)["control"]["host"].startswith("foo.localhost")


@pytest.mark.parametrize("cut", range(1, len(PROXY)))
def test_a_proxy_request_may_be_cut_anywhere(server, cut):
    with RawClient(backend(server), "other", ME) as client, connect(backend(server)) as sock:
        sock.sendall(PROXY[:cut])
        gevent.idle()
        gevent.idle()
        sock.sendall(PROXY[cut:])
        visitor = gevent.spawn(fetch, frontend(server), request("other.localhost"))
        client.answer_one(sock)
        assert visitor.get().body == b"ok"
        assert client.control.fileno() >= 0


def test_a_message_of_the_largest_size_is_taken(server):
    payload = frame({"control": {"name": "foo", "client": ME, "pad": ""}})[4:]
    padded = payload.replace(b'"pad": ""', b'"pad": "' + b"x" * (limits.MAX_MESSAGE - len(payload)) + b'"')
    assert len(padded) == 64 * 1024
    with connect(backend(server)) as sock:
        sock.sendall(HEADER_0_2 + frame(padded))
        assert "control" in read_message(sock)


# Proxy connections.


def test_a_proxy_connection_says_nothing_until_it_is_assigned(server):
    with RawClient(backend(server), "foo") as client:
        proxy = client.park()
        proxy.settimeout(0.1)
        with pytest.raises(TimeoutError):
            proxy.recv(1)


def test_a_proxy_connection_from_another_address_is_refused(server):
    with RawClient(backend(server), "foo") as client:
        stranger = client.park(source="127.0.0.2")
        assert_error_and_close(stranger, "unavailable")
        client.serve_one_visitor(frontend(server))


def test_the_name_in_a_proxy_request_may_have_capitals(server):
    with RawClient(backend(server), "Foo") as client:
        client.name = "FOO"
        proxy = client.park()
        visitor = gevent.spawn(fetch, frontend(server), request("foo.localhost"))
        client.answer_one(proxy)
        assert visitor.get().status == 200


def test_a_proxy_connection_that_speaks_early_is_closed(server):
    with RawClient(backend(server), "foo") as client, connect(backend(server)) as sock:
        sock.sendall(HEADER_0_2 + frame({"proxy": {"name": "foo", "client": client.client}}) + b"early")
        assert read_or_reset(sock) == b""
        client.serve_one_visitor(frontend(server))


def read_or_reset(sock):
    """Return what comes before the end; a close with bytes unread is a reset."""
    try:
        return read_to_end(sock)
    except ConnectionResetError:
        return b""


def test_parked_connections_end_with_their_tunnel(server):
    with RawClient(backend(server), "foo") as client:
        proxies = [client.park() for _ in range(3)]
        tunnel = server.registry.find("foo").tunnel
        wait_until(lambda: tunnel.parked == 3)
        client.control.close()
        assert [proxy.recv(1) for proxy in proxies] == [b"", b"", b""]


# Owners.


@pytest.mark.parametrize("end", [lambda sock: sock.close(), closing.reset], ids=["close", "reset"])
def test_the_name_is_free_as_soon_as_the_control_connection_is_gone(server, end):
    client = RawClient(backend(server), "foo", ME)
    end(client.control)
    nothing_but(server)
    with RawClient(backend(server), "foo", "somebody else") as successor:
        assert "control" in successor.reply


def test_the_same_client_replaces_its_tunnel_and_the_old_ends_harm_nothing(server):
    with RawClient(backend(server), "foo", ME) as old:
        old_proxy = old.park()
        wait_until(lambda: server.stats().parked == 1)
        with RawClient(backend(server), "foo", ME) as new:
            assert "control" in new.reply
            assert old_proxy.recv(1) == b""
            read_to_end(old.control)
            old.close()
            nothing_but(server, "foo")
            new.serve_one_visitor(frontend(server))


def test_the_same_client_string_from_another_address_is_another_client(server):
    with RawClient(backend(server), "foo", ME), connect(backend(server), source="127.0.0.2") as thief:
        thief.sendall(CONTROL)
        assert_error_and_close(thief, "unavailable")
        nothing_but(server, "foo")


def test_a_host_of_its_own_is_answered_and_served(server):
    with RawClient(backend(server), "foo", domain="www.example.org") as client:
        assert client.reply["control"]["host"] == f"www.example.org:{frontend(server)[1]}"
        proxy = client.park()
        visitor = gevent.spawn(fetch, frontend(server), request("www.example.org"))
        client.answer_one(proxy)
        assert visitor.get().body == b"ok"


# Heartbeats.


def test_pings_come_at_their_interval_and_pongs_keep_the_tunnel():
    with running_server(timeouts={"heartbeat": 0.05, "heartbeat_reply": 5}) as server:
        with RawClient(backend(server), "foo") as client:
            for _ in range(5):
                assert read_message(client.control) == {"control": "ping"}
                client.control.sendall(frame({"control": "pong"}))
            nothing_but(server, "foo")
        nothing_but(server)


def test_without_a_pong_the_tunnel_ends():
    with (
        running_server(timeouts={"heartbeat": 0.05, "heartbeat_reply": 0.2}) as server,
        RawClient(backend(server), "foo") as client,
        at_most(5),
    ):
        proxy = client.park()
        assert read_message(client.control) == {"control": "ping"}
        assert read_to_end(client.control) == b""
        assert proxy.recv(1) == b""
        nothing_but(server)


def test_joined_visitors_outlive_the_control_connection():
    with running_server() as server, RawClient(backend(server), "foo") as client:
        proxy = client.park()
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("foo.localhost", fields="Connection: close\r\n"))
            assert read_message(proxy) == {"proxy": True}
            client.control.close()
            nothing_but(server)
            proxy.sendall(ANSWER)
            assert read_exactly(visitor, len(ANSWER)) == ANSWER


# The end of the server.


def test_stopping_ends_tunnels_preambles_and_held_errors():
    with running_server(timeouts={"error_hold": 60, "preamble": 60}) as server:
        client = RawClient(backend(server), "foo")
        proxy = client.park()
        silent = connect(backend(server))
        failed = connect(backend(server))
        failed.sendall(HEADER_0_2 + frame({}))
        assert read_message(failed)["error"] == "exception"
        wait_until(lambda: server.stats().parked == 1)
    assert proxy.recv(1) == b""
    for sock in (client.control, silent, failed):
        assert is_reset(sock) or sock.recv(1) == b""
    assert len(server.registry) == 0
    for sock in (silent, failed):
        sock.close()
    client.close()


def test_everything_arrives_from_this_machine(server):
    """The harness dials loopback; the owner of a name is that address."""
    with RawClient(backend(server), "foo"):
        assert server.registry.find("foo").address == LOOPBACK
