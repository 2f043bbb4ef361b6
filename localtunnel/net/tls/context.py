"""TLS on the sockets of this program: contexts, and one place that knows how OpenSSL
waits.

To all other code a TLS connection is a non-blocking socket like any other, which raises
BlockingIOError when it has to wait. One ``recv`` returns one record at most, and one of
at least ``RECORD_SIZE`` bytes leaves no decrypted byte behind, so the descriptor can be
waited for. No close_notify is sent or awaited: every message and every stream has an
end of its own, which tells a whole one from one that was cut.
"""

import ssl
from pathlib import Path
from typing import Any, cast

from localtunnel.errors import (
    ConfigError,
    TlsError,
)
from localtunnel.net.sockets import Socket
from localtunnel.net.tls import keys

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""The accepted suites of TLS 1.2: those with forward secrecy and authenticated
encryption (RFC 9325 4.2). Those of TLS 1.3 all have both."""

TICKETS = 1
"""Tickets that a server sends after each handshake. One is enough: a client may use it
for all of its pool."""

Context = ssl.SSLContext
"""The settings of a client's handshakes."""

Ticket = ssl.SSLSession
"""What a client keeps of one connection, to resume on the next."""


class TlsSocket(ssl.SSLSocket):
    """A TLS connection that raises BlockingIOError when it has to wait, as other
    sockets do."""

    since = 0.0
    """When its handshake was done, by the monotonic clock, on the side of the server."""

    expires = 0.0
    """When it is to be replaced, by the same clock; the pool draws that once, however
    often the connection comes back."""

    _fill: Any = ssl.SSLSocket.read
    """``read`` as it is with a buffer: it returns a number, which typeshed does not
    know."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return the next bytes, of one record at most; none at the end. Raises
        BlockingIOError."""
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read into ``buffer``, of one record at most; 0 at the end. Raises
        BlockingIOError."""
        try:
            return super().recv_into(buffer, nbytes, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def read_record(self, buffer: memoryview) -> int:
        """Do what ``recv_into`` does, in two calls less: every byte passes here."""
        try:
            size: int = self._fill(len(buffer), buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return size

    def send(self, data: Any, flags: int = 0) -> int:
        """Send ``data``, whole if it fits into a record. After BlockingIOError the same
        bytes have to be sent again."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None


class ServerContext(ssl.SSLContext):
    """The settings of a server's handshakes, and the digests of its key and its
    certificate."""

    fingerprint: str
    binding: bytes


def server_context(certificate: Path, key: Path) -> ServerContext:
    """Return a context with the certificate chain and the key of these PEM files, which
    may be one.

    Raises ConfigError when they cannot be used.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.num_tickets = TICKETS
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        leaf = ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text(encoding="ascii")))
        context.fingerprint = keys.fingerprint(leaf)
        context.binding = keys.end_point(leaf)
    except (OSError, ValueError, TlsError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error).rstrip(".")
        raise ConfigError(
            f"The certificate {certificate} and the key {key} cannot be used: {reason}. Both have to be readable PEM "
            "files, the key without a password, and the key has to be that of the first certificate."
        ) from error
    return context


def client_context(*, roots: bool) -> Context:
    """Return a context that verifies a server by this machine's ``roots``, or else
    takes any: the caller checks it."""
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
    """Refuse: OpenSSL would ask on the terminal, and the server would not start."""
    raise ValueError("the key is encrypted")


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.index(begin)
    return text[start : text.index(end, start) + len(end)]


def is_tls(sock: Socket) -> bool:
    """Return whether ``sock`` is encrypted."""
    return isinstance(sock, ssl.SSLSocket)


def certificate_of(sock: Socket) -> bytes:
    """Return the DER certificate of the server on ``sock``, a client's TLS
    connection."""
    certificate = cast(TlsSocket, sock).getpeercert(binary_form=True)
    if certificate is None:
        raise TlsError("The server has shown no certificate.")
    return certificate


def channel_binding(sock: Socket) -> bytes | None:
    """Return the channel binding ``tls-server-end-point`` (RFC 5929), the same on both
    sides; None without TLS.

    It ties a login to this server's certificate: a man in the middle shows another one.
    """
    if not isinstance(sock, TlsSocket):
        return None
    if isinstance(sock.context, ServerContext):
        return sock.context.binding
    return keys.end_point(certificate_of(sock))


def session_of(sock: Socket) -> Ticket | None:
    """Return the session to resume, once bytes were received: the ticket comes after
    the handshake."""
    return sock.session if isinstance(sock, TlsSocket) else None
