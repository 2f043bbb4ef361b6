"""Encryption from end to end: what is on the wire, who is refused, and that the wrong one hears nothing of value."""

import socket

import gevent
import pytest
import trustme
from harness import (
    LOOPBACK,
    RETRY_SOON,
    ClientProcess,
    RawServer,
    ServerProcess,
    answer_hello,
    backend,
    fetch,
    frontend,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.link import Link
from harness.state import own_directory, put_server_key
from harness.tls import ManInTheMiddle, authority_of_this_machine, tls_connect, write_certificate

from localtunnel.client.events import ServerNotice, ServerPinned, TunnelLost, TunnelOpened
from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.errors import CertificateUntrusted, ConfigError, DowngradeRefused, KeyChanged
from localtunnel.net.tls.keys import fingerprint
from localtunnel.server.clients import arrival

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def upstream():
    with running_upstream(answer_hello) as port:
        yield port


def key_of(server):
    with tls_connect(backend(server)) as sock:
        return fingerprint(sock.getpeercert(True))


def known_as(server):
    return f"{frontend(server)[0]}:{frontend(server)[1]}"


def ended(server, target, **settings):
    """Return the error with which a client ends that is to open no tunnel."""
    with running_client(frontend(server), target, opened=False, name="demo", timeouts=RETRY_SOON, **settings) as client:
        error = client.ended()
        assert not client.seen(TunnelOpened)
        return error


# What is on the wire.


def test_nothing_can_be_read_on_the_way(upstream, tmp_path):
    with running_server() as server, Link(backend(server)) as link:
        settings = {"name": "secretname", "backend": link.port, "data_dir": str(tmp_path)}
        with running_client(frontend(server), upstream, **settings) as client:
            assert fetch(frontend(server), request("secretname.localhost", "/secretpath")).body == b"hello"
            # The pool is filled up again meanwhile: a new connection has said nothing at first.
            wait_until(lambda: all(line.from_client for line in link.lines), what="every connection begins")
            wire = b"".join(bytes(line.from_client + line.from_server) for line in link.lines)
            assert len(wire) > 2000
            for word in (b"secretname", b"secretpath", b"hello", b"LTP/", b"control"):
                assert word not in wire
            assert all(line.from_client.startswith(b"\x16\x03") for line in link.lines)
            (pinned,) = client.seen(ServerPinned)
            assert (pinned.fingerprint, pinned.server) == (key_of(server), known_as(server))


def test_the_pool_resumes_the_session_of_the_control_connection(upstream, monkeypatch):
    resumed = []

    class Watched(arrival.Handshake):
        def _finish(self, sock, error):
            resumed.append(sock is not None and sock.session_reused)
            super()._finish(sock, error)

    monkeypatch.setattr(arrival, "Handshake", Watched)
    with running_server() as server, running_client(frontend(server), upstream, name="demo"):
        wait_until(lambda: len(resumed) >= 5, what="the pool")
        # The first attempt asked the authorities of this machine; the second met the server.
        assert resumed[:2] == [False, False]
        assert all(resumed[2:])


def test_a_reconnecting_client_resumes_and_has_its_name_over_tls_alone(upstream):
    with running_server() as server, Link(backend(server)) as link:
        settings = {"name": "demo", "backend": link.port, "timeouts": RETRY_SOON}
        with running_client(frontend(server), upstream, **settings) as client:
            session = server.registry.find("demo").session
            server.registry.find("demo").tunnel.end("cut")
            assert client.wait_for(TunnelOpened, 2).resumed
            assert server.registry.find("demo").session == session
            assert len(client.seen(ServerPinned)) == 1
            wait_until(lambda: fetch(frontend(server), request("demo.localhost")).status == 200)
        assert all(line.from_client.startswith(b"\x16\x03") for line in link.lines)


# The first contact, and those after it.


def test_the_first_contact_is_pinned_and_the_next_run_knows_it(upstream, tmp_path):
    with running_server() as server:
        for run in range(2):
            with running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path)) as client:
                assert len(client.seen(ServerPinned)) == (1 if run == 0 else 0)
        known = KnownServers(tmp_path).find(known_as(server))
        assert (known.mode, known.fingerprint) == ("pin", key_of(server))


def test_a_server_that_refuses_the_tunnel_is_not_pinned(upstream, tmp_path):
    with running_server() as server, running_client(frontend(server), upstream, name="demo"):
        error = ended(server, upstream, data_dir=str(tmp_path), retry=False)
        assert error.code == "unavailable"
        assert KnownServers(tmp_path).find(known_as(server)) is None


