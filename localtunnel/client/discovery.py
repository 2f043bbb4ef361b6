"""Asking the server's frontend where its backend is, and which version it runs
(PROTOCOL.md, "Discovery").

An HTTPS frontend is behind a proxy, and is verified by this machine's authorities, or
those in ``SSL_CERT_FILE``. That certificate has nothing to do with the backend's, which
is another program's on another port.
"""

import httptools

from localtunnel.errors import (
    CertificateUntrusted,
    ConnectionClosed,
    ConnectionRefused,
    LocaltunnelError,
    TlsError,
    Unreachable,
)
from localtunnel.net import closing
from localtunnel.net.address import HostPort, ServerAddress, parse_server
from localtunnel.net.deadline import Deadline, wait_readable
from localtunnel.net.dial import dial, resolve
from localtunnel.net.sockets import Socket, translate
from localtunnel.net.tls.connect import connect
from localtunnel.net.tls.context import client_context
from localtunnel.protocol.limits import MAX_PORT
from localtunnel.protocol.wire.stream import RECORD_SIZE

MAX_ANSWER = 64 * 1024
"""Bytes of an answer to read. It should have one line; the page of another kind of
server has more."""

_BACKEND = b"the backend of a localtunnel server"
"""Words in a backend's answer to HTTP, which a client sees that has its port as the
frontend's."""


def discover_backend(server: ServerAddress, deadline: Deadline) -> HostPort:
    """Return where the backend of ``server`` listens, blocking the greenlet. Raises a
    NetworkError or a TrustError."""
    try:
        text = fetch(server, "/meta/backend", deadline)
    except ConnectionRefused as error:
        raise ConnectionRefused(
            f"No localtunnel server answers at {server} (connection refused).",
            advice="Start lt-server there, or name yours with --server.",
        ) from error
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= MAX_PORT):
        raise Unreachable(
            f"{server} answers, but not as a localtunnel server.", advice="Check --server, or give --backend."
        )
    return HostPort(server.host, int(text))


def server_version(server: str, timeout: float) -> str | None:
    """Return the version that ``server`` runs, or None if it does not tell within
    ``timeout`` seconds."""
    try:
        version = fetch(parse_server(server), "/meta/version", Deadline(timeout))
    except LocaltunnelError:
        return None
    return version if version.isprintable() and len(version) <= 64 else None


def fetch(server: ServerAddress, path: str, deadline: Deadline) -> str:
    """Return the body of a GET for ``path``, stripped.

    Raises Unreachable for any status but 200, or a NetworkError, or a TrustError where
    HTTPS shows another server.
    """
    sock = _connect(server, deadline)
    try:
        return _exchange(sock, server, path, deadline)
    finally:
        closing.close(sock)


def _connect(server: ServerAddress, deadline: Deadline) -> Socket:
    addresses = resolve([server.host], server.port, deadline)
    if server.scheme == "http":
        return dial(addresses, deadline)[0]
    try:
        return connect(addresses, deadline, client_context(roots=True), server.host)[0]
    except CertificateUntrusted as error:
        raise CertificateUntrusted(
            f"{server}: {error} The proxy there has to show a certificate for {server.host} from an authority that "
            "this machine knows; SSL_CERT_FILE names a file with others."
        ) from error
    except TlsError as error:
        raise TlsError(f"{server}: {str(error).removesuffix('.')}; does it speak plain HTTP?") from error


def _exchange(sock: Socket, server: ServerAddress, path: str, deadline: Deadline) -> str:
    answer = _Answer()
    received = 0
    parser = httptools.HttpResponseParser(answer)
    request = f"GET {path} HTTP/1.1\r\nHost: {server.authority}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    try:
        sock.send(request.encode("ascii"))
        # The head counts as well: it may be endless, or a series of interim responses.
        while not answer.complete and received < MAX_ANSWER:
            wait_readable(sock, deadline)
            try:
                data = sock.recv(RECORD_SIZE)
            except BlockingIOError:
                # TLS had something to say for itself.
                continue
            if not data:
                break
            received += len(data)
            parser.feed_data(data)
    except OSError as error:
        raise translate(error, f"asking {server}") from error
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise Unreachable(
            f"{server} does not answer in HTTP.", advice="Check --server, which is the frontend's address."
        ) from error
    if received >= MAX_ANSWER and not answer.headed:
        raise Unreachable(f"{server} answers without end.", advice="Check --server, which is the frontend's address.")
    if answer.has_length and not answer.complete and received < MAX_ANSWER:
        raise ConnectionClosed(f"{server} closed the connection in the middle of its answer.")
    if not answer.headed:
        raise ConnectionClosed(f"{server} closed the connection without an answer.")
    status = parser.get_status_code()
    if status != 200:
        raise _refused(server, path, status, answer)
    return bytes(answer.body).decode("utf-8", "replace").strip()


def _refused(server: ServerAddress, path: str, status: int, answer: "_Answer") -> Unreachable:
    """Return the error for an answer with another status than 200."""
    if server.scheme == "http" and answer.location.lower().startswith(f"https://{server.host}"):
        return Unreachable(
            f"{server} sends its visitors to HTTPS.",
            advice=f"Write --server=https://{server.host}, or name another port.",
        )
    if _BACKEND in answer.body:
        return Unreachable(
            f"{server} is the backend of a localtunnel server.",
            advice="Name its frontend, where visitors connect, with --server; the backend is found by itself.",
        )
    return Unreachable(
        f"{server} answered {status} for {path}: it is not a localtunnel server, or has another domain.",
        advice="Check --server, or give --backend.",
    )


class _Answer:
    """Collects a response from httptools' callbacks."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.headed = False
        self.complete = False
        self.has_length = False
        self.location = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")
        self.has_length |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
