"""Pools with connections that are dead in silence: no visitor is lost, none is delivered twice."""

import re
import signal
import time

import gevent
import pytest
from harness import (
    CAP,
    ClientProcess,
    ServerProcess,
    at_most,
    backend,
    connect,
    fetch,
    forwarded,
    frontend,
    is_reset,
    parse_response,
    read_head,
    read_message,
    read_to_end,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)
from harness.link import Link
from harness.programs import metrics_of
from harness.v3 import Peer, failed, got, park, parked, ready

POOL = 10
POOL_WAIT = 1.5
"""Seconds: long enough for the four rounds that ten dead connections take, which are 200 ms each."""

SLOWEST = 3.0
"""Seconds that a POST may take, whatever is dead: the four rounds, the second until a pool in which all are dead is
renewed, and what two busy loops beside it cost."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Ledger:
    """An upstream that notes the id of each POST, once for each time that it is delivered."""

    def __init__(self):
        self.delivered = []

    def __call__(self, sock):
        head = read_head(sock)
        if head:
            self.delivered.append(int(re.match(rb"POST /(\d+) ", head)[1]))
            sock.sendall(OK)


def post(address, number):
    """Send a POST that has ``number`` for its id; return the status of its answer."""
    return fetch(address, request("demo.localhost", f"/{number}", "POST", body=b"x"), cap=30.0).status


def post_all(address, numbers, at_a_time=POOL):
    """Send a POST for each of ``numbers``, ``at_a_time`` at a time; return the statuses, and the slowest's seconds."""

    def timed(number):
        began = time.monotonic()
        return post(address, number), time.monotonic() - began

    statuses, took = zip(*gevent.pool.Pool(at_a_time).map(timed, numbers), strict=True)
    return list(statuses), max(took)


class Laptop(Peer):
    """A raw client that answers every assignment by itself, and remembers ids as PROTOCOL.md has it."""

    def __init__(self, *arguments, **fields):
        super().__init__(*arguments, **fields)
        self.seen = []
        self._living = []

    def live(self, server, count):
        """Park connections that answer; each is used once."""
        self._living += [gevent.spawn(self._answer, sock) for sock in park(server, self, count)]

    def _answer(self, sock):
        sock.settimeout(None)
        try:
            number = read_message(sock)["proxy"]["id"]
            read_head(sock)
        except (AssertionError, OSError):
            return
        if number in self.seen:
            sock.sendall(failed(number, "seen"))
        else:
            self.seen.append(number)
            sock.sendall(got(number) + ready(number) + OK)
        sock.close()

    def close(self):
        gevent.killall(self._living)
        super().close()


def arrived(sock):
    """Return what has come on ``sock`` and was not read yet."""
    data = b""
    sock.setblocking(False)
    try:
        while piece := sock.recv(65536):
            data += piece
    except BlockingIOError:
        pass
    sock.settimeout(CAP)
    return data


def repeated(server):
    """Return how many assignments were repeated, as /meta/metrics counts them."""
    return metrics_of(frontend(server))["assignments_repeated_total"]


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize(
    ("dead", "assigned"),
    [(0, 1), (1, 3), (2, 3), (3, 7), (4, 7), (5, 7), (6, 7), (7, 10), (8, 10), (9, 10)],
)
def test_round_n_goes_out_on_as_many_connections_as_2_to_the_n(dead, assigned):
    """The newest come first. Those of one round are assigned together, so that the pool's size bounds the last one."""
    with running_server() as server, Laptop(backend(server)) as laptop:
        laptop.live(server, POOL - dead)
        park(server, laptop, dead)
        assert post(frontend(server), 1) == 200
        assert len(laptop.seen) == 1
        wait_until(lambda: not server.joins)
        assert repeated(server) == assigned - 1
        assert parked(server) == POOL - assigned


@pytest.mark.usefixtures("no_leaks")
def test_a_suspect_pool_starts_with_two_until_a_visitor_has_missed_nothing():
    with running_server() as server, Laptop(backend(server)) as laptop:
        laptop.live(server, 8)
        park(server, laptop, 1)
        counts = []
        for number in range(3):
            assert post(frontend(server), number) == 200
            wait_until(lambda: not server.joins)
            counts.append(repeated(server))
        assert counts == [2, 3, 3]


@pytest.mark.usefixtures("no_leaks")
def test_all_dead_is_503_after_one_deadline():
    settings = {"timeouts": {"pool_wait": POOL_WAIT}}
    with running_server(**settings) as server, Laptop(backend(server)) as laptop:
        proxies = park(server, laptop, POOL)
        began = time.monotonic()
        response = fetch(frontend(server), request("demo.localhost", method="POST", body=b"x"))
        took = time.monotonic() - began
        assert (response.status, response.fields["x-localtunnel-error"]) == (503, "pool_exhausted")
        assert response.fields["retry-after"]
        assert POOL_WAIT <= took < POOL_WAIT + 1.0
        assert repeated(server) == POOL - 1
        numbers = {read_message(proxy)["proxy"]["id"] for proxy in proxies}
        assert len(numbers) == 1
        assert laptop.said("notice")


