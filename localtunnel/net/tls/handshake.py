"""TLS handshakes, and how a new connection is known to begin with one."""

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, cast

import gevent

from localtunnel.errors import (
    CertificateUnknown,
    CertificateUntrusted,
    ConnectionClosed,
    DeadlineExceeded,
    LocaltunnelError,
    TlsError,
)
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline, wait_readable, wait_writable
from localtunnel.net.sockets import READ, WRITE, Socket, translate
from localtunnel.net.tls.context import Context, ServerContext, Ticket, TlsSocket

FIRST_BYTE = b"\x16"
"""What every TLS connection begins with: a record of the type handshake (RFC 8446 5.1).
No header of LTP does."""

_UNDONE = "The TLS handshake was not done"

# X509_V_ERR_…: the codes of OpenSSL for a chain that does not end in an authority that
# this machine knows.
_UNKNOWN_AUTHORITY = frozenset((18, 19, 20, 21))


def is_tls_hello(sock: Socket) -> bool | None:
    """Say whether a new connection begins as TLS does, without taking anything from it;
    None when nothing came yet.

    Raises OSError.
    """
    try:
        return sock.recv(1, socket.MSG_PEEK) == FIRST_BYTE
    except BlockingIOError:
        return None


def wrap(sock: Socket, context: Context, *, host: str | None = None, session: Ticket | None = None) -> TlsSocket:
    """Return a TLS socket in place of ``sock``, a connected one, before any byte of the
    handshake.

    A client gives the ``host`` for which the certificate has to be, and the ``session``
    that it resumes, if any. Raises a NetworkError, and ``sock`` is closed then.
    """
    try:
        wrapped = context.wrap_socket(
            sock,
            server_side=isinstance(context, ServerContext),
            do_handshake_on_connect=False,
            server_hostname=host,
            session=session,
        )
    except (OSError, ValueError) as error:
        closing.close(sock)
        raise _handshake_error(error) from error
    return cast(TlsSocket, wrapped)


def shake_hands(sock: TlsSocket, deadline: Deadline) -> None:
    """Block the greenlet until the handshake is done; after an error ``sock`` is
    closed.

    Raises DeadlineExceeded, or what ``_handshake_error`` makes of OpenSSL's errors.
    """
    try:
        while True:
            try:
                sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                wait_readable(sock, deadline)
            except ssl.SSLWantWriteError:
                wait_writable(sock, deadline)
    except DeadlineExceeded:
        closing.close(sock)
        raise deadline.expired(_UNDONE) from None
    except (OSError, ValueError) as error:
        closing.close(sock)
        raise _handshake_error(error) from error
    except BaseException:
        closing.close(sock)
        raise


class Handshake:
    """The server's side of a handshake on ``sock``, driven by the hub. It takes
    ownership of ``sock``.

    ``start`` calls ``done(sock, None)`` with the TLS socket or ``done(None, error)``
    exactly once, perhaps before it returns; after an error the connection is closed.
    ``cancel`` closes it, and ``done`` is never called then. The constructor raises what
    ``wrap`` does.

    It does what ``shake_hands`` does, without a greenlet: strangers make a server hold
    thousands of handshakes (docs/decisions/callbacks-or-greenlets.md).
    """

    __slots__ = ("_done", "_seconds", "_sock", "_timer", "_watcher")

    def __init__(
        self,
        sock: Socket,
        context: ServerContext,
        seconds: float,
        done: Callable[[Socket | None, LocaltunnelError | None], None],
    ) -> None:
        self._sock = wrap(sock, context)
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
            self._finish(None, _handshake_error(error))
        else:
            self._sock.since = time.monotonic()
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
        self._finish(None, Deadline(self._seconds).expired(_UNDONE))

    def _finish(self, sock: Socket | None, error: LocaltunnelError | None) -> None:
        done, self._done = self._done, None
        # The watcher goes before its descriptor: the number may soon be another's.
        self._clean_up()
        if error is not None:
            self._sock.close()
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
