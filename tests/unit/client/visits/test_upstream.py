"""localtunnel.client.visits.upstream: where the local server is, and which of its addresses answered."""

import socket

import gevent
import pytest
from harness import LOOPBACK, answer_hello, at_most, running_upstream, unused_port

from localtunnel.client.visits.upstream import Upstream
from localtunnel.errors import Unreachable
from localtunnel.net.address import parse_target

pytestmark = pytest.mark.usefixtures("no_leaks")


def made(target):
    upstream = Upstream(parse_target(target), 5.0)
    upstream.resolve()
    return upstream


def dial(upstream):
    """Return the host that answered; raises the error."""
    with at_most(10, "an answer"):
        sock = upstream.dial()
    host = sock.getpeername()[0]
    sock.close()
    return host


def test_a_bare_port_means_ipv4_first():
    with running_upstream(answer_hello) as port, running_upstream(answer_hello, "::1", port):
        assert dial(made(port)) == LOOPBACK


def test_ipv6_alone_is_found_and_remembered():
    with running_upstream(answer_hello, "::1") as port:
        upstream = made(port)
        assert dial(upstream) == "::1"
        # From here on both answer, and the remembered one is asked first.
        with running_upstream(answer_hello, LOOPBACK, port):
            assert dial(upstream) == "::1"


def test_when_the_remembered_one_is_gone_the_other_is_found_again():
    with running_upstream(answer_hello, "::1") as port:
        upstream = made(port)
        assert dial(upstream) == "::1"
    with running_upstream(answer_hello, LOOPBACK, port):
        assert dial(upstream) == LOOPBACK


def test_nobody_there_is_an_error_and_the_next_attempt_may_succeed():
    port = unused_port()
    upstream = made(port)
    with pytest.raises(Unreachable):
        dial(upstream)
    with running_upstream(answer_hello, LOOPBACK, port):
        assert dial(upstream) == LOOPBACK


class Resolver:
    """A resolver that fails until ``address`` is set."""

    address = None
    asked = 0

    def getaddrinfo(self, host, port, **_):
        self.asked += 1
        if self.address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, port))]


def test_a_name_that_appears_later_is_looked_up_again_after_a_failure(monkeypatch):
    resolver = Resolver()
    monkeypatch.setattr(gevent.get_hub(), "resolver", resolver)
    with running_upstream(answer_hello) as port:
        upstream = Upstream(parse_target(f"printer.example:{port}"), 5.0)
        with pytest.raises(Unreachable, match=r"printer\.example"):
            upstream.resolve()
        with pytest.raises(Unreachable):
            dial(upstream)
        gevent.idle()
        resolver.address = LOOPBACK
        with pytest.raises(Unreachable):
            dial(upstream)
        gevent.idle()
        assert dial(upstream) == LOOPBACK
    assert resolver.asked == 3


def test_one_that_answers_at_once_needs_no_wait():
    with running_upstream(answer_hello) as port:
        sock = made(port).dial_at_once()
        assert sock.getpeername() == (LOOPBACK, port)
        sock.close()
    assert made(unused_port()).dial_at_once() is None


def test_an_upstream_is_shown_as_its_user_named_it():
    assert str(made("http://localhost:8080")) == "localhost:8080"
