"""What people, scripts and programs see: the client's output."""

import errno
import json
import os
import re
import select
import threading
from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from harness import CAP

from localtunnel.cli import writer as writer_module
from localtunnel.cli.amounts import show_duration, show_size
from localtunnel.cli.output import MAX_BANNER_LINES, Json, Piped, Quiet, Terminal, renewing
from localtunnel.cli.writer import MAX_LINES, LineWriter, Stream
from localtunnel.client.events import (
    RequestFinished,
    RequestStarted,
    RoundTripMeasured,
    ServerNotice,
    TunnelLost,
    TunnelOpened,
    UpstreamFailed,
    VisitorJoined,
    VisitorLeft,
)

URL = "http://demo.example.com"
OPENED = TunnelOpened(url=URL, name="demo", target="localhost:8080", banner="Welcome.\nBe kind.", resumed=False)
AGAIN = TunnelOpened(url=URL, name="demo", target="localhost:8080", banner="Welcome.\nBe kind.", resumed=True)
MOVED = TunnelOpened(url=f"{URL}:81", name="demo", target="localhost:8080", banner="", resumed=True)
LOST = TunnelLost(code="closed", message="The server closed the connection.", retry_in=2.345)
STARTED = RequestStarted(1, 1, "203.0.113.7", "GET", "/ws", 101)
GOT = RequestFinished(2, 2, "203.0.113.8", "GET", "/page2?a=b", 200, 0.0123, 0, 1400, None)
FAILING = RequestFinished(3, 3, "203.0.113.8", "POST", "/form", 502, 0.0004, 0, 0, "upstream_refused")
CUT = RequestFinished(1, 1, "203.0.113.7", "GET", "/ws", 101, 125.0, 10, 2_000_000, "visitor_gone")
JOINED = VisitorJoined(number=1, peer="203.0.113.7:51234")
LEFT = VisitorLeft(number=1, received=10, sent=20, seconds=0.5, reason="closed")
FAILED = UpstreamFailed(number=2, target="localhost:8080", code="unreachable", message="localhost:8080 refused.")
SLOW = UpstreamFailed(number=2, target="localhost:8080", code="deadline", message="localhost:8080 did not answer.")
NOTICE = ServerNotice("The server stops within 30 seconds.")
EVERYTHING = [
    OPENED,
    RoundTripMeasured(0.0421),
    STARTED,
    GOT,
    FAILED,
    FAILING,
    FAILED,
    FAILING,
    GOT,
    FAILED,
    SLOW,
    CUT,
    JOINED,
    LEFT,
    NOTICE,
    RoundTripMeasured(0.2),
    LOST,
    AGAIN,
]
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x9b1mbold\r\u202egnp\u2028\x00end"


def clock():
    return "12:00:00"


class Lines(list):
    """A ``Put`` that remembers."""

    def __call__(self, line):
        self.append(line)


def test_the_end_of_a_tunnel_is_one_line_with_its_time_and_requests():
    out, times = Lines(), iter([100.0, 850.0])
    renderer = Terminal(out, clock, now=lambda: next(times))
    renderer.closed()
    assert out == []
    for event in (OPENED, STARTED, GOT, FAILED, FAILING, AGAIN):
        renderer(event)
    renderer.closed()
    assert out[-1] == "\rClosed  after 12m30s: 2 requests"


def test_the_end_of_a_tcp_tunnel_counts_connections():
    out, times = Lines(), iter([0.0, 1.5])
    renderer = Terminal(out, clock, now=lambda: next(times))
    for event in (msgspec.structs.replace(OPENED, url="tcp://example.com:20000"), JOINED, LEFT):
        renderer(event)
    renderer.closed()
    assert out[-1] == "\rClosed  after 1.5 s: 1 connection"


