"""localtunnel.net.sockets: options, addresses as text, and OS errors as ours."""

import errno
import socket

import pytest
from harness import pair

from localtunnel.errors import ConnectionClosed, Unreachable
from localtunnel.net import closing
from localtunnel.net.sockets import format_address, is_shortage, peer_address, prepare, translate

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_prepared_socket_cannot_outlive_a_dead_peer_unnoticed():
    theirs, ours = pair()
    theirs.setblocking(True)
    prepare(theirs)
    assert theirs.getblocking() is False
    options = {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
        (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 30,
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 60_000,
    }
    assert {option: theirs.getsockopt(*option) for option in options} == options
    closing.close(theirs)
    ours.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNRESET, ConnectionClosed),
        (errno.EPIPE, ConnectionClosed),
        (errno.ETIMEDOUT, Unreachable),
        (errno.EHOSTUNREACH, Unreachable),
    ],
)
def test_an_os_error_becomes_a_sentence_of_ours(number, kind):
    error = translate(OSError(number, "Some reason"), "reading from the server")
    assert type(error) is kind
    assert str(error) == "Reading from the server failed: Some reason."


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EMFILE, True),
        (errno.ENFILE, True),
        (errno.ENOMEM, True),
        (errno.ENOBUFS, True),
        (errno.ECONNABORTED, False),
    ],
)
def test_shortage_is_told_from_a_peers_failure(number, expected):
    assert is_shortage(OSError(number, "x")) is expected


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("2001:db8::1", 80, 0, 0), "[2001:db8::1]:80"),
        (("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1:80"),
        (("::ffff:1", 80, 0, 0), "[::ffff:1]:80"),
    ],
)
def test_an_address_is_shown_as_it_is_written(address, text):
    assert format_address(address) == text


def test_a_peer_that_is_gone_is_unknown():
    theirs, ours = pair()
    assert peer_address(theirs) == format_address(ours.getsockname())
    closing.reset(ours)
    closing.close(theirs)
    assert peer_address(theirs) == "unknown"
