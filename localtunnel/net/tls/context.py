"""TLS on the sockets of this program: contexts, handshakes in the hub, and one place that knows how OpenSSL waits.

Everywhere else a TLS connection is a non-blocking socket like any other: it raises BlockingIOError where it has to
wait. One ``recv`` returns one record at most, and one of at least ``RECORD_SIZE`` bytes leaves nothing decrypted
behind, so that waiting for the descriptor is right. No close_notify is sent or awaited: every message and every stream
carries its own end, which is what tells a whole one from one that was cut.
"""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gevent

from localtunnel.errors import (
    CertificateUnknown,
    CertificateUntrusted,
    ConfigError,
    ConnectionClosed,
    DeadlineExceeded,
    LocaltunnelError,
    TlsError,
)
from localtunnel.net.flow.ends import READ, WRITE
from localtunnel.net.sockets import Socket, translate
from localtunnel.net.tls import keys

FIRST_BYTE = b"\x16"
"""What every TLS connection begins with: a record of the type handshake (RFC 8446 5.1). No header of LTP does."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""The suites of TLS 1.2 that are taken, all of them with forward secrecy and authenticated encryption (RFC 9325 4.2);
those of TLS 1.3 all are."""

TICKETS = 1
"""Tickets a server sends after each handshake, with which the next connection resumes: one is enough, since a client
may use it for all of its pool."""

Context = ssl.SSLContext
"""What a client's handshakes are made with."""

Ticket = ssl.SSLSession
"""What a client keeps of one connection to make the next one with less work."""

# X509_V_ERR_…: the codes of OpenSSL for a chain that does not end in an authority that this machine knows.
_UNKNOWN_AUTHORITY = frozenset((18, 19, 20, 21))


class TlsSocket(ssl.SSLSocket):
    """A TLS connection that says that it has to wait as every other non-blocking socket does."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return the next bytes, of one record at most; none at the end. Raises BlockingIOError."""
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read into ``buffer``, of one record at most; 0 at the end. Raises BlockingIOError."""
        try:
            return super().recv_into(buffer, nbytes, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def read_record(self, buffer: memoryview) -> int:
        """Do what ``recv_into`` does, with two calls less: this is on the way of every byte."""
        try:
            return cast(int, self.read(len(buffer), buffer))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: Any, flags: int = 0) -> int:
        """Send ``data``, whole if it fits into a record. Raises BlockingIOError; then the same has to be sent again."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None


class ServerContext(ssl.SSLContext):
    """What a server's handshakes are made with, and what identifies its key and its certificate."""

    fingerprint: str
    binding: bytes


def server_context(certificate: Path, key: Path) -> ServerContext:
    """Return a context with the certificate chain and the key of these PEM files, which may be one.

    Raises ConfigError when they cannot be used.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = TICKETS
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        leaf = ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text(encoding="ascii")))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"The certificate {certificate} and the key {key} cannot be used: {reason}. Both have to be readable PEM "
            "files, the key without a password, and the key has to be that of the first certificate."
        ) from error
    context.fingerprint = keys.fingerprint(leaf)
    context.binding = keys.end_point(leaf)
    return context


def client_context(*, roots: bool) -> Context:
    """Return a context that takes a server by this machine's ``roots``, or any, which then has to be looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if roots:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _no_password() -> bytes:
    """OpenSSL would ask on the terminal, and the server would not start."""
    raise ValueError("the key is encrypted")


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.index(begin)
    return text[start : text.index(end, start) + len(end)]


def is_tls(sock: Socket) -> bool:
    """Say whether what goes through ``sock`` is encrypted."""
    return isinstance(sock, ssl.SSLSocket)


def certificate_of(sock: Socket) -> bytes:
    """Return the DER certificate that the server has shown on ``sock``, a client's TLS connection."""
    certificate = cast(TlsSocket, sock).getpeercert(binary_form=True)
    if certificate is None:
        raise TlsError("The server has shown no certificate.")
    return certificate


