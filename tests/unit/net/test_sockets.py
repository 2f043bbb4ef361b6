"""localtunnel.net.sockets: options, addresses as text, and OS errors as ours."""

import errno
import socket

import pytest
from harness import pair, wait_until

from localtunnel.errors import ConnectionClosed, Unreachable
from localtunnel.net import closing
from localtunnel.net.sockets import (
    format_address,
    is_shortage,
    is_silent,
    pending_error,
    plain_host,
    prepare,
    smoothed_round_trip,
    translate,
)

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


def test_on_loopback_a_peer_cannot_vanish_and_the_options_are_spared():
    theirs, ours = pair()
    prepare(theirs, loopback=True)
    assert theirs.getblocking() is False
    assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    closing.close(theirs)
    ours.close()


def test_a_peer_on_this_machine_needs_no_watching():
    """The kernel tells at once when such a peer has gone, and every option costs a system call."""
    theirs, ours = pair()
    theirs.setblocking(True)
    prepare(theirs, loopback=True)
    assert theirs.getblocking() is False
    assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
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


@pytest.mark.parametrize(
    ("host", "plain"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("::1", "::1")],
)
def test_a_host_is_shown_as_its_own_family_writes_it(host, plain):
    assert plain_host(host) == plain


def test_the_kernel_tells_a_round_trip_and_is_not_asked_elsewhere():
    theirs, ours = pair()
    theirs.send(b"x")
    assert ours.recv(1) == b"x"
    # Loopback: there is one, and it is far below a second; a wrong offset within struct tcp_info would show here.
    assert 0 < smoothed_round_trip(theirs) < 1
    closing.close(theirs)
    assert smoothed_round_trip(theirs) == 0.0
    ours.close()


def test_a_failure_that_the_kernel_knows_of_is_told_once():
    theirs, ours = pair()
    assert pending_error(theirs) == 0
    closing.reset(ours)
    wait_until(lambda: pending_error(theirs), what="the reset to arrive")
    assert pending_error(theirs) == 0
    closing.close(theirs)


@pytest.mark.parametrize("what", ["a byte", "FIN", "RST"])
def test_a_connection_is_silent_until_anything_comes_and_nothing_is_taken_from_it(what):
    theirs, ours = pair()
    assert is_silent(theirs)
    if what == "a byte":
        ours.send(b"x")
    elif what == "FIN":
        ours.shutdown(socket.SHUT_WR)
    else:
        closing.reset(ours)
    wait_until(lambda: not is_silent(theirs), what="it to arrive")
    if what == "a byte":
        assert theirs.recv(2) == b"x"
        assert is_silent(theirs)
    closing.close(theirs)
    ours.close()
