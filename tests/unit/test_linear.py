"""The work for what a stranger sends grows with its length, and never with the square of it.

Every reader and every rewriter of ``localtunnel.http`` and ``localtunnel.protocol`` is given input of one length and of
four times that, made of whatever has made parsers slow: separators, white space, half a match again and again.
"""

import gc
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from localtunnel.errors import LocaltunnelError
from localtunnel.http.exchange import Exchange
from localtunnel.http.forwarding.forward import Forwarding, request_head, response_head
from localtunnel.http.forwarding.proxy_header import ProxyHeader
from localtunnel.http.forwarding.visitor import identify
from localtunnel.http.message.authority import parse_authority
from localtunnel.http.message.body import Chunked
from localtunnel.http.message.refusal import REQUEST, RESPONSE
from localtunnel.http.message.request import HeadReader, RequestHead, parse_head
from localtunnel.http.message.response import ResponseReader, parse_response
from localtunnel.http.observer import Observer
from localtunnel.http.options import values as option_values
from localtunnel.http.options.basic import Credentials
from localtunnel.http.options.cookies import fit_domain
from localtunnel.http.options.cors import preflight_answer
from localtunnel.http.options.rules import Rules
from localtunnel.http.pages import own
from localtunnel.http.pages.accept import choose
from localtunnel.http.pages.document import Document, Hint
from localtunnel.http.pages.warning import KEY_BYTES, PATH, WarningPage
from localtunnel.networks import Networks
from localtunnel.protocol import names, options
from localtunnel.protocol.login import scram, token
from localtunnel.protocol.messages import ControlRequest
from localtunnel.protocol.options import Options
from localtunnel.protocol.reserved import Reserved
from localtunnel.protocol.version import LTP_0_3, VERSIONS
from localtunnel.protocol.wire import codec
from localtunnel.protocol.wire.framing import Decoder
from localtunnel.protocol.wire.stream import Unchunker, chunked

pytestmark = pytest.mark.slow

SIZE = 15 * 1024
"""Bytes of the short input: four times as many, and a few lines around them, are a head that is taken."""

FACTOR = 4
ALLOWED = 8.0
"""How much longer the long input may take: 4 times where the work is linear, 16 where it is quadratic."""

TRIFLE = 0.0005
"""Seconds for the long input in which nothing of the kind can hide: so little is no harm, and too little to compare."""

ATTEMPTS = 6

LONG_HOST = ".".join(["a" * 60] * 4)
HEAD = parse_head(f"GET /path HTTP/1.1\r\nHost: {LONG_HOST}\r\nOrigin: http://{LONG_HOST}\r\n\r\n".encode())
FORWARDING = Forwarding("203.0.113.7", "http")
KEY = b"k" * KEY_BYTES
WARNING = WarningPage(KEY)
TRUSTED = Networks.parse(["10.0.0.0/8"])
RULES = [
    None,
    Rules(
        KEY, Options(host_header="app.internal:3000", request_header_remove=["X-Gone"], response_header_add=["X-A: b"])
    ),
    Rules(KEY, Options(protect="ann:secret", cors=True)),
]

SHAPES = [
    b";",
    b",",
    b" ",
    b"\t",
    b"; ",
    b",\t",
    b"=",
    b"%",
    b"%2F",
    b"/",
    b"//",
    b"\\",
    b'"',
    b'\\"',
    b".",
    b"a.",
    b":",
    b"[",
    b"-",
    b"_",
    b"a",
    b"1",
    b"0,",
    b"10.0.0.1,",
    b"\xff",
    b";domain=internal",
    b";domain=" + LONG_HOST.encode(),
    b"; domain ",
    b";domain=.",
    b"localtunnel_continue=0;",
    b"text/html;q=0.1;",
    b"text/html,",
    b"basic ",
    b"ntlm",
    b"negotiate, ",
    b"http://",
    b"url=http://",
    b"*, ",
    b'"cookies", ',
    b"q=",
]

# Each of these takes a text of any length, and reads it in every place where a stranger may put it.


def request_with(part: bytes, place: bytes, method: bytes = b"POST") -> None:
    """Serve a request that has ``part`` in ``place``, as far as a request is served before a tunnel has it."""
    raw = method + b" /a HTTP/1.1\r\nHost: demo.example.com\r\nAccept: text/html\r\n" + place.replace(b"PART", part)
    head = parse_head(raw + b"\r\n\r\n")
    serve(head)


