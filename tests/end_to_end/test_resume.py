"""Taking a name up again: at once from one's own ghost, never by a stranger; leases, and runs that were replaced."""

import signal
import time

import gevent
import pytest
from harness import (
    ClientProcess,
    ServerProcess,
    answer_hello,
    backend,
    connect,
    fetch,
    frontend,
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
from harness.link import Link
from harness.tls import tls_connect
from harness.v3 import Peer, ask, control_request, got, park, parked, proxy_request, ready

from localtunnel.client.events import TunnelLost, TunnelOpened

pytestmark = pytest.mark.usefixtures("no_leaks")

STRANGER = {"client": "eve@elsewhere;Linux", "instance": "eve"}
QUICK = {"timeouts": {"error_hold": 0.0}}


def stranger_asks(server, **fields):
    """Return what a stranger hears who wants the name: an error code, or None when it gets it."""
    return ask(backend(server), control_request("demo", **{**STRANGER, **fields})).get("error")


def test_a_session_takes_its_name_from_its_own_ghost_at_once():
    """Whoever knows the session is the client that was told it, whatever else it says of itself."""
    with running_server(**QUICK) as server, Peer(backend(server)) as ghost:
        (old,) = park(server, ghost)
        fields = {"client": "other@host;Linux", "instance": "two", "resume": ghost.session}
        with Peer(backend(server), **fields) as heir:
            assert heir.session == ghost.session
            assert heir.reply["control"]["url"] == ghost.reply["control"]["url"]
            wait_until(ghost.ended)
            assert len(ghost.said("replaced")) == 1
            assert read_to_end(old) == b""
            assert parked(server) == 0
            park(server, heir)


def test_the_same_instance_needs_no_session():
    """Its first reply may have been lost, with the session in it."""
    with running_server(**QUICK) as server, Peer(backend(server)) as ghost, Peer(backend(server)) as heir:
        wait_until(ghost.ended)
        assert heir.session != ghost.session
        assert ask(backend(server), proxy_request("demo", ghost.session))["error"] == "unavailable"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"resume": "00" * 16},
        {"client": "raw@test;Linux"},
        {"instance": "one"},
        {"client": "raw@test;Linux", "instance": "two", "resume": "00" * 16},
    ],
    ids=["nothing", "a wrong session", "the client string", "the instance", "all but the instance"],
)
def test_a_stranger_does_not_get_the_name_of_a_tunnel_that_is_open(fields):
    with running_server(**QUICK) as server, Peer(backend(server)) as owner:
        assert stranger_asks(server, **fields) == "unavailable"
        park(server, owner)
        assert not owner.ended()
        assert not owner.messages


def test_a_stranger_does_not_get_a_name_that_is_leased_until_the_lease_ends():
    with running_server(timeouts={"error_hold": 0.0, "lease": 0.5}) as server:
        with Peer(backend(server)) as owner:
            park(server, owner)
        closed = time.monotonic()
        wait_until(lambda: not server.registry.tunnels())
        response = fetch(frontend(server), request("demo.localhost"))
        assert (response.status, response.fields["x-localtunnel-error"]) == (503, "client_offline")
        while stranger_asks(server) == "unavailable":
            gevent.sleep(0.01)
        assert time.monotonic() - closed >= 0.5


def test_a_leased_name_goes_back_with_its_session_or_to_the_same_client():
    with running_server(**QUICK) as server:
        with Peer(backend(server)) as owner:
            session = owner.session
        wait_until(lambda: not server.registry.tunnels())
        with Peer(backend(server), client="other@host;Linux", resume=session) as heir:
            assert heir.session == session
        wait_until(lambda: not server.registry.tunnels())
        with Peer(backend(server), client="other@host;Linux", instance="three") as again:
            assert again.session != session


@pytest.mark.parametrize("gone", [False, True], ids=["open", "leased"])
@pytest.mark.parametrize(
    "shown",
    [{"session": True}, {"instance": "one"}, {"session": True, "instance": "one"}, {"takeover": True}, {}],
    ids=["session", "instance", "session and instance", "takeover", "client"],
)
def test_what_was_opened_over_tls_is_not_taken_up_in_the_clear(gone, shown):
    """Whatever its client shows there, everybody on the path may have read, or may have changed."""
    with running_server(**QUICK) as server, Peer(backend(server), connect=tls_connect) as owner:
        park(server, owner)
        if gone:
            owner.control.close()
            wait_until(lambda: server.registry.find("demo").tunnel is None)
        asked = {"instance": "two", **shown}
        if asked.pop("session", False):
            asked["resume"] = owner.session
        assert ask(backend(server), control_request("demo", **asked))["error"] == "unavailable"
        if not gone:
            assert not owner.said("replaced")
            assert parked(server) == 1
        with Peer(backend(server), connect=tls_connect, instance="two", resume=owner.session) as again:
            assert again.session == owner.session


