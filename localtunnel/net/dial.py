"""Dialling: resolve a name once and keep the whole list, then connect to the first address that answers.

Addresses are tried one after the other, the next one already when the first has been silent for a moment (RFC 8305 5).
``Dial`` works in the hub; ``dial`` is the same for a greenlet that wants to block.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gevent
from gevent.event import AsyncResult

from localtunnel.errors import ConnectionRefused, DeadlineExceeded, LocaltunnelError, NetworkError, Unreachable
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.sockets import format_address, prepare, translate

NEXT_ATTEMPT = 0.25
"""Seconds that one address may be silent before the next one is tried beside it (RFC 8305 8: 250 ms)."""

_READ, _WRITE = 1, 2


class Address(NamedTuple):
    """One place to connect to."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine for certain."""
        host: str = self.sockaddr[0]
        return host.startswith("127.") or host == "::1"

    def __str__(self) -> str:
        return format_address(self.sockaddr)


Done = Callable[[socket.socket | None, Address | None, LocaltunnelError | None], None]
"""Who is told how an attempt to connect has ended: ``(sock, address, None)``, or ``(None, None, error)``."""


def resolve(hosts: Sequence[str], port: int, deadline: Deadline) -> list[Address]:
    """Return every address of ``hosts`` in order, blocking the greenlet while DNS is asked.

    Literals and ``localhost`` names (RFC 6761 6.3) need no DNS. Raises Unreachable when a name does not resolve, and
    DeadlineExceeded.
    """
    found: list[Address] = []
    for host in hosts:
        found.extend(literals(host, port) or _look_up(host, port, deadline))
    return list(dict.fromkeys(found))


