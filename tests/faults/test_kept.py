"""Joined connections that die in silence while they are kept, and what becomes of the request that is sent on one."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from harness import (
    at_most,
    backend,
    connect,
    frontend,
    parse_response,
    read_head,
    request,
    running_client,
    running_server,
    running_upstream,
    wait_until,
)
from harness.exchanges import HOST, OK, VERSIONS, Site, Stream, Tunnel, running_site
from harness.link import Link
from harness.peers import frame
from harness.sockets import deafen
from harness.v3 import end
from harness.waiting import CAP

from localtunnel.client.events import TunnelOpened
from localtunnel.errors import AuthFailed
from localtunnel.server.tunnels import kept

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)
AGAIN = request(HOST, "/again")
POST = request(HOST, "/again", "POST", body=b"body")
NTLM = request(HOST, fields="Authorization: NTLM abcd\r\n")

SOON = 5.0
"""Seconds: a tenth of what the kernel takes to give a connection up, and many times what is waited for."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep connections for longer than any of these tests takes."""
    monkeypatch.setattr(kept, "KEPT_IDLE", 60.0)


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running_site(request.param) as running:
        yield running


@pytest.fixture
def site_0_3() -> Iterator[Site]:
    with running_site("0.3") as running:
        yield running


def keep(site: Site, asked: bytes = GET) -> tuple[Stream, Stream]:
    """Have one exchange, after which its connection is kept or pinned; returns both ends."""
    visitor, upstream = site.join(asked)
    upstream.message()
    upstream.send(OK)
    visitor.message()
    return visitor, upstream


def is_under_way(site: Site) -> Any:
    """Wait until a request has gone out on a kept connection; return what the server awaits to hear of."""
    unheard = site.demo.tunnel.kept._unheard
    wait_until(lambda: len(unheard) == 1, what="the request")
    return unheard


def was_looked_at(site: Site) -> None:
    """Wait until the server has looked whether the request under way has arrived, and has made up its mind."""
    unheard = is_under_way(site)
    wait_until(lambda: len(unheard) == 0, what="the look")


def answer(stream: Stream, visitor: Stream) -> None:
    """Serve the request on ``stream`` for ``visitor``."""
    assert stream.message().target == "/again"
    stream.send(OK)
    assert visitor.message().body == b"ok"


def test_a_request_that_is_never_acknowledged_goes_out_again(site: Site) -> None:
    visitor, upstream = keep(site)
    spare = site.demo.park()
    deafen(upstream.sock)
    visitor.send(AGAIN)
    with at_most(SOON, "the second try"):
        answer(site.demo.joined(spare), visitor)


def test_a_slow_upstream_is_no_dead_connection(site: Site) -> None:
    visitor, upstream = keep(site)
    spare = site.demo.park()
    visitor.send(AGAIN)
    was_looked_at(site)
    answer(upstream, visitor)
    assert Stream(spare).waiting() == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_one_that_ends_late_leaves_the_second_try_all_of_its_time(version: str) -> None:
    with running_site(version, timeouts={"pool_wait": 0.3}) as site:
        visitor, upstream = keep(site)
        visitor.send(AGAIN)
        upstream.message()
        (exchange,) = site.server.joins
        wait_until(lambda: not exchange._deadline.remaining(), what="the deadline of the first try")
        spare = site.demo.park()
        end(upstream.sock, "RST")
        answer(site.demo.joined(spare), visitor)


def test_what_may_not_be_repeated_is_not_although_it_is_never_acknowledged(site: Site) -> None:
    visitor, upstream = keep(site, NTLM)
    spare = site.demo.park()
    deafen(upstream.sock)
    visitor.send(POST)
    was_looked_at(site)
    assert Stream(spare).waiting() == b""
    assert visitor.waiting() == b""


def test_with_one_that_is_dead_the_others_go_and_the_pool_is_renewed(site_0_3: Site) -> None:
    first, second = (site_0_3.join(GET) for _ in range(2))
    for visitor, upstream in (first, second):
        upstream.message()
        upstream.send(OK)
        visitor.message()
    spare = site_0_3.demo.park()
    visitor, newest = second
    deafen(newest.sock)
    visitor.send(AGAIN)
    answer(site_0_3.demo.joined(spare), visitor)
    assert first[1].rest() == b""
    wait_until(lambda: site_0_3.demo.peer.said("concurrency") == [0, 4])


