"""localtunnel.net.dial: resolving, trying every address, one deadline."""

import socket
import time
from contextlib import contextmanager

import gevent
import pytest
from harness import LOOPBACK, at_most, listening, pair, silent_listener, unused_port

from localtunnel.errors import DeadlineExceeded, NetworkError, Unreachable
from localtunnel.net import closing
from localtunnel.net import dial as dial_module
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, dial, dial_at_once, resolve

pytestmark = pytest.mark.usefixtures("no_leaks")


def v4(port, host=LOOPBACK):
    return Address(socket.AF_INET, (host, port))


def v6(port):
    return Address(socket.AF_INET6, ("::1", port, 0, 0))


@contextmanager
def silent_address():
    """The harness's silent listener, as an Address."""
    with silent_listener() as (_, port):
        yield v4(port)


def test_connects_and_hands_a_prepared_socket_over():
    listener = listening()
    address = v4(listener.getsockname()[1])
    sock, reached = dial([address], Deadline(5))
    assert reached == address
    assert sock.getblocking() is False
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    sock.close()
    listener.close()


def test_a_refusal_names_the_address():
    port = unused_port()
    with at_most(2), pytest.raises(Unreachable, match=rf"Nothing listens on 127\.0\.0\.1:{port}"):
        dial([v4(port)], Deadline(5))


def test_no_address_is_unreachable():
    with pytest.raises(Unreachable, match="no address"):
        dial([], Deadline(5))


def test_the_first_failure_is_the_one_that_is_told():
    ports = [unused_port(), unused_port("::1")]
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{ports[0]}"):
        dial([v4(ports[0]), v6(ports[1])], Deadline(5))


def test_the_next_address_is_tried_when_the_first_refuses():
    listener = listening("::1")
    port = listener.getsockname()[1]
    good = v6(port)
    sock, reached = dial([v4(unused_port()), good], Deadline(5))
    assert reached == good
    assert sock.getpeername()[1] == port
    sock.close()
    listener.close()


def test_a_silent_address_holds_the_next_one_up_for_a_moment_only():
    listener = listening()
    good = v4(listener.getsockname()[1])
    with silent_address() as silent:
        began = time.monotonic()
        sock, reached = dial([silent, good], Deadline(30))
        took = time.monotonic() - began
    assert reached == good
    assert dial_module.NEXT_ATTEMPT <= took < 5
    sock.close()
    listener.close()


def test_a_silent_address_may_still_win_while_the_next_one_refuses(monkeypatch):
    monkeypatch.setattr(dial_module, "NEXT_ATTEMPT", 0.01)
    with silent_address() as silent, at_most(3), pytest.raises(DeadlineExceeded):
        dial([silent, v4(unused_port())], Deadline(0.3))


def test_silence_ends_with_the_deadline():
    with silent_address() as silent, at_most(3):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 seconds"):
            dial([silent], Deadline(0.2))
        assert time.monotonic() - began >= 0.2


def test_one_deadline_covers_all_addresses(monkeypatch):
    monkeypatch.setattr(dial_module, "NEXT_ATTEMPT", 0.15)
    with silent_address() as silent:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            dial([silent] * 10, Deadline(0.4))
        assert 0.4 <= time.monotonic() - began < 1.4


def test_a_deadline_that_is_over_dials_nobody():
    with pytest.raises(DeadlineExceeded, match=r"^There was no answer within 0 seconds\.$"):
        dial([v4(unused_port())], Deadline(0))


def test_what_this_machine_answers_at_once_needs_no_wait():
    listener = listening()
    address = v4(listener.getsockname()[1])
    sock = dial_at_once(address)
    assert sock.getpeername() == address.sockaddr
    assert sock.getblocking() is False
    sock.close()
    listener.close()


def test_at_once_nobody_is_waited_for_and_no_failure_is_told():
    with silent_address() as silent:
        assert dial_at_once(silent) is None
    assert dial_at_once(v4(unused_port())) is None
    assert dial_at_once(v4(80, "192.0.2.1")) is None


def test_killing_a_greenlet_that_dials_leaves_nothing_open():
    with silent_address() as silent:
        greenlet = gevent.spawn(dial, [silent], Deadline(60))
        gevent.idle()
        greenlet.kill()
    assert greenlet.dead


def test_a_connection_to_itself_is_a_refusal(monkeypatch):
    port = unused_port()
    prepare = dial_module.prepare

    def bind_to_the_port_that_is_dialled(sock, **options):
        prepare(sock, **options)
        sock.bind((LOOPBACK, port))

    monkeypatch.setattr(dial_module, "prepare", bind_to_the_port_that_is_dialled)
    with at_most(2), pytest.raises(Unreachable, match="Nothing listens"):
        dial([v4(port)], Deadline(1))


def test_an_impossible_address_is_a_network_error():
    with pytest.raises(NetworkError):
        dial([v4(80, "255.255.255.255")], Deadline(1))


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["127.0.0.1"], [v4(80)]),
        (["::1"], [v6(80)]),
        (["localhost"], [v4(80), v6(80)]),
        (["LocalHost."], [v4(80), v6(80)]),
        (["demo.localhost"], [v4(80), v6(80)]),
        (["127.0.0.1", "localhost"], [v4(80), v6(80)]),
    ],
)
def test_literals_and_localhost_need_no_dns(hosts, expected, monkeypatch):
    monkeypatch.setattr(gevent.get_hub(), "resolver", None)
    assert resolve(hosts, 80, Deadline(5)) == expected


class Resolver:
    """A resolver whose answer the test decides."""

    def __init__(self, answer):
        self._answer = answer

    def getaddrinfo(self, host, port, **_):
        return self._answer(host, port)


def use_resolver(monkeypatch, answer):
    monkeypatch.setattr(gevent.get_hub(), "resolver", Resolver(answer))


def test_a_name_keeps_its_whole_list_without_repetition(monkeypatch):
    rows = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80)),
    ]
    use_resolver(monkeypatch, lambda host, port: rows)
    found = resolve(["tunnel.example"], 80, Deadline(5))
    assert [str(address) for address in found] == ["[2001:db8::1]:80", "192.0.2.1:80"]


def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch):
    def fail(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    use_resolver(monkeypatch, fail)
    with pytest.raises(Unreachable, match=r"The name nowhere\.example does not resolve"):
        resolve(["nowhere.example"], 80, Deadline(5))


def test_a_deadline_that_is_over_asks_no_dns():
    with pytest.raises(DeadlineExceeded, match=r"slow\.example was not resolved within 0 seconds"):
        resolve(["slow.example"], 80, Deadline(0))


def test_dns_that_hangs_costs_the_deadline(monkeypatch):
    use_resolver(monkeypatch, lambda host, port: gevent.sleep(60))
    with at_most(3), pytest.raises(DeadlineExceeded, match=r"slow\.example was not resolved within 0\.1 seconds"):
        resolve(["slow.example"], 80, Deadline(0.1))


def test_the_pair_of_the_harness_is_what_dial_gives():
    """The tests of this package stand on ``pair``: its first socket must be of the kind that ``dial`` hands over."""
    theirs, ours = pair()
    assert type(theirs) is socket.socket
    assert theirs.getblocking() is False
    closing.close(theirs)
    ours.close()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("192.0.2.1", False), ("::ffff:127.0.0.1", False)],
)
def test_an_address_of_this_machine_is_known_as_such(host, loopback):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    assert Address(family, (host, 80)).is_loopback is loopback