def test_a_changed_key_stops_the_client_with_exit_code_4(upstream, tmp_path):
    port = unused_port()
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    with (
        ServerProcess(frontend_port=port) as server,
        ClientProcess(upstream, server=server.frontend, name="demo", env=environment) as client,
    ):
        client.wait_until_open()
        client.stop()
    other = {"XDG_DATA_HOME": str(tmp_path / "other")}
    with (
        ServerProcess(frontend_port=port, env=other) as server,
        ClientProcess(upstream, server=server.frontend, name="demo", env=environment) as client,
    ):
        assert client.wait() == 4
        failed = next(event for event in client.events if event["event"] == "failed")
        assert failed["code"] == "key_changed"
        path = tmp_path / "localtunnel" / "known-servers"
        assert f"line 3 of {path}" in client.stderr
        path.write_text("")
        with ClientProcess(upstream, server=server.frontend, name="demo", env=environment) as again:
            again.wait_until_open()


def test_the_fingerprint_that_the_server_prints_is_the_one_to_give(upstream, tmp_path):
    put_server_key(tmp_path)
    with running_server(data_dir=str(tmp_path)) as server:
        with running_client(frontend(server), upstream, name="demo", fingerprint=key_of(server)):
            assert fetch(frontend(server), request("demo.localhost")).status == 200
        error = ended(server, upstream, fingerprint="SHA256:" + "A" * 43)
        assert isinstance(error, KeyChanged)
        assert "the one that you gave" in str(error)


def test_a_fingerprint_is_of_no_use_without_encryption(upstream):
    with (
        pytest.raises(ConfigError, match="leave one of the two out"),
        running_client((LOOPBACK, 1), upstream, opened=False, insecure=True, fingerprint="SHA256:" + "A" * 43),
    ):
        pass


# Certificates of an authority.


def test_a_server_with_a_certificate_is_verified_and_not_pinned(upstream, tmp_path, monkeypatch):
    authority = trustme.CA()
    path = write_certificate(authority, tmp_path, LOOPBACK)
    with (
        authority_of_this_machine(authority, tmp_path, monkeypatch),
        running_server(tls_certificate=str(path)) as server,
    ):
        with running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path)) as client:
            assert not client.seen(ServerPinned)
        assert KnownServers(tmp_path).find(known_as(server)).mode == "roots"
        # A new key is no news, as long as the authority has signed it.
        write_certificate(authority, tmp_path, LOOPBACK)
        server._certificate.refresh()
        with running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path)):
            pass
        # A key of its own is.
        write_certificate(trustme.CA(), tmp_path, LOOPBACK)
        server._certificate.refresh()
        error = ended(server, upstream, data_dir=str(tmp_path))
        assert isinstance(error, KeyChanged)
        assert "was verified by a certificate authority before" in str(error)


def test_a_certificate_for_another_name_is_refused(upstream, tmp_path, monkeypatch):
    authority = trustme.CA()
    path = write_certificate(authority, tmp_path, "other.example.com")
    with (
        authority_of_this_machine(authority, tmp_path, monkeypatch),
        running_server(tls_certificate=str(path)) as server,
    ):
        error = ended(server, upstream)
        assert isinstance(error, CertificateUntrusted)
        assert "--fingerprint" in str(error)
        with running_client(frontend(server), upstream, name="demo", fingerprint=key_of(server)):
            pass


# A man in the middle.


@pytest.fixture
def in_the_middle(tmp_path):
    """Return what puts a man with a certificate of his own, for the right name, before a server."""
    path = write_certificate(trustme.CA(), tmp_path, LOOPBACK)
    return lambda server: ManInTheMiddle(backend(server), path)


@pytest.mark.parametrize("knows", ["pin", "fingerprint", "roots"])
def test_a_man_in_the_middle_hears_nothing(upstream, tmp_path, monkeypatch, in_the_middle, knows):
    authority = trustme.CA()
    own = tmp_path / "server"
    own.mkdir()
    path = write_certificate(authority, own, LOOPBACK)
    settings = {"tls_certificate": str(path)} if knows == "roots" else {}
    with (
        authority_of_this_machine(authority, own, monkeypatch),
        running_server(**settings) as server,
        in_the_middle(server) as man,
    ):
        mine = {"data_dir": str(tmp_path)}
        if knows == "fingerprint":
            mine["fingerprint"] = key_of(server)
        else:
            with running_client(frontend(server), upstream, name="demo", **mine):
                pass
        error = ended(server, upstream, backend=man.port, **mine)
        assert isinstance(error, KeyChanged)
        assert man.connections >= 1
        assert man.heard == b""


