"""TCP tunnels: SSH, PostgreSQL and Redis through the real programs, ports that are refused, and ports given back."""

import errno
import os
import pwd
import signal
import socket as plain_socket
from contextlib import contextmanager

import pytest
from harness import (
    LOOPBACK,
    ClientProcess,
    ServerProcess,
    backend,
    connect,
    frontend,
    is_reset,
    read_exactly,
    read_message,
    read_to_end,
    running_client,
    running_server,
    running_upstream,
    tcp_programs,
    unused_port,
    wait_until,
)
from harness.link import Link
from harness.tls import tls_connect
from harness.v3 import Peer, ask, control_request, failed, park

from localtunnel.client.events import TunnelOpened, UpstreamFailed

SLOW = pytest.mark.slow
GREETING = b"220 ready when you are\r\n"


@pytest.fixture
def ports():
    """The first of three free ports in a row."""
    return unused_port(count=3)


def is_refused(port):
    with plain_socket.socket() as sock:
        return sock.connect_ex((LOOPBACK, port)) == errno.ECONNREFUSED


def offering(ports):
    """Return settings of a server that offers three ports."""
    return {"tcp_ports": f"{ports}-{ports + 2}", "timeouts": {"error_hold": 0.0, "pool_wait": 1.0}}


def offered(ports):
    """Return the same as the text of a file."""
    return f'tcp_ports = "{ports}-{ports + 2}"\n'


def greet_and_echo(sock):
    """Speak first, then echo until the visitor ends its direction."""
    sock.sendall(GREETING)
    while data := sock.recv(65536):
        sock.sendall(data)


def port_of(reply):
    """Return the public port that a raw client was told."""
    return int(reply["control"]["host"].rpartition(":")[2])


@contextmanager
def tunnelled(target, ports):
    """Run ``lt-server`` and ``lt-client tcp`` for the program on ``target``; yields the public port."""
    with (
        ServerProcess(config=offered(ports)) as server,
        ClientProcess(target, "tcp", server=server.frontend, name="demo") as client,
    ):
        scheme, _, address = client.wait_until_open().partition("://")
        assert scheme == "tcp"
        yield int(address.rpartition(":")[2])


@SLOW
def test_ssh(tmp_path, ports):
    data = os.urandom(300_000)
    (tmp_path / "data").write_bytes(data)
    target = unused_port()
    with tcp_programs.sshd(tmp_path, target) as options, tunnelled(target, ports) as port:
        user = pwd.getpwuid(os.geteuid()).pw_name
        command = ["ssh", *options, f"-p{port}", f"{user}@{LOOPBACK}"]
        for _ in range(3):
            ran = tcp_programs.run(*command, f"cat {tmp_path / 'data'}", text=False)
            assert (ran.returncode, ran.stdout == data) == (0, True), ran.stderr


@SLOW
def test_redis(tmp_path, ports):
    target = unused_port()
    with tcp_programs.redis(tmp_path, target), tunnelled(target, ports) as port:
        command = ["redis-cli", "-h", LOOPBACK, "-p", str(port)]
        assert tcp_programs.run(*command, "set", "word", "tunnel").stdout == "OK\n"
        assert tcp_programs.run(*command, "get", "word").stdout == "tunnel\n"
        # 200 commands over one connection, each on a line of its own.
        ran = tcp_programs.run(*command, input="incr count\n" * 200)
        assert ran.stdout.split() == [str(number) for number in range(1, 201)]


@SLOW
def test_postgresql(tmp_path, ports):
    directory = tmp_path / "postgresql"
    directory.mkdir()
    target = unused_port()
    with tcp_programs.postgresql(directory, target), tunnelled(target, ports) as port:
        command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", LOOPBACK, "-p", str(port), "-U", "test"]
        query = "create table t as select g, repeat('x', 1000) x from generate_series(1, 2000) g; select sum(g) from t"
        ran = tcp_programs.run(*command, "-c", query, "postgres")
        assert (ran.returncode, ran.stdout.strip()) == (0, "2001000"), ran.stderr
        ran = tcp_programs.run(*command, "-c", "select x from t", "postgres")
        assert ran.stdout == ("x" * 1000 + "\n") * 2000


