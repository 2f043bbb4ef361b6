"""localtunnel.client.visits.requests: what becomes of the requests on a connection, as events."""

import tracemalloc

import pytest
from harness import CAP, wait_until

from localtunnel.cli.clean import cleaned
from localtunnel.client.events import RequestFinished, RequestStarted, VisitorJoined
from localtunnel.client.visits.requests import (
    LASTING,
    MAX_HELD_HEAD,
    MAX_PATH,
    RequestLog,
    RequestTap,
    error_of,
    host_of,
)

PEER = "203.0.113.7:51234"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def get(path="/", fields=b"", real_ip=None):
    forwarded = b"" if real_ip is None else b"X-Forwarded-For: x\r\nX-Real-IP: %b\r\nForwarded: y\r\n" % real_ip
    return b"GET %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n" % (path.encode(), fields, forwarded)


@pytest.fixture
def events():
    return []


@pytest.fixture
def log(events):
    log = RequestLog(events.append)
    yield log
    log.close()


def ask(tap, request):
    tap.seen(memoryview(request), from_a=True)


def answer(tap, response=OK):
    tap.seen(memoryview(response), from_a=False)


def test_a_request_is_one_event_with_everything(log, events):
    tap = RequestTap(log, 5, PEER, real_ip=False)
    ask(tap, b"POST /form?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    answer(tap)
    (event,) = events
    assert event == RequestFinished(1, 5, "203.0.113.7", "POST", "/form?a=b", 200, event.seconds, 5, 2, None)
    assert 0 <= event.seconds < CAP


def test_nothing_of_a_path_is_hidden_from_whoever_cleans_it(log, events):
    """A byte that begins a control sequence would take what follows with it."""
    tap = RequestTap(log, 1, PEER, real_ip=False)
    for path in (b"/\x90/../admin", b"/\xc2\x9b2J", b"/caf\xc3\xa9?a=%41&[b]", b"/" + b"\xff" * MAX_PATH):
        ask(tap, b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        answer(tap)
    shown = [cleaned(event, None).path for event in events]
    assert shown[:3] == ["/%90/../admin", "/%C2%9B2J", "/caf%C3%A9?a=%41&[b]"]
    assert len(shown[3]) <= MAX_PATH


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 60_000)], ids=["", "answered"])
def test_a_request_that_waits_holds_little_however_large_its_head(log, events, begun):
    waiting = []

    def grow(count):
        for _ in range(count):
            tap = RequestTap(log, 1, PEER, real_ip=False)
            ask(tap, get(fields=b"".join(b"X-%d: %b\r\n" % (number, b"x" * 600) for number in range(95))))
            if begun:
                answer(tap, begun)
            waiting.append(tap)
        return sum(statistic.size for statistic in tracemalloc.take_snapshot().statistics("filename"))

    tracemalloc.start()
    try:
        some = grow(10)
        assert (grow(10) - some) / 10 < 2 * MAX_HELD_HEAD
    finally:
        tracemalloc.stop()
    for tap in waiting:
        tap.visit_ended("server reset", has_moved=True)
    assert {event.error for event in events} == {"visitor_gone"}


def test_requests_are_numbered_over_all_connections(log, events):
    taps = [RequestTap(log, number, PEER, real_ip=False) for number in (1, 2)]
    for tap in taps * 2:
        ask(tap, get())
    for tap in reversed(taps):
        answer(tap)
        answer(tap)
    assert [(event.number, event.connection) for event in events] == [(2, 2), (4, 2), (1, 1), (3, 1)]


def test_each_visitor_of_a_shared_connection_is_known_by_what_the_server_wrote(log, events):
    tap = RequestTap(log, 1, PEER, real_ip=True)
    for address in (b"203.0.113.7", b"198.51.100.1", b"198.51.100.1", b"2001:db8::7"):
        ask(tap, get(real_ip=address))
        answer(tap)
    visitors = [event.visitor for event in events]
    assert visitors == ["203.0.113.7", "198.51.100.1", "198.51.100.1", "2001:db8::7"]


def test_the_servers_word_is_the_last_one(log, events):
    tap = RequestTap(log, 1, PEER, real_ip=True)
    ask(tap, get(fields=b"X-Real-IP: 192.0.2.66\r\n", real_ip=b"198.51.100.1"))
    answer(tap)
    assert [event.visitor for event in events] == ["198.51.100.1"]


