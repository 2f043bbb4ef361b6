"""localtunnel.server.tunnels.refusals, and what is counted there: the client is told of what it never saw."""

import pytest
from harness import fetch, parse_response, request, wait_until
from harness.exchanges import HOST, OK, Site, Stream, running_site
from harness.tunnels import SilentOwner

from localtunnel.errors import (
    BadRequest,
    Forbidden,
    PoolExhausted,
    TooManyRequests,
    Unauthorized,
    UpstreamInvalid,
)
from localtunnel.server.clients import session
from localtunnel.server.tunnels.refusals import Refusals

pytestmark = pytest.mark.usefixtures("no_leaks")

GET = request(HOST)


def told(visitor: Stream) -> tuple[int, str]:
    """Return status and code of the server's own answer, after which the connection ends."""
    response = parse_response(visitor.rest())
    return response.status, response.fields["x-localtunnel-error"]


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        ([Forbidden("x")], "The server refused a request: 403 forbidden."),
        ([Forbidden()] * 3, "The server refused 3 requests: 403 forbidden."),
        (
            [TooManyRequests(), Unauthorized("x"), TooManyRequests()],
            "The server refused 3 requests: 401 unauthorized (1), 429 too_many_requests (2).",
        ),
        ([PoolExhausted("None is free.")], "The server refused a request: 503 pool_exhausted. None is free."),
        (
            [UpstreamInvalid("One."), UpstreamInvalid("Two."), PoolExhausted("Three."), BadRequest("four")],
            "The server refused 4 requests: 400 bad_request (1), 502 upstream_invalid (2), 503 pool_exhausted (1)."
            " Three. Two.",
        ),
    ],
)
def test_what_the_client_is_told(refused, text):
    refusals = Refusals()
    assert not refusals
    for error in refused:
        refusals.add(error)
    assert refusals
    assert refusals.take() == text
    assert not refusals


def untold(site: Site) -> Site:
    """Have the tunnel tell its client nothing, so that what was counted is there to be read."""
    site.demo.tunnel.owner = SilentOwner()
    return site


def counted(site: Site) -> str:
    return site.demo.tunnel.refusals.take()


def test_a_visitor_without_the_password_or_from_elsewhere_is_counted():
    fields = {"protect": "ann:secret", "options": {"allow_ip": ["127.0.0.1"]}}
    with running_site("0.3", fields) as site:
        untold(site)
        assert told(site.visit(GET)) == (401, "unauthorized")
        assert told(site.visit(GET, source="127.0.0.2")) == (403, "forbidden")
        assert counted(site) == "The server refused 2 requests: 401 unauthorized (1), 403 forbidden (1)."


@pytest.mark.parametrize("limit", ["tunnel_request_rate", "address_request_rate"])
def test_a_request_too_many_is_counted_whoever_has_the_limit(limit):
    with running_site("0.3", limits={"exempt": [], limit: 0.1}) as site:
        untold(site)
        visitor, upstream = site.join(GET)
        upstream.message()
        upstream.send(OK)
        assert visitor.message().status == 200
        visitor.send(GET)
        assert told(visitor) == (429, "too_many_requests")
        assert counted(site) == "The server refused a request: 429 too_many_requests."


def test_what_is_no_body_is_counted():
    with running_site("0.3") as site:
        untold(site)
        site.demo.park()
        assert told(
            site.visit(request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n") + b"nonsense")
        ) == (
            400,
            "bad_request",
        )
        assert counted(site) == "The server refused a request: 400 bad_request."


def test_nothing_is_counted_that_the_client_knows_of():
    with running_site("0.3") as site:
        untold(site)
        visitor, upstream = site.join(GET)
        upstream.message()
        upstream.sock.close()
        assert told(visitor) == (502, "upstream_closed")
        assert not site.demo.tunnel.refusals


def test_a_request_for_no_tunnel_is_counted_for_none():
    with running_site("0.3") as site:
        untold(site)
        assert fetch(site.address, request("nobody.localhost")).status == 404
        assert not site.demo.tunnel.refusals


def test_what_was_not_told_at_once_is_told_later_and_altogether(monkeypatch):
    with running_site("0.3", {"protect": "ann:secret"}) as site:
        peer, tunnel = site.demo.peer, site.demo.tunnel
        for _ in range(4):
            assert told(site.visit(GET)) == (401, "unauthorized")
        wait_until(lambda: peer.said("notice"))
        tunnel.tick()
        assert peer.said("notice") == ["The server refused a request: 401 unauthorized."]
        monkeypatch.setattr(session, "NOTICE_INTERVAL", 0.0)
        tunnel.tick()
        notices = wait_until(lambda: len(peer.said("notice")) > 1 and peer.said("notice"))
        assert notices[1:] == ["The server refused 3 requests: 401 unauthorized."]
        tunnel.tick()
        assert len(peer.said("notice")) == 2
