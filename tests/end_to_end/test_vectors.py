"""Runs tests/data/vectors/ against this project's server and client over real sockets, as another implementation would.

Server and client run in this thread's hub, so every socket here is gevent's. The schema is in README.md beside them.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
import pytest
from gevent import socket
from harness.logins import fingerprint
from harness.state import own_directory, put_server_key
from harness.tls import tls_connect
from harness.vector_items import load, to_bytes
from harness.vector_runner import LIMITS, SLACK, FakeServer, Peer, Run, answer_pings, matches

from localtunnel import Client, ClientConfig, Server, ServerConfig
from localtunnel.client.config import Timeouts as ClientTimeouts
from localtunnel.errors import LocaltunnelError
from localtunnel.protocol import limits
from localtunnel.server.certificates.own import OWN_FILE
from localtunnel.server.config import Timeouts as ServerTimeouts
from localtunnel.server.tunnels import returns

# They say what comes when, within tenths of a second.
pytestmark = pytest.mark.alone


def eventually(holds: Callable[[], object]) -> bool:
    """Wait until ``holds()``, and say whether it did in time."""
    deadline = time.monotonic() + SLACK
    while not holds():
        if time.monotonic() > deadline:
            return False
        gevent.sleep(0.01)
    return True


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# The server.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]) -> Iterator[Server]:
    monkeypatch.setattr(limits, "READY_TIMEOUT", LIMITS["READY_TIMEOUT"])
    monkeypatch.setattr(returns, "MARK_TIMEOUT", LIMITS["MARK_TIMEOUT"])
    monkeypatch.setattr(returns, "ENDED_TIMEOUT", LIMITS["ENDED_TIMEOUT"])
    timeouts = ServerTimeouts(
        preamble=LIMITS["PREAMBLE_TIMEOUT"],
        heartbeat=LIMITS["HEARTBEAT_INTERVAL"],
        heartbeat_reply=LIMITS["HEARTBEAT_TIMEOUT"],
        error_hold=LIMITS["ERROR_HOLD"],
    )
    config = ServerConfig(
        frontend="127.0.0.1:0",
        backend="127.0.0.1:0",
        edge=case.get("edge", "join"),
        custom_hosts=("*",),
        timeouts=timeouts,
    )
    server = Server(config)
    server.start()
    yield server
    server.stop()


def connect_to(server: Server, name: str, *, tls: bool = False) -> Any:
    if name.startswith("visitor"):
        return socket.create_connection(server.frontend_addresses[0])
    address = server.backend_addresses[0]
    return tls_connect(address) if tls else socket.create_connection(address)


@contextmanager
def bystander(server: Server) -> Iterator[Callable[[], None]]:
    """Open another tunnel with one proxy connection; what is yielded checks that it serves a visitor."""
    who = {"name": "bystander", "client": "bystander"}
    with ExitStack() as stack:
        control, proxy, visitor = (Peer(connect_to(server, name)) for name in ("control", "proxy", "visitor"))
        for peer in (control, proxy, visitor):
            stack.callback(peer.sock.close)
        control.send(to_bytes([{"text": "LTP/0.2"}, {"message": {"control": who}}]))
        assert "host" in control.take_message()["control"]
        stack.callback(gevent.spawn(answer_pings, control).kill)
        proxy.send(to_bytes([{"text": "LTP/0.2"}, {"message": {"proxy": who}}]))

        def check() -> None:
            with gevent.Timeout(SLACK, AssertionError("the other tunnel does not serve its visitor")):
                request, response = b"GET / HTTP/1.1\r\nHost: bystander.localhost\r\n\r\n", b"HTTP/1.1 204 Fine\r\n\r\n"
                visitor.send(request)
                assert proxy.take_message() == {"proxy": True}
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += proxy.take(1)
                assert head.startswith(request.removesuffix(b"\r\n"))
                proxy.send(response)
                assert visitor.take(len(response)) == response

        yield check


@pytest.mark.parametrize("case", load("server.json"))
def test_server(server: Server, case: dict[str, Any]) -> None:
    with bystander(server) as check:
        before = descriptors()
        cut, is_cut = 0, True
        while is_cut:
            cut += 1
            with ExitStack() as stack:
                run = Run(case, lambda name: connect_to(server, name, tls=case.get("tls", False)), stack, cut=cut)
                run.steps()
            is_cut = run.is_cut
        # A name may still be leased to a client that has gone, but nothing else is left.
        assert eventually(lambda: len(server.registry.tunnels()) == 1 and not server.joins)
        assert eventually(lambda: descriptors() == before)
        check()


# The client.


def run_client(client: Client) -> str | None:
    try:
        client.run()
    except LocaltunnelError as error:
        return error.code
    return None


@pytest.mark.parametrize("case", load("client.json"))
def test_client(case: dict[str, Any]) -> None:
    before = descriptors()
    with ExitStack() as stack:
        directory = stack.enter_context(own_directory())
        tls = put_server_key(directory / "server") / OWN_FILE if case.get("tls", False) else None
        refuses = case.get("upstream") == "refuses"
        fake = FakeServer(stack, version=case["version"], upstream_refuses=refuses, tls=tls)
        timeouts = ClientTimeouts(heartbeat=LIMITS["CLIENT_HEARTBEAT_TIMEOUT"], retry_first=0.05, retry_longest=0.1)
        config = ClientConfig(
            target=f"127.0.0.1:{fake.upstream_port}",
            name="demo",
            server="127.0.0.1:1",
            backend=f"127.0.0.1:{fake.backend_port}",
            kind=case.get("kind", "http"),
            insecure=tls is None,
            fingerprint=fingerprint() if tls is not None else None,
            data_dir=str(directory / "client"),
            **case.get("options", {}),
            timeouts=timeouts,
        )
        client = Client(config, lambda event: None)
        running = gevent.spawn(run_client, client)
        stack.callback(running.kill)
        Run(case, fake.connect, stack, client.stop).steps()
        if "ends" in case:
            stack.callback(gevent.spawn(fake.answer_again, case["steps"]).kill)
            code = running.get(timeout=SLACK)
            assert {"version_mismatch": "version", None: "stopped"}.get(code, code) == case["ends"]
        else:
            assert not running.dead
            client.stop()
            assert running.get(timeout=SLACK) is None
    assert eventually(lambda: client.visitors == 0 and descriptors() <= before)


# The vectors themselves.


@pytest.mark.parametrize("name", ["messages.json", "framing.json", "server.json", "client.json", "login.json"])
def test_names_are_unique_and_reasons_given(name: str) -> None:
    cases = [parameter.values[0] for parameter in load(name)]
    assert cases
    assert len({case["name"] for case in cases}) == len(cases)
    assert all(case["why"] for case in cases)


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"b": 2}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "<number>"}, {"a": 0}, False),
        ({"a": "<word>", "b": "<word>"}, {"a": "x", "b": "x"}, True),
        ({"a": "<word>", "b": "<word>"}, {"a": "x", "b": "y"}, False),
        ({"a": "<word>"}, {"a": ""}, False),
        ({"a": "<#id>", "b": "<#id>"}, {"a": 3, "b": 3}, True),
        ({"a": "<#id>", "b": "<#id>"}, {"a": 3, "b": 4}, False),
        ({"a": "<#id>"}, {"a": "3"}, False),
    ],
)
def test_matching(pattern: Any, value: Any, expected: bool) -> None:
    assert matches(pattern, value, {}) is expected
