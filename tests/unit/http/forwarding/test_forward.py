"""localtunnel.http.forwarding.forward: what goes on to the upstream and to the visitor, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.errors import UpstreamInvalid
from localtunnel.http.forwarding.forward import Forwarding, request_head, response_head, server_timing
from localtunnel.http.message import spoofable
from localtunnel.http.message.request import parse_head
from localtunnel.http.message.response import parse_response
from localtunnel.http.options.rules import Rules
from localtunnel.protocol.options import Options

KEY = b"k" * 16
NO_LETTERS = "!#$%&'*+-.^_`|~"
"""What the name of a field may have besides letters and digits (RFC 9110, section 5.6.2)."""

HOST = "Host: demo.example.com:8000\r\n"
OURS = (
    "X-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n"
    "X-Forwarded-Host: demo.example.com:8000\r\n"
    'Forwarded: for=203.0.113.7;proto=http;host="demo.example.com:8000"\r\n'
)


def forwarded(fields="", line="GET / HTTP/1.1", host=HOST, rules=None, visitor=("203.0.113.7", "http")):
    """Return line and fields of the head that the upstream gets."""
    head = parse_head(f"{line}\r\n{host}{fields}\r\n".encode("latin-1"))
    sent = request_head(head, Forwarding(*visitor), rules).decode("latin-1")
    parse_head(sent.encode("latin-1"))
    assert sent.endswith("\r\n\r\n")
    return sent[:-2]


def kept(fields="", rules=None, **others):
    """Return what is left of the visitor's own ``fields``, the Host field and what the server adds taken away."""
    sent = forwarded(fields, rules=rules, **others).removesuffix(OURS)
    return sent.partition("\r\n")[2].removeprefix(HOST)


def answered(fields="", line="HTTP/1.1 200 OK", request="GET / HTTP/1.1", rules=None, close=False, extra=b"", ask=""):
    """Return the head that the visitor gets."""
    asked = parse_head(f"{request}\r\n{HOST}{ask}\r\n".encode("latin-1"))
    head = parse_response(f"{line}\r\n{fields}\r\n".encode("latin-1"))
    forwarding = Forwarding("203.0.113.7", "https")
    sent = response_head(head, asked, forwarding, rules, close=close, extra=extra)
    parse_response(sent)
    return sent.decode("latin-1")


def test_the_usual_request_is_passed_on_in_order_and_as_spelled():
    fields = 'ACCEPT:   */*  \r\nx-CUSTOM-thing: a, b ;c="d"\r\nCookie: a=b\r\nX-Custom-Thing: again\r\n'
    assert forwarded(fields, "PATCH /a%20b?c=d&e HTTP/1.1") == (f"PATCH /a%20b?c=d&e HTTP/1.1\r\n{HOST}{fields}{OURS}")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(name.decode() for name in spoofable.NAMES),
        "X-Forwarded-For",
        "x-forwarded-host",
        "X_Forwarded_Proto",
        "X-Forwarded_For",
        "X-FORWARDED-PREFIX",
        "X-Forwarded",
        "X_REAL_IP",
        "Client.IP",
        "x.forwarded~for",
        "X!Localtunnel'Peer",
        "X-Original-Forwarded-For",
        "X-Original-URL",
        "X-Localtunnel-Error",
        "x_localtunnel_peer",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
        "HTTP2-Settings",
        "Content_Length",
        "Transfer_Encoding",
        "Content.Length",
        "Transfer~Encoding",
        "Proxy.Connection",
        "Keep_Alive",
        "Host_",
    ],
)
def test_what_a_visitor_may_not_say_is_dropped(name):
    if name == "Host_":
        # One that only looks like another is passed on.
        assert kept(f"{name}: x\r\n") == f"{name}: x\r\n"
    else:
        assert kept(f"Accept: a\r\n{name}: 127.0.0.1\r\nUser-Agent: b\r\n") == "Accept: a\r\nUser-Agent: b\r\n"


@given(st.sampled_from(sorted(spoofable.NAMES) + [prefix + b"x" for prefix in spoofable.PREFIXES]), st.data())
def test_no_spelling_of_a_claim_passes(name, data):
    spelled = "".join(
        data.draw(st.sampled_from(NO_LETTERS) if c == "-" else st.sampled_from([c, c.upper()])) for c in name.decode()
    )
    assert kept(f"{spelled}: 127.0.0.1\r\n") == ""