@pytest.mark.usefixtures("no_leaks")
def test_the_upstream_may_speak_first_and_half_closes_travel(ports):
    with running_upstream(greet_and_echo) as target, running_server(**offering(ports)) as server:
        with running_client(frontend(server), target, kind="tcp") as client:
            assert client.seen(TunnelOpened)[0].url == f"tcp://localhost:{ports}"
            with connect((LOOPBACK, ports)) as visitor:
                assert read_exactly(visitor, len(GREETING)) == GREETING
                visitor.sendall(b"hello" * 100_000)
                visitor.shutdown(plain_socket.SHUT_WR)
                assert read_to_end(visitor) == b"hello" * 100_000
        wait_until(lambda: is_refused(ports), what="nobody listens on the port")


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("word", ["refused", "timeout"])
def test_an_upstream_that_is_down_ends_the_visitors_connection(ports, word):
    with running_server(**offering(ports)) as server, Peer(backend(server), kind="tcp") as peer:
        (proxy,) = park(server, peer)
        with connect((LOOPBACK, port_of(peer.reply))) as visitor:
            assignment = read_message(proxy)["proxy"]
            assert assignment["kind"] == "tcp"
            assert assignment["peer"] == "{}:{}".format(*visitor.getsockname())
            proxy.sendall(failed(assignment["id"], word))
            assert is_reset(visitor)


@pytest.mark.usefixtures("no_leaks")
def test_the_client_reports_an_upstream_that_is_down(ports):
    target = unused_port()
    with running_server(**offering(ports)) as server, running_client(frontend(server), target, kind="tcp") as client:
        with connect((LOOPBACK, ports)) as visitor:
            assert is_reset(visitor)
        assert client.wait_for(UpstreamFailed).code == "connection_refused"


@pytest.mark.parametrize(
    ("config", "option", "reason"),
    [
        ("", [], "offers no TCP tunnels"),
        ('tcp_ports = "{first}-{first}"\n', ["--remote-port=1"], "Port 1 is not offered"),
        ('tcp_ports = "{first}-{last}"\n', ["--remote-port={first}"], "belongs to another tunnel"),
        ('tcp_ports = "{first}-{first}"\n', [], "Every TCP port of this server is taken"),
        ('tcp_ports = "{taken}-{taken}"\n', [], "another program on the server is using it"),
    ],
    ids=["off", "out of range", "taken", "all taken", "another program's"],
)
def test_a_port_that_is_refused_ends_the_client_with_exit_code_5(ports, config, option, reason):
    numbers = {"first": ports, "last": ports + 1, "taken": ports + 2}
    ports_taken = "is taken" in reason or "another tunnel" in reason
    with plain_socket.socket() as other, ServerProcess(config=config.format(**numbers)) as server:
        other.bind((LOOPBACK, numbers["taken"]))
        other.listen()
        holder = Peer(server.backend, "holder", kind="tcp") if ports_taken else None
        assert holder is None or port_of(holder.reply) == ports
        arguments = [word.format(**numbers) for word in option]
        with ClientProcess(9, "tcp", *arguments, server=server.frontend) as client:
            assert client.wait() == 5
            assert reason in client.stderr
        assert server.metrics()["tunnels"] == ports_taken
        if holder is not None:
            holder.close()


@pytest.mark.usefixtures("no_leaks")
def test_a_port_stays_with_its_session_while_the_client_is_away(ports):
    with running_server(**offering(ports)) as server:
        with Peer(backend(server), kind="tcp") as peer:
            session, port = peer.session, port_of(peer.reply)
        wait_until(lambda: not server.registry.tunnels())
        stranger = {"client": "stranger@elsewhere;Plan 9", "kind": "tcp"}
        for name in ("second", "third"):
            assert port_of(ask(backend(server), control_request(name, **stranger))) != port
        asked = ask(backend(server), control_request("fourth", **stranger, port=port))
        assert asked["error"] == "port_refused"
        with Peer(backend(server), kind="tcp", resume=session) as heir:
            assert port_of(heir.reply) == port