def test_terminal_shows_banner_url_target_and_one_line_per_request():
    out = Lines()
    renderer = Terminal(out, clock)
    for event in EVERYTHING:
        renderer(event)
    assert out == [
        "| Welcome.",
        "| Be kind.",
        "URL     http://demo.example.com",
        "Target  localhost:8080",
        "Round trip  42 ms",
        "12:00:00  203.0.113.7  GET /ws  101  open",
        "12:00:00  203.0.113.8  GET /page2?a=b  200  12 ms  1.4 kB",
        "12:00:00  localhost:8080 refused.",
        "12:00:00  203.0.113.8  POST /form  502  0.4 ms  0 B  upstream_refused",
        "12:00:00  203.0.113.8  POST /form  502  0.4 ms  0 B  upstream_refused",
        "12:00:00  203.0.113.8  GET /page2?a=b  200  12 ms  1.4 kB",
        "12:00:00  localhost:8080 refused.",
        "12:00:00  localhost:8080 did not answer.",
        "12:00:00  203.0.113.7  GET /ws  101  2m05s  2.0 MB  visitor_gone",
        "12:00:00  #1  203.0.113.7:51234  connected",
        "12:00:00  #1  closed  500 ms  30 B",
        "12:00:00  The server stops within 30 seconds.",
        "12:00:00  round trip 200 ms",
        "12:00:00  lost: The server closed the connection; retrying in 2.3 s",
        "12:00:00  connected again: http://demo.example.com",
    ]


def test_further_urls_of_the_tunnel_are_shown_but_not_to_a_script_that_wants_one():
    event = TunnelOpened("http://www.example.org", "demo", "localhost:8080", "", False, ("http://demo.example.com",))
    lines = ["URL     http://www.example.org", "Also    http://demo.example.com", "Target  localhost:8080"]
    terminal, piped, rest, quiet, objects = Lines(), Lines(), Lines(), Lines(), Lines()
    Terminal(terminal, clock)(event)
    Piped(piped, rest, clock)(event)
    Quiet(quiet)(event)
    Json(objects)(event)
    assert terminal == lines
    assert (piped, rest) == (["http://www.example.org"], lines[1:])
    assert quiet == ["http://www.example.org"]
    assert json.loads(objects[0])["also"] == ["http://demo.example.com"]


def test_a_visitor_of_whom_nothing_is_known_has_a_line_too():
    out = Lines()
    renderer = Terminal(out, clock)
    renderer(VisitorJoined(number=3, peer=None))
    renderer(RequestStarted(1, 1, None, "GET", "/slow", None))
    renderer(RequestFinished(1, 1, None, "GET", "/slow", None, 60.0, 0, 0, "upstream_closed"))
    assert out == [
        "12:00:00  #3  visitor  connected",
        "12:00:00  visitor  GET /slow  -  waiting",
        "12:00:00  visitor  GET /slow  -  1m00s  0 B  upstream_closed",
    ]


def test_a_tcp_tunnel_has_connections_and_no_statuses():
    out = Lines()
    renderer = Terminal(out, clock)
    renderer(TunnelOpened("tcp://example.com:20022", "demo", "localhost:22", "", False))
    renderer(VisitorJoined(number=1, peer="203.0.113.7:51234"))
    renderer(UpstreamFailed(number=2, target="localhost:22", code="connection_refused", message="It refused."))
    renderer(UpstreamFailed(number=3, target="localhost:22", code="deadline", message="It is slow."))
    assert out == [
        "URL     tcp://example.com:20022",
        "Target  localhost:22",
        "12:00:00  #1  203.0.113.7:51234  connected",
        "12:00:00  #2  closed: It refused.",
        "12:00:00  #3  closed: It is slow.",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1m00s"),
        (3599.4, "59m59s"),
        (3599.6, "1h00m"),
        (90_000.0, "25h00m"),
    ],
)
def test_a_duration_is_as_exact_as_it_is_long(seconds, expected):
    assert show_duration(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9951, "10 kB"),
        (999_499, "999 kB"),
        (999_501, "1.0 MB"),
        (1 << 30, "1.1 GB"),
        (1 << 42, "4.4 TB"),
    ],
)
def test_a_size_is_shown_with_two_digits_or_three(size, expected):
    assert show_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0003, "0.3 ms"), (0.00994, "9.9 ms"), (0.00996, "10 ms"), (0.0426, "43 ms"), (1.5, "1500 ms")],
)
def test_a_round_trip_is_shown_as_exactly_as_it_is_worth(seconds, expected):
    out = Lines()
    Terminal(out, clock)(RoundTripMeasured(seconds))
    assert out == [f"Round trip  {expected}"]


