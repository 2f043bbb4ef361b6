"""A name has one owner, end to end: by the key that a client keeps, across restarts of client and server."""

import itertools
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import gevent
import pytest
from gevent import socket
from harness import (
    HEADER_0_2,
    RETRY_SOON,
    ClientProcess,
    Program,
    ServerProcess,
    answer_hello,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    read_message,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.exchanges import HOST, OK, running_site
from harness.v3 import Peer, ask, control_request, park, parked, proxy_request

from localtunnel.client.events import TunnelLost, TunnelOpened
from localtunnel.client.trust.identity import KEY_FILE
from localtunnel.errors import ClientReplaced, NameUnavailable
from localtunnel.protocol import limits

QUICK = {"timeouts": {"error_hold": 0.0}}
STRANGER = {"client": "eve@elsewhere;Linux", "instance": "eve"}


IMPATIENT = "[timeouts]\nretry_longest = 0.5\n"

no_leaks = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def upstream():
    with running_upstream(answer_hello) as port:
        yield port


def same_owner(directory: Path, source: Path) -> str:
    """Make ``directory`` another machine's, with the key of the owner whose is ``source``."""
    directory.mkdir(mode=0o700)
    shutil.copy(source / KEY_FILE, directory / KEY_FILE)
    return str(directory)


@no_leaks
def test_a_client_owns_its_names_by_its_key(tmp_path, upstream):
    with running_server(**QUICK) as server:
        with running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path / "ann")) as client:
            assert server.registry.find("demo").owner.kept
            key = client.client._key
            assert key not in repr(server.registry.claims())
            with running_client(frontend(server), upstream, name="demo", opened=False) as stranger:
                error = stranger.ended()
                assert isinstance(error, NameUnavailable)
                assert str(error) == "The name 'demo' is in use by another client; choose another one."
            assert fetch(frontend(server), request("demo.localhost")).body == b"hello"
        wait_until(lambda: server.registry.find("demo") is None, what="the name is released")


@no_leaks
def test_another_machine_of_the_owner_takes_over_when_it_is_told_to(tmp_path, upstream):
    with (
        running_server(**QUICK) as server,
        running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path / "desk")) as desk,
    ):
        laptop = {"name": "demo", "data_dir": same_owner(tmp_path / "laptop", tmp_path / "desk")}
        with running_client(frontend(server), upstream, opened=False, **laptop) as refused:
            assert "--takeover" in str(refused.ended())
        with running_client(frontend(server), upstream, takeover=True, **laptop):
            assert isinstance(desk.ended(), ClientReplaced)
            assert fetch(frontend(server), request("demo.localhost")).body == b"hello"


@no_leaks
def test_a_key_that_was_sent_in_the_clear_owns_nothing(tmp_path, upstream):
    """Nor does our client send it so."""
    with running_server(**QUICK) as server:
        with Peer(backend(server), owner="a" * 64):
            assert not server.registry.find("demo").owner.kept
        insecure = {"name": "other", "data_dir": str(tmp_path / "data"), "insecure": True}
        with running_client(frontend(server), upstream, **insecure):
            assert not server.registry.find("other").owner.kept
            assert not (tmp_path / "data" / KEY_FILE).exists()


@no_leaks
def test_how_long_a_name_is_kept_depends_on_how_its_owner_is_known(tmp_path, upstream, monkeypatch):
    asked = []
    with running_server(timeouts={"error_hold": 0.0, "lease": 300.0}) as server:
        lease = server.registry.lease
        monkeypatch.setattr(server.registry, "lease", lambda *values: (asked.append(values[1]), lease(*values)))
        with Peer(backend(server)):
            pass
        wait_until(lambda: asked == [limits.LEASE])
        with running_client(frontend(server), upstream, name="mine") as client:
            server.registry.find("mine").tunnel.end("no heartbeat")
            wait_until(lambda: asked == [limits.LEASE, 300.0])
            client.wait_for(TunnelOpened, 2)