@pytest.mark.parametrize("option", ["--remote-port={port}", "--name=demo"])
def test_a_client_that_was_killed_gets_its_port_back_at_once(ports, tmp_path, option):
    """Whether it asks for the port, under whatever name, or for the name: both are its owner's."""
    same_user = {"XDG_DATA_HOME": str(tmp_path)}
    arguments = ["tcp", option.format(port=ports + 1)]
    with running_upstream(greet_and_echo) as target, ServerProcess(config=offered(ports)) as server:
        with ClientProcess(9, "tcp", server=server.frontend) as other:
            other.wait_until_open()
            urls = []
            for number in range(1, 4):
                with ClientProcess(target, *arguments, server=server.frontend, env=same_user) as client:
                    urls.append(client.wait_until_open())
                    port = int(urls[-1].rpartition(":")[2])
                    with connect((LOOPBACK, port)) as visitor:
                        assert read_exactly(visitor, len(GREETING)) == GREETING
                    client.signal(signal.SIGKILL)
                    client.wait()
                    server.wait_for_record("tunnel closed", number, cap=1)
        assert len(set(urls)) == 1
        with ClientProcess(target, "tcp", f"--remote-port={port}", server=server.frontend) as stranger:
            assert stranger.wait() == 5
            assert "belongs to another tunnel" in stranger.stderr


@pytest.mark.usefixtures("no_leaks")
def test_a_port_that_has_moved_to_another_name_stays_there_after_a_restart(ports, tmp_path):
    """The name that had it is kept as well, without it."""
    key = {"owner": "5e" * 32, "kind": "tcp", "connect": tls_connect}
    settings = {**offering(ports), "data_dir": str(tmp_path)}
    with running_server(**settings) as server:
        with Peer(backend(server), "zzz", **key, port=ports):
            pass
        wait_until(lambda: not server.registry.tunnels())
        with Peer(backend(server), "aaa", **key, port=ports) as heir:
            assert port_of(heir.reply) == ports
    with running_server(**settings) as server:
        assert {claim.name: claim.port for claim in server.registry.claims()} == {"aaa": ports, "zzz": None}


@pytest.mark.usefixtures("no_leaks")
def test_a_port_is_taken_over_from_a_ghost_that_is_still_connected(ports):
    with (
        running_server(**offering(ports)) as server,
        Peer(backend(server), kind="tcp") as ghost,
        Peer(backend(server), kind="tcp", resume=ghost.session) as heir,
    ):
        assert "error" not in heir.reply, heir.reply
        assert port_of(heir.reply) == port_of(ghost.reply)
        wait_until(ghost.ended)
        (proxy,) = park(server, heir)
        with connect((LOOPBACK, port_of(heir.reply))):
            assert read_message(proxy)["proxy"]["kind"] == "tcp"


@pytest.mark.usefixtures("no_leaks")
def test_a_real_client_gets_its_port_back_and_its_visitors_stay(ports):
    with (
        running_upstream(greet_and_echo) as target,
        running_server(**offering(ports)) as server,
        Link(backend(server)) as link,
        running_client(frontend(server), target, kind="tcp", backend=link.port, insecure=True) as client,
        connect((LOOPBACK, ports)) as visitor,
    ):
        assert read_exactly(visitor, len(GREETING)) == GREETING
        link.controls[0].cut(reset=True)
        assert client.wait_for(TunnelOpened, 2).url == f"tcp://localhost:{ports}"
        visitor.sendall(b"still here")
        assert read_exactly(visitor, 10) == b"still here"
        with connect((LOOPBACK, ports)) as other:
            assert read_exactly(other, len(GREETING)) == GREETING


@pytest.mark.usefixtures("no_leaks")
def test_released_ports_are_free_and_the_one_that_was_free_the_longest_is_next(ports):
    with running_server(**offering(ports)) as server:
        given = []
        for number in range(4):
            with Peer(backend(server), f"tunnel-{number}", kind="tcp") as peer:
                given.append(port_of(peer.reply) - ports)
                peer.control.sendall(b'\x00\x00\x00\x10{"release":true}')
                wait_until(peer.ended)
        assert given == [0, 1, 2, 0]
        wait_until(lambda: is_refused(ports), what="nobody listens on the port")
