"""What the two commands print, and with which exit codes they end."""

import re
import signal

import pytest
from gevent import socket
from harness import (
    LOOPBACK,
    Address,
    ClientProcess,
    Program,
    ServerProcess,
    answer_hello,
    fetch,
    request,
    running_upstream,
    unused_port,
    wait_until,
)

ANY_TARGET = 9
"""A target for clients that get no visitors (the port of RFC 863's discard)."""


def nobody() -> Address:
    """Return an address at which no server is."""
    return LOOPBACK, unused_port()


def frontend_of(server: ServerProcess) -> str:
    return f"{server.frontend[0]}:{server.frontend[1]}"


# lt-client.


def test_piped_stdout_is_the_url_alone() -> None:
    with (
        ServerProcess(config='banner = "Welcome, stranger"\n') as server,
        running_upstream(answer_hello) as port,
        ClientProcess(port, server=server.frontend, name="demo", as_json=False) as client,
    ):
        wait_until(lambda: client.stdout.endswith("\n"), what="the URL")
        assert fetch(server.frontend, request("demo.localhost", "/a/path")).body == b"hello"
        wait_until(lambda: "127.0.0.1  GET /a/path  200  " in client.stderr, what="the line of the visitor")
        assert client.stop() == 0

        assert client.stdout == f"http://demo.localhost:{server.frontend[1]}\n"
        assert "Welcome, stranger" in client.stderr
        assert f"Target  localhost:{port}\n" in client.stderr


def test_quiet_client_prints_the_url_and_nothing_else() -> None:
    with (
        ServerProcess() as server,
        ClientProcess(ANY_TARGET, "--quiet", server=server.frontend, name="demo", as_json=False) as client,
    ):
        wait_until(lambda: client.stdout.endswith("\n"), what="the URL")
        assert client.stop() == 0

        assert client.stdout == f"http://demo.localhost:{server.frontend[1]}\n"
        assert client.stderr == ""


def test_client_without_a_name_gets_one() -> None:
    with ServerProcess() as server, ClientProcess(ANY_TARGET, server=server.frontend) as client:
        assert re.fullmatch(rf"http://[a-z0-9-]+\.localhost:{server.frontend[1]}", client.wait_until_open())


def test_client_takes_server_and_name_from_the_environment() -> None:
    with ServerProcess() as server:
        environment = {"LT_SERVER": "nobody.invalid", "LT_NAME": "from-environment"}
        with ClientProcess(ANY_TARGET, server=server.frontend, env=environment) as client:
            assert client.wait_until_open() == f"http://from-environment.localhost:{server.frontend[1]}"


@pytest.mark.parametrize("as_json", [False, True])
def test_name_in_use_ends_the_client_with_5_and_a_line(as_json: bool) -> None:
    """Both clients are of the same user on the same host: that is no reason to take each other's name."""
    with ServerProcess() as server, ClientProcess(ANY_TARGET, server=server.frontend, name="demo") as first:
        first.wait_until_open()
        with ClientProcess(ANY_TARGET, server=server.frontend, name="demo", as_json=as_json) as second:
            assert second.wait() == 5

            assert len(second.stderr.splitlines()) == 1
            assert re.fullmatch(r"lt-client: .*'demo'.* in use .*\n", second.stderr)
            assert [event["event"] for event in second.events] == (["failed"] if as_json else [])
        assert "tunnel closed" not in [record["event"] for record in server.records]
        assert first.process.poll() is None


@pytest.mark.parametrize("name", ["www", "-", "a.b", "a" * 64])
def test_impossible_name_ends_the_client_with_5(name: str) -> None:
    with ServerProcess() as server, ClientProcess(ANY_TARGET, f"--name={name}", server=server.frontend) as client:
        assert client.wait() == 5
        assert len(client.stderr.splitlines()) == 1
        assert "name" in client.stderr


def test_unreachable_server_is_tried_again_and_the_client_says_when() -> None:
    address = nobody()
    with ClientProcess(ANY_TARGET, server=address) as client:
        delays = [client.wait_for_event("tunnel_lost", count)["retry_in"] for count in (1, 2, 3)]
        assert all(delay > 0 for delay in delays)
        assert f":{address[1]}" in client.events[0]["message"]


def test_attempts_that_fail_are_said_once_in_a_while_where_no_terminal_is() -> None:
    attempts: list[object] = []

    def turn_away(sock: socket.socket) -> None:
        attempts.append(sock.recv(1024))

    with (
        running_upstream(turn_away) as port,
        ClientProcess(ANY_TARGET, server=(LOOPBACK, port), as_json=False) as client,
    ):
        wait_until(lambda: len(attempts) >= 3, what="three attempts")

        assert client.process.poll() is None
        assert client.stdout == ""
        (line,) = client.stderr.splitlines()
        assert re.search(r"cannot connect: .*; retrying (in \d+\.\d s|now)$", line)


def test_server_that_comes_later_is_found() -> None:
    address = nobody()
    with ClientProcess(ANY_TARGET, server=address, name="demo") as client:
        assert client.wait_for_event("tunnel_lost")["retry_in"] >= 0
        with ServerProcess(frontend_port=address[1]):
            assert client.wait_until_open() == f"http://demo.localhost:{address[1]}"


def test_no_retry_ends_the_client_with_6() -> None:
    with ClientProcess(ANY_TARGET, "--no-retry", server=nobody(), as_json=False) as client:
        assert client.wait() == 6

        assert client.stdout == ""
        assert len(client.stderr.splitlines()) == 1
        assert client.stderr.startswith("lt-client: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_ends_the_client_and_its_tunnel(number: int, code: int) -> None:
    with ServerProcess() as server, ClientProcess(ANY_TARGET, server=server.frontend, name="demo") as client:
        client.wait_until_open()
        client.signal(number)

        assert client.wait() == code
        assert client.stderr == ""
        server.wait_for_record("tunnel closed")
        assert server.metrics()["tunnels"] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_ends_a_client_that_waits_to_try_again(number: int, code: int) -> None:
    with ClientProcess(ANY_TARGET, server=nobody()) as client:
        client.wait_for_event("tunnel_lost")
        client.signal(number)

        assert client.wait() == code


def test_version_names_the_server_too() -> None:
    with (
        ServerProcess() as server,
        Program("lt-client", [f"--server={frontend_of(server)}", "--version"], None, None) as client,
    ):
        assert client.wait() == 0
        own, theirs = client.stdout.splitlines()
        version = own.removeprefix("lt-client ")
        assert theirs == f"server {frontend_of(server)} {version}"


# lt-server.


@pytest.mark.parametrize("taken", ["frontend", "backend"])
def test_port_taken_ends_the_server_with_8(taken: str) -> None:
    with ServerProcess() as server:
        host, port = getattr(server, taken)
        other = {"frontend": "backend", "backend": "frontend"}[taken]
        arguments = [f"--{taken}={host}:{port}", f"--{other}={host}:0"]
        with Program("lt-server", arguments, None, None) as second:
            assert second.wait() == 8

            assert second.stdout == ""
            assert f"lt-server: Cannot listen on {host}:{port}" in second.stderr
            assert f"--{taken}" in second.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_ends_an_idle_server(number: int, code: int) -> None:
    with ServerProcess() as server, ClientProcess(ANY_TARGET, server=server.frontend, name="demo") as client:
        client.wait_until_open()
        server.signal(number)

        assert server.wait() == code
        assert client.wait_for_event("tunnel_lost")["retry_in"] is not None