@pytest.mark.parametrize("peer", [PEER, None])
def test_a_visitor_is_not_believed_where_the_server_does_not_write_the_field(log, events, peer):
    tap = RequestTap(log, 1, peer, real_ip=False)
    for address in (None, b"192.0.2.66"):
        ask(tap, get(real_ip=address))
        answer(tap)
    assert [event.visitor for event in events] == ["203.0.113.7" if peer else None] * 2


def test_a_websocket_is_told_of_when_it_begins_and_when_it_ends(log, events):
    tap = RequestTap(log, 1, PEER, real_ip=False)
    ask(tap, get("/ws", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"))
    assert events == []
    answer(tap, SWITCHED)
    assert events == [RequestStarted(1, 1, "203.0.113.7", "GET", "/ws", 101)]
    ask(tap, b"\x81\x80abcd")
    answer(tap, b"\x81\x02hi")
    tap.visit_ended("closed", has_moved=True)
    finished = events[1]
    assert (finished.number, finished.status, finished.received, finished.sent, finished.error) == (1, 101, 6, 4, None)
    assert len(events) == 2


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream;charset=utf-8"])
@pytest.mark.parametrize("end", [b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"])
def test_a_stream_of_events_is_told_of_when_it_begins(log, events, kind, end):
    tap = RequestTap(log, 1, PEER, real_ip=False)
    ask(tap, get("/events"))
    answer(tap, b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n" % (kind, end))
    assert [(type(event), event.status) for event in events] == [(RequestStarted, 200)]
    tap.visit_ended("server reset", has_moved=True)
    assert events[1].error == "visitor_gone"


def test_whatever_lasts_is_told_of_once_though_nothing_comes_any_more(log, events):
    tap = RequestTap(log, 1, PEER, real_ip=False)
    ask(tap, get("/slow") + get("/behind"))
    assert events == []
    wait_until(lambda: len(events) == 2, what="both are told of")
    assert events == [RequestStarted(n, 1, "203.0.113.7", "GET", p, None) for n, p in ((1, "/slow"), (2, "/behind"))]
    answer(tap, OK[:-1])
    answer(tap, OK[-1:] + OK)
    assert [type(event) for event in events[2:]] == [RequestFinished] * 2
    assert events[2].seconds >= LASTING


def test_nothing_is_told_of_after_the_end(log, events):
    ask(RequestTap(log, 1, PEER, real_ip=False), get())
    log.close()
    assert len(log.lasting) == 0


@pytest.mark.parametrize(("real_ip", "peer"), [(False, PEER), (True, None)])
def test_what_is_not_http_is_a_connection_and_of_the_first_visitor_where_there_is_one(log, events, real_ip, peer):
    tap = RequestTap(log, 7, PEER, real_ip=real_ip)
    ask(tap, get(real_ip=b"203.0.113.7"))
    answer(tap)
    ask(tap, b"\x16\x03\x01\x02\x00\r\n\r\n")
    assert events[1:] == [VisitorJoined(7, peer)]
    assert tap.is_lost


@pytest.mark.parametrize("has_moved", [True, False])
def test_a_connection_without_a_whole_request_is_shown_as_one_if_anything_came(log, events, has_moved):
    tap = RequestTap(log, 7, PEER, real_ip=True)
    if has_moved:
        ask(tap, b"GET / HTT")
    tap.visit_ended("server reset", has_moved=has_moved)
    assert events == ([VisitorJoined(7, PEER)] if has_moved else [])
    assert tap.is_lost == has_moved


def test_a_long_path_is_cut(log, events):
    tap = RequestTap(log, 1, PEER, real_ip=False)
    ask(tap, get("/" + "a" * 2 * MAX_PATH))
    answer(tap)
    assert events[0].path == "/" + "a" * (MAX_PATH - 1)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("upstream reset", "upstream_closed"),
        ("upstream timed out", "upstream_closed"),
        ("server reset", "visitor_gone"),
        ("server closed early", "visitor_gone"),
        ("client stopped", "stopped"),
    ],
)
def test_the_code_for_the_reason_of_an_end(reason, error):
    assert error_of(reason) == error


@pytest.mark.parametrize(("peer", "host"), [(PEER, "203.0.113.7"), ("[2001:db8::7]:51234", "2001:db8::7"), ("v", "v")])
def test_the_address_of_a_peer(peer, host):
    assert host_of(peer) == host
