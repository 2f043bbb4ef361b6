"""What visitors, upstreams and proxies send, and the options of tunnels that are held against it."""

import zlib
from typing import Any

import httptools

from fuzz.pieces import arrivals
from localtunnel.errors import BadRequest, OptionRefused, ProtocolError, UpstreamInvalid, VisitorError
from localtunnel.http.exchange import Exchange
from localtunnel.http.forwarding.forward import Forwarding, request_head, response_head
from localtunnel.http.forwarding.proxy_header import Origin, ProxyHeader
from localtunnel.http.message.body import Body
from localtunnel.http.message.request import HeadReader, RequestHead, parse_head, read_head
from localtunnel.http.message.response import ResponseReader, parse_response, read_response
from localtunnel.http.observer import MAX_HEAD, MAX_WAITING, Observer
from localtunnel.protocol.limits import MAX_HEAD_FIELDS
from localtunnel.protocol.messages import ControlRequest
from localtunnel.protocol.wire import codec
from localtunnel.server.clients.terms import settle
from localtunnel.server.config import ServerConfig

FORWARDING = Forwarding("192.0.2.1", "http")
REQUESTS = [
    parse_head(b"GET / HTTP/1.1\r\nHost: demo.localhost\r\nOrigin: http://a.example\r\n\r\n"),
    parse_head(b"HEAD /path HTTP/1.1\r\nHost: demo.localhost:8000\r\nAuthorization: Basic YTpi\r\n\r\n"),
    parse_head(b"GET / HTTP/1.0\r\nHost: demo.localhost\r\nConnection: keep-alive\r\n\r\n"),
    parse_head(b"POST / HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 5\r\n\r\n"),
    parse_head(
        b"GET /chat HTTP/1.1\r\nHost: demo.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
]
RESPONSE = parse_response(
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:8080/there\r\nSet-Cookie: a=b; Domain=localhost\r\n"
    b"Content-Length: 2\r\nVary: Accept\r\n\r\n"
)
ADDED = 10
"""Field lines that we add to a head at most; one that has more than MAX_HEAD_FIELDS with them is not read again."""

SERVER = ServerConfig(custom_hosts=("*.example.org",))


def requests(data: bytes) -> None:
    """A visitor's request: read alike in any cut; what goes on is a request that others read as it was read here."""
    whole = _read(HeadReader(), [data])
    for pieces in arrivals(data):
        assert _read(HeadReader(), pieces) == whole
    head = _in_one_step(read_head, data)
    assert head is None or head == whole[0]
    if head is None:
        return
    scanned = _scanned(head.body(), [data[head.size :]])
    for pieces in arrivals(data[head.size :]):
        assert _scanned(head.body(), pieces) == scanned
    if len(head.fields) + ADDED <= MAX_HEAD_FIELDS:
        forwarded = request_head(head, FORWARDING)
        _same_request(head, parse_head(forwarded), forwarded)


def _same_request(head: RequestHead, again: RequestHead, forwarded: bytes) -> None:
    assert (again.host, again.port, again.length, again.chunked) == (head.host, head.port, head.length, head.chunked)
    assert (again.method, again.version, again.upgrade) == (head.method, (1, 1), head.upgrade)
    assert again.size == len(forwarded)
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(forwarded)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        # It knows fewer methods than there are, and stops behind an Upgrade.
        return
    has_body = head.chunked or bool(head.length)
    assert seen.begun == 1, "another program reads more than one request in what was one here"
    assert seen.heads == 1
    assert seen.ended == (0 if has_body else 1), "another program sees the end of the request in another place"


class _Seen:
    """What httptools, which is the parser of Node, makes of a head."""

    begun = heads = ended = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_message_complete(self) -> None:
        self.ended += 1


def responses(data: bytes) -> None:
    """An upstream's response to one of several requests: read alike in any cut, and passed on with the same end."""
    request = REQUESTS[zlib.crc32(data) % len(REQUESTS)]
    whole = _read(ResponseReader(), [data])
    for pieces in arrivals(data):
        assert _read(ResponseReader(), pieces) == whole
    head = _in_one_step(read_response, data)
    assert head is None or head == whole[0]
    if head is None:
        return
    scanned = _scanned(head.body(request.method), [data[head.size :]])
    for pieces in arrivals(data[head.size :]):
        assert _scanned(head.body(request.method), pieces) == scanned
    if len(head.fields) + ADDED > MAX_HEAD_FIELDS:
        return
    for close in (True, False):
        try:
            passed = response_head(head, request, FORWARDING, close=close)
        except UpstreamInvalid:
            continue
        again = parse_response(passed)
        # HTTP/1.0 has no chunks, and the end of the connection says where the body ends.
        chunked = head.chunked and request.version == (1, 1)
        assert (again.status, again.length, again.chunked) == (head.status, head.length, chunked)
        assert again.size == len(passed)


def _read(reader: Any, pieces: list[bytes]) -> tuple[Any, bytes]:
    """Return the head, or the type of the error, or None, and everything that followed the head."""
    for at, piece in enumerate(pieces):
        try:
            head = reader.feed(piece)
        except VisitorError as error:
            return type(error), b""
        if head is not None:
            return head, reader.rest + b"".join(pieces[at + 1 :])
    return None, b""


def _in_one_step(read: Any, data: bytes) -> Any:
    """Return the head that ``data`` begins with, None where there is none or it is wrong."""
    try:
        return read(bytearray(data), 0, len(data))
    except VisitorError:
        return None


def _scanned(body: Body, pieces: list[bytes]) -> tuple[int, bool] | type[VisitorError]:
    """Return how many bytes are the body's and whether its end has come, or the type of the error."""
    taken = 0
    try:
        for piece in pieces:
            if body.done:
                break
            taken += body.feed(piece)
    except VisitorError as error:
        return type(error)
    return taken, body.done


def proxy_header(data: bytes) -> None:
    """What a trusted proxy begins a connection with: the same origin and the same rest in any cut."""
    whole = _origin([data])
    for pieces in arrivals(data):
        assert _origin(pieces) == whole


def _origin(pieces: list[bytes]) -> tuple[Origin, bytes] | type[BadRequest] | None:
    header = ProxyHeader()
    for at, piece in enumerate(pieces):
        try:
            origin = header.feed(piece)
        except BadRequest as error:
            return type(error)
        if origin is not None:
            return origin, header.rest + b"".join(pieces[at + 1 :])
    return None


def options(data: bytes) -> None:
    """The options of a tunnel, as JSON: what they make of heads are whole heads that end where they did before."""
    payload = b'{"control":{"name":"demo","client":"c","instance":"i","domain":"www.example.org","options":%b}}' % data
    try:
        request = codec.decode_from_client(payload)
        if not isinstance(request, ControlRequest):
            return
        _, rules = settle(SERVER, request)
    except (ProtocolError, OptionRefused):
        return
    if rules is None:
        return
    for head in REQUESTS:
        try:
            rules.check(head, "192.0.2.1")
        except VisitorError:
            pass
        forwarded = request_head(head, FORWARDING, rules)
        again = parse_head(forwarded)
        assert (again.length, again.chunked, again.upgrade) == (head.length, head.chunked, head.upgrade)
        assert again.size == len(forwarded)
        if head.upgrade:
            continue
        passed = response_head(RESPONSE, head, FORWARDING, rules, close=True)
        answer = parse_response(passed)
        assert (answer.status, answer.length, answer.size) == (RESPONSE.status, RESPONSE.length, len(passed))
        assert not answer.keep_alive


TURN = b"\x00\n"
"""What stands in a conversation between what the visitor sends and what the upstream sends, in turns."""


class _Account(Observer[Exchange]):
    """Remembers what it is told, and holds no more than it may."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def begun(self, request: RequestHead) -> Exchange:
        assert len(self._waiting) < MAX_WAITING
        return Exchange(request)

    def finished(self, exchange: Exchange) -> None:
        assert min(exchange.received, exchange.sent) >= 0
        status = exchange.response and exchange.response.status
        self.told.append((exchange.request.target, status, exchange.received, exchange.sent, exchange.error))

    def lost(self) -> None:
        self.told.append("lost")

    def hold_to_bounds(self) -> None:
        for reader in (self._request_reader, self._answer_reader):
            assert reader is None or len(reader.received) <= MAX_HEAD


def conversations(data: bytes) -> None:
    """Both directions of a connection, seen from beside it: the same account in any cut, and no error."""
    turns = data.split(TURN)
    assert _account([[turn] for turn in turns]) == _account([arrivals(turn)[0] for turn in turns])
    assert _account([[turn] for turn in turns]) == _account([arrivals(turn)[-1] for turn in turns])


def _account(turns: list[list[bytes]]) -> list[object]:
    account = _Account()
    for number, pieces in enumerate(turns):
        feed, unseen, skip = (
            (account.feed_answer, account.unseen_of_answer, account.skip_answer)
            if number % 2
            else (account.feed_request, account.unseen_of_request, account.skip_request)
        )
        for piece in pieces:
            # As the pump does: what need not be seen goes past.
            passing = min(unseen(), len(piece)) if len(piece) > 1 else 0
            if passing:
                skip(passing)
            feed(piece[passing:])
            account.hold_to_bounds()
    account.end_answers()
    account.close()
    return account.told