def test_without_any_of_these_he_is_taken_for_the_server_until_the_real_one_is_met(upstream, tmp_path, in_the_middle):
    """The price of the first contact, as PROTOCOL.md names it."""
    with running_server() as server, in_the_middle(server) as man:
        with running_client(frontend(server), upstream, name="demo", backend=man.port, data_dir=str(tmp_path)):
            assert b'"demo"' in man.heard
        assert isinstance(ended(server, upstream, data_dir=str(tmp_path)), KeyChanged)


def test_discovery_may_lie_about_the_port_and_nothing_comes_of_it(upstream, tmp_path):
    """The pin belongs to the name that the user typed, wherever the backend is said to be."""
    with running_server() as server, own_directory() as directory:
        with running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path)):
            pass
        path = write_certificate(trustme.CA(), directory, LOOPBACK)
        with ManInTheMiddle(backend(server), path) as man:
            server._meta.publish_backend(man.port)
            assert isinstance(ended(server, upstream, data_dir=str(tmp_path)), KeyChanged)
            assert man.heard == b""


# Downgrades.


def old_server(raw, connections):
    """Close every connection unanswered, as the server of 2013 does; keep what each began with."""
    while True:
        sock = raw.accept_silently()
        start = sock.recv(7, socket.MSG_WAITALL)
        connections.append(start)
        sock.close()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_server_that_was_met_is_not_spoken_to_at_0_2_or_in_the_clear(upstream, tmp_path, legacy):
    """An attacker who cuts the handshake short, as an old server would, gets another handshake and nothing else."""
    with running_server() as server:
        with running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path)):
            pass
        with RawServer() as raw:
            starts = []
            attacker = gevent.spawn(old_server, raw, starts)
            settings = {"backend": raw.port, "data_dir": str(tmp_path), "timeouts": RETRY_SOON, "name": "demo"}
            with running_client(frontend(server), upstream, opened=False, legacy=legacy, **settings) as client:
                client.wait_for(TunnelLost, 3)
                assert not client.seen(ServerNotice)
            attacker.kill()
            assert len(starts) >= 3
            assert all(start.startswith(b"\x16\x03") for start in starts)
        error = ended(server, upstream, data_dir=str(tmp_path), insecure=True)
        assert isinstance(error, DowngradeRefused)


@pytest.mark.parametrize("settings", [{"fingerprint": "SHA256:" + "A" * 43, "legacy": True}, {"kind": "tcp"}, {}])
def test_what_guards_something_has_no_fallback(upstream, settings):
    with RawServer() as raw:
        starts = []
        attacker = gevent.spawn(old_server, raw, starts)
        settings = {"backend": raw.port, "timeouts": RETRY_SOON, "name": "demo", **settings}
        with running_client((LOOPBACK, 9), upstream, opened=False, **settings) as client:
            client.wait_for(TunnelLost, 2)
        attacker.kill()
        assert all(start.startswith(b"\x16\x03") for start in starts)


def test_a_server_that_has_shaken_hands_is_never_taken_for_an_old_one(upstream, tmp_path):
    """Cut behind the handshake, by somebody who can cut connections but not read them."""
    path = write_certificate(trustme.CA(), tmp_path, LOOPBACK)
    with running_server() as server, ManInTheMiddle((LOOPBACK, unused_port()), path) as man:
        settings = {"backend": man.port, "timeouts": RETRY_SOON, "name": "demo", "legacy": True}
        with running_client(frontend(server), upstream, opened=False, **settings) as client:
            client.wait_for(TunnelLost, 2)
            assert not client.seen(ServerNotice)


def test_insecure_is_in_the_clear(upstream):
    with running_server() as server, Link(backend(server)) as link:
        settings = {"name": "demo", "backend": link.port, "insecure": True}
        with running_client(frontend(server), upstream, **settings) as client:
            assert fetch(frontend(server), request("demo.localhost")).body == b"hello"
            assert all(line.from_client.startswith(b"LTP/0.3") for line in link.lines)
            assert not client.seen(ServerPinned)