def target_with(part: bytes, prefix: bytes) -> None:
    """Serve a request that has ``part`` in its target."""
    raw = b"GET " + prefix + part + b" HTTP/1.1\r\nHost: demo.example.com\r\nAccept: text/html\r\n\r\n"
    serve(parse_head(raw))


def serve(head: RequestHead) -> None:
    """Do all that is done with the head of a request."""
    fields = [(name, value) for name, value, _ in head.fields]
    identify("10.0.0.1", head.fields, TRUSTED)
    WARNING.answer("GET", head.target, head.host, "203.0.113.7", fields)
    WARNING.answer("POST", f"{PATH}?to={head.target}", head.host, "203.0.113.7", fields)
    preflight_answer(head)
    own.not_found(head)
    own.landing("example.com", head)
    assert head.has_intermediary in (True, False)
    for rules in RULES:
        request_head(head, FORWARDING, rules)
        if rules is not None:
            rules.check(head, "203.0.113.7")


def response_with(part: bytes, place: bytes) -> None:
    """Pass a response on that has ``part`` in ``place``."""
    head = parse_response(b"HTTP/1.1 200 OK\r\nServer: x\r\n" + place.replace(b"PART", part) + b"\r\n\r\n")
    for rules in RULES:
        response_head(head, HEAD, FORWARDING, rules, close=False)


def fed(make: Callable[[], Any], data: bytes, step: int) -> None:
    """Feed ``data`` in pieces of ``step`` bytes."""
    reader = make()
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        if getattr(reader, "done", False):
            return


class Watched(Observer[Exchange]):
    """What a client makes of a connection, where nobody wants to know it."""

    def begun(self, request: RequestHead) -> Exchange:
        return Exchange(request)


def observed(data: bytes, step: int, asked: int = 1) -> None:
    """Show an observer ``asked`` requests, and ``data`` as their answers; then ``data`` as what visitors send."""
    observer = Watched()
    observer.feed_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * asked)
    visitor = Watched()
    for start in range(0, len(data), step):
        piece = memoryview(data)[start : start + step]
        observer.feed_answer(piece)
        visitor.feed_request(piece)


def decode(payload: bytes) -> None:
    """Read ``payload`` as a message of either side."""
    for read in (codec.decode_from_client, codec.decode_from_server):
        for version in VERSIONS:
            attempt(lambda read=read, version=version: read(payload, version))


def frames(data: bytes, step: int) -> None:
    """Take frames out of ``data``, which is nothing else."""
    decoder = Decoder(LTP_0_3)
    for start in range(0, len(data), step):
        decoder.feed(data[start : start + step])
        while decoder.next_payload() is not None:
            pass


def document(text: str) -> None:
    """Show ``text`` in every form of a page."""
    page = Document(400, "bad_request", text, text, (Hint("a", text, text),))
    for form in (page.as_html, page.as_json, page.as_text):
        form()


def attempt(work: Callable[[], object]) -> None:
    """Do it, whether or not it is refused."""
    try:
        work()
    except (LocaltunnelError, ValueError):
        pass


REQUEST_PLACES = [
    b"%b: PART" % name
    for name in b"""
    Accept Access-Control-Request-Headers Access-Control-Request-Method Authorization Connection Content-Length Cookie
    Expect Forwarded Host Origin Referer Sec-Fetch-Dest TE Transfer-Encoding Upgrade X-Forwarded-For X-Forwarded-Proto
    X-Other
    """.split()
] + [b"PART: a", b"PART", b"A:b\r\nPART", b"Connection: TE\r\nTE: PART", b"Connection: Upgrade\r\nUpgrade: PART"]

RESPONSE_PLACES = [
    b"%b: PART" % name
    for name in b"""
    Access-Control-Allow-Origin Clear-Site-Data Connection Content-Length Content-Location Link Location Refresh
    Set-Cookie Transfer-Encoding Upgrade Vary X-Other
    """.split()
] + [
    b"PART: a",
    b"PART",
    b"Set-Cookie: a=b; Path=/PART",
    b"Set-Cookie: a=b; domain=PART",
    b"Location: http://app.internal:3000PART",
    b"Location: http://PART",
    b"Refresh: 0; url=PART",
]

