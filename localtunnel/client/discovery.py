"""Asking the server's frontend where its backend is, and which version it runs (PROTOCOL.md, "Discovery")."""

import httptools

from localtunnel.errors import ConnectionClosed, ConnectionRefused, LocaltunnelError, Unreachable
from localtunnel.net import closing
from localtunnel.net.address import MAX_PORT, HostPort, parse_server
from localtunnel.net.deadline import Deadline, wait_readable
from localtunnel.net.dial import dial, resolve
from localtunnel.net.sockets import Socket, translate

MAX_ANSWER = 64 * 1024
"""Bytes taken of an answer that should have one line: enough to read any page that somebody else's server sends."""

_READ_SIZE = 16 * 1024


def discover_backend(server: HostPort, deadline: Deadline) -> HostPort:
    """Return where the backend of ``server`` listens, blocking the greenlet. Raises a NetworkError."""
    try:
        text = fetch(server, "/meta/backend", deadline)
    except ConnectionRefused as error:
        raise ConnectionRefused(
            f"No localtunnel server answers at {server} (connection refused); start lt-server there, or name yours "
            "with --server."
        ) from error
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= MAX_PORT):
        raise Unreachable(f"{server} answers, but not as a localtunnel server; check --server, or give --backend.")
    return HostPort(server.host, int(text))


def server_version(server: str, timeout: float) -> str | None:
    """Return the version that ``server`` says it runs, or None when it cannot be asked within ``timeout`` seconds."""
    try:
        version = fetch(parse_server(server), "/meta/version", Deadline(timeout))
    except LocaltunnelError:
        return None
    return version if version.isprintable() and len(version) <= 64 else None


def fetch(server: HostPort, path: str, deadline: Deadline) -> str:
    """Return the body of a GET for ``path``, stripped. Raises Unreachable for any status but 200, or a NetworkError."""
    sock, _ = dial(resolve([server.host], server.port, deadline), deadline)
    try:
        return _exchange(sock, server, path, deadline)
    finally:
        closing.close(sock)


def _exchange(sock: Socket, server: HostPort, path: str, deadline: Deadline) -> str:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    request = f"GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    try:
        sock.send(request.encode("ascii"))
        while not answer.complete and len(answer.body) < MAX_ANSWER:
            wait_readable(sock, deadline)
            data = sock.recv(_READ_SIZE)
            if not data:
                break
            parser.feed_data(data)
    except OSError as error:
        raise translate(error, f"asking {server}") from error
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise Unreachable(
            f"{server} does not answer in HTTP; check --server, which is the frontend's address."
        ) from error
    if answer.has_length and not answer.complete and len(answer.body) < MAX_ANSWER:
        raise ConnectionClosed(f"{server} closed the connection in the middle of its answer.")
    if not answer.headed:
        raise ConnectionClosed(f"{server} closed the connection without an answer.")
    if parser.get_status_code() != 200:
        raise Unreachable(
            f"{server} answered {parser.get_status_code()} for {path}: it is no localtunnel server, or has another "
            "domain; check --server, or give --backend."
        )
    return bytes(answer.body).decode("utf-8", "replace").strip()


class _Answer:
    """What httptools tells of a response."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.headed = False
        self.complete = False
        self.has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.has_length |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
