"""An upstream's failure is told exactly: the visitor gets status and code, and the client alone learns the target."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gevent import socket
from harness import LOOPBACK, connect, fetch, frontend, request, running_client, running_server, running_upstream
from harness import unused_port as refused_port

from localtunnel.client.events import RequestFinished, UpstreamFailed

UPSTREAM_TIMEOUT = 0.3
ACCEPTS = ["text/html", "text/plain", "application/json"]


@contextmanager
def full_port() -> Iterator[int]:
    """A port whose listener takes no more connections, and refuses none: the kernel drops what it has no room for."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        with connect(listener.getsockname()):
            yield listener.getsockname()[1]


def expect(server, accept, target, status, code):
    """Hold one visitor's answer to what is expected, and to not naming the target."""
    response = fetch(frontend(server), request("demo.localhost", fields=f"Accept: {accept}\r\n"))
    assert (response.status, response.fields["x-localtunnel-error"]) == (status, code)
    for part in target.rsplit(":", 1):
        assert part not in response.body.decode()


def expect_failures(server, client, target, status, code, reported):
    """Let visitors come for each form of the answer; each failure is reported to the client with the target."""
    for number, accept in enumerate(ACCEPTS, 1):
        expect(server, accept, target, status, code)
        event = client.wait_for(UpstreamFailed, number)
        assert (event.code, event.target) == (reported, target)


@pytest.mark.usefixtures("no_leaks")
def test_refused():
    port = refused_port()
    with running_server() as server, running_client(frontend(server), f"127.0.0.1:{port}", name="demo") as client:
        expect_failures(server, client, f"127.0.0.1:{port}", 502, "upstream_refused", "connection_refused")


@pytest.mark.usefixtures("no_leaks")
def test_timeout():
    timeouts = {"upstream": UPSTREAM_TIMEOUT}
    with full_port() as port, running_server() as server:
        target = f"127.0.0.1:{port}"
        with running_client(frontend(server), target, name="demo", timeouts=timeouts) as client:
            expect_failures(server, client, target, 504, "upstream_timeout", "deadline")


@pytest.mark.usefixtures("no_leaks")
def test_unreachable():
    # RFC 6761, 6.4: a name that never resolves.
    target = "nothing.invalid:18080"
    with running_server() as server, running_client(frontend(server), target, name="demo") as client:
        expect_failures(server, client, target, 502, "upstream_unreachable", "unreachable")


@pytest.mark.usefixtures("no_leaks")
def test_closed_without_an_answer():
    """The client has done its part: it reports no failure, and the server answers the visitor."""
    with running_upstream(lambda sock: sock.recv(65536)) as port, running_server() as server:
        target = f"127.0.0.1:{port}"
        with running_client(frontend(server), target, name="demo") as client:
            for number, accept in enumerate(ACCEPTS, 1):
                expect(server, accept, target, 502, "upstream_closed")
                assert client.wait_for(RequestFinished, number).error == "upstream_closed"
            assert not client.seen(UpstreamFailed)
