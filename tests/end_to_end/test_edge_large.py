"""Large bodies through the HTTP edge: most of their bytes go past its scanners, and no end of one is missed."""

import hashlib
import os
import re

import gevent
import pytest
from gevent import socket
from harness import (
    at_most,
    connect,
    frontend,
    read_exactly,
    read_head,
    request,
    running_client,
    running_server,
    running_upstream,
)
from harness.relays import moves_into_pipes

from localtunnel.net.flow import splice

HOST = "demo.localhost"
CHUNK = os.urandom(2_000_003)
CHUNKS = 3
WHOLE = CHUNK * CHUNKS
DIGEST = hashlib.sha256(WHOLE).hexdigest().encode()
CODED = b"".join(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK) for _ in range(CHUNKS)) + b"0\r\nX-End: yes\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(params=["pipes", "no pipes", "TLS"])
def way(request):
    """How the bytes go between server and client: in the clear, through pipes or not, or over TLS, where none serve."""
    return request.param


@pytest.fixture
def spliced(way, monkeypatch):
    """The sizes of all moves through pipes."""
    sizes = moves_into_pipes(monkeypatch)
    monkeypatch.setattr(splice, "_most", 0 if way == "no pipes" else splice.MAX_PIPES)
    yield sizes
    assert bool(sizes) == (way == "pipes")


def serve(sock: socket.socket) -> None:
    """Answer one request after the other: with the digest of a large body, or with a large body."""
    while head := read_head(sock):
        head, _, body = head.partition(b"\r\n\r\n")
        if b"/counted" in head:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE)
        elif b"/chunked" in head:
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CODED)
        elif b"/close" in head:
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + WHOLE)
            return
        elif length := re.search(rb"(?i)content-length: (\d+)", head):
            body += read_exactly(sock, int(length[1]) - len(body))
            digest = hashlib.sha256(body).hexdigest().encode()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest)
        elif b"chunked" in head:
            body += read_exactly(sock, len(CODED) - len(body))
            coded = b"yes" if body == CODED else b"no"
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(coded) + coded)
        else:
            sock.sendall(HELLO)


@pytest.fixture
def visitor(way, spliced):
    """A visitor's connection to a tunnel that leads to ``serve``."""
    with (
        running_upstream(serve) as port,
        running_server() as server,
        running_client(frontend(server), port, name="demo", insecure=way != "TLS"),
        connect(frontend(server)) as sock,
        at_most(30),
    ):
        yield sock


def read_response_head(sock: socket.socket) -> bytes:
    """Read a head and nothing behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    return head


def read_body(sock: socket.socket) -> bytes:
    """Read a response with a length, and return its body."""
    length = re.search(rb"(?i)content-length: (\d+)", read_response_head(sock))
    return read_exactly(sock, int(length[1]))


@pytest.mark.parametrize("times", [1, 3])
def test_a_counted_response_ends_where_it_ends(visitor, times):
    visitor.sendall(request(HOST, "/counted") * times + request(HOST))
    for _ in range(times):
        assert read_body(visitor) == WHOLE
    assert read_body(visitor) == b"hello"


def test_a_chunked_response_ends_where_it_ends(visitor):
    visitor.sendall(request(HOST, "/chunked") + request(HOST))
    assert b"chunked" in read_response_head(visitor)
    assert read_exactly(visitor, len(CODED)) == CODED
    assert read_body(visitor) == b"hello"


def test_a_response_that_ends_with_its_connection_comes_whole(visitor):
    visitor.sendall(request(HOST, "/close"))
    read_response_head(visitor)
    assert read_exactly(visitor, len(WHOLE)) == WHOLE
    assert visitor.recv(1) == b""


def test_a_counted_request_ends_where_it_ends(visitor):
    writer = gevent.spawn(visitor.sendall, request(HOST, method="POST", body=WHOLE) + request(HOST))
    assert read_body(visitor) == DIGEST
    assert read_body(visitor) == b"hello"
    writer.get()


def test_a_chunked_request_ends_where_it_ends(visitor):
    head = request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n")
    writer = gevent.spawn(visitor.sendall, head + CODED + request(HOST))
    assert read_body(visitor) == b"yes"
    assert read_body(visitor) == b"hello"
    writer.get()
