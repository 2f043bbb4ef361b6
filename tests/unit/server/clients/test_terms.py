"""localtunnel.server.clients.terms: what a client may ask for, and what this server will not promise."""

from typing import Any

import pytest

from localtunnel.errors import OptionRefused
from localtunnel.http.options.rules import Rules
from localtunnel.protocol.messages import ControlRequest
from localtunnel.protocol.options import Options
from localtunnel.server.clients.terms import settle
from localtunnel.server.config import ServerConfig


def asked(**fields: Any) -> ControlRequest:
    return ControlRequest(name="demo", client="me@here;Linux", **fields)


def settled(config: ServerConfig | None = None, **fields: Any) -> tuple[Options, Rules | None]:
    return settle(config or ServerConfig(), asked(**fields))


JOIN = ServerConfig(edge="join")


@pytest.mark.parametrize("config", [ServerConfig(), JOIN], ids=["http", "join"])
def test_who_asks_for_nothing_has_no_rules(config: ServerConfig) -> None:
    options, rules = settled(config)
    assert options.names == ()
    assert rules is None


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        ({"protect": "ann:secret"}, "request_drop", frozenset({b"authorization"})),
        ({"host_header": "app.test:80"}, "host", b"app.test:80"),
        ({"request_header_add": ["X-A: 1"]}, "request_lines", b"X-A: 1\r\n"),
        ({"request_header_remove": ["Cookie"]}, "request_drop", frozenset({b"cookie"})),
        ({"response_header_add": ["X-B: 2"]}, "response_lines", b"X-B: 2\r\n"),
        ({"cors": True}, "cors", True),
        ({"server_timing": True}, "server_timing", True),
    ],
)
def test_what_is_asked_for_becomes_a_rule(options: dict[str, Any], attribute: str, value: object) -> None:
    names, rules = settled(options=options)
    assert names.names == tuple(options)
    assert getattr(rules, attribute) == value


@pytest.mark.parametrize("cookie", ["a=b; Domain=tunnels.example", "a=b; Path=/; domain=.Example"])
@pytest.mark.parametrize("own", [None, "www.example.org"])
def test_a_cookie_for_other_tunnels_is_refused(cookie: str, own: str | None) -> None:
    config = ServerConfig(domain="tunnels.example", custom_hosts=("*.example.org",))
    with pytest.raises(OptionRefused, match="other tunnels"):
        settled(config, domain=own, options={"response_header_add": [f"Set-Cookie: {cookie}"]})


def test_one_for_the_tunnel_alone_is_not() -> None:
    config = ServerConfig(domain="tunnels.example", custom_hosts=("*.example.org",))
    cookies = ["Set-Cookie: a=b", "Set-Cookie: c=d; Domain=demo.tunnels.example", "Set-Cookie: e=f; Domain=app.test"]
    _, rules = settled(config, options={"response_header_add": cookies, "host_header": "app.test"})
    assert rules is not None
    assert len(rules.response_cookies) == 3
    with pytest.raises(OptionRefused, match="other tunnels"):
        settled(
            config, domain="www.example.org", options={"response_header_add": ["Set-Cookie: a=b; Domain=example.org"]}
        )


def test_addresses_that_are_let_in() -> None:
    _, rules = settled(options={"allow_ip": ["10.0.0.0/8"]})
    assert rules is not None
    rules.check_address("10.1.2.3")
    with pytest.raises(Exception, match=r"11\.1\.2\.3"):
        rules.check_address("11.1.2.3")


def test_the_password_of_0_2_is_an_option_like_any() -> None:
    options, rules = settled(protect="ann:secret")
    assert options.names == ("protect",)
    assert rules is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"protect": "ann:secret"},
        {"options": {"allow_ip": ["10.0.0.0/8"]}},
        {"options": {"cors": True}},
        {"options": {"response_header_add": ["X-B: 2"]}},
    ],
)
def test_in_join_mode_every_option_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(OptionRefused, match=r"option --(protect|allow-ip|cors|response-header-add):.*join") as caught:
        settled(JOIN, **fields)
    assert str(caught.value).endswith('Leave the option out, or ask the server\'s operator for edge = "http".')


def test_a_tcp_tunnel_may_have_its_addresses_in_either_mode() -> None:
    for config in (ServerConfig(), JOIN):
        options, rules = settled(config, kind="tcp", options={"allow_ip": ["10.0.0.0/8"]})
        assert options.names == ("allow_ip",)
        assert rules is not None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"options": {"tomorrow": True}}, "tomorrow"),
        ({"options": {"cors": "yes"}}, "cors"),
        ({"options": {"allow_ip": ["nowhere"]}}, "allow_ip"),
        ({"protect": "no colon"}, "protect"),
        ({"kind": "tcp", "options": {"cors": True}}, "TCP"),
    ],
)
def test_an_option_that_cannot_be_kept_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionRefused, match=text) as caught:
        settled(**fields)
    assert str(caught.value).endswith(".")


# Hosts outside the server's own domain.


@pytest.mark.parametrize(
    ("allowed", "host", "is_allowed"),
    [
        ((), "www.example.org", False),
        (("www.example.org",), "www.example.org", True),
        (("WWW.example.org",), "www.Example.org.", True),
        (("*.example.org",), "a.b.example.org", True),
        (("*.example.org",), "example.org", False),
        (("*.example.org",), "a.example.org.evil.net", False),
        (("example.org",), "www.example.org", False),
    ],
)
def test_hosts(allowed: tuple[str, ...], host: str, is_allowed: bool) -> None:
    config = ServerConfig(custom_hosts=allowed)
    if is_allowed:
        assert settled(config, domain=host) == (Options(), None)
    else:
        with pytest.raises(OptionRefused, match="does not allow the host"):
            settled(config, domain=host)