@pytest.mark.parametrize("name", ["Accept", "Authorization", "Cookie", "Via", "Range", "X-Request-ID", "Origin", "DNT"])
def test_what_is_end_to_end_is_kept(name):
    assert kept(f"{name}: x\r\n") == f"{name}: x\r\n"


@pytest.mark.parametrize(
    ("options", "fields", "left"),
    [
        ("close, X-Secret", "X-Secret: 1\r\nAccept: a\r\n", "Accept: a\r\n"),
        ("X-SECRET", "x-secret: 1\r\nAccept: a\r\n", "Accept: a\r\n"),
        ("Accept", "Accept: a\r\nCookie: b\r\n", "Cookie: b\r\n"),
        ("host, cookie, authorization, origin", "Cookie: b\r\nAuthorization: c\r\nOrigin: d\r\n", "all"),
        ("content-length", "Content-Length: 3\r\n", "all"),
        ("transfer-encoding, expect", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "all"),
        ("X-Forwarded-For, X-Real-IP, Forwarded", "", ""),
        ("keep-alive", "Keep-Alive: timeout=5\r\nAccept: a\r\n", "Accept: a\r\n"),
        ("x_secret", "X-Secret: 1\r\nX.SECRET: 2\r\nAccept: a\r\n", "Accept: a\r\n"),
        ("X-Secret", "X_Secret: 1\r\nAccept: a\r\n", "Accept: a\r\n"),
        ("content_length, set.cookie", "Content-Length: 3\r\n", "all"),
        ("close,,@, ", "Accept: a\r\n", "all"),
    ],
)
def test_what_connection_names(options, fields, left):
    """A Connection option cannot take away what frames or routes the request, nor what this server adds."""
    method = "POST" if "ength" in fields or "ncoding" in fields else "GET"
    sent = forwarded(f"Connection: {options}\r\n{fields}", f"{method} / HTTP/1.1")
    left = fields if left == "all" else left
    assert sent == f"{method} / HTTP/1.1\r\n{HOST}{left}{OURS}"


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ("Connection: TE\r\nTE: trailers\r\n", "Connection: TE\r\nTE: trailers\r\n"),
        ("Connection: close, te\r\nTE: gzip;q=0.5, Trailers\r\n", "Connection: TE\r\nTE: trailers\r\n"),
        ("Connection: te\r\nTE: gzip\r\nTE: trailers\r\n", "Connection: TE\r\nTE: trailers\r\n"),
        ("Connection: te\r\nTE: gzip\r\n", ""),
        ("TE: trailers\r\n", ""),
    ],
)
def test_of_te_only_trailers_goes_on_and_only_where_connection_names_it(fields, added):
    assert kept(fields) == added


def test_a_websocket_is_asked_for_in_the_servers_own_words():
    sent = forwarded("connection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n")
    assert (
        sent == f"GET / HTTP/1.1\r\n{HOST}Sec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{OURS}"
    )


def test_another_upgrade_is_dropped():
    assert kept("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n") == ""


@pytest.mark.parametrize("fields", ["", "Connection: keep-alive\r\n", "Connection: close\r\n"])
def test_http_1_0_goes_on_as_http_1_1(fields):
    assert forwarded(fields, "GET /a HTTP/1.0") == f"GET /a HTTP/1.1\r\n{HOST}{OURS}"


@pytest.mark.parametrize("rules", [None, Rules(KEY, Options(request_header_add=["X-A: b"]))], ids=["", "with rules"])
@pytest.mark.parametrize(
    "fields", ["Expect: 100-continue\r\n", "expect:100-Continue\r\nTE: trailers\r\nConnection: TE\r\n"]
)
def test_http_1_0_knows_neither_a_100_nor_trailers(fields, rules):
    sent = forwarded(fields, "POST / HTTP/1.0", rules=rules).lower()
    assert "expect" not in sent
    assert "trailers" not in sent


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("GET http://demo.example.com:8000/a?b HTTP/1.1", "GET /a?b HTTP/1.1"),
        ("GET HTTP://DEMO.example.com:8000 HTTP/1.1", "GET / HTTP/1.1"),
        ("GET http://demo.example.com:8000?b=/c HTTP/1.0", "GET /?b=/c HTTP/1.1"),
        ("OPTIONS http://demo.example.com:8000 HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://demo.example.com:8000/ HTTP/1.1", "OPTIONS / HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("GET //other.example.com/a HTTP/1.1", "GET //other.example.com/a HTTP/1.1"),
        ("GET /http://other.example.com/ HTTP/1.1", "GET /http://other.example.com/ HTTP/1.1"),
        (
            "GET http://demo.example.com:8000/http://demo.example.com:8000/ HTTP/1.1",
            "GET /http://demo.example.com:8000/ HTTP/1.1",
        ),
    ],
)
def test_absolute_form_becomes_origin_form(line, sent):
    assert forwarded(line=line).partition("\r\n")[0] == sent