def test_with_a_parked_one_that_is_dead_those_that_are_kept_go(site_0_3: Site) -> None:
    """A fresh connection takes the place of the oldest; the other one goes for the missed answer."""
    pairs = [site_0_3.join(GET) for _ in range(2)]
    for visitor, upstream in pairs:
        upstream.message()
        upstream.send(OK)
        visitor.message()
    site_0_3.demo.park()
    site_0_3.visit(POST)
    assert [upstream.rest() for _, upstream in pairs] == [b"", b""]


# The client comes back.


def come_back(site: Site, **fields: object) -> Tunnel:
    """Open the tunnel again, as its client does on another network."""
    tunnel = Tunnel(site.server, "0.3", "demo", resume=site.demo.peer.session, **fields)
    site.tunnels.append(tunnel)
    return tunnel


def is_waited_for(site: Site) -> bool:
    return "waiting=1" in repr(site.demo.tunnel)


def goes(site: Site) -> None:
    site.demo.peer.control.close()
    wait_until(lambda: site.demo.tunnel is None, what="the end of the tunnel")


GONE = {"it is replaced": lambda site: None, "its control connection has ended": goes}


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
@pytest.mark.parametrize("found", [False, True], ids=["before the loss is found", "after"])
def test_a_request_goes_to_the_tunnel_that_the_name_has_by_then(site_0_3: Site, found: bool, gone) -> None:
    visitor, upstream = keep(site_0_3)
    deafen(upstream.sock)
    visitor.send(AGAIN)
    is_under_way(site_0_3)
    if found:
        wait_until(lambda: is_waited_for(site_0_3), what="the second try")
    gone(site_0_3)
    with at_most(SOON, "the answer"):
        back = come_back(site_0_3)
        answer(back.joined(back.peer.park()), visitor)


def test_a_request_whose_second_try_was_assigned_to_a_dead_connection_goes_there_too(site_0_3: Site) -> None:
    visitor, upstream = keep(site_0_3)
    spare = site_0_3.demo.park()
    deafen(upstream.sock)
    visitor.send(AGAIN)
    wait_until(lambda: Stream(spare).waiting(), what="the second try")
    with at_most(SOON, "the answer"):
        back = come_back(site_0_3)
        answer(back.joined(back.peer.park()), visitor)


def test_what_waits_for_a_connection_goes_there_whatever_it_is(site_0_3: Site) -> None:
    visitor = site_0_3.visit(POST)
    wait_until(lambda: is_waited_for(site_0_3))
    back = come_back(site_0_3)
    proxy = back.joined(back.peer.park())
    assert proxy.message().body == b"body"
    proxy.send(OK)
    assert visitor.message().body == b"ok"


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)], ids=["by its connection", "by its proxy's word"])
def test_it_counts_once(trusted: tuple[str, ...]) -> None:
    """A page's requests may all wait for one client, and must not be too many when it is back."""
    limits = {"exempt": [], "address_request_rate": 0.2}
    asked = request(HOST, fields="X-Forwarded-For: 203.0.113.7\r\n")
    with running_site("0.3", limits=limits, trusted_proxies=trusted) as site:
        visitor = site.visit(asked)
        wait_until(lambda: is_waited_for(site))
        back = come_back(site)
        back.joined(back.peer.park()).send(OK)
        assert visitor.message().status == 200
        assert site.server.stats().requests == 1
        assert site.visit(asked).message().status == 429


def test_what_may_have_been_delivered_does_not(site_0_3: Site) -> None:
    spare = site_0_3.demo.park()
    visitor = site_0_3.visit(POST)
    wait_until(lambda: Stream(spare).waiting(), what="the assignment")
    back = come_back(site_0_3)
    proxy = back.park()
    with at_most(SOON, "the answer"):
        assert parse_response(visitor.rest()).status == 503
    assert Stream(proxy).waiting() == b""


def test_the_rules_of_the_new_tunnel_hold(site_0_3: Site) -> None:
    visitor, upstream = keep(site_0_3)
    deafen(upstream.sock)
    visitor.send(AGAIN)
    wait_until(lambda: is_waited_for(site_0_3))
    back = come_back(site_0_3, protect="ann:secret")
    back.park()
    assert visitor.message().status == 401


