"""Who a visitor is: with nobody in front of the server, with a proxy that is trusted, and with one that is not."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gevent import socket
from harness import (
    CAP,
    LOOPBACK,
    Address,
    Handler,
    RunningClient,
    backend,
    connect,
    fetch,
    frontend,
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
from harness.beside import end
from harness.installed import installed

from localtunnel import Server
from localtunnel.client.events import TunnelOpened

VISITOR = "127.0.0.9"
"""Any address of 127.0.0.0/8 may be connected from, and the trusted proxy is 127.0.0.1 alone."""

TRUSTED = {"trusted_proxies": [LOOPBACK]}
PROXIED = {**TRUSTED, "proxy_protocol": True}
CLOSE = "Connection: close\r\n"
HEADER = b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 80\r\n"


def echo(sock: socket.socket) -> None:
    """Answer one request with its own head, and close."""
    head = read_head(sock)
    if head:
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(head) + head)


@contextmanager
def running(**settings: object) -> Iterator[Address]:
    """A server with a tunnel "demo" to an upstream that echoes heads. Yields where visitors connect."""
    with running_server(**settings) as server, tunnel(server, echo):
        yield frontend(server)


@contextmanager
def tunnel(server: Server, handler: Handler) -> Iterator[RunningClient]:
    """Open "demo" at ``server``. Where the backend is the client has to be told: only a proxy may ask the frontend."""
    host, port = backend(server)
    with (
        running_upstream(handler) as target,
        running_client(frontend(server), target, name="demo", backend=f"{host}:{port}") as client,
    ):
        yield client


def seen(body: bytes) -> dict[str, str]:
    """What the upstream was told, by lower-case name."""
    lines = body.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def ask(address: Address, *, fields: str = "", before: bytes = b"", source: str = LOOPBACK) -> dict[str, str]:
    with connect(address, source=source) as sock:
        sock.sendall(before + request("demo.localhost", fields=CLOSE + fields))
        response = parse_response(read_to_end(sock))
    assert response.status == 200, response
    return seen(response.body)


FORGED = (
    "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX-Real-IP: 1.1.1.1\r\n"
)


def test_nobody_is_believed_by_default() -> None:
    with running() as address:
        told = ask(address, fields=FORGED, source=VISITOR)
    assert (told["x-forwarded-for"], told["x-forwarded-proto"], told["x-real-ip"]) == (VISITOR, "http", VISITOR)
    assert "evil" not in str(told)
    assert "1.1.1.1" not in str(told)


def test_a_trusted_proxy_is_believed_and_a_stranger_is_not() -> None:
    fields = FORGED.replace("1.1.1.1", "1.1.1.1, 203.0.113.7", 1)
    with running(**TRUSTED) as address:
        told = ask(address, fields=fields)
        assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("203.0.113.7", "https")
        assert told["x-real-ip"] == "203.0.113.7"
        assert "evil" not in str(told)
        told = ask(address, fields=fields, source=VISITOR)
        assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == (VISITOR, "http")


def test_each_request_of_a_proxys_connection_has_its_own_visitor() -> None:
    def keep(sock: socket.socket) -> None:
        while head := read_head(sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

    bodies = []
    with running_server(**TRUSTED) as server, tunnel(server, keep), connect(frontend(server)) as sock:
        for number in (1, 2, 3):
            sock.sendall(request("demo.localhost", fields=f"X-Forwarded-For: 203.0.113.{number}\r\n"))
            bodies.append(read_head(sock).partition(b"\r\n\r\n")[2] or read_head(sock))
    for number, body in enumerate(bodies, 1):
        assert b"\r\nX-Forwarded-For: 203.0.113.%d\r\n" % number in body
        assert body.count(b"203.0.113.") == body.count(b"203.0.113.%d" % number)


def test_the_public_url_says_the_scheme_and_clients_show_it() -> None:
    settings = {**TRUSTED, "public_url": "https://localhost:8443"}
    with running_server(**settings) as server, tunnel(server, echo) as client:
        opened = client.seen(TunnelOpened)
        told = ask(frontend(server))
        answered = ask(frontend(server), fields="X-Forwarded-Proto: http\r\n")
    assert "https://demo.localhost:8443" in str(opened)
    assert told["x-forwarded-proto"] == "https"
    assert answered["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("edge", ["http", "join"])
def test_the_header_of_the_proxy_protocol_comes_first(edge: str) -> None:
    with running(**PROXIED, edge=edge) as address:
        told = ask(address, before=HEADER)
        assert told["host"] == "demo.localhost"
        if edge == "http":
            assert told["x-forwarded-for"] == "203.0.113.7"


def test_the_header_may_arrive_byte_by_byte() -> None:
    with running(**PROXIED) as address, connect(address) as sock:
        for byte in HEADER + request("demo.localhost", fields=CLOSE):
            sock.sendall(bytes((byte,)))
        assert seen(parse_response(read_to_end(sock)).body)["x-forwarded-for"] == "203.0.113.7"


def test_a_proxy_that_speaks_for_itself_is_the_visitor() -> None:
    with running(**PROXIED) as address:
        assert ask(address, before=b"PROXY UNKNOWN\r\n")["x-forwarded-for"] == LOOPBACK


def gets_nothing(address: Address, source: str, sent: bytes) -> bool:
    """Send ``sent``, and say whether the connection ends without a byte."""
    try:
        with connect(address, source=source) as sock:
            sock.sendall(sent)
            return read_to_end(sock) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        (VISITOR, b""),
        (VISITOR, HEADER + request("demo.localhost")),
        (LOOPBACK, request("demo.localhost")),
        (LOOPBACK, b"PROXY TCP4 203.0.113.7\r\n" + request("demo.localhost")),
    ],
    ids=["stranger", "stranger with a header", "proxy without a header", "proxy with a broken header"],
)
def test_whoever_is_not_a_proxy_with_a_header_is_closed(source: str, sent: bytes) -> None:
    with running_server(**PROXIED) as server:
        assert gets_nothing(frontend(server), source, sent)


def test_the_header_has_the_time_of_a_head() -> None:
    with running_server(**PROXIED, timeouts={"head": 0.2}) as server:
        assert gets_nothing(frontend(server), LOOPBACK, HEADER[:-1])


# With the proxy for which the protocol was made.

_CONFIGURATION = """\
defaults
    timeout connect {seconds}s
    timeout client {seconds}s
    timeout server {seconds}s
    mode {mode}
