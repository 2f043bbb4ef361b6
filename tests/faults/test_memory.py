"""What a visitor can make the server hold while its answer does not come: in bytes, for N and for 2N of them."""

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from harness import request, wait_until
from harness.exchanges import HOST, Site, Stream, running_site
from harness.v3 import end

import localtunnel

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leaks")]

LIMIT = 96 * 1024
"""Bytes a visitor."""

LITTLE = 4 * 1024
"""Bytes a visitor that may be left in caches and tables when all have gone."""

VISITORS = 12
PACKAGE = Path(localtunnel.__file__).parent

GET = request(HOST)
BODY = b"x" * 60_000


def with_fields(count: int, size: int) -> bytes:
    return request(HOST, fields="".join(f"X-{number:02}: {'x' * size}\r\n" for number in range(count)))


REQUESTS = {
    "a long value": with_fields(1, 64_000),
    "a long target": request(HOST, "/" + "x" * 64_000),
    "many fields": with_fields(95, 600),
    "small fields, more requests": with_fields(95, 70) + GET * 4000,
    "many options, more requests": request(HOST, fields=f"Connection: {'o,' * 95}{'p' * 7000}\r\n") + GET * 4000,
    "more requests": GET * 4000,
    "a body": request(HOST, method="POST", fields="Content-Length: 100000000\r\n") + BODY * 200,
    "a body, more requests": request(HOST, method="POST", body=BODY) + GET * 4000,
    "chunks, more requests": (
        request(HOST, method="POST", fields="Transfer-Encoding: chunked\r\n")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
        + GET * 4000
    ),
}
"""What each visitor sends at once, as far as it is taken."""


def answer(count: int, size: int, end: str = "\r\n") -> bytes:
    fields = "".join(f"X-{number:02}: {'x' * size}\r\n" for number in range(count))
    return f"HTTP/1.1 200 OK\r\n{fields}{end}".encode()


ANSWERS = {
    "a long value": answer(1, 64_000),
    "many fields": answer(97, 600),
    "many options": answer(0, 0, f"Connection: {'o,' * 95}{'p' * 60_000}\r\n\r\n"),
    "half a head": answer(97, 600, "X: y"),
    "half a trailer": answer(0, 0, f"Transfer-Encoding: chunked\r\n\r\n0\r\nX: {'y' * 16_000}"),
}
"""What each upstream says and then nothing more; the visitor takes all that there is."""


OTHERS = [("http", "0.2"), ("join", "0.3"), ("join", "0.2")]
"""Modes and versions that are tried with two of them."""


@pytest.fixture(autouse=True)
def _traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def held() -> int:
    """Return how many bytes our own code has allocated and not given back."""
    gc.collect()
    found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{PACKAGE}/*")])
    return sum(statistic.size for statistic in found.statistics("filename"))


class Crowd:
    """Visitors who send ``data``; each has a proxy connection whose upstream is silent, or waits for one."""

    def __init__(self, site: Site, data: bytes, *, served: bool) -> None:
        self._site = site
        self._data = memoryview(data)
        self._served = served
        self._left: dict[Stream, memoryview] = {}

    def grow(self, count: int) -> None:
        """Let ``count`` more come, and send until the server takes no more."""
        for _ in range(count):
            proxy = self._site.demo.park() if self._served else None
            visitor = self._site.visit()
            self._left[visitor] = self._data
            self._pour(visitor)
            if proxy is not None:
                self._site.demo.joined(proxy)
        wait_until(lambda: len(self._site.server.joins) == len(self._left))
        wait_until(lambda: not self._pour_all(), what="nothing is taken any more")

    def leave(self) -> None:
        """Go without a word."""
        for visitor in self._left:
            end(visitor.sock, "RST")

    def _pour_all(self) -> int:
        """Let the server read all that it wants, and fill up; return how many bytes were taken."""
        gevent.idle()
        return sum(self._pour(visitor) for visitor in self._left)

    def _pour(self, visitor: Stream) -> int:
        """Send as much as is taken now; return how many bytes that were."""
        before = left = self._left[visitor]
        while left:
            try:
                left = left[visitor.sock._sock.send(left) :]
            except BlockingIOError:
                break
        self._left[visitor] = left
        return len(before) - len(left)


@pytest.mark.parametrize("served", [True, False], ids=["served", "waiting"])
@pytest.mark.parametrize(
    ("edge", "version", "case"),
    [
        *(("http", "0.3", case) for case in REQUESTS),
        *((edge, version, case) for edge, version in OTHERS for case in ("a long value", "a body")),
    ],
)
def test_a_visitor_holds_little_and_gives_it_back_when_it_goes(
    edge: str, version: str, case: str, served: bool
) -> None:
    with running_site(version, edge=edge, timeouts={"pool_wait": 60, "heartbeat": 60}) as site:
        crowd = Crowd(site, REQUESTS[case], served=served)
        before = held()
        crowd.grow(VISITORS)
        some = held()
        crowd.grow(VISITORS)
        assert (held() - some) / VISITORS <= LIMIT
        if edge == "http":
            site.server._tick()
            crowd.leave()
            wait_until(lambda: not site.server.joins)
            assert (held() - before) / (2 * VISITORS) <= LITTLE


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_has_begun_and_does_not_end_holds_little(case: str) -> None:
    with running_site("0.3") as site:

        def grow() -> None:
            for _ in range(VISITORS):
                visitor, upstream = site.join(GET)
                upstream.message()
                upstream.send(ANSWERS[case])
                (exchange,) = [each for each in site.server.joins if not each.sent]
                wait_until(lambda exchange=exchange: exchange.sent == len(ANSWERS[case]))
                if case != "half a head":
                    visitor.until(b"\r\n\r\n")

        grow()
        some = held()
        grow()
        assert (held() - some) / VISITORS <= LIMIT
