"""localtunnel.client.app: what follows the end of a session, in LTP/0.3 and with a server that speaks LTP/0.2 only."""

import gevent
import pytest
from harness import (
    LOOPBACK,
    RETRY_SOON,
    RawServer,
    frame,
    raw_client,
    running_client,
    running_server,
    unused_port,
)
from harness.v3 import RawBackend

from localtunnel.cli.exit_codes import UNREACHABLE, exit_code
from localtunnel.client import app as app_module
from localtunnel.client import retry
from localtunnel.client.events import ServerNotice, TunnelLost, TunnelOpened
from localtunnel.errors import (
    DeadlineExceeded,
    Flooded,
    NameUnavailable,
    RemoteFailure,
    Unreachable,
    VersionError,
)
from localtunnel.protocol.limits import FLOODED_PAUSE
from localtunnel.protocol.version import LTP_0_2

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(params=["0.2", "0.3"])
def version(request):
    return request.param


@pytest.fixture
def server(version):
    """A server made of sockets. The one of LTP/0.2 closes every opening of LTP/0.3, to which the client falls back."""
    with RawServer() if version == "0.2" else RawBackend() as raw:
        yield raw


def fail(server):
    """Accept a control connection and answer that the server has failed."""
    server.accept_control()[0].sendall(frame({"error": "exception", "message": "Oops."}))


def refuse_name(server):
    """Accept a control connection, refuse its name, and return the name."""
    control, message = server.accept_control()
    control.sendall(frame({"error": "unavailable", "message": "Taken."}))
    return message["control"]["name"]


def refuse_first_name(server):
    """Refuse a name as often as it takes: after a fallback the client goes back to LTP/0.3 with it once."""
    name = refuse_name(server)
    if isinstance(server, RawServer):
        assert refuse_name(server) == name
    return name


def said(client):
    """Return what the client reported, its fallbacks apart."""
    return [event for event in client.events if not isinstance(event, ServerNotice)]


def test_after_a_healthy_session_the_next_attempt_comes_at_once(server, monkeypatch):
    monkeypatch.setattr(retry, "HEALTHY", 0.0)
    with raw_client(server, timeouts={"retry_first": 60, "retry_longest": 60}) as client:
        for count in range(1, 4):
            control = server.open_tunnel()
            server.accept_proxy()
            client.wait_for(TunnelOpened, count)
            control.close()
            assert client.wait_for(TunnelLost, count).retry_in == 0.0
        assert [opened.resumed for opened in client.seen(TunnelOpened)] == [False, True, True]


def test_after_failures_the_wait_doubles_up_to_the_longest_and_is_jittered(server, monkeypatch):
    drawn = []

    def highest(low, high):
        drawn.append((low, high))
        return high

    monkeypatch.setattr(retry.random, "uniform", highest)
    with raw_client(server) as client:
        for count in range(1, 6):
            fail(server)
            client.wait_for(TunnelLost, count)
        waits = [lost.retry_in for lost in client.seen(TunnelLost)]
    assert waits == [0.01, 0.02, 0.04, 0.05, 0.05]
    assert drawn[:5] == [(high / 2, high) for high in waits], "half of it is waited for at least"


def test_a_session_that_was_short_counts_as_a_failure(server, monkeypatch):
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: high)
    with raw_client(server) as client:
        for count in range(1, 4):
            server.open_tunnel().close()
            client.wait_for(TunnelLost, count)
        assert [lost.retry_in for lost in client.seen(TunnelLost)] == [0.01, 0.02, 0.04]


def test_a_healthy_session_forgets_the_failures_before_it(server, monkeypatch):
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: high)
    with raw_client(server) as client:
        for _ in range(3):
            fail(server)
        client.wait_for(TunnelLost, 3)
        monkeypatch.setattr(retry, "HEALTHY", 0.001)
        control = server.open_tunnel()
        server.accept_proxy()
        client.wait_for(TunnelOpened)
        gevent.sleep(0.002)
        control.close()
        client.wait_for(TunnelLost, 4)
        fail(server)
        client.wait_for(TunnelLost, 5)
        assert [lost.retry_in for lost in client.seen(TunnelLost)] == [0.01, 0.02, 0.04, 0.0, 0.01]


def test_a_server_that_says_no_more_is_left_and_dialled_again(server, version):
    """LTP/0.2 leaves the time to the client, LTP/0.3 has the server tell its interval."""
    with raw_client(server, timeouts={**RETRY_SOON, "heartbeat": 0.1}) as client:
        if version == "0.2":
            server.open_tunnel()
        else:
            server.open_tunnel(heartbeat=0.05)
        assert client.wait_for(TunnelLost).code == "deadline"
        server.open_tunnel()
        client.wait_for(TunnelOpened, 2)


@pytest.mark.parametrize("sent", [frame({"hello": 1}), b"HTTP/1.1 400 Bad Request\r\n\r\n", frame([])])
def test_a_server_that_talks_nonsense_is_tried_again(server, sent):
    with raw_client(server) as client:
        server.accept_control()[0].sendall(sent)
        assert client.wait_for(TunnelLost).code in ("bad_message", "bad_frame")
        server.open_tunnel()
        client.wait_for(TunnelOpened)


def test_a_server_that_fails_is_tried_again(server):
    with raw_client(server) as client:
        server.accept_control()[0].sendall(frame({"error": "exception", "message": "Oops."}))
        assert client.wait_for(TunnelLost).message == "Oops."
        server.open_tunnel()
        client.wait_for(TunnelOpened)


def test_a_chosen_name_that_is_taken_ends_the_client(server):
    with raw_client(server) as client:
        assert refuse_first_name(server) == "foo"
        assert isinstance(client.ended(), NameUnavailable)
        assert said(client) == []


