"""localtunnel.http.options.rules, basic, cors and values: whom a tunnel lets in,
and which options it can have.
"""

import base64

import pytest

from localtunnel.errors import Forbidden, OptionRefused, Unauthorized
from localtunnel.http.message.request import parse_head
from localtunnel.http.message.response import parse_response
from localtunnel.http.options.basic import Credentials
from localtunnel.http.options.rules import Rules
from localtunnel.http.pages import errors as pages
from localtunnel.protocol.limits import MAX_TEXT
from localtunnel.protocol.options import Options

KEY = b"k" * 16
ADDRESS = "203.0.113.7"


def head(fields="", line="GET / HTTP/1.1"):
    return parse_head(f"{line}\r\nHost: demo.example.com\r\n{fields}\r\n".encode("latin-1"))


def basic(text, scheme="Basic"):
    return f"Authorization: {scheme} {base64.b64encode(text.encode()).decode()}\r\n"


PREFLIGHT = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"


def test_without_options_everybody_is_let_in():
    rules = Rules(KEY, Options())
    rules.check(head(), ADDRESS)
    assert rules.preflight_answer(head(PREFLIGHT, "OPTIONS / HTTP/1.1")) is None
    assert (rules.host, rules.request_lines, rules.response_lines) == (None, b"", b"")
    assert not rules.request_drop | rules.response_drop


# Basic.