@pytest.fixture
def pool_of_ten(monkeypatch):
    """Let an LTP/0.3 pool begin with ten connections, which it keeps, and renews once a second.

    No shorter heartbeat: three intervals without the processor would be the tunnel's end.
    ``pool_wait`` is the default, so that who is answered does not hang on the machine; SLOWEST bounds how soon.
    """
    monkeypatch.setattr("localtunnel.server.tunnels.demand.FIRST_CONCURRENCY", POOL)
    return {"limits": {"tunnel_concurrency": POOL}, "timeouts": {"heartbeat": 1.0}}


@pytest.mark.usefixtures("no_leaks")
def test_a_thousand_posts_over_pools_of_which_ever_more_is_dead(pool_of_ten):
    """The real client behind a link on which k of its 10 parked connections have fallen silent, for k from 1 to 10."""
    ledger, answers = Ledger(), {}
    with (
        running_upstream(ledger) as port,
        running_server(**pool_of_ten) as server,
        Link(backend(server)) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=True),
    ):
        for k in range(1, POOL + 1):
            wait_until(lambda: len(link.parked) == POOL and parked(server) == POOL, what="ten are parked")
            dead = link.parked[-k:]
            for line in dead:
                line.silence()
            numbers = range(k * 100, k * 100 + 100)
            with at_most(20.0, f"a hundred POSTs with {k} dead"):
                answers[k], slowest = post_all(frontend(server), numbers)
            assert slowest < SLOWEST, k
            for line in dead:
                line.cut(reset=True)
            link.forget()
    assert answers == {k: [200] * 100 for k in range(1, POOL + 1)}
    assert sorted(ledger.delivered) == list(range(100, 1100))


@pytest.mark.parametrize("seconds", [1.0, 7.5], ids=["shorter than a stall", "a stall"])
def test_a_client_that_is_stopped_and_continued(seconds):
    """Each POST reaches the upstream at most once, and each visitor is answered: those that came through say so."""
    ledger = Ledger()
    config = "[timeouts]\npool_wait = 3.0\n"
    with (
        running_upstream(ledger) as port,
        ServerProcess(config=config) as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        wait_until(lambda: post(server.frontend, 0) == 200, what="the first POST")
        client.signal(signal.SIGSTOP)
        first = [gevent.spawn(post, server.frontend, number) for number in range(1, 31)]
        # How long the client stands still is what is tested here.
        gevent.sleep(seconds)
        last = [gevent.spawn(post, server.frontend, number) for number in range(31, 61)]
        wait_until(lambda: server.metrics()["joins"] >= len(last))
        client.signal(signal.SIGCONT)
        with at_most(20.0, "answering every visitor"):
            statuses = [visitor.get() for visitor in (*first, *last)]
        wait_until(lambda: post(server.frontend, 99) == 200, what="a POST after it")
    delivered = [number for number in ledger.delivered if 1 <= number <= 60]
    assert len(delivered) == len(set(delivered))
    assert set(statuses) <= {200, 502, 503}
    assert {number for number, status in enumerate(statuses, 1) if status == 200} <= set(delivered)
    if seconds < 3.0:
        assert statuses == [200] * 60


@pytest.mark.usefixtures("no_leaks")
def test_what_the_visitor_sends_is_held_until_got():
    """Of a large upload 16 KiB go out with the assignment; the rest waits, and nothing is lost when it is repeated."""
    body = bytes(range(256)) * 1024
    upload = request("demo.localhost", "/", "POST", fields="Connection: close\r\n", body=body)
    with running_server() as server, Peer(backend(server)) as peer:
        second, first = park(server, peer, 2)
        with connect(frontend(server)) as visitor:
            sending = gevent.spawn(visitor.sendall, upload)
            number = read_message(first)["proxy"]["id"]
            assert read_message(second)["proxy"]["id"] == number
            assert 0 < len(arrived(first)) <= 16 * 1024
            stream = arrived(second)
            assert 0 < len(stream) <= 16 * 1024
            second.sendall(got(number) + ready(number))
            while not stream.endswith(body):
                stream += second.recv(65536)
            assert stream == forwarded(upload)
            second.sendall(OK)
            second.close()
            assert parse_response(read_to_end(visitor)).body == b"ok"
            sending.join()
        assert is_reset(first)