def test_a_generated_name_that_is_taken_is_replaced_by_another(server):
    with raw_client(server, name=None) as client:
        taken = refuse_first_name(server)
        server.open_tunnel()
        assert client.wait_for(TunnelOpened).name != taken


def test_generated_names_are_not_tried_for_ever(server):
    with raw_client(server, name=None) as client:
        names = {refuse_first_name(server)}
        names |= {refuse_name(server) for _ in range(app_module.GENERATED_TRIES - 1)}
        assert isinstance(client.ended(), NameUnavailable)
        assert len(names) == app_module.GENERATED_TRIES


def test_after_a_session_a_taken_name_is_its_own_ghost_for_a_while(server):
    with raw_client(server) as client:
        server.open_tunnel().close()
        for count, refuse in ((2, refuse_first_name), (3, refuse_name)):
            assert refuse(server) == "foo"
            assert client.wait_for(TunnelLost, count).code == "unavailable"
        server.open_tunnel()
        client.wait_for(TunnelOpened, 2)


def test_the_patience_with_a_ghost_ends(server, monkeypatch):
    monkeypatch.setattr(app_module, "GHOST_PATIENCE", 0.0)
    with raw_client(server) as client:
        server.open_tunnel().close()
        refuse_first_name(server)
        assert isinstance(client.ended(), NameUnavailable)


def test_another_version_ends_the_client(server, version):
    with raw_client(server) as client:
        if version == "0.3":
            # Once it has been met at LTP/0.3, nothing is fallen back to.
            server.open_tunnel().close()
        server.accept_control()[0].sendall(frame({"error": "version", "message": "LTP/9.9 only."}))
        error = client.ended()
        assert isinstance(error, VersionError)
        assert error.fact == "LTP/9.9 only."


def test_a_server_that_was_told_to_speak_0_2_only_is_met_there():
    """Ours answers with an error where that of 2013 closes."""
    with (
        running_server(legacy="only") as server,
        running_client(server.frontend_addresses[0], 1, name="foo", legacy=True, timeouts=RETRY_SOON) as client,
    ):
        assert [type(event) for event in client.events] == [ServerNotice, TunnelOpened]
        assert "falling back to LTP/0.2" in client.events[0].text
        assert server.registry.find("foo").tunnel.version is LTP_0_2


# Without retrying.


def test_without_retrying_an_unreachable_server_ends_the_client():
    port = unused_port()
    with running_client((LOOPBACK, port), 1, opened=False, name="foo", retry=False) as client:
        error = client.ended()
        assert isinstance(error, Unreachable)
        assert f"{LOOPBACK}:{port}" in str(error)
        assert client.events == []


def test_with_retrying_an_unreachable_server_is_waited_for():
    port = unused_port()
    with running_client((LOOPBACK, port), 1, opened=False, name="foo", timeouts=RETRY_SOON) as client:
        lost = client.wait_for(TunnelLost, 2)
        assert lost.code == "connection_refused"
        assert lost.retry_in is not None
        with running_server(frontend=f"{LOOPBACK}:{port}"):
            assert not client.wait_for(TunnelOpened).resumed


def test_without_retrying_the_end_of_the_session_ends_the_client(server):
    with raw_client(server, retry=False) as client:
        server.open_tunnel().sendall(frame({"error": "exception", "message": "Going down."}))
        assert isinstance(client.ended(), RemoteFailure)
        assert client.seen(TunnelLost) == []


def test_without_retrying_silence_ends_the_client(server):
    with raw_client(server, retry=False, timeouts={"reply": 0.1}) as client:
        server.accept_control()
        assert isinstance(client.ended(), DeadlineExceeded)


@pytest.mark.parametrize("fault", ["ours", "the server's"])
def test_after_a_flood_the_next_attempt_waits_for_half_a_minute_however_healthy_the_session_was(
    server, fault, monkeypatch
):
    """Whichever side sent too much: the fault that made it do so is still there."""
    monkeypatch.setattr(retry, "HEALTHY", 0.0)
    with raw_client(server) as client:
        control = server.open_tunnel()
        server.accept_proxy()
        client.wait_for(TunnelOpened)
        if fault == "ours":
            control.sendall(frame({"error": "flooded", "message": "Too many messages."}))
        else:
            control.sendall(frame({"control": "ping"}) * 1000)
        lost = client.wait_for(TunnelLost)
        assert lost.code == "flooded"
        assert FLOODED_PAUSE <= lost.retry_in <= FLOODED_PAUSE * retry.FLOODED_SPREAD
        assert len(client.seen(TunnelLost)) == 1


def test_without_retrying_a_flood_ends_the_client(server):
    with raw_client(server, retry=False) as client:
        server.open_tunnel().sendall(frame({"control": "ping"}) * 1000)
        error = client.ended()
        assert isinstance(error, Flooded)
        assert exit_code(error) == UNREACHABLE


def test_advice_is_for_those_who_have_not_been_connected_yet():
    """Whoever was has the right server, and does not want to hear where to start one."""
    port = unused_port()
    settings = {"name": "foo", "timeouts": RETRY_SOON}
    with running_client((LOOPBACK, port), 1, opened=False, **settings) as client:
        assert client.wait_for(TunnelLost).message.endswith("Start lt-server there, or name yours with --server.")
        with running_server(frontend=f"{LOOPBACK}:{port}"):
            client.wait_for(TunnelOpened)
            before = len(client.seen(TunnelLost))
        client.wait_for(TunnelLost, before + 4)
        messages = [lost.message for lost in client.seen(TunnelLost)[before:]]
        assert any("(connection refused)." in message for message in messages)
        assert not any("--server" in message for message in messages)
