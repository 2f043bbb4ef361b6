"""localtunnel.client.app: visitors served, through our server and through one of LTP/0.2 made of sockets."""

import gevent
import pytest
from harness import (
    CAP,
    LOOPBACK,
    RETRY_SOON,
    RawClient,
    RawServer,
    answer_hello,
    at_most,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    is_reset,
    parse_response,
    raw_client,
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

from localtunnel import Client, ClientConfig
from localtunnel.client.events import RequestFinished, RequestStarted, TunnelLost, TunnelOpened, UpstreamFailed
from localtunnel.errors import AddressError, NameInvalid, NameUnavailable, TlsError

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def server():
    with RawServer() as raw:
        yield raw


# With our own server.


def test_a_visitor_reaches_the_upstream_and_everything_is_reported():
    with running_upstream(answer_hello) as port, running_server() as server:
        with running_client(frontend(server), port, name="foo") as client:
            assert client.events[1:] == [
                TunnelOpened(
                    f"http://foo.localhost:{frontend(server)[1]}",
                    "foo",
                    f"localhost:{port}",
                    "Tunnel open on localhost.",
                    False,
                )
            ]
            assert fetch(frontend(server), request("foo.localhost", "/page")).body == b"hello"
            finished = client.wait_for(RequestFinished)
            assert finished == RequestFinished(
                1, 1, LOOPBACK, "GET", "/page", 200, finished.seconds, 0, len(b"hello"), None
            )
            assert 0 < finished.seconds < CAP
        wait_until(lambda: len(server.registry) == 0)


def test_without_a_name_one_is_generated():
    with running_server() as server, running_client(frontend(server), 1) as client:
        (opened,) = client.seen(TunnelOpened)
        assert opened.name.count("-") >= 1
        assert server.registry.find(opened.name) is not None


@pytest.mark.parametrize(
    "settings",
    [{"legacy": "only", "pool_size": 2}, {"legacy": False, "limits": {"tunnel_concurrency": 4}}],
    ids=["0.2", "0.3"],
)
def test_a_burst_over_the_pools_size_is_served_whole(settings):
    with (
        running_upstream(answer_hello) as port,
        running_server(**settings) as server,
        running_client(frontend(server), port, name="foo", legacy=True),
    ):
        visitors = [gevent.spawn(fetch, frontend(server), request("foo.localhost")) for _ in range(40)]
        with at_most(10):
            assert [visitor.get().body for visitor in visitors] == [b"hello"] * 40


def test_an_upstream_that_is_down_costs_a_502_and_never_the_tunnel():
    port = unused_port()
    with running_server() as server, running_client(frontend(server), port, name="foo") as client:
        for _ in range(3):
            response = fetch(frontend(server), request("foo.localhost"))
            assert response.status == 502
            assert response.fields["x-localtunnel-error"] == "upstream_refused"
        failed = client.wait_for(UpstreamFailed, 3)
        assert failed.target == f"localhost:{port}"
        assert failed.code == "connection_refused"
        assert client.seen(TunnelLost) == []
        with running_upstream(answer_hello, port=port):
            assert fetch(frontend(server), request("foo.localhost")).body == b"hello"


def test_an_upstream_on_ipv6_alone_is_found_and_remembered():
    def answer_six(sock):
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nsix")

    with (
        running_upstream(answer_six, "::1") as port,
        running_server() as server,
        running_client(frontend(server), port, name="foo"),
    ):
        assert fetch(frontend(server), request("foo.localhost")).body == b"six"
        with running_upstream(answer_hello, LOOPBACK, port):
            assert fetch(frontend(server), request("foo.localhost")).body == b"six"


def test_a_name_that_another_client_has_is_refused_at_once():
    with (
        running_server() as server,
        RawClient(backend(server), "foo"),
        running_client(frontend(server), 1, opened=False, name="foo") as client,
    ):
        error = client.ended()
        assert isinstance(error, NameUnavailable)
        assert "'foo'" in str(error)
        assert client.events == []


def test_two_clients_of_one_user_do_not_evict_each_other():
    with (
        running_server() as server,
        running_client(frontend(server), 1, name="foo") as first,
        running_client(frontend(server), 1, opened=False, name="foo") as second,
    ):
        assert isinstance(second.ended(), NameUnavailable)
        assert first.seen(TunnelLost) == []
        assert len(server.registry) == 1


def test_a_server_that_comes_back_has_its_clients_back_under_their_names():
    with running_upstream(answer_hello) as port, running_server() as server:
        ports = {"frontend": f"{LOOPBACK}:{frontend(server)[1]}", "backend": f"{LOOPBACK}:{backend(server)[1]}"}
        with running_client(frontend(server), port, name="foo", timeouts=RETRY_SOON) as client:
            server.stop(0)
            client.wait_for(TunnelLost)
            with running_server(**ports) as again:
                opened = client.wait_for(TunnelOpened, 2)
                assert opened.resumed
                assert opened.name == "foo"
                assert fetch(frontend(again), request("foo.localhost")).body == b"hello"


def test_stopping_frees_the_name_and_ends_every_visitor():
    """Within an answer that is a reset, so that none looks complete; before one the server still has a word to say."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"

    def answer_half(sock):
        if b"/half" in read_head(sock):
            sock.sendall(begun)
        read_to_end(sock)

    with running_upstream(answer_half) as port, running_server() as server:
        with (
            running_client(frontend(server), port, name="foo") as client,
            connect(frontend(server)) as answered,
            connect(frontend(server)) as waiting,
        ):
            answered.sendall(request("foo.localhost", "/half"))
            assert read_exactly(answered, len(begun)) == begun
            waiting.sendall(request("foo.localhost", "/none"))
            assert [client.wait_for(RequestStarted, count).status for count in (1, 2)] == [200, None]
            assert client.client.visitors == 2
            client.stop()
            assert client.ended() is None
            assert is_reset(answered)
            assert parse_response(read_to_end(waiting)).fields["x-localtunnel-error"] == "upstream_closed"
            assert [client.wait_for(RequestFinished, count).error for count in (1, 2)] == ["stopped"] * 2
        wait_until(lambda: len(server.registry) == 0)


def test_a_backend_that_answers_in_http_is_a_hint_at_the_option():
    def handler(sock):
        sock.recv(1)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        read_to_end(sock)

    with (
        running_upstream(handler) as port,
        running_client((LOOPBACK, 1), 9, opened=False, backend=port, retry=False) as client,
    ):
        error = client.ended()
    assert isinstance(error, TlsError)
    assert str(error).startswith("The TLS handshake failed: ")
    assert str(error).endswith(" Check --backend.")


def test_stopping_one_that_does_not_run_does_nothing():
    client = Client(ClientConfig(target=1, server="localhost:1"), print)
    client.stop()


# With a server of LTP/0.2 made of sockets.


def test_a_whole_session_of_0_2(server):
    with running_upstream(answer_hello) as port, raw_client(server, port) as client:
        control = server.open_tunnel(concurrency=1, banner="Hi.")
        proxy = server.accept_proxy()
        opened = client.wait_for(TunnelOpened)
        assert (opened.url, opened.banner) == ("http://foo.example.com:8000", "Hi.")
        control.sendall(frame({"control": "ping"}))
        assert read_message(control) == {"control": "pong"}
        proxy.sendall(frame({"proxy": True}))
        server.accept_proxy()
        proxy.sendall(request("foo.example.com"))
        assert read_to_end(proxy).endswith(b"\r\n\r\nhello")
        proxy.close()
        assert client.wait_for(RequestFinished).visitor is None


def test_the_upstream_is_dialled_on_the_assignment_and_not_before(server):
    dialled = []

    def handler(sock):
        dialled.append(sock)
        read_to_end(sock)

    with running_upstream(handler) as port, raw_client(server, port) as client:
        server.open_tunnel(concurrency=2)
        first, _ = server.accept_proxy(), server.accept_proxy()
        client.wait_for(TunnelOpened)
        assert dialled == []
        first.sendall(frame({"proxy": True}))
        wait_until(lambda: dialled)
        assert client.client.visitors == 1
        assert len(dialled) == 1


def test_visitors_outlive_the_session_in_which_they_came(server):
    def answer_two_pieces(sock):
        sock.sendall(read_exactly(sock, len(b"one,two")))

    with running_upstream(answer_two_pieces) as port, raw_client(server, port) as client:
        control = server.open_tunnel()
        proxy = server.accept_proxy()
        proxy.sendall(frame({"proxy": True}) + b"one,")
        wait_until(lambda: client.client.visitors)
        control.close()
        client.wait_for(TunnelLost)
        server.open_tunnel()
        client.wait_for(TunnelOpened, 2)
        proxy.sendall(b"two")
        assert read_exactly(proxy, 7) == b"one,two"
        proxy.close()


# Settings that cannot work.


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"target": "no port"}, AddressError),
        ({"target": 1, "server": "http://"}, AddressError),
        ({"target": 1, "name": "-bad-"}, NameInvalid),
    ],
)
def test_settings_that_cannot_work_are_told_before_anything_runs(settings, error):
    with pytest.raises(error):
        Client(ClientConfig(**settings), print)


def test_a_target_that_does_not_resolve_is_a_502_and_not_the_clients_end(server, monkeypatch):
    class Resolver:
        def getaddrinfo(self, host, port, **_):
            raise gevent.socket.gaierror(gevent.socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(gevent.get_hub(), "resolver", Resolver())
    with raw_client(server, "nowhere.example:80") as client:
        server.open_tunnel()
        proxy = server.accept_proxy()
        proxy.sendall(frame({"proxy": True}) + request("foo.example.com"))
        assert read_to_end(proxy).startswith(b"HTTP/1.1 502 ")
        proxy.close()
        client.wait_for(UpstreamFailed)
