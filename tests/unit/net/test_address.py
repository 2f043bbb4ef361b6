"""Addresses: every form that is accepted, and a sentence for every one that is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import AddressError, ConfigError
from localtunnel.net.address import (
    LOOPBACK,
    Bind,
    HostPort,
    PublicUrl,
    ServerAddress,
    Target,
    parse_backend,
    parse_bind,
    parse_domain,
    parse_public,
    parse_range,
    parse_server,
    parse_target,
)

PARSERS = [parse_bind, parse_server, parse_target, lambda text: parse_backend(text, "example.com")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (8000, Bind(None, 8000)),
        (0, Bind(None, 0)),
        ("8000", Bind(None, 8000)),
        ("0008000", Bind(None, 8000)),
        (":8000", Bind(None, 8000)),
        ("127.0.0.1:8000", Bind("127.0.0.1", 8000)),
        ("Example.COM:80", Bind("example.com", 80)),
        ("[::1]:8000", Bind("::1", 8000)),
        ("[0:0:0:0:0:0:0:0]:65535", Bind("::", 65535)),
        ("[fe80::1%eth0]:80", Bind("fe80::1%eth0", 80)),
    ],
)
def test_bind(text, expected):
    assert parse_bind(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", ServerAddress("example.com", 80)),
        ("example.com:8000", ServerAddress("example.com", 8000)),
        ("my_server-1:8000", ServerAddress("my_server-1", 8000)),
        ("example.com.", ServerAddress("example.com.", 80)),
        ("http://example.com", ServerAddress("example.com", 80)),
        ("HTTP://example.com:8000/", ServerAddress("example.com", 8000)),
        ("https://example.com", ServerAddress("example.com", 443, "https")),
        ("HTTPS://example.com:8443/", ServerAddress("example.com", 8443, "https")),
        ("https://[2001:DB8::1]", ServerAddress("2001:db8::1", 443, "https")),
        ("[::1]", ServerAddress("::1", 80)),
        ("http://[2001:DB8::1]:8000", ServerAddress("2001:db8::1", 8000)),
    ],
)
def test_server(text, expected):
    assert parse_server(text) == expected
    assert parse_server(str(expected)) == expected


def test_a_server_has_a_name_and_an_authority():
    plain, encrypted = parse_server("example.com"), parse_server("https://example.com")
    assert (str(plain), plain.authority) == ("example.com:80", "example.com:80")
    assert (str(encrypted), encrypted.authority) == ("https://example.com:443", "example.com:443")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (8001, HostPort("example.com", 8001)),
        ("8001", HostPort("example.com", 8001)),
        (":8001", HostPort("example.com", 8001)),
        ("10.0.0.1:8001", HostPort("10.0.0.1", 8001)),
        ("[::1]:8001", HostPort("::1", 8001)),
    ],
)
def test_backend(text, expected):
    assert parse_backend(text, "example.com") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (8080, Target(LOOPBACK, 8080, "localhost:8080")),
        ("8080", Target(LOOPBACK, 8080, "localhost:8080")),
        (":8080", Target(LOOPBACK, 8080, "localhost:8080")),
        ("LocalHost:8080", Target(LOOPBACK, 8080, "localhost:8080")),
        ("http://localhost:8080/", Target(LOOPBACK, 8080, "localhost:8080")),
        ("127.0.0.1:8080", Target(("127.0.0.1",), 8080, "127.0.0.1:8080")),
        ("[::1]:8080", Target(("::1",), 8080, "[::1]:8080")),
        ("http://app", Target(("app",), 80, "app:80")),
        ("http://app:8080", Target(("app",), 8080, "app:8080")),
    ],
)
def test_target(text, expected):
    target = parse_target(text)
    assert target == expected
    assert str(target) == expected.text


@pytest.mark.parametrize(
    ("text", "expected"), [("localhost", "localhost"), ("Example.COM.", "example.com"), ("a_b.test", "a_b.test")]
)
def test_domain(text, expected):
    assert parse_domain(text) == expected


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (parse_bind, "", "empty"),
        (parse_bind, "localhost", "no port"),
        (parse_bind, "[::1]", "no port"),
        (parse_bind, "host:", "after the colon is missing"),
        (parse_bind, "host:http", "'http' is not a port number"),
        (parse_bind, "host:-1", "'-1' is not a port number"),
        (parse_bind, "::1:8000", "stands in brackets"),
        (parse_bind, "[::1:8000", "characters in places"),
        (parse_bind, "[::1]8000", "characters in places"),
        (parse_bind, "[127.0.0.1]:80", "is not an IPv6 address"),
        (parse_bind, "[]:80", "is not an IPv6 address"),
        (parse_bind, "65536", "from 0 to 65535"),
        (parse_bind, 65536, "from 0 to 65535"),
        (parse_bind, -1, "from 0 to 65535"),
        (parse_bind, "9" * 5000, "from 0 to 65535"),
        (parse_bind, "256.1.1.1:80", "neither an IPv4 address"),
        (parse_bind, "\uff18\uff10", "is not a host"),
        (parse_bind, "80\n", "is not a host"),
        (parse_server, "{0}", "is not a host"),
        (parse_server, "", "empty"),
        (parse_server, "8000", "neither an IPv4 address"),
        (parse_server, ":8000", "no host"),
        (parse_server, "host:0", "port 0"),
        (parse_server, "ftp://host", "only http:// or https://"),
        (parse_server, "https://", "empty"),
        (parse_server, "http://host/path", "may not carry a path"),
        (parse_server, "http://", "empty"),
        (parse_server, "user@host:80", "is not a host"),
        (parse_server, "a..b:80", "is not a host"),
        (parse_server, "-a:80", "is not a host"),
        (parse_server, "a" * 64, "is not a host"),
        (parse_server, ".".join(["a" * 50] * 6), "is not a host"),
        (parse_server, "h\x1b[31m", "characters in places"),
        (parse_target, "", "empty"),
        (parse_target, "0", "port 0"),
        (parse_target, "app", "no port"),
        (parse_target, "https://app:8443", "the local server is spoken to in plain HTTP"),
        (parse_target, "ftp://app:8443", "only http://"),
        (parse_target, "http://:8080", "no host"),
        (parse_target, "http://app:8080/x", "may not carry a path"),
        (parse_domain, "", "empty"),
        (parse_domain, ".", "empty"),
        (parse_domain, "example.com:8000", "not a host name"),
        (parse_domain, "http://example.com", "not a host name"),
        (parse_domain, "127.0.0.1", "before a number"),
    ],
)
def test_refused_with_a_sentence(parse, text, reason):
    with pytest.raises(AddressError) as caught:
        parse(text)
    message = str(caught.value)
    assert reason in message
    assert repr(str(text)) in message
    assert "Write " in message
    assert message.endswith(".")


@pytest.mark.parametrize("text", ["127.0.0.1:80", "example.com:8000", "[::1]:8080", "[fe80::1%2]:1"])
def test_str_is_a_form_that_is_accepted(text):
    address = parse_backend(text, "unused")
    assert str(address) == text
    assert f"{address}" == text


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text(max_size=40) | st.text("0123456789.:[]/ahtp-%", max_size=30))
def test_any_text_is_parsed_or_refused(parse, text):
    try:
        result = parse(text)
    except AddressError:
        return
    assert 0 <= result.port <= 65535


@given(host=st.ip_addresses(v=6), port=st.integers(1, 65535))
def test_every_ipv6_address_survives_its_own_text(host, port):
    address = HostPort(str(host), port)
    assert parse_backend(str(address), "unused") == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com", PublicUrl("https", "example.com", 443)),
        ("http://example.com/", PublicUrl("http", "example.com", 80)),
        ("HTTPS://Example.com.:8443", PublicUrl("https", "example.com", 8443)),
        ("https://example.com:80", PublicUrl("https", "example.com", 80)),
    ],
)
def test_public(text, expected):
    assert parse_public(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it does not begin with http:// or https://"),
        ("example.com", "it does not begin with http:// or https://"),
        ("ftp://example.com", "it does not begin with http:// or https://"),
        ("https://", "it does not begin with http:// or https://"),
        ("https://:443", "it has no host"),
        ("https://example.com/tunnels", "it may not carry a path, a query or a fragment"),
        ("https://user@example.com", "is not a host"),
        ("https://example.com:0", "nothing can be connected to on port 0"),
        ("https://example.com:70000", "a port is a number from 1 to 65535"),
        ("https://192.0.2.7", "names cannot stand before a number"),
        ("https://[::1]", "it is not a host name"),
    ],
)
def test_no_public_url(text, reason):
    with pytest.raises(AddressError) as caught:
        parse_public(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", range(0)),
        ("20000-20999", range(20000, 21000)),
        ("1-65535", range(1, 65536)),
        ("20000-20000", range(20000, 20001)),
    ],
)
def test_ranges(text, ports):
    assert parse_range(text) == ports


@pytest.mark.parametrize(
    "text",
    [
        "20000",
        "20000-",
        "-20000",
        "20999-20000",
        "0-10",
        "1-65536",
        "a-b",
        "1-2-3",
        " 1-2",
        "1 - 2",
        "-",
        "\u00b2-3",
        "\uff11-2",
    ],
)
def test_what_is_no_range(text):
    with pytest.raises(ConfigError, match="FIRST-LAST"):
        parse_range(text)