@pytest.mark.parametrize(
    ("retry_in", "expected"),
    [
        (2, ["12:00:00  cannot connect: No; retrying in 2.0 s"]),
        (0.0, ["12:00:00  cannot connect: No; retrying now"]),
        (None, []),
    ],
)
def test_before_the_first_tunnel_it_is_not_lost_but_not_there(retry_in, expected):
    out = Lines()
    Terminal(out, clock)(TunnelLost(code="unreachable", message="No.", retry_in=retry_in))
    assert out == expected


class Screen:
    """A terminal as far as lines go: what is on it, row by row, after sequences for the cursor."""

    def __init__(self, columns=80):
        self.columns = columns
        self.rows = []

    def __call__(self, line):
        start = re.match(r"\x1b\[(\d+)A\r\x1b\[J", line)
        if start:
            del self.rows[len(self.rows) - int(start[1]) :]
            line = line[start.end() :]
        assert line.isprintable()
        self.rows += [line[begin : begin + self.columns] for begin in range(0, len(line), self.columns)]


def on_screen(columns=80):
    screen = Screen(columns)
    return screen, Terminal(screen, clock, renew=renewing(screen, lambda: columns))


LONG_LOST = TunnelLost(code="closed", message="The server closed the connection. " * 4, retry_in=1.0)


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_attempts_that_fail_are_one_line_on_a_terminal(columns):
    screen, renderer = on_screen(columns)
    renderer(OPENED)
    before = list(screen.rows)
    for event in [LOST, LONG_LOST, LONG_LOST, LOST]:
        renderer(event)
    shown = "".join(screen.rows[len(before) :])
    assert screen.rows[: len(before)] == before
    assert shown == "12:00:00  lost: The server closed the connection; retrying in 2.3 s"
    renderer(AGAIN)
    assert "".join(screen.rows[len(before) :]) == f"{shown}12:00:00  connected again: {URL}"


def test_what_was_written_since_is_never_overwritten():
    screen, renderer = on_screen()
    for event in [OPENED, LOST, NOTICE, LOST, LOST, AGAIN, LOST]:
        renderer(event)
    assert [row.partition("  ")[2].partition(":")[0] for row in screen.rows[4:]] == [
        "lost",
        "The server stops within 30 seconds.",
        "lost",
        "connected again",
        "lost",
    ]


@pytest.mark.parametrize("renderer_of", [lambda out, now: Piped(Lines(), out, clock, now=now), None])
def test_attempts_that_fail_are_a_line_a_minute_elsewhere(renderer_of):
    """On a terminal that cannot renew a line, too."""
    out, seconds = Lines(), [1000.0]

    def now():
        return seconds[0]

    renderer = renderer_of(out, now) if renderer_of else Terminal(out, clock, now=now)
    renderer(OPENED)
    begun = len(out)
    for _ in range(13):
        renderer(LOST)
        seconds[0] += 10.0
    assert [line.count("lost: ") for line in out[begun:]] == [1, 1, 1]
    renderer(AGAIN)
    assert out[-1] == f"12:00:00  connected again: {URL}"
    told = len(out)
    for event in [LOST, AGAIN] * 3:
        renderer(event)
    assert len(out) == told, "neither that it was lost nor that it is back"


def test_piped_has_the_url_alone_on_stdout():
    out, err = Lines(), Lines()
    renderer = Piped(out, err, clock)
    for event in EVERYTHING:
        renderer(event)
    assert out == [URL]
    assert err[:3] == ["| Welcome.", "| Be kind.", "Target  localhost:8080"]
    assert err[-1] == f"12:00:00  connected again: {URL}"


