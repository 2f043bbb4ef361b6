"""localtunnel.server.operator.admin: what the owner asks a running server, and ``lt-server tunnels``, which asks it."""

import json
import subprocess
import sys
from datetime import datetime, timezone

import gevent
import pytest
from harness import (
    LOOPBACK,
    ROOT,
    ClientProcess,
    RawClient,
    ServerProcess,
    answer_hello,
    backend,
    connect,
    fetch,
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
from harness.v3 import Peer, ask, control_request, park

from localtunnel.client.events import TunnelOpened
from localtunnel.errors import ClientKicked
from localtunnel.net import local

QUICK = {"timeouts": {"error_hold": 0.0}}


def command(directory, verb, subject=""):
    """Ask the server whose data is in ``directory``, from a thread."""
    question = json.dumps({"command": verb, "subject": subject}).encode()
    answer = gevent.get_hub().threadpool.apply(local.ask, (directory / "admin.sock", question))
    return json.loads(answer)


@pytest.fixture
def server(tmp_path):
    with running_server(data_dir=str(tmp_path), **QUICK) as made:
        yield made


@pytest.mark.usefixtures("no_leaks")
def test_the_list(tmp_path, server):
    assert command(tmp_path, "list") == {"tunnels": []}
    with Peer(backend(server), client="me@here;Linux") as peer:
        park(server, peer)
        (tunnel,) = command(tmp_path, "list")["tunnels"]
        assert 0 <= tunnel.pop("seconds") < 10
        assert tunnel == {
            "name": "demo",
            "state": "open",
            "kind": "http",
            "host": None,
            "port": None,
            "client": "me@here;Linux",
            "address": LOOPBACK,
            "owner": "",
            "visitors": 0,
        }
        assert peer.session not in json.dumps(tunnel)
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("demo.localhost"))
            wait_until(lambda: command(tmp_path, "list")["tunnels"][0]["visitors"] == 1)
    wait_until(lambda: command(tmp_path, "list")["tunnels"][0]["state"] == "offline")


@pytest.mark.usefixtures("no_leaks")
def test_a_tunnel_that_is_kicked_is_told_and_its_name_barred(tmp_path, server):
    with Peer(backend(server)) as peer:
        (proxy,) = park(server, peer)
        assert command(tmp_path, "kick", "demo") == {"ok": True}
        wait_until(peer.ended)
        assert peer.said("error") == ["kicked"]
        assert read_to_end(proxy) == b""
        assert fetch(frontend(server), request("demo.localhost")).fields["x-localtunnel-error"] == "client_offline"
        again = ask(backend(server), control_request("demo", resume=peer.session))
        assert again["error"] == "unavailable"
        assert command(tmp_path, "list")["tunnels"][0]["state"] == "barred"
        assert "no tunnel" in command(tmp_path, "kick", "demo")["error"]


@pytest.mark.usefixtures("no_leaks")
def test_a_client_of_0_2_is_told_too(tmp_path, server):
    with RawClient(backend(server), "demo") as old:
        assert read_message(old.control) == {"control": "ping"}
        command(tmp_path, "kick", "demo")
        assert read_message(old.control)["error"] == "kicked"


@pytest.mark.usefixtures("no_leaks")
def test_our_client_ends_and_does_not_come_back(tmp_path, server):
    with running_upstream(answer_hello) as port, running_client(frontend(server), port, name="demo") as client:
        command(tmp_path, "kick", "demo")
        assert isinstance(client.ended(), ClientKicked)
        assert len(client.seen(TunnelOpened)) == 1


@pytest.mark.usefixtures("no_leaks")
def test_a_ban_ends_tunnels_and_holds_until_it_is_ended(tmp_path):
    with running_server(data_dir=str(tmp_path), **QUICK) as server, Peer(backend(server)) as peer:
        assert command(tmp_path, "ban", f"{LOOPBACK}/8") == {"ok": True, "ended": 1}
        wait_until(peer.ended)
        told = ask(backend(server), control_request("demo"))
        assert told == {
            "error": "kicked",
            "message": "The operator of this server admits no clients from your address.",
        }
        with connect(backend(server)) as sock:
            assert read_to_end(sock) == b""
        # Visitors are not what is banned.
        assert fetch(frontend(server), request("nobody.localhost")).status == 404
    with running_server(data_dir=str(tmp_path), **QUICK) as server:
        assert ask(backend(server), control_request("demo"))["error"] == "kicked"
        (ban,) = command(tmp_path, "bans")["bans"]
        assert ban["network"] == "127.0.0.0/8"
        assert command(tmp_path, "unban", "127.0.0.1/8") == {"ok": True}
        assert "is not banned" in command(tmp_path, "unban", "127.0.0.1/8")["error"]
        with Peer(backend(server)) as peer:
            park(server, peer)