TEXTS: dict[str, Callable[[bytes], object]] = {
    **{f"request {place!r}": lambda part, place=place: request_with(part, place) for place in REQUEST_PLACES},
    **{f"response {place!r}": lambda part, place=place: response_with(part, place) for place in RESPONSE_PLACES},
    "request line": lambda part: parse_head(part + b"\r\n\r\n"),
    "request line with a method": lambda part: parse_head(b"GET " + part + b"\r\nHost: a\r\n\r\n"),
    "target": lambda part: target_with(part, b"/"),
    "target with two slashes": lambda part: target_with(part, b"//"),
    "target in absolute form": lambda part: target_with(part, b"http://"),
    "target with a query": lambda part: target_with(part, b"/a?to="),
    "status line": lambda part: parse_response(part + b"\r\n\r\n"),
    "reason": lambda part: parse_response(b"HTTP/1.1 200 " + part + b"\r\n\r\n"),
    "cookie for the host": lambda part: fit_domain(b"a=b;" + part, LONG_HOST.encode(), None),
    "cookie for an upstream": lambda part: fit_domain(b"a=b;" + part, LONG_HOST.encode(), b"app.internal"),
    "cookie for an upstream with a long name": lambda part: fit_domain(part, b"a", LONG_HOST.encode()),
    "authority": lambda part: parse_authority(part, "It"),
    "authority with a literal": lambda part: parse_authority(b"[" + part + b"]", "It"),
    "media types": lambda part: choose(part.decode("latin-1"), ("text/plain", "text/html")),
    "password": lambda part: Credentials("ann:secret", KEY).match(b"Basic " + part),
    "header of the PROXY protocol": lambda part: ProxyHeader().feed(b"PROXY TCP4 " + part),
    "page": lambda part: document(part.decode("latin-1")),
    "trailer": lambda part: Chunked(REQUEST).feed(b"0\r\n" + part),
    "trailer field": lambda part: Chunked(RESPONSE).feed(b"0\r\nA: " + part + b"\r\n\r\n"),
    "chunk": lambda part: Chunked(REQUEST).feed(b"1;" + part),
    "network": lambda part: Networks.parse([part.decode("latin-1")]),
    "option host_header": lambda part: option_values.host(part.decode("latin-1")),
    "option protect": lambda part: option_values.credentials(part.decode("latin-1")),
    "option of request fields": lambda part: option_values.request_lines(["X-A:" + part.decode("latin-1")]),
    "option of response fields": lambda part: option_values.response_lines([part.decode("latin-1") + ": a"]),
    "option that nobody knows": lambda part: options.of_request(
        ControlRequest("a", "b", options={part.decode("latin-1"): part.decode("latin-1")})
    ),
    "name": lambda part: names.check(part.decode("latin-1")),
    "custom host": lambda part: names.check_host("a." + part.decode("latin-1"), "example.com"),
    "reserved name": lambda part: Reserved().check(part.decode("latin-1")),
    "token": lambda part: token.parse("lt_" + part.decode("latin-1")),
    "login": lambda part: scram.ServerLogin("p=tls-server-end-point,,n=" + part.decode("latin-1"), "n" * 24, KEY),
    "message": decode,
    "message in a string": lambda part: decode(b'{"control":{"name":"' + part + b'"}}'),
    "message in brackets": lambda part: decode(b'{"a":[' + part + b"]}"),
    "message behind an open string": lambda part: decode(b'{[{[{[{[{["' + part),
}
"""By what is read: a function of the hostile part, which may be refused."""


