"""localtunnel.client.sessions.path: which changes of the way to the server count, with real sockets on loopback."""

import socket
from collections.abc import Iterator

import pytest
from harness.sockets import LOOPBACK, Address, listening

from localtunnel.client.sessions import path
from localtunnel.client.sessions.path import Change, Path
from localtunnel.net.dial import Address as Backend
from localtunnel.net.sockets import is_of_this_machine, source_towards

OTHER = "127.0.0.2"
"""All of 127.0.0.0/8 is this machine's, and the kernel prefers the first address."""

ELSEWHERE = "198.51.100.7"
"""From TEST-NET-2 (RFC 5737), which no machine has."""


@pytest.fixture
def server() -> Iterator[Address]:
    with listening() as sock:
        yield sock.getsockname()


def way(server: Address, source: str) -> Path:
    """Return the path of a control connection from ``source``, which is closed again."""
    with socket.create_connection(server, source_address=(source, 0)) as control:
        return Path(control, Backend(socket.AF_INET, server))


def looks(watched: Path, count: int) -> list[Change | None]:
    return [watched.look() for _ in range(count)]


def test_a_way_that_stays_is_no_change(server: Address) -> None:
    assert looks(way(server, LOOPBACK), 5) == [None] * 5


def test_another_source_counts_once_and_when_two_looks_agree(server: Address) -> None:
    assert looks(way(server, OTHER), 5) == [None, Change.MOVED, None, None, None]


def test_sources_that_take_turns_are_no_change(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = way(server, LOOPBACK)
    turns = iter([OTHER, LOOPBACK] * 5)
    monkeypatch.setattr(path, "source_towards", lambda *_: next(turns))
    assert looks(watched, 10) == [None] * 10


def test_no_route_is_no_change(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = way(server, OTHER)
    routes = iter([None, LOOPBACK, None, LOOPBACK, None])
    monkeypatch.setattr(path, "source_towards", lambda *_: next(routes))
    assert looks(watched, 5) == [None, None, None, Change.MOVED, None]


def test_an_address_that_this_machine_has_lost_counts_at_once(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = way(server, LOOPBACK)
    monkeypatch.setattr(watched, "_own", (ELSEWHERE, 1))
    assert watched.look() is Change.GONE


def test_while_there_is_no_way_at_all_no_address_is_lost(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come back with the network, and every connection with it."""
    watched = way(server, LOOPBACK)
    monkeypatch.setattr(watched, "_own", (ELSEWHERE, 1))
    monkeypatch.setattr(path, "source_towards", lambda *_: None)
    assert watched.look() is None


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1")])
def test_what_the_kernel_says_of_loopback(family: int, host: str) -> None:
    sockaddr = (host, 80) if family == socket.AF_INET else (host, 80, 0, 0)
    assert source_towards(family, sockaddr) == host
    assert is_of_this_machine(family, sockaddr)


def test_what_the_kernel_says_of_an_address_of_somebody_else() -> None:
    assert not is_of_this_machine(socket.AF_INET, (ELSEWHERE, 80))
    assert source_towards(socket.AF_INET6, (ELSEWHERE, 80, 0, 0)) is None