def literals(host: str, port: int) -> list[Address]:
    """Return the addresses of ``host`` where nobody has to be asked for them: none for most names."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return [Address(socket.AF_INET, ("127.0.0.1", port)), Address(socket.AF_INET6, ("::1", port, 0, 0))]
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return []
    if version == 4:
        return [Address(socket.AF_INET, (host, port))]
    return [Address(socket.AF_INET6, (host, port, 0, 0))]


def _look_up(host: str, port: int, deadline: Deadline) -> list[Address]:
    unanswered = DeadlineExceeded(f"The name {host} was not resolved within {deadline.seconds:g} seconds.")
    try:
        with gevent.Timeout(deadline.check(), unanswered):
            answers = gevent.get_hub().resolver.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(
            f"The name {host} does not resolve ({reason}).", advice="Check its spelling and the network."
        ) from error
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in answers]


class Dial:
    """One attempt to reach any of ``addresses`` within ``seconds``, driven by the hub.

    ``start`` tries at once and calls ``done(sock, address, None)`` or ``done(None, None, error)`` exactly once, perhaps
    before it returns. The socket is connected, prepared, and the receiver's to close. ``cancel`` makes sure that
    ``done`` is never called.
    """

    __slots__ = ("_attempts", "_deadline", "_done", "_error", "_left", "_timer")

    def __init__(
        self,
        addresses: Sequence[Address],
        seconds: float,
        done: Callable[[socket.socket | None, Address | None, NetworkError | None], None],
    ) -> None:
        self._left = list(addresses)
        self._deadline = Deadline(seconds)
        self._done: Callable[..., None] | None = done
        self._attempts: dict[socket.socket, Any] = {}
        self._error: NetworkError | None = None
        self._timer: Any = None

    def start(self) -> None:
        """Try the first address now, the next one when it fails or stays silent."""
        self._next()

    def cancel(self) -> None:
        """Give up silently, and close what was begun. May be called twice."""
        self._done = None
        self._clean_up()

    def _next(self) -> None:
        while self._done is not None and self._left:
            address = self._left.pop(0)
            if self._attempt(address):
                return
        if self._done is not None and not self._attempts:
            self._finish(None, None, self._error or Unreachable("There is no address to connect to."))
        elif self._done is not None:
            self._arm(self._deadline.remaining() or 0.0, self._expire)

    def _attempt(self, address: Address) -> bool:
        """Begin to connect. Return whether it is under way or done; False when it has failed already."""
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:
            self._error = self._error or translate(error, f"connecting to {address}")
            return False
        try:
            prepare(sock, loopback=address.is_loopback)
            code = sock.connect_ex(address.sockaddr)
            if code == errno.EINPROGRESS:
                code = sock.connect_ex(address.sockaddr)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code in (0, errno.EISCONN) and not _is_self_connected(sock, address):
            self._finish(sock, address, None)
            return True
        if code != errno.EALREADY:
            closing.close(sock)
            self._error = self._error or _connect_error(address, code)
            return False
        watcher = self._attempts[sock] = gevent.get_hub().loop.io(sock.fileno(), _WRITE)
        watcher.start(self._settled, sock, address)
        remaining = self._deadline.remaining() or 0.0
        if self._left:
            self._arm(min(NEXT_ATTEMPT, remaining), self._next)
        else:
            self._arm(remaining, self._expire)
        return True

    def _settled(self, sock: socket.socket, address: Address) -> None:
        self._attempts.pop(sock).close()
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and not _is_self_connected(sock, address):
            self._finish(sock, address, None)
            return
        closing.close(sock)
        self._error = self._error or _connect_error(address, code)
        self._next()

    def _expire(self) -> None:
        self._finish(None, None, DeadlineExceeded(f"There was no answer within {self._deadline.seconds:.3g} seconds."))

    def _finish(self, sock: socket.socket | None, address: Address | None, error: NetworkError | None) -> None:
        done, self._done = self._done, None
        self._clean_up()
        if done is not None:
            done(sock, address, error)

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.close()
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(callback)

    def _clean_up(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        for sock, watcher in self._attempts.items():
            watcher.close()
            closing.close(sock)
        self._attempts.clear()
        self._left.clear()


def _is_self_connected(sock: socket.socket, address: Address) -> bool:
    """Say whether the kernel gave ``sock`` the very port that it dials, and so connected it to itself.

    That happens on loopback when nothing listens on a port of the ephemeral range (RFC 9293 3.5, simultaneous open).
    """
    return bool(sock.getsockname()[:2] == address.sockaddr[:2])


def _connect_error(address: Address, code: int) -> NetworkError:
    if code in (errno.ECONNREFUSED, 0, errno.EISCONN):
        return ConnectionRefused(f"Nothing listens on {address} (connection refused).")
    return Unreachable(f"Connecting to {address} failed: {os.strerror(code)}.")


class Attempt(Protocol):
    """What tries to connect: ``Dial``, or what does more once the connection stands."""

    def start(self) -> None:
        """Begin; ``done`` is called exactly once, perhaps before this returns."""

    def cancel(self) -> None:
        """Give up silently; ``done`` is never called. May be called twice."""


Dialler = Callable[[Sequence[Address], float, Done], Attempt]
"""What makes an attempt to reach any of some addresses within some seconds: ``Dial`` is one."""


def dial(addresses: Sequence[Address], deadline: Deadline) -> tuple[socket.socket, Address]:
    """Block the greenlet until one of ``addresses`` is connected; the caller closes the socket.

    Raises Unreachable with the last failure, or DeadlineExceeded.
    """
    seconds = deadline.check() or 0.0
    return wait_for(lambda done: Dial(addresses, seconds, done))


def wait_for(attempt: Callable[[Done], Attempt]) -> tuple[socket.socket, Address]:
    """Block the greenlet until the attempt that ``attempt(done)`` makes is over; the caller closes the socket.

    Raises the error with which it ended.
    """
    result = AsyncResult()
    made = attempt(_setter(result))
    made.start()
    try:
        sock, address, error = result.get()
    except BaseException:
        made.cancel()
        if result.ready() and result.value[0] is not None:
            closing.close(result.value[0])
        raise
    try:
        if error is not None:
            raise error
    finally:
        # Its traceback holds this frame, and what holds each other waits for the cyclic collector.
        del result, error
    return sock, address


def _setter(result: AsyncResult) -> Done:
    def done(sock: socket.socket | None, address: Address | None, error: LocaltunnelError | None) -> None:
        result.set((sock, address, error))

    return done