@pytest.mark.usefixtures("no_leaks")
def test_our_client_is_told_of_a_ban_and_stops(tmp_path, server):
    command(tmp_path, "ban", LOOPBACK)
    with running_client(frontend(server), 1, name="demo", opened=False) as client:
        error = client.ended()
    assert isinstance(error, ClientKicked)
    assert "admits no clients from your address" in str(error)
    assert client.seen(TunnelOpened) == []


@pytest.mark.usefixtures("no_leaks")
def test_a_banned_address_gets_no_answer_but_to_a_few_control_requests(tmp_path, server):
    command(tmp_path, "ban", LOOPBACK)
    with connect(backend(server)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_to_end(sock) == b""
    for _ in range(4):
        assert ask(backend(server), control_request("demo"))["error"] == "kicked"
    # The next is closed before it has said anything.
    with connect(backend(server)) as sock:
        assert read_to_end(sock) == b""


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("question", [b"", b"x", b"[]", b"{}", b'{"command": "stop"}', b'{"command": "list", "x": 1}'])
def test_what_is_no_question(tmp_path, server, question):
    answer = gevent.get_hub().threadpool.apply(local.ask, (tmp_path / "admin.sock", question))
    assert "not understood" in json.loads(answer)["error"]


def lt_server(directory, *arguments):
    """Run ``lt-server tunnels``, and return its exit code, stdout and stderr."""
    config = directory / "server.toml"
    config.write_text(f'data_dir = "{directory}"\n')
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin" / "lt-server"), "tunnels", *arguments, f"--config={config}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command(tmp_path):
    with (
        running_upstream(answer_hello) as port,
        ServerProcess(config=f'data_dir = "{tmp_path}"\n') as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        code, out, err = lt_server(tmp_path, "list")
        assert (code, err) == (0, "")
        head, row = out.splitlines()
        assert head.split() == ["NAME", "STATE", "KIND", "VISITORS", "FOR", "ADDRESS", "OWNER", "CLIENT"]
        name, state, kind, visitors, *_, address, owner, _ = row.split()
        assert (name, state, kind, visitors, address) == ("demo", "open", "http", "0", LOOPBACK)
        assert owner.startswith("key:")
        assert json.loads(lt_server(tmp_path, "list", "--json")[1])["tunnels"][0]["name"] == "demo"
        assert lt_server(tmp_path, "kick", "demo") == (0, "", "The tunnel demo has ended.\n")
        assert client.wait() == 5
        assert "The operator of this server has ended the tunnel." in client.stderr
        code, out, err = lt_server(tmp_path, "kick", "nobody")
        assert (code, out) == (6, "")
        assert "There is no tunnel 'nobody'" in err
        assert lt_server(tmp_path, "ban", "203.0.113.0/24") == (
            0,
            "",
            "203.0.113.0/24 is banned. Tunnels and names ended: 0.\n",
        )
        assert "203.0.113.0/24" in lt_server(tmp_path, "bans")[1]
        (ban,) = json.loads(lt_server(tmp_path, "bans", "--json")[1])["bans"]
        assert ban["network"] == "203.0.113.0/24"
        since = datetime.strptime(ban["since"], "%Y-%m-%dT%H:%M:%S.%f%z")
        assert abs((datetime.now(timezone.utc) - since).total_seconds()) < 60
        assert lt_server(tmp_path, "unban", "203.0.113.0/24")[0] == 0
        assert lt_server(tmp_path, "bans")[1] == "NETWORK  FOR\n"


def test_a_tcp_tunnel_is_listed_with_its_port(tmp_path):
    port = unused_port(count=2)
    settings = f'data_dir = "{tmp_path}"\ntcp_ports = "{port}-{port + 1}"\n'
    with (
        running_upstream(answer_hello) as upstream,
        ServerProcess(config=settings) as server,
        ClientProcess(upstream, "tcp", f"--remote-port={port}", server=server.frontend, name="db") as client,
    ):
        client.wait_until_open()
        assert f"  tcp {port}  " in lt_server(tmp_path, "list")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("list",), 6, "No server answers in the data directory"),
        ((), 2, "Say what to do"),
        (("lst",), 2, "did you mean list?"),
        (("kick",), 2, "kick needs <name>."),
        (("ban", "example.com"), 2, "<address>: 'example.com' is not an IP address or network."),
        (("unban", "10.0.0.0/33"), 2, "<address>: '10.0.0.0/33' is not an IP address or network."),
    ],
)
def test_the_command_without_a_server_or_a_verb(tmp_path, arguments, code, text):
    found, out, err = lt_server(tmp_path, *arguments)
    assert (found, out) == (code, "")
    assert text in err
