"""localtunnel.client.discovery: asking a frontend about itself, whoever answers there."""

import ssl as stdlib_ssl
from contextlib import contextmanager

import pytest
import trustme
from gevent import ssl
from harness import (
    LOOPBACK,
    at_most,
    backend,
    frontend,
    read_head,
    read_to_end,
    running_server,
    running_upstream,
    unused_port,
)
from harness.tls import authority_of_this_machine, write_certificate

import localtunnel
from localtunnel.client.discovery import MAX_ANSWER, discover_backend, server_version
from localtunnel.errors import (
    CertificateUntrusted,
    ConnectionClosed,
    ConnectionRefused,
    DeadlineExceeded,
    LocaltunnelError,
    TlsError,
    Unreachable,
)
from localtunnel.net import closing
from localtunnel.net.address import HostPort, ServerAddress
from localtunnel.net.deadline import Deadline

pytestmark = pytest.mark.usefixtures("no_leaks")


@contextmanager
def answering(*pieces):
    """A server that reads one request and answers ``pieces``; yields its address and the requests that it got."""
    requests = []

    def handler(sock):
        requests.append(read_head(sock))
        for piece in pieces:
            sock.sendall(piece)

    with running_upstream(handler) as port:
        yield ServerAddress(LOOPBACK, port), requests


def ok(body, fields=b""):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), fields, body)


def discover(server):
    with at_most(10):
        return discover_backend(server, Deadline(5))


def test_a_real_server_is_discovered():
    with running_server() as server:
        assert discover(ServerAddress(*frontend(server))) == HostPort(*backend(server))


def test_a_backend_that_is_taken_for_a_frontend_is_told():
    with running_server() as server, pytest.raises(Unreachable, match=r"is the backend of a localtunnel server\."):
        discover(ServerAddress(*backend(server)))


def test_the_request_names_the_server_and_asks_for_the_backend():
    with answering(ok(b"8001\n")) as (server, requests):
        assert discover(server) == HostPort(LOOPBACK, 8001)
    (head,) = requests
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET /meta/backend HTTP/1.1"
    assert f"Host: {server}" in lines
    assert "Connection: close" in lines


def test_an_answer_may_come_in_many_pieces():
    with answering(*[bytes([byte]) for byte in ok(b"8001")]) as (server, _):
        assert discover(server).port == 8001


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n8001\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n8001",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n8001\r\n",
    ],
)
def test_every_framing_of_the_answer_is_understood(answer):
    with answering(answer) as (server, _):
        assert discover(server).port == 8001


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0",
        b"65536",
        b"-1",
        b"8001 8002",
        b"8001.0",
        b"0x1f41",
        b"<html>a page</html>",
        "\uff18\uff10\uff10\uff11".encode(),
        b"\xff\xfe",
        b"1" * 5000,
        b"127.0.0.1:8001",
    ],
)
def test_a_body_that_is_no_port_is_no_localtunnel_server(body):
    with answering(ok(body)) as (server, _), pytest.raises(Unreachable, match="not as a localtunnel server"):
        discover(server)


@pytest.mark.parametrize("status", [b"404 Not Found", b"301 Moved", b"500 Oops", b"204 No Content"])
def test_another_status_is_told(status):
    answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"
    with answering(answer) as (server, _), pytest.raises(Unreachable, match=status[:3].decode()):
        discover(server)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"220 mail ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n8001",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_told(answer):
    with answering(answer) as (server, _), pytest.raises(Unreachable, match="does not answer in HTTP"):
        discover(server)


def test_a_switch_of_protocols_is_no_answer():
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    with answering(answer) as (server, _), pytest.raises(Unreachable):
        discover(server)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
def test_a_close_without_an_answer_is_told(answer):
    with answering(answer) as (server, _), pytest.raises(ConnectionClosed, match="without an answer"):
        discover(server)


def test_a_port_of_which_the_end_is_missing_is_not_believed():
    """80 of 8001: the length says that two bytes are missing."""
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n80") as (server, _), pytest.raises(LocaltunnelError):
        discover(server)


def test_a_reset_is_told():
    def handler(sock):
        sock.recv(1)
        closing.reset(sock)

    with running_upstream(handler) as port, pytest.raises(ConnectionClosed, match=f"Asking 127.0.0.1:{port} failed"):
        discover(ServerAddress(LOOPBACK, port))


def test_silence_costs_the_deadline():
    with running_upstream(read_to_end) as port, at_most(3), pytest.raises(DeadlineExceeded):
        discover_backend(ServerAddress(LOOPBACK, port), Deadline(0.2))


