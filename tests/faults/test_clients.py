"""Clients that vanish, servers that restart, and networks that fall silent."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest
from harness import (
    CAP,
    ClientProcess,
    Program,
    RawClient,
    ServerProcess,
    answer_hello,
    fetch,
    read_head,
    request,
    running_upstream,
    wait_until,
)
from harness.networks import Namespaces

CLIENTS = 20
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

FRONTEND_PORT, BACKEND_PORT, TARGET_PORT = 8000, 8001, 8002
"""Ports in a namespace of the test's own, where nothing else listens."""


STRANGER = "stranger@elsewhere;Plan 9"


def test_name_of_a_killed_client_is_its_users_again_at_once_and_nobody_elses(tmp_path: Path) -> None:
    """At once: long before the heartbeat, which is 5 s, could have told the server anything."""
    same_user = {"XDG_DATA_HOME": str(tmp_path)}
    with ServerProcess() as server, running_upstream(answer_hello) as port:
        with ClientProcess(port, server=server.frontend, name="demo", env=same_user) as first:
            first.wait_until_open()
            first.signal(signal.SIGKILL)
            first.wait()
            closed = server.wait_for_record("tunnel closed", cap=1)
        assert closed["reason"] == "control connection closed"

        with RawClient(server.backend, "demo", STRANGER) as stranger:
            assert stranger.reply["error"] == "unavailable"
        assert fetch(server.frontend, request("demo.localhost")).status == 503
        with ClientProcess(port, server=server.frontend, name="demo") as another:
            assert another.wait() == 5
        with ClientProcess(port, server=server.frontend, name="demo", env=same_user) as second:
            assert second.wait_until_open() == f"http://demo.localhost:{server.frontend[1]}"
            assert fetch(server.frontend, request("demo.localhost")).body == b"hello"


def test_name_of_a_killed_client_of_0_2_is_free_for_anybody_at_once() -> None:
    with ServerProcess(config='legacy = "only"\n') as server, running_upstream(answer_hello) as port:
        with ClientProcess(port, "--legacy", server=server.frontend, name="demo") as first:
            first.wait_until_open()
            first.signal(signal.SIGKILL)
            first.wait()
            server.wait_for_record("tunnel closed", cap=1)
        assert fetch(server.frontend, request("demo.localhost")).status == 404

        with RawClient(server.backend, "demo", STRANGER) as stranger:
            stranger.serve_one_visitor(server.frontend)


def test_death_of_a_replaced_tunnel_leaves_its_successor_alone() -> None:
    """The same client string asks for its own name again (0.2): its old tunnel ends, and only that."""

    def serve(client: RawClient) -> None:
        proxy = client.park()
        answered = gevent.spawn(fetch, server.frontend, request("demo.localhost"))
        read_head(proxy)
        proxy.sendall(ANSWER + b"successor")
        proxy.close()
        assert answered.get(timeout=CAP).body == b"successor"

    with ServerProcess() as server, RawClient(server.backend, "demo") as first:
        with RawClient(server.backend, "demo") as second:
            second.beat()
            assert "control" in second.reply
            assert server.wait_for_record("tunnel closed")["reason"] == "replaced"
            serve(second)

            first.close()
            serve(second)
            assert server.metrics()["tunnels"] == 1
        server.wait_for_record("tunnel closed", 2)
        assert server.metrics()["tunnels"] == 0


@pytest.mark.slow
def test_clients_are_back_under_their_names_after_the_server_was_killed() -> None:
    with ExitStack() as stack:
        port = stack.enter_context(running_upstream(answer_hello))
        first = stack.enter_context(ServerProcess())
        clients = [
            stack.enter_context(ClientProcess(port, server=first.frontend, name=f"client-{number}"))
            for number in range(CLIENTS)
        ]
        urls = [client.wait_until_open(cap=30) for client in clients]

        first.signal(signal.SIGKILL)
        first.wait()
        ports = {"frontend_port": first.frontend[1], "backend_port": first.backend[1]}
        second = stack.enter_context(ServerProcess(**ports))

        for number, client in enumerate(clients):
            again = client.wait_for_event("tunnel_opened", 2, cap=30)
            assert (again["url"], again["resumed"]) == (urls[number], True)
            assert fetch(second.frontend, request(f"client-{number}.localhost")).body == b"hello"
        assert second.metrics()["tunnels"] == CLIENTS


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_client_that_moves_to_another_address_parks_anew_and_then_connects_anew() -> None:
    """Long before a heartbeat could tell: those of this client take a minute, and the server's as well."""
    moved_to = "198.18.0.6"
    with ExitStack() as stack:
        net = stack.enter_context(Namespaces())
        frontend = net.server_host, FRONTEND_PORT
        with net.entered(net.client):
            stack.enter_context(running_upstream(answer_hello, port=TARGET_PORT))
            client = ClientProcess(TARGET_PORT, server=frontend, name="demo")
            stack.enter_context(client)
        with net.entered(net.server):
            addresses = [f"--frontend={net.server_host}:{FRONTEND_PORT}", f"--backend={net.server_host}:{BACKEND_PORT}"]
            stack.enter_context(
                Program("lt-server", [*addresses, "--log-format=json"], "[timeouts]\nheartbeat = 20.0\n", None),
            )
            client.wait_until_open()
            wait_until(lambda: net.connections(BACKEND_PORT) == {net.client_host: 5}, what="four are parked")

            net.move_client(moved_to)
            wait_until(
                lambda: net.connections(BACKEND_PORT) == {net.client_host: 1, moved_to: 4}, what="four are parked anew"
            )
            assert fetch(frontend, request("demo.localhost")).body == b"hello"
            assert [event["event"] for event in client.events].count("tunnel_opened") == 1

            net.take_address_of_client()
            assert client.wait_for_event("tunnel_opened", 2)["resumed"]
            wait_until(lambda: net.connections(BACKEND_PORT)[moved_to] == 5, what="all is on the new address")
            assert fetch(frontend, request("demo.localhost", method="POST", body=b"x")).body == b"hello"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_blackholed_tunnel_ends_and_comes_back() -> None:
    """No packet passes and no side is told: only heartbeats can notice."""
    server_settings = "[timeouts]\nheartbeat = 0.5\nheartbeat_reply = 0.5\n"
    client_settings = "[timeouts]\nheartbeat = 2.0\nconnect = 1.0\nretry_longest = 0.5\n"
    with ExitStack() as stack:
        net = stack.enter_context(Namespaces())
        frontend = net.server_host, FRONTEND_PORT
        with net.entered(net.client):
            stack.enter_context(running_upstream(answer_hello, port=TARGET_PORT))
            client = ClientProcess(TARGET_PORT, server=frontend, name="demo", config=client_settings)
            stack.enter_context(client)
        with net.entered(net.server):
            addresses = [f"--frontend={net.server_host}:{FRONTEND_PORT}", f"--backend={net.server_host}:{BACKEND_PORT}"]
            server = stack.enter_context(
                Program("lt-server", [*addresses, "--log-format=json"], server_settings, None),
            )
            client.wait_until_open()
            assert fetch(frontend, request("demo.localhost")).body == b"hello"

            net.blackhole()
            since = time.monotonic()
            wait_until(lambda: '"no heartbeat"' in server.stderr, what="the end of the tunnel")
            assert time.monotonic() - since < 3
            # The name is kept for its client.
            assert fetch(frontend, request("demo.localhost")).status == 503
            client.wait_for_event("tunnel_lost")

            net.mend()
            client.wait_for_event("tunnel_opened", 2)
            assert fetch(frontend, request("demo.localhost")).body == b"hello"
