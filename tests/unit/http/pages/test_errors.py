"""localtunnel.http.pages.errors and .document: the right words in the right form, escaped, for every error there is."""

import base64
import hashlib
import json
from html.parser import HTMLParser

import pytest
from harness.pages import HTML, JSON, TEXT, every_form, read, request

from localtunnel import errors
from localtunnel.http.pages import errors as pages
from localtunnel.http.pages import own
from localtunnel.http.pages.document import Document, Hint

HOSTILE = "<script>alert('1')</script>&\"\x1b[2J\r\nSet-Cookie: a=b"


def kinds(parent: type[errors.VisitorError]) -> list[type[errors.VisitorError]]:
    """Return every kind of ``parent`` that is raised: one that has kinds of its own only holds them together."""
    return [kind for child in parent.__subclasses__() for kind in kinds(child) or [child]]


ERRORS = kinds(errors.VisitorError)

every_error = pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.code)


class _Page(HTMLParser):
    """Notes the tags, the attributes and the visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.style = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags and self.lasttag == "style" and not self.style:
            self.style = data
        else:
            self.text += data


@every_error
@every_form
def test_every_error_in_every_form(kind: type[errors.VisitorError], accept: str) -> None:
    error = kind("What happened.")
    response, body = read(pages.error_answer(error, request(accept)))
    assert response.status == kind.status
    assert response.getheader("X-Localtunnel-Error") == kind.code
    assert response.getheader("Cache-Control") == "no-store"
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert response.getheader("Vary") == "Accept"
    assert "What happened." in body
    assert kind.code in body
    # Of some kinds each error has its own.
    expected_retry = None if error.retry_after is None else str(error.retry_after)
    assert response.getheader("Retry-After") == expected_retry


@every_error
def test_every_error_has_words_of_its_own(kind: type[errors.VisitorError]) -> None:
    _, generic = read(pages.error_answer(errors.VisitorError("It."), None))
    _, body = read(pages.error_answer(kind("It."), None))
    paragraphs = body.split("\n\n")
    assert not {paragraph for paragraph in paragraphs if paragraph != "It."} & set(generic.split("\n\n"))


@every_error
def test_an_error_without_a_message_still_says_what_happened(kind: type[errors.VisitorError]) -> None:
    answer = json.loads(read(pages.error_answer(kind(), request(JSON)))[1])
    assert len(answer["message"]) > 10
    assert answer["message"].endswith(".")


def test_an_error_that_has_no_words_of_its_own_is_answered_too() -> None:
    response, body = read(pages.error_answer(errors.VisitorError(), None))
    assert response.status == 500
    assert "visitor_error" in body


def test_json() -> None:
    response, body = read(pages.error_answer(errors.PoolExhausted("All busy."), request(JSON)))
    assert response.getheader("Content-Type") == "application/json"
    assert response.getheader("Retry-After") == "1"
    assert json.loads(body) == {"error": "pool_exhausted", "message": "All busy.", "status": 503}


def test_a_request_that_could_not_be_read_is_answered_in_text() -> None:
    response, body = read(pages.error_answer(errors.BadRequest("Broken."), None))
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert body.startswith("400 The request was refused\n\nBroken.\n")
    assert body.endswith("(bad_request)\n")


@every_error
@every_form
def test_an_answer_to_head_has_the_fields_of_get_and_no_body(kind: type[errors.VisitorError], accept: str) -> None:
    get = pages.error_answer(kind("It."), request(accept))
    head = pages.error_answer(kind("It."), request(accept, "HEAD"))
    assert get.startswith(head)
    assert head.endswith(b"\r\n\r\n")
    assert read(head, "HEAD")[1] == ""


def html_pages() -> list[bytes]:
    hostile = request(HTML, "<b>", HOSTILE)
    return [
        *(pages.error_answer(kind(HOSTILE), hostile, domain="localhost") for kind in ERRORS),
        own.landing(HOSTILE, hostile),
        own.not_found(request(HTML, target=f"/{HOSTILE}")),
        own.method_not_allowed(hostile),
    ]


@pytest.mark.parametrize("answer", html_pages(), ids=range(len(html_pages())))
def test_html_escapes_everything_and_loads_nothing(answer: bytes) -> None:
    response, body = read(answer)
    page = _Page(body)
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert response.getheader("Set-Cookie") is None
    assert body.startswith("<!doctype html>\n")
    known = "html head meta title style body main p h1 section h2 pre code footer".split()
    assert set(page.tags) <= set(known)
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "class"}
    assert ("name", "viewport") in page.attributes
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_hostile_text_is_shown_as_it_is() -> None:
    _, body = read(pages.error_answer(errors.BadRequest(HOSTILE), request(HTML)))
    assert "<script>alert('1')</script>&\"" in _Page(body).text
    assert "<script" not in body


def test_the_policy_allows_the_one_style_and_nothing_else() -> None:
    response, body = read(pages.error_answer(errors.NoHost(), request(HTML)))
    digest = base64.b64encode(hashlib.sha256(_Page(body).style.encode()).digest()).decode()
    policy = response.getheader("Content-Security-Policy").split("; ")
    assert policy == ["default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'"]


def test_text_carries_no_escape_sequence_to_the_terminal() -> None:
    _, body = read(pages.error_answer(errors.BadRequest(HOSTILE), request(TEXT)))
    assert "\x1b" not in body
    assert "\r" not in body
    assert "?[2J??Set-Cookie: a=b" in body


def test_a_message_that_is_not_unicode_is_answered_too() -> None:
    for accept in (TEXT, JSON, HTML):
        read(pages.error_answer(errors.BadRequest("\ud800"), request(accept)))


@pytest.mark.parametrize(
    ("host", "port", "domain", "command"),
    [
        ("shop.localhost", 8000, "localhost", "lt-client --server=localhost:8000 --name=shop PORT"),
        ("shop.example.com", None, "example.com", "lt-client --server=example.com --name=shop PORT"),
        ("shop.example.com", None, "", "lt-client --name=NAME PORT"),
        ("shop.other.com", None, "example.com", "lt-client --name=NAME PORT"),
        ("a.b.example.com", None, "example.com", "lt-client --name=NAME PORT"),
        ("shopexample.com", None, "example.com", "lt-client --name=NAME PORT"),
        ("a;reboot.example.com", None, "example.com", "lt-client --name=NAME PORT"),
        ("$(reboot).example.com", None, "example.com", "lt-client --name=NAME PORT"),
        ("-x.example.com", None, "example.com", "lt-client --name=NAME PORT"),
    ],
)
def test_the_owner_gets_a_command_that_is_safe_to_copy(host: str, port: int | None, domain: str, command: str) -> None:
    answer = pages.error_answer(errors.TunnelNotFound("None."), request(TEXT, host=host, port=port), domain=domain)
    assert [line.strip() for line in read(answer)[1].splitlines() if "lt-client" in line] == [command]


def test_only_a_tunnel_that_is_to_be_opened_shows_a_command() -> None:
    for kind in ERRORS:
        _, body = read(pages.error_answer(kind("It."), request(), domain="localhost"))
        assert ("lt-client --" in body) == (kind in (errors.TunnelNotFound, errors.ClientOffline))


@pytest.mark.parametrize("accept", [TEXT, HTML])
@pytest.mark.parametrize(
    ("host", "named"),
    [("127.0.0.1", "127.0.0.1:8000"), ("::1", "[::1]:8000"), ("tunnel_servers", "tunnel_servers:8000")],
)
def test_where_a_proxy_has_lost_the_host_the_page_says_so(host: str, named: str, accept: str) -> None:
    asked = request(accept, host=host, port=8000)
    for answer in (
        own.not_found(asked),
        own.landing("example.com", asked),
        pages.error_answer(errors.TunnelNotFound("None."), asked, domain="example.com"),
    ):
        _, body = read(answer)
        assert f"The Host field of the request names {named}," in body
        assert "proxy_set_header Host $host;" in body
        assert "ProxyPreserveHost On" in body


def test_and_nothing_of_it_where_the_host_is_one_of_ours() -> None:
    for answer in (
        own.landing("example.com", request(TEXT, host="example.com")),
        pages.error_answer(errors.TunnelNotFound("None."), request(TEXT, host="a.example.com"), domain="example.com"),
        pages.error_answer(errors.ClientOffline("None."), request(TEXT, host="a.example.org"), domain="example.com"),
    ):
        assert "proxy" not in read(answer)[1]


def test_a_document_needs_no_hint() -> None:
    assert Document(200, "", "Title", "Message.").as_text() == "Title\n\nMessage.\n"
    assert json.loads(Document(200, "", "Title", "Message.").as_json()) == {"message": "Message.", "command": ""}
    assert "Do" in Document(200, "", "Title", "Message.", (Hint("You", "Do it."),)).as_text()