def test_a_session_from_the_clear_ends_where_its_client_encrypts_and_its_port_stays():
    """Somebody may have read it, and would have it proved over TLS that his connections are the tunnel's."""
    port = unused_port()
    settings = {**QUICK, "tcp_ports": f"{port}-{port}"}
    with (
        running_server(**settings) as server,
        Peer(backend(server), kind="tcp") as before,
        Peer(backend(server), kind="tcp", connect=tls_connect, resume=before.session) as after,
    ):
        wait_until(before.ended)
        assert after.session != before.session
        assert after.reply["control"]["url"] == before.reply["control"]["url"]


def test_release_frees_the_name_at_once():
    with running_server(**QUICK) as server:
        with running_upstream(answer_hello) as port, running_client(frontend(server), port, name="demo"):
            assert stranger_asks(server) == "unavailable"
        wait_until(lambda: not len(server.registry))
        assert stranger_asks(server) is None


def test_a_join_lives_on_when_its_session_is_resumed():
    with running_server(**QUICK) as server, Peer(backend(server)) as ghost:
        (proxy,) = park(server, ghost)
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("demo.localhost", "/download"))
            number = read_message(proxy)["proxy"]["id"]
            read_head(proxy)
            proxy.sendall(got(number) + ready(number) + b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"a" * 1000)
            with Peer(backend(server), resume=ghost.session):
                wait_until(ghost.ended)
                proxy.sendall(b"b" * 1000)
                proxy.close()
                assert read_to_end(visitor).endswith(b"\r\n\r\n" + b"a" * 1000 + b"b" * 1000)


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_a_download_completes_while_the_real_client_resumes(how):
    """Its control connection is cut, or falls silent; its joins go through, and the new session serves visitors."""
    going_on = gevent.event.Event()

    def upstream(sock):
        head = read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"a" * 100_000)
        if b"/download" in head:
            going_on.wait()
            sock.sendall(b"b" * 1_000_000)

    heartbeat = {"heartbeat": 0.1, "error_hold": 0.0}
    with (
        running_upstream(upstream) as port,
        running_server(timeouts=heartbeat) as server,
        Link(backend(server)) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=True) as client,
        connect(frontend(server)) as visitor,
    ):
        visitor.sendall(request("demo.localhost", "/download"))
        visitor.recv(10)
        (control,) = link.controls
        control.cut(reset=False) if how == "cut" else control.silence()
        client.wait_for(TunnelLost)
        assert client.wait_for(TunnelOpened, 2).resumed
        assert fetch(frontend(server), request("demo.localhost")).status == 200
        going_on.set()
        assert read_to_end(visitor).endswith(b"a" + b"b" * 1_000_000)
        assert len({line.reply["session"] for line in link.lines if line.reply}) == 1


def test_a_run_that_was_replaced_is_told_and_ends_with_exit_code_5():
    """Somebody else has its session: a copy of the program's memory, say. It must not fight for the name."""
    with (
        running_upstream(answer_hello) as port,
        ServerProcess() as server,
        Link(server.backend) as link,
        ClientProcess(port, f"--backend={link.port}", "--insecure", server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        session = link.controls[0].reply["session"]
        with Peer(server.backend, resume=session, instance="copy") as heir:
            assert client.wait(5.0) == 5
            failed = next(event for event in client.events if event["event"] == "failed")
            assert (failed["code"], failed["exit_code"]) == ("replaced", 5)
            assert "has taken over the tunnel" in client.stderr
            assert not heir.ended()
            assert server.metrics()["tunnels"] == 1


def test_a_client_whose_first_reply_was_lost_comes_back_to_its_own_name():
    """It never learnt that the server speaks LTP/0.3, and its own ghost holds the name that it asks for."""
    with (
        running_upstream(answer_hello) as port,
        running_server(**QUICK) as server,
        Link(backend(server)) as link,
    ):
        link.lose_reply_of_next()
        timeouts = {"retry_first": 0.05, "retry_longest": 0.05}
        settings = {"name": "demo", "backend": link.port, "insecure": True, "timeouts": timeouts}
        with running_client(frontend(server), port, opened=False, **settings) as client:
            client.wait_for(TunnelOpened)
            assert fetch(frontend(server), request("demo.localhost")).body == b"hello"


def test_a_client_that_is_stopped_gently_says_goodbye():
    with (
        running_upstream(answer_hello) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        client.signal(signal.SIGTERM)
        assert client.wait() == 0
        assert server.wait_for_record("tunnel closed")["reason"] == "released"
        wait_until(lambda: server.metrics()["tunnels"] == 0)
