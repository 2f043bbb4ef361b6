"""Dialling: resolve a name once and keep the whole list, then connect to the first
address that answers.

Addresses are tried one after the other, the next one already when the first has been
silent for a moment (RFC 8305 5).
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gevent

from localtunnel.errors import ConnectionRefused, NetworkError, Unreachable
from localtunnel.net import closing
from localtunnel.net.deadline import UNANSWERED, Deadline, wait_any_writable
from localtunnel.net.sockets import format_address, prepare, translate

NEXT_ATTEMPT = 0.25
"""Seconds that one address may be silent before the next one is tried beside it (RFC
8305 8: 250 ms)."""


class Address(NamedTuple):
    """One place to connect to."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether it is certainly on this machine."""
        host: str = self.sockaddr[0]
        return host.startswith("127.") or host == "::1"

    def __str__(self) -> str:
        return format_address(self.sockaddr)


Dialler = Callable[[Sequence[Address], Deadline], tuple[socket.socket, Address]]
"""Connects to one of some addresses, blocking the greenlet: ``dial`` is one."""


def resolve(hosts: Sequence[str], port: int, deadline: Deadline) -> list[Address]:
    """Return every address of ``hosts`` in order, blocking the greenlet while DNS is
    asked.

    Literals and ``localhost`` names (RFC 6761 6.3) need no DNS. Raises Unreachable when
    a name does not resolve, and DeadlineExceeded.
    """
    found: list[Address] = []
    for host in hosts:
        found.extend(literals(host, port) or _look_up(host, port, deadline))
    return list(dict.fromkeys(found))


def literals(host: str, port: int) -> list[Address]:
    """Return the addresses of a ``host`` that needs no DNS: an empty list for most
    names."""
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
    unresolved = f"The name {host} was not resolved"
    try:
        with gevent.Timeout(deadline.check(unresolved), deadline.expired(unresolved)):
            answers = gevent.get_hub().resolver.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unreachable(
            f"The name {host} does not resolve ({reason}).", advice="Check its spelling and the network."
        ) from error
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in answers]


def dial_at_once(address: Address) -> socket.socket | None:
    """Return a connection to ``address`` where none has to be waited for, on this
    machine; the caller closes it.

    None everywhere else, and where nothing listens: ``dial`` tells why.
    """
    if not address.is_loopback:
        return None
    try:
        sock, is_connected = _begin(address)
    except NetworkError:
        return None
    if is_connected:
        return sock
    closing.close(sock)
    return None


def dial(addresses: Sequence[Address], deadline: Deadline) -> tuple[socket.socket, Address]:
    """Block the greenlet until one of ``addresses`` is connected; the caller closes the
    socket, which is prepared.

    Raises the NetworkError of the first address that failed, or DeadlineExceeded.
    """
    deadline.check(UNANSWERED)
    left = list(addresses)
    in_flight: dict[int, tuple[socket.socket, Address]] = {}
    failures: list[NetworkError] = []
    try:
        while left or in_flight:
            if left:
                address = left.pop(0)
                try:
                    sock, is_connected = _begin(address)
                except NetworkError as error:
                    failures.append(error)
                    continue
                if is_connected:
                    return sock, address
                in_flight[sock.fileno()] = sock, address
            for descriptor in wait_any_writable(in_flight, deadline, NEXT_ATTEMPT if left else None):
                sock, address = in_flight.pop(descriptor)
                try:
                    _settle(sock, address, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                except NetworkError as error:
                    failures.append(error)
                else:
                    return sock, address
        raise failures[0] if failures else Unreachable("There is no address to connect to.")
    finally:
        for sock, _ in in_flight.values():
            closing.close(sock)
        # The traceback of what is raised holds this frame: together they would wait for
        # the cyclic collector.
        failures.clear()


def _begin(address: Address) -> tuple[socket.socket, bool]:
    """Return a socket that connects to ``address``, and whether it is connected. Raises
    NetworkError."""
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:
        raise translate(error, f"connecting to {address}") from error
    try:
        prepare(sock, loopback=address.is_loopback)
        code = sock.connect_ex(address.sockaddr)
        if code == errno.EINPROGRESS:
            # On loopback the connection stands by now, and asking again is cheaper than
            # waiting.
            code = sock.connect_ex(address.sockaddr)
    except OSError as error:
        code = error.errno or errno.EINVAL
    if code == errno.EALREADY:
        return sock, False
    _settle(sock, address, code)
    return sock, True


def _settle(sock: socket.socket, address: Address, code: int) -> None:
    """Close ``sock`` and raise NetworkError unless ``code`` says that it is
    connected."""
    if code not in (0, errno.EISCONN) or _is_self_connected(sock, address):
        closing.close(sock)
        raise _connect_error(address, code)


def _is_self_connected(sock: socket.socket, address: Address) -> bool:
    """Say whether the kernel gave ``sock`` the very port that it dials, and so
    connected it to itself.

    That happens on loopback when nothing listens on a port of the ephemeral range (RFC
    9293 3.5, simultaneous open).
    """
    return bool(sock.getsockname()[:2] == address.sockaddr[:2])


def _connect_error(address: Address, code: int) -> NetworkError:
    if code in (errno.ECONNREFUSED, 0, errno.EISCONN):
        return ConnectionRefused(f"Nothing listens on {address} (connection refused).")
    return Unreachable(f"Connecting to {address} failed: {os.strerror(code)}.")
