"""localtunnel.client.retry: how long a client waits before it tries again, and what ends the wait."""

import os
import time
from contextlib import ExitStack

import gevent
import pytest
from harness import ClientProcess, Program, at_most, fetch, request, unused_port, wait_until
from harness.networks import Namespaces

from localtunnel.client import retry
from localtunnel.client.config import Timeouts
from localtunnel.client.retry import SOMEWHERE, Retry, routes_to
from localtunnel.errors import ConnectionClosed, Flooded
from localtunnel.net.dial import literals

GONE = ConnectionClosed("It closed.")
HERE, THERE = "192.0.2.7", "198.51.100.7"


class Network:
    """What ``look`` sees: ``now`` is the address from which each of two places would be reached."""

    def __init__(self, *now):
        self.now = now
        self.looks = 0

    def __call__(self, addresses):
        self.looks += 1
        return list(self.now)


@pytest.fixture
def often(monkeypatch):
    """Look at the network often."""
    monkeypatch.setattr(retry, "LOOK_INTERVAL", 0.01)


def waited(wait, seconds=60.0, error=GONE):
    """Return how long ``wait`` waits of ``seconds``."""
    began = time.monotonic()
    with at_most(20):
        wait.wait(seconds, error)
    return time.monotonic() - began


@pytest.mark.parametrize("draw", [min, max])
def test_delays_double_and_none_is_shorter_than_half_of_its_limit(monkeypatch, draw):
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: draw(low, high))
    wait = Retry(Timeouts(retry_first=0.5, retry_longest=30.0))
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert [wait.delay(0.0, GONE) for _ in limits] == [limit if draw is max else limit / 2 for limit in limits]


def test_a_healthy_session_is_followed_at_once_and_begins_anew(monkeypatch):
    monkeypatch.setattr(retry.random, "uniform", max)
    wait = Retry(Timeouts(retry_first=0.5))
    delays = [wait.delay(lasted, GONE) for lasted in (0.0, 0.0, retry.HEALTHY, 0.0)]
    assert delays == [0.5, 1.0, 0.0, 0.5]


def test_a_network_that_stays_as_it_is_ends_no_wait(often):
    wait = Retry(Timeouts(), Network(HERE, None))
    wait.begin([])
    assert waited(wait, 0.2) >= 0.2


@pytest.mark.parametrize(
    ("before", "after"),
    [((None, None), (HERE, None)), ((None, HERE), (THERE, HERE)), ((HERE, None), (THERE, None))],
    ids=["a network", "a way that was missing", "another network"],
)
def test_a_network_that_comes_back_ends_the_wait(often, before, after, monkeypatch):
    monkeypatch.setattr(retry.random, "uniform", max)
    network = Network(*before)
    wait = Retry(Timeouts(retry_first=0.5), network)
    for _ in range(10):
        wait.delay(0.0, GONE)
    wait.begin([])
    waiting = gevent.spawn(waited, wait)
    wait_until(lambda: network.looks > 3)
    assert not waiting.dead
    network.now = after
    assert waiting.get(timeout=20) < 20
    assert wait.delay(0.0, GONE) == 0.5, "the delays begin anew"


def test_a_network_that_came_back_while_the_attempt_was_failing_ends_the_wait_at_once(often):
    network = Network(None, None)
    wait = Retry(Timeouts(), network)
    wait.begin([])
    network.now = (HERE, None)
    assert waited(wait) < 20
    assert network.looks == 2


def test_a_network_that_goes_and_comes_back_as_it_was_is_noticed(often):
    network = Network(HERE, HERE)
    wait = Retry(Timeouts(), network)
    wait.begin([])
    waiting = gevent.spawn(waited, wait)
    wait_until(lambda: network.looks > 2)
    network.now = (None, None)
    looks = network.looks
    wait_until(lambda: network.looks > looks + 2)
    assert not waiting.dead
    network.now = (HERE, HERE)
    assert waiting.get(timeout=20) < 20


def test_the_pause_after_a_flood_is_waited_for_whatever_the_network_does(often):
    network = Network(None)
    wait = Retry(Timeouts(), network)
    wait.begin([])
    network.now = (HERE,)
    assert waited(wait, 0.2, Flooded("Too much.")) >= 0.2
    assert wait.delay(0.0, Flooded("Too much.")) >= 30.0


def test_routes_are_looked_up_without_sending_anything():
    assert routes_to(literals("127.0.0.1", 9)) == ["127.0.0.1"]
    assert len(routes_to(SOMEWHERE)) == 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_client_that_boots_without_a_network_opens_as_soon_as_there_is_one():
    """Its next attempt by the clock is a minute away."""
    patience = "[timeouts]\nretry_first = 120.0\nretry_longest = 120.0\nconnect = 1.0\n"
    port, backend_port = unused_port(), unused_port()
    with ExitStack() as stack:
        net = stack.enter_context(Namespaces())
        frontend = net.server_host, port
        net.unplug_client()
        with net.entered(net.server):
            addresses = [f"--frontend={net.server_host}:{port}", f"--backend={net.server_host}:{backend_port}"]
            stack.enter_context(Program("lt-server", [*addresses, "--log-format=json"], None, None))
        with net.entered(net.client):
            client = stack.enter_context(ClientProcess(unused_port(), server=frontend, name="demo", config=patience))
        assert client.wait_for_event("tunnel_lost")["retry_in"] >= 60.0
        net.plug_client_in()
        client.wait_until_open()
        with net.entered(net.server):
            assert fetch(frontend, request("demo.localhost")).status == 502