@pytest.mark.parametrize(
    ("address", "plain", "node"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7", '"[2001:db8::7]"'),
        ("fe80::1%eth0", "fe80::1", '"[fe80::1]"'),
    ],
)
def test_what_is_said_of_the_visitor(address, plain, node):
    sent = forwarded(host="Host: Demo.Example.com.\r\n", visitor=(address, "https"))
    assert sent.partition("\r\n")[2] == (
        f"Host: Demo.Example.com.\r\nX-Forwarded-For: {plain}\r\nX-Real-IP: {plain}\r\nX-Forwarded-Proto: https\r\n"
        f'X-Forwarded-Host: demo.example.com\r\nForwarded: for={node};proto=https;host="demo.example.com"\r\n'
    )


def test_one_connection_may_address_several_hosts():
    forwarding = Forwarding("203.0.113.7", "http")
    for host in ("a.example.com", "a.example.com:81", "b.example.com", "a.example.com"):
        head = parse_head(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert f'host="{host}"\r\n'.encode() in request_head(head, forwarding)


# Rules for requests.


def test_fields_are_added_and_removed():
    rules = Rules(
        KEY, Options(request_header_add=["X-Env: dev", "x-env: two", "Empty:"], request_header_remove=["Cookie"])
    )
    assert kept("X-Env: visitor\r\nX_ENV: visitor\r\ncookie: a\r\nAccept: b\r\n", rules) == (
        "Accept: b\r\nX-Env: dev\r\nx-env: two\r\nEmpty: \r\n"
    )


def test_a_removed_field_has_no_other_spelling():
    assert kept("X-User: a\r\nX_User: b\r\nx_user: c\r\n", Rules(KEY, Options(request_header_remove=["x-user"]))) == ""
    assert kept("X-User: a\r\nX_User: b\r\n", Rules(KEY, Options(request_header_remove=["x_user"]))) == ""
    assert kept("X-User: a\r\nX.User: b\r\n", Rules(KEY, Options(request_header_remove=["x~user"]))) == ""


def test_an_added_field_has_no_other_spelling():
    rules = Rules(KEY, Options(request_header_add=["X-User: ann"]))
    assert kept("X_User: b\r\nX.User: c\r\nx-user: d\r\n", rules) == "X-User: ann\r\n"
    rules = Rules(KEY, Options(response_header_add=["X-User: ann"]))
    assert answered("X_User: b\r\nX.User: c\r\nAge: 1\r\n", rules=rules) == (
        "HTTP/1.1 200 OK\r\nAge: 1\r\nX-User: ann\r\n\r\n"
    )


def test_connection_and_rules_together():
    rules = Rules(KEY, Options(request_header_add=["X-Env: dev"]))
    assert kept("Connection: X-Env, X-Other\r\nX-Other: a\r\nX-Real-IP: b\r\nAccept: c\r\n", rules) == (
        "Accept: c\r\nX-Env: dev\r\n"
    )


def test_the_password_is_not_passed_on_where_the_server_asks_for_it():
    assert kept("Authorization: Basic YTpi\r\n", Rules(KEY, Options(protect="a:b"))) == ""
    assert kept("Authorization: Basic YTpi\r\n", Rules(KEY, Options(cors=True))) == "Authorization: Basic YTpi\r\n"
    own = Rules(KEY, Options(protect="a:b", request_header_add=["Authorization: Bearer x"]))
    assert kept("Authorization: Basic YTpi\r\n", own) == "Authorization: Bearer x\r\n"


def test_the_host_is_rewritten():
    sent = forwarded("Accept: a\r\n", rules=Rules(KEY, Options(host_header="localhost:3000")))
    assert sent == f"GET / HTTP/1.1\r\nAccept: a\r\nHost: localhost:3000\r\n{OURS}"


@pytest.mark.parametrize(
    ("value", "mapped"),
    [
        ("http://demo.example.com:8000", "http://localhost:3000"),
        ("HTTP://Demo.Example.COM:8000/a?b", "http://localhost:3000/a?b"),
        ("http://demo.example.com", None),
        ("https://demo.example.com:8000", None),
        ("http://other.example.com:8000/", None),
        ("http://demo.example.com:8000.evil.example/", None),
        ("http://user@demo.example.com:8000/", None),
        ("//demo.example.com:8000/", None),
        ("http://evil.example/http://demo.example.com:8000/", None),
        ("null", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("name", ["Origin", "referer"])
def test_an_origin_that_is_the_tunnels_own_becomes_the_upstreams(name, value, mapped):
    rules = Rules(KEY, Options(host_header="localhost:3000"))
    field, host = f"{name}: {value}\r\n", "Host: localhost:3000\r\n"
    assert kept(field, rules) == (f"{name}: {mapped}\r\n" if mapped else field) + host
    assert kept(field) == field
    assert kept(field, Rules(KEY, Options(cors=True))) == field


@pytest.mark.parametrize(
    ("host", "origin"),
    [("demo.example.com", "https://demo.example.com"), ("demo.example.com:443", "https://demo.example.com")],
)
def test_a_port_that_goes_without_saying(host, origin):
    rules = Rules(KEY, Options(host_header="app.internal:80"))
    fields = f"Origin: {origin}\r\nReferer: {origin}:443/a\r\n"
    sent = forwarded(fields, host=f"Host: {host}\r\n", rules=rules, visitor=("203.0.113.7", "https"))
    assert "Origin: http://app.internal:80\r\nReferer: http://app.internal:80/a\r\n" in sent


def test_a_websocket_has_the_upstreams_origin_as_well():
    asked = "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://demo.example.com:8000\r\n"
    assert "Origin: http://localhost:3000\r\n" in forwarded(
        asked, rules=Rules(KEY, Options(host_header="localhost:3000"))
    )


# Responses.


def test_the_usual_response_is_passed_on_in_order_and_as_spelled():
    fields = "server:  x \r\nContent-Length: 3\r\nX-Thing: a\r\nSet-Cookie: a=b; Path=/\r\nset-cookie: c=d\r\n"
    assert answered(fields, "HTTP/1.1 299 Quite fine") == f"HTTP/1.1 299 Quite fine\r\n{fields}\r\n"


@pytest.mark.parametrize(
    "field",
    [
        "Connection: keep-alive",
        "Connection: close, X-Thing\r\nX-Thing: a",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
        "Proxy-Authenticate: Basic",
        "Upgrade: h2c",
        "X-Localtunnel-Error: tunnel_not_found",
        "x-localtunnel-anything: a",
        "X_Localtunnel_Error: tunnel_not_found",
        "X.Localtunnel~Error: tunnel_not_found",
        "Proxy_Connection: close",
        "Content_Length: 4",
        "Transfer.Encoding: chunked",
        "Connection: X_Thing\r\nX-Thing: a",
        "X-Accel-Redirect: /private/key",
        "x-sendfile: /etc/passwd",
        "X_Reproxy.URL: http://127.0.0.1/",
        "X-LIGHTTPD-send-file: /etc/passwd",
    ],
)
def test_what_an_upstream_may_not_say_is_dropped(field):
    assert answered(f"Server: x\r\n{field}\r\nContent-Length: 3\r\n") == (
        "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\n"
    )


@pytest.mark.parametrize("field", ["Content-Length: 3", "Transfer-Encoding: chunked", "Set-Cookie: a=b"])
def test_connection_cannot_name_what_frames_a_response(field):
    name = field.partition(":")[0]
    assert answered(f"Connection: {name}\r\n{field}\r\n") == f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n"


@pytest.mark.parametrize(
    ("request_line", "close", "field"),
    [
        ("GET / HTTP/1.1", False, ""),
        ("GET / HTTP/1.1", True, "Connection: close\r\n"),
        ("GET / HTTP/1.0", False, "Connection: keep-alive\r\n"),
        ("GET / HTTP/1.0", True, "Connection: close\r\n"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_becomes_of_the_visitors_connection(request_line, close, field, version):
    sent = answered("Content-Length: 3\r\n", f"HTTP/{version} 200 OK", request_line, close=close)
    assert sent == f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{field}\r\n"


def test_an_interim_response_has_no_word_on_the_connection():
    rules = Rules(KEY, Options(response_header_add=["X-A: b"], cors=True))
    sent = answered(
        "Link: </a>\r\n", "HTTP/1.1 103 Early Hints", rules=rules, close=True, extra=b"Server-Timing: a\r\n"
    )
    assert sent == "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


def test_a_websocket_is_granted():
    sent = answered(f"{WEBSOCKET}Sec-WebSocket-Accept: x\r\n", "HTTP/1.1 101 Switching", ask=WEBSOCKET)
    assert sent == f"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n{WEBSOCKET}\r\n"


@pytest.mark.parametrize(
    ("fields", "ask"), [(WEBSOCKET, ""), ("Connection: Upgrade\r\nUpgrade: h2c\r\n", WEBSOCKET), ("", WEBSOCKET)]
)
def test_a_101_that_was_not_asked_for_is_invalid(fields, ask):
    with pytest.raises(UpstreamInvalid):
        answered(fields, "HTTP/1.1 101 Switching", ask=ask)


def test_http_1_0_is_told_nothing_of_chunks():
    fields = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nServer: x\r\n"
    assert answered(fields, request="GET / HTTP/1.0", close=True) == (
        "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: close\r\n\r\n"
    )


def test_lines_of_the_servers_own_come_last():
    assert answered("Server: x\r\n", extra=server_timing(0.0004, 0.02, 1.5)) == (
        "HTTP/1.1 200 OK\r\nServer: x\r\nServer-Timing: edge;dur=0.4, tunnel;dur=20.0, upstream;dur=1500.0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        ("a=b; Domain=example.com", None),
        ("a=b; Domain=demo.example.com; Path=/", "a=b; Domain=demo.example.com; Path=/"),
    ],
)
def test_a_cookie_for_the_neighbours_is_dropped(cookie, left):
    sent = answered(f"Set-Cookie: {cookie}\r\nSet-Cookie: c=d\r\n")
    assert sent == "HTTP/1.1 200 OK\r\n" + (f"Set-Cookie: {left}\r\n" if left else "") + "Set-Cookie: c=d\r\n\r\n"


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        ("a=b; Domain=example.com", None),
        ("a=b; domain=.com; Path=/", None),
        ("a=b; Domain=demo.example.com; Path=/", "a=b; Domain=demo.example.com; Path=/"),
        ("a=b; Domain=app.internal", "a=b; Domain=demo.example.com"),
    ],
)
@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie"])
def test_nor_does_an_option_set_one(name, cookie, left):
    rules = Rules(KEY, Options(response_header_add=[f"{name}: {cookie}"], host_header="app.internal:3000"))
    assert answered(rules=rules) == "HTTP/1.1 200 OK\r\n" + (f"Set-Cookie: {left}\r\n" if left else "") + "\r\n"


def test_the_cookies_of_the_neighbours_are_not_cleared():
    sent = answered('Clear-Site-Data: "cache", "cookies"\r\nclear-site-data: "cookies"\r\n')
    assert sent == 'HTTP/1.1 200 OK\r\nClear-Site-Data: "cache"\r\n\r\n'


@pytest.mark.parametrize(
    ("host", "location", "mapped"),
    [
        ("localhost:3000", "http://localhost:3000/a?b#c", "https://demo.example.com:8000/a?b#c"),
        ("localhost:3000", "HTTPS://LOCALHOST:3000", "https://demo.example.com:8000"),
        ("localhost:3000", "//localhost:3000/a", "https://demo.example.com:8000/a"),
        ("App.internal", "http://app.internal/a", "https://demo.example.com:8000/a"),
        ("app.internal", "http://app.internal:80/a", "https://demo.example.com:8000/a"),
        ("app.internal:80", "http://app.internal/a", "https://demo.example.com:8000/a"),
        ("app.internal", "https://app.internal:443/a", "https://demo.example.com:8000/a"),
        ("[::1]:3000", "http://[::1]:3000/a", "https://demo.example.com:8000/a"),
        ("localhost:3000", "/a", "/a"),
        ("localhost:3000", "http://localhost:3001/a", "http://localhost:3001/a"),
        ("localhost:3000", "http://localhost:3000.example.org/a", "http://localhost:3000.example.org/a"),
        ("localhost:3000", "http://user@localhost:3000/a", "http://user@localhost:3000/a"),
        ("localhost:3000", "/a?next=http://localhost:3000/b", "/a?next=http://localhost:3000/b"),
        ("app.internal:8080", "https://app.internal/a", "https://app.internal/a"),
    ],
)
def test_a_redirect_to_the_rewritten_host_is_mapped_back(host, location, mapped):
    rules = Rules(KEY, Options(host_header=host))
    for name in ("Location", "content-location"):
        sent = answered(f"{name}: {location}\r\n", "HTTP/1.1 302 Found", rules=rules)
        assert sent == f"HTTP/1.1 302 Found\r\n{name}: {mapped}\r\n\r\n"
        assert location in answered(f"{name}: {location}\r\n", "HTTP/1.1 302 Found")


@pytest.mark.parametrize(
    ("field", "mapped"),
    [
        ("Access-Control-Allow-Origin: http://localhost:3000", "https://demo.example.com:8000"),
        ("Access-Control-Allow-Origin: https://LOCALHOST:3000", "https://demo.example.com:8000"),
        ("Access-Control-Allow-Origin: http://localhost:3001", None),
        ("Access-Control-Allow-Origin: *", None),
        ("Access-Control-Allow-Origin: null", None),
        ("Refresh: 0; url=http://localhost:3000/a", "0; url=https://demo.example.com:8000/a"),
        ("Refresh: 5;URL='http://localhost:3000/a'", "5;URL='https://demo.example.com:8000/a'"),
        ("Refresh: 1.5, //localhost:3000", "1.5, https://demo.example.com:8000"),
        ("Refresh: 5", None),
        ("Refresh: 0; url=/a?http://localhost:3000/", None),
        ("Link: <http://localhost:3000/a>", None),
    ],
)
def test_the_upstreams_origin_is_mapped_back(field, mapped):
    rules = Rules(KEY, Options(host_header="localhost:3000"))
    name = field.partition(":")[0]
    line = f"{name}: {mapped}" if mapped else field
    assert answered(f"Age: 1\r\n{field}\r\n", rules=rules) == f"HTTP/1.1 200 OK\r\nAge: 1\r\n{line}\r\n\r\n"
    assert field in answered(f"{field}\r\n")


def test_with_cors_the_upstreams_answer_on_origins_is_dropped_as_ever():
    rules = Rules(KEY, Options(host_header="localhost:3000", cors=True))
    sent = answered("Access-Control-Allow-Origin: http://localhost:3000\r\n", rules=rules)
    assert sent.count("Access-Control-Allow-Origin") == 1
    assert "Access-Control-Allow-Origin: *\r\n" in sent


def test_a_cookie_of_the_rewritten_host_is_mapped_back():
    sent = answered(
        "Set-Cookie: a=b; domain=.LocalHost; Path=/\r\n", rules=Rules(KEY, Options(host_header="localhost:3000"))
    )
    assert "Set-Cookie: a=b; Domain=demo.example.com; Path=/\r\n" in sent


def test_fields_of_responses_are_added_in_place_of_the_upstreams():
    rules = Rules(KEY, Options(response_header_add=["Cache-Control: no-store", "Set-Cookie: own=1", "X-A: b"]))
    assert answered("cache-control: public\r\nSet-Cookie: a=b\r\nServer: x\r\n", rules=rules) == (
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nServer: x\r\n"
        "Cache-Control: no-store\r\nX-A: b\r\nSet-Cookie: own=1\r\n\r\n"
    )


def test_cors_takes_the_place_of_what_the_upstream_says():
    fields = (
        "Access-Control-Allow-Origin: https://a.example\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
    )
    assert answered(fields, rules=Rules(KEY, Options(cors=True))) == (
        "HTTP/1.1 200 OK\r\nVary: Origin\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n\r\n"
    )
    assert answered(fields) == f"HTTP/1.1 200 OK\r\n{fields}\r\n"