def repeated(piece: bytes) -> Callable[[int], bytes]:
    """Return a maker of about so many bytes of ``piece``."""
    return lambda size: piece * (size // len(piece))


def fields(line: bytes) -> Callable[[int], bytes]:
    """Return a maker of a head with a field of so many bytes."""
    return lambda size: line + b"a" * size + b"\r\n\r\n"


STREAMS: dict[str, tuple[Callable[[bytes, int], object], Callable[[int], bytes], Iterable[int]]] = {
    "request head": (
        lambda data, step: fed(HeadReader, data, step),
        fields(b"GET / HTTP/1.1\r\nHost: a\r\nA: "),
        (1, 7, 1 << 20),
    ),
    "request head of line ends": (
        lambda data, step: fed(HeadReader, b"GET / HTTP/1.1" + data, step),
        repeated(b"\r\na:"),
        (1, 7, 1 << 20),
    ),
    "response head": (
        lambda data, step: fed(ResponseReader, data, step),
        fields(b"HTTP/1.1 200 OK\r\nA: "),
        (1, 7, 1 << 20),
    ),
    "tiny chunks": (
        lambda data, step: fed(lambda: Chunked(RESPONSE), data[2:], step),
        repeated(b"\r\n1\r\na"),
        (1, 2, 3, 7, 1 << 20),
    ),
    "chunks with extensions": (
        lambda data, step: fed(lambda: Chunked(RESPONSE), data[2:], step),
        repeated(b"\r\n1;" + b"a=b;" * 20 + b"\r\na"),
        (1, 7, 1 << 20),
    ),
    "tiny chunks that are taken out": (
        lambda data, step: Chunked(RESPONSE).feed(data[2:], []),
        repeated(b"\r\n1\r\na"),
        (1,),
    ),
    "an answer in chunks, from beside": (
        lambda data, step: observed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + data, step),
        repeated(b"\r\n1\r\na"),
        (1, 7, 1 << 20),
    ),
    "many answers, from beside": (
        lambda data, step: observed(data, step, asked=60),
        repeated(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
        (1, 7, 1 << 20),
    ),
    "interim responses, from beside": (
        lambda data, step: observed(data, step),
        repeated(b"HTTP/1.1 100 Continue\r\n\r\n"),
        (1, 7, 1 << 20),
    ),
    "a head, from beside": (observed, fields(b"GET / HTTP/1.1\r\nHost: a\r\nA: "), (1, 7, 1 << 20)),
    "many requests, from beside": (
        observed,
        repeated(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"),
        (1, 7, 1 << 20),
    ),
    "trailer": (
        lambda data, step: fed(lambda: Chunked(REQUEST), b"0\r\n" + data[: len(data) // 4], step),
        fields(b"A: "),
        (1, 7, 1 << 20),
    ),
    "header of the PROXY protocol": (
        lambda data, step: fed(ProxyHeader, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0" + data, step),
        repeated(b"\0"),
        (1, 7, 1 << 20),
    ),
    "frames": (frames, repeated(b"\0\0\0\1a"), (1, 3, 1 << 20)),
    "a long frame": (frames, lambda size: size.to_bytes(4, "big") + b"a" * size, (1, 3, 1 << 20)),
    "chunks of a stream": (
        lambda data, step: fed(Unchunker, data, step),
        repeated(b"\0\0\0\1a"),
        (1, 3, 1 << 20),
    ),
    "a stream in chunks": (lambda data, step: chunked(data), repeated(b"a"), (1,)),
}
"""By what is read: a function of all bytes and of how many come at once, a maker of them, and several such numbers."""


@pytest.mark.parametrize("place", TEXTS)
def test_texts(place: str) -> None:
    read = TEXTS[place]
    for shape in SHAPES:
        check(lambda data: attempt(lambda: read(data)), repeated(shape), f"{place} of {shape!r}")


@pytest.mark.parametrize("place", STREAMS)
def test_streams(place: str) -> None:
    """However finely it comes."""
    read, make, steps = STREAMS[place]
    for step in steps:
        check(lambda data, step=step: attempt(lambda: read(data, step)), make, f"{place}, {step} at once")


@pytest.mark.parametrize("count", [20, 80])
def test_many_fields(count: int) -> None:
    """As many fields as a head may have, with names that nothing knows; the longer heads have longer ones."""

    def serve_all(data: bytes) -> None:
        request_with(data, b"PART", b"GET")
        response_with(data, b"PART")

    def make(size: int) -> bytes:
        return b"\r\n".join(
            b"X%d%b: %b" % (i, b"a_." * (size // count // 6), b",; " * (size // count // 6)) for i in range(count)
        )

    check(lambda data: attempt(lambda: serve_all(data)), make, f"{count} fields")


def test_the_measure_itself() -> None:
    """What is quadratic is found out, and what is linear is not."""

    def quadratic(data: bytes) -> None:
        for start in range(0, len(data), 64):
            data[start:].lower()

    with pytest.raises(AssertionError, match="times as long"):
        check(quadratic, repeated(b"a"), "lower")
    check(lambda data: [data[start : start + 64].lower() for start in range(0, len(data), 8)], repeated(b"a"), "lower")


def check(work: Callable[[bytes], object], make: Callable[[int], bytes], what: str) -> None:
    """Fail unless the work for four times the input takes about four times as long: the best of several attempts."""
    short, long = make(SIZE), make(FACTOR * SIZE)
    least_short = least_long = float("inf")
    for _ in range(ATTEMPTS):
        least_short = min(least_short, seconds(lambda: work(short)))
        least_long = min(least_long, seconds(lambda: work(long)))
        if least_long < max(TRIFLE, ALLOWED * least_short):
            return
    times = least_long / least_short
    raise AssertionError(f"{what}: {FACTOR} times the input took {times:.1f} times as long, {least_long:.4f} s")


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` kept this thread busy: what other programs do meanwhile does not count."""
    gc.disable()
    try:
        begun = time.thread_time()
        work()
        return time.thread_time() - begun
    finally:
        gc.enable()