def test_an_endless_answer_is_read_no_further_than_the_limit():
    sent = 0

    def handler(sock):
        nonlocal sent
        read_head(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"1" * 65536)
            sent += 65536

    with running_upstream(handler) as port, at_most(5), pytest.raises(Unreachable):
        discover_backend(ServerAddress(LOOPBACK, port), Deadline(60))
    assert sent < 200 * MAX_ANSWER


def test_a_head_without_end_is_not_read_to_the_deadline():
    def handler(sock):
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"X-More: and more\r\n" * 100)

    with running_upstream(handler) as port, at_most(5), pytest.raises(Unreachable):
        discover_backend(ServerAddress(LOOPBACK, port), Deadline(60))


def test_nobody_there_is_unreachable():
    port = unused_port()
    with pytest.raises(ConnectionRefused) as caught:
        discover(ServerAddress("localhost", port))
    assert str(caught.value) == (
        f"No localtunnel server answers at localhost:{port} (connection refused). Start lt-server there, or name yours "
        "with --server."
    )


def test_the_servers_version_is_what_it_says():
    with running_server() as server:
        assert server_version("{}:{}".format(*frontend(server)), 5) == localtunnel.__version__


@pytest.mark.parametrize("body", [b"\x1b[31mred", b"v" * 65, b"a\nb", b""])
def test_a_version_that_cannot_be_shown_is_none(body):
    with answering(ok(body)) as (server, _):
        assert not server_version(str(server), 5)


@pytest.mark.parametrize("text", [f"{LOOPBACK}:1", "not an address", "http://"])
def test_a_server_that_cannot_be_asked_has_no_version(text):
    assert server_version(text, 1) is None


# Over HTTPS.


@contextmanager
def answering_https(directory, *pieces, names=(LOOPBACK,)):
    """A server with a certificate for ``names`` that this machine's only authority has signed; yields its address."""
    authority = trustme.CA()
    context = ssl.SSLContext(stdlib_ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(write_certificate(authority, directory, *names))
    seen = []

    def handler(sock):
        with context.wrap_socket(sock, server_side=True) as secure:
            seen.append(read_head(secure))
            for piece in pieces:
                secure.sendall(piece)

    with (
        pytest.MonkeyPatch.context() as patch,
        authority_of_this_machine(authority, directory, patch),
        running_upstream(handler) as port,
    ):
        yield ServerAddress(LOOPBACK, port, "https"), seen


def test_https_is_verified_and_asked_as_http_is(tmp_path):
    answer = [bytes([byte]) for byte in ok(b"8001")]
    with answering_https(tmp_path, *answer) as (server, seen):
        assert discover(server) == HostPort(LOOPBACK, 8001)
        assert server_version(str(server), 5) == "8001"
    assert f"\r\nHost: {LOOPBACK}:{server.port}\r\n".encode() in seen[0]


def test_an_answer_of_many_records_is_read_to_its_end(tmp_path):
    body = b"8001" + b" " * (MAX_ANSWER - 1024)
    with answering_https(tmp_path, ok(body)) as (server, _):
        assert discover(server).port == 8001


def test_a_certificate_for_another_name_is_refused_before_anything_is_asked(tmp_path):
    with (
        answering_https(tmp_path, ok(b"8001"), names=("example.com",)) as (server, seen),
        pytest.raises(CertificateUntrusted, match=f"https://{LOOPBACK}:.* has to show a certificate for {LOOPBACK}"),
    ):
        discover(server)
    assert b"".join(seen) == b""


def test_an_authority_that_nobody_knows_is_refused_before_anything_is_asked(tmp_path, monkeypatch):
    with answering_https(tmp_path, ok(b"8001")) as (server, seen):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
        with pytest.raises(CertificateUntrusted, match="SSL_CERT_FILE names a file with others"):
            discover(server)
    assert b"".join(seen) == b""


def test_https_where_http_is_spoken_is_told():
    def handler(sock):
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        read_to_end(sock)

    with running_upstream(handler) as port, pytest.raises(TlsError, match="does it speak plain HTTP"):
        discover(ServerAddress(LOOPBACK, port, "https"))


@pytest.mark.parametrize("status", [b"301 Moved Permanently", b"308 Permanent Redirect"])
def test_a_redirect_to_https_is_told_and_not_followed(status):
    answer = b"HTTP/1.1 %s\r\nLocation: https://%s/meta/backend\r\nContent-Length: 0\r\n\r\n"
    with (
        answering(answer % (status, LOOPBACK.encode())) as (server, requests),
        pytest.raises(Unreachable, match=f"Write --server=https://{LOOPBACK}, or"),
    ):
        discover(server)
    assert len(requests) == 1


def test_silence_behind_tls_costs_the_deadline(tmp_path):
    with (
        running_upstream(read_to_end) as port,
        at_most(3),
        pytest.raises(DeadlineExceeded),
    ):
        discover_backend(ServerAddress(LOOPBACK, port, "https"), Deadline(0.2))
