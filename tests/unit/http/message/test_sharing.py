"""localtunnel.http.message.sharing: logins of a connection, and signs that it is not one person's."""

import pytest
from harness import request

from localtunnel.http.message.request import RequestHead, parse_head
from localtunnel.http.message.response import parse_response


def head(fields: str = "", begun: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return parse_head(request("demo.localhost", fields=fields).replace(b"GET / HTTP/1.1", begun))


@pytest.mark.parametrize(
    "value",
    [
        "NTLM",
        "ntlm TlRM",
        "Negotiate YII=",
        "NEGOTIATE",
        "Basic eDp5, NTLM TlRM",
        "Kerberos YII=",
        "CredSSP YII=",
        '"ntlm"',
    ],
)
@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization", "AUTHORIZATION"])
def test_a_login_of_the_connection(name: str, value: str) -> None:
    for before, after in (("", ""), ("Authorization: Basic eDp5\r\n", ""), ("", "Authorization: Basic eDp5\r\n")):
        assert head(f"{before}{name}: {value}\r\n{after}").logs_in


@pytest.mark.parametrize(
    "value", ["", "Basic eDp5", "Bearer abcntlm.negotiated", "Digest username=x", "AWS4-HMAC-SHA256 a=b"]
)
def test_a_login_of_the_request_alone(value: str) -> None:
    assert not head(f"Authorization: {value}\r\n").logs_in
    assert not head("X-Other: NTLM\r\n").logs_in


@pytest.mark.parametrize(
    ("fields", "logs_in"),
    [
        (b"WWW-Authenticate: NTLM\r\n", True),
        (b"WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: Negotiate oYG=\r\n", True),
        (b"WWW-Authenticate: Basic realm=x, NTLM\r\n", True),
        (b"Proxy-Authenticate: NTLM\r\n", True),
        (b"WWW-Authenticate: Basic realm=x\r\n", False),
        (b"Server: NTLM\r\n", False),
    ],
)
def test_a_challenge(fields: bytes, logs_in: bool) -> None:
    assert parse_response(b"HTTP/1.1 401 Unauthorized\r\n" + fields + b"\r\n").logs_in == logs_in


def test_what_a_browser_sends_shows_no_proxy() -> None:
    browser = (
        "User-Agent: Mozilla/5.0\r\nAccept: */*\r\nConnection: keep-alive\r\nSec-Fetch-Mode: navigate\r\nDNT: 1\r\n"
    )
    assert not head(browser).has_intermediary
    assert not head(begun=b"OPTIONS * HTTP/1.1").has_intermediary


@pytest.mark.parametrize(
    "name", ["Via", "via", "Forwarded", "X-Forwarded-For", "X_Real_IP", "CDN-Loop", "X-Varnish", "CF-Ray"]
)
def test_what_a_proxy_adds_shows_it(name: str) -> None:
    assert head(f"Accept: */*\r\n{name}: 1\r\n").has_intermediary


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.0", b"GET http://demo.localhost/ HTTP/1.1"])
def test_so_does_a_request_as_only_proxies_send_it(begun: bytes) -> None:
    assert head(begun=begun).has_intermediary