@pytest.mark.parametrize("secret", ["ann:secret", "a:b", "ann:se:cr:et", "änn:geheim€", "a:" + "b" * (MAX_TEXT - 2)])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic  "])
def test_the_right_password_is_let_in(secret, scheme):
    Rules(KEY, Options(protect=secret)).check(head(basic(secret, scheme)), ADDRESS)


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "Authorization:\r\n",
        "Authorization: Basic\r\n",
        "Authorization: Basic !!!\r\n",
        basic("ann:wrong"),
        basic("bob:secret"),
        basic("ann"),
        basic("ann:secret "),
        basic("ANN:secret"),
        basic("ann:secret", "Bearer"),
        basic("ann:secret", "NotBasic"),
        basic("ann:secret").replace("Basic ", "Basic"),
        basic("ann:secret").replace("=", ""),
        # Two readers might take either.
        basic("ann:secret") * 2,
        basic("ann:wrong") + basic("ann:secret"),
        basic("ann:secret").replace("Authorization", "Proxy-Authorization"),
    ],
)
def test_everybody_else_is_asked_for_it(fields):
    with pytest.raises(Unauthorized) as caught:
        Rules(KEY, Options(protect="ann:secret")).check(head(fields), ADDRESS)
    answer = parse_response(pages.error_answer(caught.value, head()).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert answer.status == 401
    challenge = [value for name, value, _ in answer.fields if name == b"www-authenticate"]
    assert challenge == [b'Basic realm="localtunnel", charset="UTF-8"']


def test_the_password_is_in_no_part_of_what_is_kept():
    credentials = Credentials("ann:secret", KEY)
    kept = [getattr(credentials, name) for name in Credentials.__slots__]
    assert all(isinstance(part, bytes) and b"secret" not in part and b"YW5u" not in part for part in kept)
    assert "secret" not in repr(credentials) + repr(Rules(KEY, Options(protect="ann:secret")))


def test_another_key_gives_another_digest():
    digests = {Credentials("ann:secret", key)._digest for key in (KEY, b"other" * 4)}
    assert len(digests) == 2


# Addresses.


@pytest.mark.parametrize(
    ("networks", "address", "admitted"),
    [
        (["203.0.113.0/24"], ADDRESS, True),
        ([ADDRESS], ADDRESS, True),
        (["10.0.0.0/8", "203.0.113.7/32"], ADDRESS, True),
        (["203.0.113.0/24"], "::ffff:203.0.113.7", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["203.0.113.8"], ADDRESS, False),
        (["203.0.113.0/24"], "2001:db8::1", False),
        (["203.0.113.0/24"], "", False),
        (["0.0.0.0/0"], "nonsense", False),
    ],
)
def test_who_may_come_by_address(networks, address, admitted):
    rules = Rules(KEY, Options(allow_ip=networks))
    if admitted:
        rules.check(head(), address)
        rules.check_address(address)
        return
    with pytest.raises(Forbidden):
        rules.check(head(), address)
    with pytest.raises(Forbidden):
        rules.check_address(address)


def test_a_stranger_is_not_even_asked_for_the_password():
    rules = Rules(KEY, Options(allow_ip=["10.0.0.1"], protect="ann:secret", cors=True))
    for fields, line in [
        ("", "GET / HTTP/1.1"),
        (basic("ann:secret"), "GET / HTTP/1.1"),
        (PREFLIGHT, "OPTIONS / HTTP/1.1"),
    ]:
        with pytest.raises(Forbidden):
            rules.check(head(fields, line), ADDRESS)


# CORS.


def answer_to_preflight(fields=PREFLIGHT, line="OPTIONS /a HTTP/1.1"):
    asked = head(fields, line)
    rules = Rules(KEY, Options(cors=True, protect="ann:secret"))
    rules.check(asked, ADDRESS)
    data = rules.preflight_answer(asked)
    assert data is not None
    answer = parse_response(data)
    assert answer.status == 204
    return {name.decode(): value.decode() for name, value, _ in answer.fields}


def test_a_preflight_is_answered_without_a_password():
    fields = answer_to_preflight(f"{PREFLIGHT}Access-Control-Request-Headers: authorization, x-a\r\n")
    assert fields == {
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "*",
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "authorization, x-a",
        "access-control-max-age": "600",
        "vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
        "connection": "close",
    }


def test_a_preflight_cannot_write_what_it_likes_into_the_answer():
    fields = answer_to_preflight(f'{PREFLIGHT}Access-Control-Request-Headers: "<script>"\r\n')
    assert fields["access-control-allow-headers"] == "*"


@pytest.mark.parametrize("line", ["OPTIONS / HTTP/1.1", "OPTIONS / HTTP/1.0"])
def test_the_connection_is_closed_after_a_preflight(line):
    assert answer_to_preflight(line=line)["connection"] == "close"


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("OPTIONS / HTTP/1.1", "Origin: https://a.example\r\n"),
        ("OPTIONS / HTTP/1.1", "Access-Control-Request-Method: PUT\r\n"),
        ("GET / HTTP/1.1", PREFLIGHT),
        ("options / HTTP/1.1", PREFLIGHT),
    ],
)
def test_what_is_no_preflight_needs_the_password_and_goes_to_the_upstream(line, fields):
    rules = Rules(KEY, Options(cors=True, protect="ann:secret"))
    with pytest.raises(Unauthorized):
        rules.check(head(fields, line), ADDRESS)
    assert rules.preflight_answer(head(fields, line)) is None


def test_without_cors_a_preflight_is_a_request_like_any_other():
    with pytest.raises(Unauthorized):
        Rules(KEY, Options(protect="ann:secret")).check(head(PREFLIGHT, "OPTIONS / HTTP/1.1"), ADDRESS)