@pytest.mark.parametrize("renderer_of", [lambda out: Piped(out, Lines(), clock), Quiet])
def test_a_url_that_changed_is_printed_again(renderer_of):
    out = Lines()
    renderer = renderer_of(out)
    for event in [OPENED, LOST, AGAIN, LOST, MOVED]:
        renderer(event)
    assert out == [URL, f"{URL}:81"]


def test_quiet_has_nothing_but_the_url():
    out = Lines()
    renderer = Quiet(out)
    for event in EVERYTHING:
        renderer(event)
    assert out == [URL]


def test_json_has_one_object_per_event():
    out = Lines()
    renderer = Json(out, lambda: "2026-12-01T03:57:26.123Z")
    for event in EVERYTHING:
        renderer(event)
    renderer.failed("unavailable", "The name is taken.", 5)
    assert not any("\n" in line for line in out)
    objects = [json.loads(line) for line in out]
    assert [each["event"] for each in objects] == [
        "tunnel_opened",
        "round_trip_measured",
        "request_started",
        "request_finished",
        "upstream_failed",
        "request_finished",
        "upstream_failed",
        "request_finished",
        "request_finished",
        "upstream_failed",
        "upstream_failed",
        "request_finished",
        "visitor_joined",
        "visitor_left",
        "server_notice",
        "round_trip_measured",
        "tunnel_lost",
        "tunnel_opened",
        "failed",
    ]
    assert objects[0] == {
        "event": "tunnel_opened",
        "time": "2026-12-01T03:57:26.123Z",
        "url": URL,
        "name": "demo",
        "target": "localhost:8080",
        "banner": "Welcome.\nBe kind.",
        "resumed": False,
        "also": [],
    }
    assert {each.pop("time") for each in objects} == {"2026-12-01T03:57:26.123Z"}
    assert objects[1] == {"event": "round_trip_measured", "seconds": 0.0421}
    assert objects[3] == {
        "event": "request_finished",
        "number": 2,
        "connection": 2,
        "visitor": "203.0.113.8",
        "method": "GET",
        "path": "/page2?a=b",
        "status": 200,
        "seconds": 0.0123,
        "received": 0,
        "sent": 1400,
        "error": None,
    }
    assert objects[-1] == {"event": "failed", "code": "unavailable", "message": "The name is taken.", "exit_code": 5}


