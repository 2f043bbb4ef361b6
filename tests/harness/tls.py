"""TLS by hand: a test's own authority, clients that look at nothing, and a man in the middle."""

import contextlib
import socket as plain_socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
import trustme
from gevent import socket
from gevent.server import StreamServer

from harness.sockets import Address, connect, listening, pair
from harness.waiting import CAP, at_most
from localtunnel.net.deadline import Deadline
from localtunnel.net.tls import keys
from localtunnel.net.tls.context import ServerContext, client_context
from localtunnel.net.tls.handshake import shake_hands, wrap

_VERSION_3, _VERSION_6 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"
"""The field of a certificate that says which version of X.509 it is of (RFC 5280 4.1)."""


def careless_context() -> gevent.ssl.SSLContext:
    """Return a client's context that takes any certificate."""
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_connect(address: Address, context: Any = None, session: Any = None) -> Any:
    """Return a TLS connection to ``address``, whose certificate is not looked at, as a gevent socket."""
    context = context or careless_context()
    return context.wrap_socket(connect(address), session=session)


def tls_pair(context: Any, bufsize: int | None = None) -> list[Any]:
    """Return both ends of a TLS connection, non-blocking as the programs have them, the server's first.

    ``context`` is the server's.
    """
    near, far = pair()
    client = plain_socket.socket(fileno=far.detach())
    client.setblocking(False)
    for sock in () if bufsize is None else (near, client):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, bufsize)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bufsize)
    shaking = [gevent.spawn(_shaken, near, context), gevent.spawn(_shaken, client, client_context(roots=False))]
    with at_most(CAP, "the handshake"):
        return [each.get() for each in shaking]


def _shaken(sock: Any, context: Any) -> Any:
    made = wrap(sock, context, host=None if isinstance(context, ServerContext) else "localhost")
    shake_hands(made, Deadline(CAP))
    return made


def server_side_context(path: Path) -> gevent.ssl.SSLContext:
    """Return a server's context with the certificate and the key in ``path``."""
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def write_certificate(authority: trustme.CA, directory: Path, *names: str) -> Path:
    """Have ``authority`` sign a certificate for ``names``; return the PEM file with its key and its chain."""
    path = directory / "certificate.pem"
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def write_unreadable_certificate(directory: Path) -> Path:
    """Write a PEM file with a key and a certificate of an X.509 version that does not exist, and return its path.

    OpenSSL serves it and shakes hands with it; cryptography refuses to parse it.
    """
    pem = keys.make_self_signed("localhost").decode()
    start = pem.index("-----BEGIN CERTIFICATE-----")
    good = ssl.PEM_cert_to_DER_cert(pem[start:])
    assert good.count(_VERSION_3) == 1
    path = directory / "unreadable.pem"
    path.write_text(pem[:start] + ssl.DER_cert_to_PEM_cert(good.replace(_VERSION_3, _VERSION_6)), encoding="ascii")
    return path


class TlsListening:
    """Takes TLS connections with the certificate in ``path``, one by one. A context manager.

    ``heard`` has what each of them sent first, or the text of the error that ended it.
    """

    def __init__(self, path: Path) -> None:
        self._context = server_side_context(path)
        self._listener = listening()
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[bytes | str] = []
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            sock.settimeout(CAP)
            client = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            try:
                client.do_handshake()
                self.heard.append(client.recv(100))
            except OSError as error:
                self.heard.append(str(error))
            finally:
                client.close()

    def __enter__(self) -> "TlsListening":
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()
        self._listener.close()


class ManInTheMiddle:
    """Takes TLS connections with the certificate in ``path``, and passes what is inside on to ``target``.

    ``heard`` is everything that a client has told him. A context manager.
    """

    def __init__(self, target: Address, path: Path) -> None:
        self.heard = bytearray()
        self.connections = 0
        self._target = target
        self._context = server_side_context(path)
        self._server = StreamServer(listening(), self._serve)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, sock: socket.socket, _: object) -> None:
        self.connections += 1
        sock.settimeout(CAP)
        client = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with contextlib.closing(client), contextlib.suppress(OSError):
            client.do_handshake()
            with contextlib.closing(tls_connect(self._target)) as server:
                pumps = [gevent.spawn(self._pump, client, server, self.heard), gevent.spawn(self._pump, server, client)]
                gevent.joinall(pumps, count=1)
                gevent.killall(pumps)

    def _pump(self, source: Any, sink: Any, heard: bytearray | None = None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if heard is not None:
                    heard += data
                sink.sendall(data)

    def __enter__(self) -> "ManInTheMiddle":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(timeout=0)


@contextmanager
def authority_of_this_machine(authority: trustme.CA, directory: Path, monkeypatch: Any) -> Iterator[None]:
    """Make ``authority`` the only one that the programs of the test know."""
    roots = directory / "roots.pem"
    authority.cert_pem.write_to_path(str(roots))
    with monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(roots))
        patch.setenv("SSL_CERT_DIR", str(directory / "none"))
        yield