def channel_binding(sock: Socket) -> bytes | None:
    """Return what ties a login to this very server's certificate, the same on both sides; None without TLS.

    It is ``tls-server-end-point`` of RFC 5929: a man in the middle shows another certificate.
    """
    if not isinstance(sock, TlsSocket):
        return None
    if isinstance(sock.context, ServerContext):
        return sock.context.binding
    return keys.end_point(certificate_of(sock))


def session_of(sock: Socket) -> Ticket | None:
    """Return what a client needs to resume, once something was received: the ticket comes behind the handshake."""
    return sock.session if isinstance(sock, TlsSocket) else None


def is_tls_hello(sock: Socket) -> bool | None:
    """Say whether a new connection begins as TLS does, without taking anything from it; None when nothing came yet.

    Raises OSError.
    """
    try:
        return sock.recv(1, socket.MSG_PEEK) == FIRST_BYTE
    except BlockingIOError:
        return None


class Handshake:
    """One TLS handshake on ``sock``, a connected plain socket that it takes over, driven by the hub.

    ``start`` calls ``done(sock, None)`` with the TLS socket or ``done(None, error)`` exactly once, perhaps before it
    returns; after an error the connection is closed. ``cancel`` closes it and makes sure that ``done`` is never called.
    A client gives the ``host`` for which the certificate has to be, and the ``session`` that it resumes, if any.
    """

    __slots__ = ("_done", "_seconds", "_sock", "_timer", "_watcher")

    def __init__(
        self,
        sock: Socket,
        context: Context,
        seconds: float,
        done: Callable[[Socket | None, LocaltunnelError | None], None],
        *,
        host: str | None = None,
        session: Ticket | None = None,
    ) -> None:
        server_side = isinstance(context, ServerContext)
        self._sock = context.wrap_socket(
            sock, server_side=server_side, do_handshake_on_connect=False, server_hostname=host, session=session
        )
        self._seconds = seconds
        self._done: Callable[..., None] | None = done
        self._watcher: Any = None
        self._timer: Any = None

    def start(self) -> None:
        """Go as far as it goes now, and on when the other side answers."""
        self._step()

    def cancel(self) -> None:
        """Give up silently. Does nothing when it is over."""
        if self._done is not None:
            self._done = None
            self._clean_up()
            self._sock.close()

    def _step(self) -> None:
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._wait(READ)
        except ssl.SSLWantWriteError:
            self._wait(WRITE)
        except (OSError, ValueError) as error:
            self._fail(_handshake_error(error))
        else:
            self._finish(self._sock, None)

    def _wait(self, events: int) -> None:
        if self._watcher is None:
            loop = gevent.get_hub().loop
            self._watcher = loop.io(self._sock.fileno(), events)
            self._timer = loop.timer(self._seconds)
            self._timer.start(self._expire)
            self._watcher.start(self._step)
        elif self._watcher.events != events:
            self._watcher.stop()
            self._watcher.events = events
            self._watcher.start(self._step)

    def _expire(self) -> None:
        self._fail(DeadlineExceeded(f"The TLS handshake was not done within {self._seconds:g} seconds."))

    def _fail(self, error: LocaltunnelError) -> None:
        self._sock.close()
        self._finish(None, error)

    def _finish(self, sock: Socket | None, error: LocaltunnelError | None) -> None:
        done, self._done = self._done, None
        self._clean_up()
        if done is not None:
            done(sock, error)

    def _clean_up(self) -> None:
        for watcher in (self._watcher, self._timer):
            if watcher is not None:
                watcher.close()


def _handshake_error(error: Exception) -> LocaltunnelError:
    """Return what ended a handshake as an error of ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        unknown = error.verify_code in _UNKNOWN_AUTHORITY
        kind = CertificateUnknown if unknown else CertificateUntrusted
        return kind(f"The server's certificate cannot be trusted: {error.verify_message.rstrip('.')}.")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionClosed("The connection was closed in the middle of the TLS handshake.")
    if isinstance(error, ssl.SSLError):
        return TlsError(f"The TLS handshake failed: {(error.reason or str(error)).replace('_', ' ').lower()}.")
    if isinstance(error, OSError):
        return translate(error, "the TLS handshake")
    return TlsError(f"The TLS handshake failed: {error}.")
