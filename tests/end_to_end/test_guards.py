"""Settings that guard something, on a running server: with each the guard holds, and without it nothing is held back.

Those that are not here have such a test beside the rest of what is known of them: ``unit/server/access/test_auth``
(tokens), ``end_to_end/test_owners`` (quotas), ``end_to_end/test_options`` (tunnels),
``unit/server/visitors/test_frontend_limits`` and ``…_proxies``.
"""

from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from gevent.event import Event
from harness import (
    CAP,
    HEADER_0_2,
    LOOPBACK,
    answer_hello,
    backend,
    connect,
    fetch,
    frame,
    frontend,
    is_reset,
    parse_response,
    read_head,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    unused_port,
    wait_until,
)
from harness.logins import new_token
from harness.v3 import Peer, ask, control_request

pytestmark = pytest.mark.usefixtures("no_leaks")

QUICK: dict[str, Any] = {"timeouts": {"error_hold": 0.0, "pool_wait": 2.0}}


def old_control_request(name: str) -> bytes:
    """Return the bytes with which a client of LTP/0.2 begins its control connection."""
    return HEADER_0_2 + frame({"control": {"name": name, "client": "ann@laptop;Linux"}})


@pytest.mark.parametrize(("most", "status"), [(1, 503), (2, 200), (None, 200)])
def test_a_token_is_for_so_many_visitors_at_a_time(tmp_path: Path, most: int | None, status: int) -> None:
    seen = []
    enough = Event()

    def hold_the_first(sock: socket.socket) -> None:
        seen.append(sock)
        if len(seen) == 1:
            enough.wait(CAP)
        answer_hello(sock)

    with running_server(data_dir=str(tmp_path), **QUICK) as server, running_upstream(hold_the_first) as target:
        token = new_token(tmp_path, max_connections=most)
        with running_client(frontend(server), target, token=token, name="demo"):
            with connect(frontend(server)) as first:
                first.sendall(request("demo.localhost"))
                wait_until(lambda: len(seen) == 1)
                assert fetch(frontend(server), request("demo.localhost")).status == status
                enough.set()
                assert parse_response(read_head(first)).status == 200
            assert fetch(frontend(server), request("demo.localhost")).status == 200


@pytest.mark.parametrize(
    ("settings", "name", "error"),
    [
        ({}, "www", "unavailable"),
        ({}, "w-w-w", "unavailable"),
        ({"reserved_names": ["intern"]}, "1ntern", "unavailable"),
        ({"reserved_names": ["intern"]}, "www", None),
        ({"reserved_names": []}, "intern", None),
    ],
)
@pytest.mark.parametrize("asked", [control_request, old_control_request], ids=["0.3", "0.2"])
def test_names_that_the_owner_keeps(asked: Any, settings: dict[str, Any], name: str, error: str | None) -> None:
    with running_server(**QUICK, **settings) as server:
        assert ask(backend(server), asked(name)).get("error") == error


@pytest.mark.parametrize(
    ("quotas", "kept"),
    [({}, 2), ({"leases": 1}, 1), ({"leases_per_address": 1}, 1), ({"leases_per_owner": 1}, 1)],
)
def test_so_many_names_are_kept_for_clients_that_have_gone(quotas: dict[str, int], kept: int) -> None:
    with running_server(**QUICK, quotas=quotas) as server:
        with Peer(backend(server), "one"), Peer(backend(server), "two"):
            assert len(server.registry.tunnels()) == 2
        wait_until(lambda: not server.registry.tunnels())
        assert len(server.registry.claims()) == kept


@pytest.mark.parametrize(("limits", "status"), [({}, 404), ({"head_bytes": 1024}, 431)])
@pytest.mark.parametrize("edge", ["http", "join"])
def test_heads_are_so_long(limits: dict[str, int], status: int, edge: str) -> None:
    asked = request("nobody.localhost", fields=f"X-Long: {'a' * 1024}\r\n")
    with running_server(limits=limits, edge=edge) as server:
        assert fetch(frontend(server), asked).status == status


@pytest.mark.parametrize(("networks", "admitted"), [(None, True), (["127.0.0.0/8"], True), (["192.0.2.0/24"], False)])
def test_a_tcp_tunnel_lets_in_whom_its_client_names(networks: list[str] | None, admitted: bool) -> None:
    port = unused_port()
    fields = {} if networks is None else {"allow_ip": networks}
    with (
        running_upstream(lambda sock: sock.sendall(b"SSH-2.0")) as target,
        running_server(**QUICK, tcp_ports=f"{port}-{port}") as server,
        running_client(frontend(server), target, kind="tcp", **fields),
        connect((LOOPBACK, port)) as visitor,
    ):
        if admitted:
            assert read_to_end(visitor) == b"SSH-2.0"
        else:
            assert is_reset(visitor)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "option_refused"),
        ({"custom_hosts": ["www.example.net"]}, "option_refused"),
        ({"custom_hosts": ["www.example.org"]}, None),
        ({"custom_hosts": ["*.example.org"]}, None),
    ],
)
def test_hosts_outside_the_domain_are_the_owner_s_to_allow(settings: dict[str, Any], error: str | None) -> None:
    with running_server(**QUICK, **settings) as server:
        asked = ask(backend(server), control_request("demo", domain="www.example.org"))
        assert asked.get("error") == error


@pytest.mark.parametrize(
    ("legacy", "tokens", "error"),
    [
        (None, False, None),
        (None, True, "auth_required"),
        (True, True, None),
        (False, False, "version"),
        (False, True, "version"),
    ],
)
def test_whether_clients_of_2013_are_let_in(
    tmp_path: Path, legacy: bool | None, tokens: bool, error: str | None
) -> None:
    if tokens:
        new_token(tmp_path)
    with running_server(**QUICK, data_dir=str(tmp_path), legacy=legacy) as server:
        assert ask(backend(server), old_control_request("demo")).get("error") == error