# What an option may hold.


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("protect", "", "USER:PASSWORD"),
        ("protect", "hush", "USER:PASSWORD"),
        ("protect", ":hush", "USER:PASSWORD"),
        ("protect", "ann:", "USER:PASSWORD"),
        ("protect", "ann:hu\nsh", "control characters"),
        ("protect", "ann:hu\x85sh", "control characters"),
        ("protect", "ann:" + "hush" * 75, "304 characters"),
        ("host_header", "", "not a host"),
        ("host_header", ".", "not a host"),
        ("host_header", ".:80", "not a host"),
        ("host_header", "rewrite", "for lt-client"),
        ("host_header", "preserve", "for lt-client"),
        ("host_header", "http://localhost:3000", "not a host"),
        ("host_header", "local host", "not a host"),
        ("host_header", "localhost:99999", "not a host"),
        ("host_header", "user@localhost", "not a host"),
        ("host_header", "löcal", "not a host"),
        ("host_header", "a\r\nX-A: b", "not a host"),
        ("allow_ip", ["10.0.0.0/33"], "10.0.0.0/33"),
        ("allow_ip", ["10.0.0.1", "example.com"], "example.com"),
        ("allow_ip", [""], "''"),
        ("request_header_add", ["X-A"], "no colon"),
        ("request_header_add", ["X A: b"], "not the name of a field"),
        ("request_header_add", ["X-A : b"], "not the name of a field"),
        ("request_header_add", [": b"], "not the name of a field"),
        ("request_header_add", ["X-Ä: b"], "not the name of a field"),
        ("request_header_add", ["X-A: b\r\nX-C: d"], "printable ASCII"),
        ("request_header_add", ["X-A: b\0"], "printable ASCII"),
        ("request_header_add", ["X-A: ä"], "printable ASCII"),
        ("request_header_add", ["Host: a"], "Host cannot be changed here; use --host-header"),
        ("request_header_add", ["Content-Length: 0"], "only the server may set it"),
        ("request_header_add", ["content_length: 0"], "only the server may set it"),
        ("request_header_add", ["Transfer-Encoding: chunked"], "only the server may set it"),
        ("request_header_add", ["Connection: close"], "only the server may set it"),
        ("request_header_add", ["Upgrade: websocket"], "only the server may set it"),
        ("request_header_add", ["TE: trailers"], "only the server may set it"),
        ("request_header_add", ["X-Forwarded-For: 127.0.0.1"], "identifies the visitor"),
        ("request_header_add", ["x_real_ip: 127.0.0.1"], "identifies the visitor"),
        ("request_header_add", ["X-Localtunnel-A: b"], "identifies the visitor"),
        ("request_header_add", ["Client.IP: 127.0.0.1"], "identifies the visitor"),
        ("request_header_add", ["Content.Length: 0"], "only the server may set it"),
        ("request_header_remove", ["X~Forwarded.For"], "identifies the visitor"),
        ("request_header_remove", ["keep.alive"], "only the server may set it"),
        ("response_header_add", ["X_Localtunnel.Error: a"], "reserved for the server"),
        ("response_header_add", ["Transfer.Encoding: chunked"], "only the server may set it"),
        ("request_header_remove", ["X A"], "not the name of a field"),
        ("request_header_remove", ["X-A: b"], "not the name of a field"),
        ("request_header_remove", ["Host"], "Host cannot be changed here; use --host-header"),
        ("request_header_remove", ["Content-Length"], "only the server may set it"),
        ("request_header_remove", ["Forwarded"], "identifies the visitor"),
        ("response_header_add", ["Content-Length: 0"], "only the server may set it"),
        ("response_header_add", ["Transfer-Encoding: chunked"], "only the server may set it"),
        ("response_header_add", ["Connection: close"], "only the server may set it"),
        ("response_header_add", ["X-Localtunnel-Error: a"], "reserved for the server"),
        ("response_header_add", ["X-Accel-Redirect: /private"], "an order to a proxy"),
        ("response_header_add", ["x_sendfile: /etc/passwd"], "an order to a proxy"),
        ("response_header_add", ['Clear-Site-Data: "cache", "cookies"'], "cookies of other tunnels"),
        ("response_header_add", ['clear-site-data: "*"'], "cookies of other tunnels"),
        ("response_header_add", ["X-A: b\nX-C: d"], "printable ASCII"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(option, value, reason):
    with pytest.raises(OptionRefused) as caught:
        Rules(KEY, Options(**{option: value}))
    assert str(caught.value).startswith(f"The option {option} cannot be accepted: ")
    assert reason in str(caught.value)
    assert option != "protect" or "hu" not in str(caught.value)


def test_what_is_the_hosts_own_may_be_cleared():
    assert Rules(KEY, Options(response_header_add=['Clear-Site-Data: "cache", "storage"'])).response_lines


def test_fields_may_be_added_to_both_sides_that_are_anybodys():
    rules = Rules(KEY, Options(request_header_add=["X-A:\t b \t"], response_header_add=["X-Forwarded-For: shown"]))
    assert (rules.request_lines, rules.response_lines) == (b"X-A: b\r\n", b"X-Forwarded-For: shown\r\n")