def test_a_tunnel_that_takes_over_the_host_of_another_gets_who_waits_for_that() -> None:
    host = "www.example.org"
    with running_site("0.3", {"domain": host}, custom_hosts=[host]) as site:
        visitor, stranded = site.visit(request(host, "/again")), site.visit(GET)
        wait_until(lambda: "waiting=2" in repr(site.demo.tunnel))
        other = Tunnel(site.server, "0.3", "other", domain=host)
        site.tunnels.append(other)
        with at_most(SOON, "the answers"):
            answer(other.joined(other.peer.park()), visitor)
            assert parse_response(stranded.rest()).status == 503


FOR_GOOD = {
    "its client has said goodbye": lambda site: site.demo.peer.control.sendall(frame({"release": True})),
    "its client has lost the right to it": lambda site: site.demo.tunnel.revoke(AuthFailed("Revoked.")),
    "its name is barred": lambda site: site.server.registry.bar("demo", CAP),
    "the server stops": lambda site: site.server.stop(),
}


@pytest.mark.parametrize("end_for_good", FOR_GOOD.values(), ids=FOR_GOOD)
@pytest.mark.parametrize("asked", [GET, POST], ids=["GET", "POST"])
def test_no_tunnel_is_waited_for_where_none_will_come(site_0_3: Site, asked: bytes, end_for_good) -> None:
    """The visitor is told at once; nothing has gone out, so that there is nothing to be cut."""
    visitor = site_0_3.visit(asked)
    wait_until(lambda: is_waited_for(site_0_3))
    end_for_good(site_0_3)
    with at_most(SOON, "the answer"):
        assert parse_response(visitor.rest()).status == 503


def test_a_second_try_is_not_waited_for_either(site_0_3: Site) -> None:
    visitor, upstream = keep(site_0_3)
    deafen(upstream.sock)
    visitor.send(AGAIN)
    wait_until(lambda: is_waited_for(site_0_3))
    FOR_GOOD["its client has said goodbye"](site_0_3)
    with at_most(SOON, "the answer"):
        assert parse_response(visitor.rest()).status == 503


def test_a_client_that_does_not_come_back_is_waited_for_until_the_deadline() -> None:
    with running_site("0.3", timeouts={"pool_wait": 0.5}) as site:
        visitor, upstream = keep(site)
        deafen(upstream.sock)
        visitor.send(AGAIN)
        wait_until(lambda: is_waited_for(site))
        goes(site)
        assert parse_response(visitor.rest()).fields["x-localtunnel-error"] == "pool_exhausted"


def test_a_login_of_the_connection_ends_with_the_session(site_0_3: Site) -> None:
    visitor, upstream = keep(site_0_3, NTLM)
    back = come_back(site_0_3)
    spare = back.park()
    visitor.send(AGAIN)
    answer(back.joined(spare), visitor)
    assert upstream.rest() == b""


@pytest.mark.parametrize("insecure", [False, True], ids=["over TLS", "in the clear"])
@pytest.mark.parametrize("told", [False, True], ids=["heartbeats find out", "the client alone is told"])
def test_a_client_whose_network_forgets_everything(insecure: bool, told: bool) -> None:
    """The visitor sends the second request when nothing of the old network works any more.

    Either both find out by their heartbeats, or the client's router resets its control connection, and the server hears
    nothing of that. There is no case in which the client alone finds out by a shorter heartbeat, since it is the server
    that says how long an interval is; a client that is given another one passed only where the pool happened to be
    filled up after the loss.
    """
    delivered = []

    def serve(sock: gevent.socket.socket) -> None:
        while head := read_head(sock):
            delivered.append(head)
            sock.sendall(OK)

    with (
        running_upstream(serve) as port,
        running_server(timeouts={"heartbeat": 5.0 if told else 0.2}) as server,
        Link(backend(server)) as link,
        running_client(frontend(server), port, name="demo", backend=link.port, insecure=insecure) as client,
        connect(frontend(server)) as visitor,
    ):
        visitor.sendall(GET)
        assert read_head(visitor)
        link.forget()
        control, *_ = link.lines
        for line in link.lines:
            line.forget()
        with at_most(SOON, "the answer"):
            visitor.sendall(AGAIN)
            if told:
                control.reset_client()
            assert b"200 OK" in read_head(visitor)
        assert len(delivered) == 2
        assert len(client.seen(TunnelOpened)) <= 2