listen through
    bind 127.0.0.1:{port}
    {more}
    server tunnels 127.0.0.1:{server} {options}
"""


@contextmanager
def haproxy(
    directory: Path, server: Address, options: str = "", mode: str = "tcp", more: str = ""
) -> Iterator[Address]:
    """Run haproxy before ``server``, and yield where it listens."""
    port = unused_port()
    configuration = directory / "haproxy.cfg"
    configuration.write_text(
        _CONFIGURATION.format(seconds=int(CAP), mode=mode, port=port, more=more, server=server[1], options=options)
    )
    process = subprocess.Popen([installed("haproxy"), "-db", "-f", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), what="haproxy listens")
        yield LOOPBACK, port
    finally:
        end(process)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return bool(sock.connect_ex((LOOPBACK, port)) == 0)


@pytest.mark.slow
@pytest.mark.parametrize("edge", ["http", "join"])
@pytest.mark.parametrize(
    "options",
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "send-proxy-v2 check inter 100"],
)
def test_haproxy_says_where_visitors_come_from(options: str, edge: str, tmp_path: Path) -> None:
    with running(**PROXIED, edge=edge) as address, haproxy(tmp_path, address, options) as door:
        for source in (VISITOR, "127.0.0.10"):
            told = ask(door, source=source)
            assert told["host"] == "demo.localhost"
            if edge == "http":
                assert told["x-forwarded-for"] == source


@pytest.mark.slow
def test_haproxy_as_an_http_proxy_says_it_in_fields(tmp_path: Path) -> None:
    more = "option forwardfor\n    http-request set-header X-Forwarded-Proto https"
    with running(**TRUSTED) as address, haproxy(tmp_path, address, mode="http", more=more) as door:
        told = ask(door, source=VISITOR, fields="X-Forwarded-For: 1.1.1.1\r\n")
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == (VISITOR, "https")
    assert "1.1.1.1" not in str(told)


def test_meta_is_served_to_whom_the_proxy_names() -> None:
    with running_server(**PROXIED) as server:
        assert fetch(frontend(server), HEADER + request("localhost", "/meta/version", fields=CLOSE)).status == 200
