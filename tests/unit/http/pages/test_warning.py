"""localtunnel.http.pages.warning: for whom the page stands before a tunnel, what gets past it, and what does not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtunnel.http.pages.warning import COOKIE, KEY_BYTES, PATH, WarningPage

HOST, ADDRESS = "demo.example.com", "203.0.113.7"
CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
NAVIGATION = {"accept": CHROMIUM, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "host": HOST}
PRESSED = {**NAVIGATION, "origin": f"http://{HOST}"}


@pytest.fixture
def warning():
    return WarningPage(b"k" * KEY_BYTES)


def ask(warning, fields, method="GET", target="/", host=HOST, address=ADDRESS):
    """Return what a request with these fields is answered, as (status, fields, body), or None when it may pass."""
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    data = warning.answer(method, target, host, address, pairs)
    if data is None:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body.decode()


def press(warning, target="/", fields=PRESSED, **where):
    """Press the button of the page for ``target``, and return the cookie and where it leads."""
    _, _, body = ask(warning, NAVIGATION, target=target, **where)
    action = re.search(r'<form method="post" action="([^"]+)">', body)[1].replace("&amp;", "&")
    status, answered, _ = ask(warning, fields, "POST", action, **where)
    assert status == 303
    return answered["Set-Cookie"], answered["Location"]


@pytest.mark.parametrize(
    "fields",
    [
        NAVIGATION,
        {"accept": CHROMIUM},
        {"accept": "text/html"},
        {**NAVIGATION, "sec-fetch-dest": "iframe"},
        {**NAVIGATION, "cookie": f"{COOKIE}=0; other=1"},
        {**NAVIGATION, "cookie": COOKIE},
        {**NAVIGATION, "accept": "*/*"},
        {**NAVIGATION, "sec-fetch-dest": "fencedframe"},
        {**NAVIGATION, "sec-fetch-dest": "a kind of frame that is yet to come"},
        {"accept": CHROMIUM, "sec-fetch-dest": "object"},
        # A form on another site, in a browser that sends Fetch Metadata and in one that does not.
        {**NAVIGATION, "sec-fetch-site": "cross-site", "origin": "http://evil.example"},
        {"accept": CHROMIUM, "origin": "http://evil.example", "content-length": "9"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW", "get"])
def test_a_browser_is_asked(warning, fields, method):
    """Whatever the method is: a form can navigate, and so can a service worker that sends on what it was asked for."""
    status, answered, body = ask(warning, fields, method, target="/page?x=1")
    assert ("Your form was not sent" in body) == (method != "GET")
    assert status == 403
    assert answered["X-Localtunnel-Error"] == "warning_page"
    assert answered["Cache-Control"] == "no-store"
    assert "form-action 'self'" in answered["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answered["Content-Security-Policy"]
    assert "default-src 'none'" in answered["Content-Security-Policy"]
    assert "Set-Cookie" not in answered
    assert HOST in body


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"accept": "*/*"},
        {"accept": "application/json"},
        {"accept": "application/json, text/html;q=0.5"},
        {"accept": "text/html;q=0"},
        {"accept": "image/avif,image/webp,*/*;q=0.8"},
        {**NAVIGATION, "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {"accept": CHROMIUM, "sec-fetch-dest": "image"},
        {**NAVIGATION, "sec-fetch-mode": "websocket", "sec-fetch-dest": "empty"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_nothing_else_is(warning, fields, method):
    assert ask(warning, fields, method) is None


def test_the_answer_to_head_has_no_body(warning):
    status, answered, body = ask(warning, NAVIGATION, "HEAD")
    assert (status, body) == (403, "")
    assert int(answered["Content-Length"]) > 0


def test_several_fields_are_one(warning):
    cookie, _ = press(warning)
    pairs = [(b"accept", b"*/*;q=0.1"), (b"accept", CHROMIUM.encode())]
    cookies = [(b"cookie", cookie.partition(";")[0].encode()), (b"cookie", b"a=b")]
    assert warning.answer("GET", "/", HOST, ADDRESS, pairs) is not None
    assert warning.answer("GET", "/", HOST, ADDRESS, pairs + cookies) is None


@pytest.mark.parametrize("target", ["/", "/page?x=1&y=%2F", "/a//b", "/caf\u00e9", "/%zz", "/;a=b,c"])
def test_the_button_leads_to_where_the_visitor_wanted_to_go(warning, target):
    cookie, location = press(warning, target)
    assert location == target.replace("\u00e9", "%E9")
    assert cookie.startswith(f"{COOKIE}=")
    assert "; HttpOnly; SameSite=Lax" in cookie
    assert "; Path=/;" in cookie
    assert "Secure" not in cookie
    assert ask(warning, {**NAVIGATION, "cookie": f"a=b; {cookie.split(';')[0]}; c=d"}) is None


def test_over_https_the_cookie_stays_there(warning):
    cookie, _ = press(warning, fields={**PRESSED, "origin": f"https://{HOST}"})
    assert cookie.endswith("; SameSite=None; Secure")


@pytest.mark.parametrize(
    "target", ["//evil.example/", "/\\evil.example/", "\\/evil.example", "http://evil.example", "*"]
)
def test_and_nowhere_else(warning, target):
    _, location = press(warning, target)
    assert re.fullmatch(r"/(?![/\\]).*", location)
    assert "\\" not in location[:2]


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "%0d%0aA:x=1", "javascript:alert(1)", ""])
def test_a_target_that_somebody_else_made_up(warning, to):
    _, answered, _ = ask(warning, PRESSED, "POST", f"{PATH}?to={to}")
    assert re.fullmatch(r"/(?![/\\])[!-~]*", answered["Location"])
    assert answered["Set-Cookie"].startswith(COOKIE)


@pytest.mark.parametrize(
    ("fields", "method", "target"),
    [
        ({**PRESSED, "origin": "http://evil.example"}, "POST", PATH),
        ({**PRESSED, "origin": f"http://{HOST}.evil.example"}, "POST", PATH),
        ({**PRESSED, "origin": "null"}, "POST", PATH),
        (NAVIGATION, "POST", PATH),
        ({**PRESSED, "origin": f"http://{HOST}, http://{HOST}"}, "POST", PATH),
        (PRESSED, "PUT", PATH),
    ],
)
def test_another_site_cannot_press_the_button(warning, fields, method, target):
    """It is a navigation like any other, and is asked; what else it may be is for the tunnel's own server."""
    status, answered, body = ask(warning, fields, method, f"{target}?to=/page")
    assert (status, "Set-Cookie" in answered) == (403, False)
    assert f'action="{PATH}?to=%2Fpage"' in body


