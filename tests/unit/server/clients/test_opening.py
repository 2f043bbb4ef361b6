"""localtunnel.server.clients.opening: what comes between a request and a tunnel, and
what is left when it does not open.
"""

import pytest
from harness import HEADER_0_2, backend, connect, frame, read_message, read_to_end, running_server, unused_port
from harness.v3 import Peer, ask, control_request

from localtunnel.errors import ClientKicked, StorageError
from localtunnel.server.names.claims import Claim

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK = {"timeouts": {"error_hold": 0.0}}


@pytest.fixture
def server():
    port = unused_port()
    with running_server(**QUICK, tcp_ports=f"{port}-{port}", quotas={"strangers": 1}) as running:
        yield running


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"name": "-"}, "unavailable"),
        ({"name": "demo", "options": {"colour": 1}}, "option_refused"),
        ({"name": "demo", "domain": "www.example.org"}, "option_refused"),
        ({"name": "demo", "kind": "tcp", "port": 1}, "port_refused"),
        ({"name": "demo", "auth": "p=tls-server-end-point,,n=a,r=b"}, "tls_required"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(server, asked, code):
    """The one place that there is for strangers is free again, and so is the name."""
    for _ in range(3):
        assert ask(backend(server), control_request(**asked))["error"] == code
    assert not server.registry.claims()
    with Peer(backend(server)) as peer:
        assert "control" in peer.reply


@pytest.mark.parametrize("fields", [{"name": "demo", "domain": "www.example.org"}, {"name": "demo", "protect": "x"}])
def test_0_2_has_one_code_for_options(server, fields):
    request = HEADER_0_2 + frame({"control": {"client": "ann@laptop;Linux", **fields}})
    assert ask(backend(server), request)["error"] == "exception"


def end_while_recorded(server, monkeypatch, end):
    """Have ``end(claim)`` called while the port of a TCP tunnel is written down, which takes a disk's time."""
    monkeypatch.setattr(server.registry, "record", end)


def test_a_tunnel_that_ends_while_it_is_opened_is_not_served(server, monkeypatch):
    def replaced(claim: Claim) -> None:
        claim.tunnel.end("replaced")

    end_while_recorded(server, monkeypatch, replaced)
    with connect(backend(server)) as sock:
        sock.sendall(control_request("demo", kind="tcp"))
        assert read_to_end(sock) == b""
    assert not server.registry.claims()


def test_a_tunnel_that_is_kicked_while_it_is_opened_is_told(server, monkeypatch):
    def kicked(claim: Claim) -> None:
        claim.tunnel.revoke(ClientKicked("Go."))

    end_while_recorded(server, monkeypatch, kicked)
    assert ask(backend(server), control_request("demo", kind="tcp"))["error"] == "kicked"
    assert not server.registry.claims()


def test_a_port_that_cannot_be_written_down_is_free_again(server, monkeypatch):
    def full(claim: Claim) -> None:
        raise StorageError("The disk is full.")

    with monkeypatch.context() as context:
        end_while_recorded(server, context, full)
        assert ask(backend(server), control_request("demo", kind="tcp"))["error"] == "exception"
    with Peer(backend(server), kind="tcp") as peer:
        assert "control" in peer.reply
        with connect(backend(server)) as sock:
            sock.sendall(control_request("other", kind="tcp"))
            assert read_message(sock)["error"] == "port_refused"