def test_times_in_json_are_those_of_rfc_3339_in_utc_with_milliseconds():
    out = Lines()
    before = datetime.now(timezone.utc)
    Json(out)(GOT)
    text = json.loads(out[0])["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    assert abs(moment - before) < timedelta(seconds=CAP)


@pytest.mark.parametrize("renderer_of", [lambda out: Terminal(out, clock), lambda out: Piped(out, out, clock), Quiet])
def test_nothing_from_elsewhere_reaches_the_terminal_as_a_sequence(renderer_of):
    out = Lines()
    renderer = renderer_of(out)
    renderer(TunnelOpened(HOSTILE, HOSTILE, HOSTILE, f"{HOSTILE}\nhello", False))
    renderer(VisitorJoined(1, HOSTILE))
    renderer(RequestStarted(1, 1, HOSTILE, HOSTILE, HOSTILE, 200))
    renderer(RequestFinished(1, 1, HOSTILE, HOSTILE, HOSTILE, 200, 1.0, 0, 0, HOSTILE))
    renderer(VisitorLeft(1, 1, 1, 1.0, HOSTILE))
    renderer(UpstreamFailed(1, HOSTILE, "unreachable", HOSTILE))
    renderer(ServerNotice(HOSTILE))
    renderer(TunnelLost("closed", HOSTILE, 1.0))
    assert out
    for line in out:
        assert line.isprintable(), line


def test_a_long_banner_does_not_hide_the_url():
    out = Lines()
    Terminal(out, clock)(TunnelOpened(URL, "demo", "localhost:8080", "x\n" * 1000, False))
    assert len(out) == MAX_BANNER_LINES + 2


@pytest.fixture
def pipe():
    """A pipe as (an unbuffered file for reading, a text file for writing)."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w", encoding="ascii") as file:
        yield reader, file


def test_the_writer_writes_lines_in_order_whatever_their_encoding(pipe):
    reader, file = pipe
    writer = LineWriter()
    one, other = Stream(file), Stream(file)
    writer.put(one, "first")
    writer.put(other, "se\u00e7ond")
    writer.put(one, "third")
    writer.close()
    writer.close()
    assert reader.read(100) == b"first\nse\\xe7ond\nthird\n"


def test_the_writer_shows_a_line_at_once_and_gathers_those_that_follow(pipe, monkeypatch):
    monkeypatch.setattr(writer_module, "GATHER", 60.0)
    reader, file = pipe
    writer, stream = LineWriter(), Stream(file)
    writer.put(stream, "first")
    assert reader.read(100) == b"first\n"
    for line in ("second", "third", "fourth"):
        writer.put(stream, line)
    assert select.select([reader], [], [], 0.1)[0] == []
    writer.close()
    assert reader.read(100) == b"second\nthird\nfourth\n"


def test_the_writer_gathers_no_more_than_half_of_what_may_wait(pipe, monkeypatch):
    monkeypatch.setattr(writer_module, "GATHER", 60.0)
    reader, file = pipe
    writer, stream = LineWriter(), Stream(file)
    writer.put(stream, "")
    assert reader.read(100) == b"\n"
    for _ in range(MAX_LINES // 2 + 1):
        writer.put(stream, "")
    assert reader.read(MAX_LINES) == b"\n" * (MAX_LINES // 2 + 1)
    writer.close()


def test_the_writer_drops_and_counts_what_nobody_reads(pipe):
    reader, file = pipe
    writer, stream = LineWriter(), Stream(file)
    line = "x" * 1023
    capacity = 64 * 1024
    # The pipe takes its capacity and the thread holds one line; whatever is beyond MAX_LINES then has to be dropped,
    # and ``put`` has to come back each time, or the test's timeout ends it.
    count = capacity // 1024 + 1 + MAX_LINES + 500
    for _ in range(count):
        writer.put(stream, line)
    assert 500 <= writer.dropped < count
    received = bytearray()
    drain = threading.Thread(target=lambda: [received.extend(data) for data in iter(lambda: reader.read(65536), b"")])
    drain.start()
    writer.close()
    file.close()
    drain.join()
    assert received == f"{line}\n".encode() * (count - writer.dropped)


def test_a_reader_that_has_gone_is_no_error(pipe):
    reader, file = pipe
    reader.close()
    stream = Stream(file)
    for _ in range(2):
        stream.write(stream.encode("nobody reads this"))
    assert stream.failure is None


def test_a_disk_that_is_full_is_told_once_and_only_before_anything_was_written(pipe):
    told = []
    with open("/dev/full", "w") as full:
        useless, useful = Stream(full), Stream(pipe[1])
        for stream in (useless, useful):
            stream.on_useless = lambda stream=stream: told.append(stream)
        useful.write(b"seen")
        os.dup2(full.fileno(), pipe[1].fileno())
        for stream in (useless, useful) * 2:
            stream.write(b"unseen")
    assert [stream.failure.errno for stream in (useless, useful)] == [errno.ENOSPC] * 2
    assert told == [useless]


def test_a_stream_that_was_closed_before_the_start_is_no_error():
    stream = Stream(None)
    stream.write(stream.encode("nobody reads this"))


def test_a_non_blocking_stream_gets_everything(pipe):
    reader, file = pipe
    os.set_blocking(file.fileno(), False)
    received = bytearray()

    def drain():
        while len(received) < 1_000_001:
            received.extend(reader.read(65536))

    drainer = threading.Thread(target=drain)
    drainer.start()
    stream = Stream(file)
    stream.write(stream.encode("x" * 1_000_000))
    drainer.join()
    assert received == b"x" * 1_000_000 + b"\n"