@pytest.mark.parametrize("fields", [{}, {"origin": "null"}, {"origin": "http://evil.example", "host": HOST}])
def test_nor_can_a_program(warning, fields):
    """What it sends there is the tunnel's own."""
    assert ask(warning, fields, "POST", PATH) is None


def test_a_visitor_who_has_agreed_may_send_what_it_likes(warning):
    cookie, _ = press(warning)
    for method in ("POST", "PUT", "HEAD"):
        fields = {**NAVIGATION, "origin": "http://login.example", "cookie": cookie.split(";")[0]}
        assert ask(warning, fields, method, "/callback") is None


def test_a_link_cannot_press_it_either(warning):
    status, answered, _ = ask(warning, {**PRESSED}, "GET", f"{PATH}?to=/")
    assert status == 403
    assert "Set-Cookie" not in answered


@pytest.mark.parametrize("where", [{"host": "other.example.com"}, {"address": "203.0.113.8"}])
def test_the_cookie_is_good_for_one_host_and_one_visitor(warning, where):
    """The tunnel's server may well see it, and set it for whomever it likes."""
    cookie, _ = press(warning)
    fields = {**NAVIGATION, "cookie": cookie.split(";")[0]}
    assert ask(warning, fields) is None
    assert ask(warning, fields, **where) is not None


def test_another_server_s_cookie_is_worth_nothing(warning):
    cookie, _ = press(WarningPage(b"x" * KEY_BYTES))
    assert ask(warning, {**NAVIGATION, "cookie": cookie.split(";")[0]}) is not None


def test_what_comes_from_outside_is_escaped(warning):
    _, _, body = ask(warning, NAVIGATION, target='/"><script>alert(1)</script>', host='"><b>')
    assert "<script>" not in body
    assert '"><b>' not in body


@given(st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60), st.binary(max_size=40))
def test_whatever_comes_has_one_answer(target, noise):
    page = WarningPage(b"k" * KEY_BYTES)
    answer = page.answer("GET", target, HOST, ADDRESS, [(b"accept", b"text/html"), (b"cookie", noise)])
    assert answer is not None
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\n") == head.count(b"\n") == 8
    posted = page.answer("POST", f"{PATH}?to={target}", HOST, ADDRESS, [(b"origin", b"http://a"), (b"host", b"a")])
    assert posted is not None
    assert re.search(rb"\r\nLocation: /(?![/\\])[!-~]*\r\n", posted)