@no_leaks
def test_a_stranger_is_refused_and_the_owner_loses_no_visitor(tmp_path, upstream):
    """By name, with a stolen session, with a wrong or an old one, as a proxy connection, and in LTP/0.2."""
    with (
        running_server(**QUICK) as server,
        running_client(frontend(server), upstream, name="demo", data_dir=str(tmp_path)) as client,
    ):
        visitors = gevent.spawn(lambda: [fetch(frontend(server), request("demo.localhost")) for _ in range(40)])
        session = server.registry.find("demo").session
        for fields in ({}, {"resume": session}, {"resume": "0" * 32}, {"takeover": True}, {"owner": "a" * 64}):
            refused = ask(backend(server), control_request("demo", **STRANGER, **fields))
            assert refused["error"] == "unavailable", fields
        old = frame({"control": {"name": "demo", "client": "eve@elsewhere;Linux;eve"}})
        assert ask(backend(server), HEADER_0_2 + old)["error"] == "unavailable"
        assert ask(backend(server), proxy_request("demo", session))["error"] == "unavailable"
        assert [response.status for response in visitors.get()] == [200] * 40
        assert client.seen(TunnelLost) == []


def restarted(server: ServerProcess, config: str) -> ServerProcess:
    """Return a server in the place of one that was killed."""
    return ServerProcess(config=config, frontend_port=server.frontend[1], backend_port=server.backend[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_of_the_server_frees_no_name(tmp_path, upstream, number):
    config = f'data_dir = "{tmp_path / "server"}"\ngrace = 0\n[timeouts]\nerror_hold = 0\n'
    environment = {"XDG_DATA_HOME": str(tmp_path / "ann")}
    with ServerProcess(config=config) as server:
        with ClientProcess(upstream, server=server.frontend, name="demo", env=environment) as client:
            client.wait_until_open()
            # Both end without a goodbye: the client's machine loses its power, and then the server is stopped.
            client.signal(signal.SIGKILL)
            client.wait()
            wait_until(lambda: server.metrics()["tunnels"] == 0)
        server.signal(number)
        server.wait()
        with restarted(server, config) as again:
            offline = fetch(again.frontend, request("demo.localhost"))
            assert (offline.status, offline.fields["x-localtunnel-error"]) == (503, "client_offline")
            assert fetch(again.frontend, request("other.localhost")).fields["x-localtunnel-error"] == "tunnel_not_found"
            with ClientProcess(upstream, server=again.frontend, name="demo") as stranger:
                assert stranger.wait() == 5
                assert "is in use by another client" in stranger.stderr
            with ClientProcess(upstream, server=again.frontend, name="demo", env=environment) as client:
                client.wait_until_open()
                assert fetch(again.frontend, request("demo.localhost")).body == b"hello"
                client.stop()
            wait_until(
                lambda: fetch(again.frontend, request("demo.localhost")).status == 404, what="the name is released"
            )


def test_a_client_that_is_open_finds_its_name_after_a_crash_of_the_server(tmp_path, upstream):
    config = f'data_dir = "{tmp_path / "server"}"\n[timeouts]\nerror_hold = 0\n'
    with (
        ServerProcess(config=config) as server,
        ClientProcess(upstream, server=server.frontend, name="demo", config=IMPATIENT) as client,
    ):
        client.wait_until_open()
        server.signal(signal.SIGKILL)
        server.wait()
        client.wait_for_event("tunnel_lost")
        with restarted(server, config) as again:
            client.wait_for_event("tunnel_opened", 2)
            assert fetch(again.frontend, request("demo.localhost")).body == b"hello"


@no_leaks
@pytest.mark.parametrize("key", ["tunnels", "tunnels_per_address", "tunnels_per_owner"])
def test_caps_on_tunnels(key):
    with running_server(**QUICK, quotas={key: 1}) as server, Peer(backend(server), "one"):
        assert ask(backend(server), control_request("two"))["error"] == "limit_reached"
    with running_server(**QUICK) as server, Peer(backend(server), "one"):
        assert "control" in ask(backend(server), control_request("two"))


@no_leaks
@pytest.mark.parametrize("key", ["parked", "parked_per_address", "parked_per_owner"])
def test_caps_on_parked_connections(key):
    with running_server(**QUICK, quotas={key: 2}) as server, Peer(backend(server)) as peer:
        first, _ = park(server, peer, 2)
        refused = peer.park()
        assert read_message(refused)["error"] == "limit_reached"
        first.close()
        wait_until(lambda: "parked=1" in repr(server.registry.find("demo").tunnel))
        park(server, peer)


@no_leaks
@pytest.mark.parametrize("key", ["joined", "joined_per_owner"])
def test_caps_on_joins(key):
    with running_site("0.3", **QUICK, quotas={key: 1}) as site:
        visitor, upstream = site.join(request(HOST, "/first"))
        assert upstream.message().target == "/first"
        assert fetch(site.address, request(HOST)).status == 503
        upstream.send(OK)
        assert visitor.message().body == b"ok"
        site.visit(request(HOST, "/second"))
        assert upstream.message().target == "/second"


@no_leaks
@pytest.mark.parametrize("key", ["strangers", "strangers_per_address"])
def test_caps_on_connections_that_have_said_nothing(key):
    """One too many gets the place of the oldest, so that whoever speaks is heard."""
    with running_server(**QUICK, quotas={key: 2}) as server:
        silent = []
        for count in range(1, 6):
            silent.append(connect(backend(server)))
            wait_until(lambda count=count: server.stats().arriving == min(count, 2))
        for sock in silent[:3]:
            assert read_to_end(sock) == b""
        with Peer(backend(server)) as peer:
            park(server, peer, 5)
        for sock in silent:
            sock.close()


class Flood:
    """Opens silent connections from ``addresses`` in turn: ``most`` at a time, and one for each that ends."""

    def __init__(self, server, most, addresses):
        self.opened = 0
        self._address = backend(server)
        self._sources = itertools.cycle(addresses)
        self._greenlets = [gevent.spawn(self._run) for _ in range(most)]

    def _run(self):
        while True:
            with socket.socket() as sock, suppress(ConnectionResetError):
                sock.bind((next(self._sources), 0))
                sock.connect(self._address)
                self.opened += 1
                sock.recv(1)

    def close(self):
        gevent.killall(self._greenlets)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@no_leaks
@pytest.mark.parametrize("addresses", [1, 4, 64])
def test_a_flood_of_silent_connections_shuts_nobody_out(upstream, addresses):
    """Neither a client at first contact, with its handshake and its pool, nor one that comes back."""
    sources = [f"127.0.1.{number}" for number in range(1, 1 + addresses)]
    quotas = {"strangers": 64, "strangers_per_address": 0}
    with running_server(quotas=quotas) as server, Flood(server, 96, sources) as flood:
        wait_until(lambda: flood.opened > 200, what="the flood")
        with running_client(frontend(server), upstream, name="demo", timeouts=RETRY_SOON) as client:
            assert [event for event in client.events if isinstance(event, TunnelLost)] == []
            wait_until(lambda: parked(server) == 4, what="the pool")
            before = flood.opened
            wait_until(lambda: flood.opened > before + 200, what="more of the flood")
            server.registry.find("demo").tunnel.end("cut")
            client.wait_for(TunnelOpened, 2)
            assert fetch(frontend(server), request("demo.localhost")).status == 200


def test_two_servers_cannot_have_one_data_directory(tmp_path):
    config = f'data_dir = "{tmp_path}"\n'
    with ServerProcess(config=config):
        port = f"127.0.0.1:{unused_port()}"
        with Program("lt-server", [f"--frontend={port}", "--backend=127.0.0.1:0"], config, None) as second:
            assert second.wait(15) == 3
            assert "Another lt-server uses the data directory" in second.stderr
