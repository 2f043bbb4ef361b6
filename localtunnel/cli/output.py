"""What the client prints about its tunnel: four renderers of
``localtunnel.client.events``.

========  ==========================================================  =======================================
renderer  stdout                                                      stderr
========  ==========================================================  =======================================
Terminal  banner, URL, target, one line per request, reconnects, end  nothing
Piped     the URL alone, again only when it changes                   what Terminal prints besides, but the end
Quiet     the URL alone, again only when it changes                   nothing
Json      one object per event                                        nothing
========  ==========================================================  =======================================

A renderer turns an event into lines and hands them to ``Put`` callables, which must not
block. ``Renderer`` cleans every event first (``cli.clean``), since it may have text
from another machine.
"""

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache

import msgspec

from localtunnel.cli.amounts import how_many, rfc3339, show_duration, show_milliseconds, show_size
from localtunnel.cli.clean import MAX_ERROR, MAX_SHOWN, clean, cleaned
from localtunnel.client.events import (
    Event,
    RequestFinished,
    RequestStarted,
    RoundTripMeasured,
    ServerNotice,
    ServerPinned,
    TunnelLost,
    TunnelOpened,
    UpstreamFailed,
    VisitorJoined,
    VisitorLeft,
)

Put = Callable[[str], None]
Renew = Callable[[str, str], None]
"""Writes its second argument over the first, which was the last line written."""

MAX_BANNER_LINES = 20
"""Lines of a banner that are shown: a server's greeting must not push the URL off the
screen."""

LOST_INTERVAL = 60.0
"""Seconds between two lines about failed attempts where a line cannot be renewed: they
must not fill a log."""

QUOTED = "| "
"""Precedes each line of a banner, which could otherwise look like one of ours."""

SHORTEST_WAIT = 0.05
"""Seconds below which a wait would be shown as 0.0."""


def time_of_day() -> str:
    return time.strftime("%H:%M:%S")


def utc_now() -> str:
    return rfc3339(time.time())


class Renderer:
    """Shows events: cleans each, with at most ``longest`` characters for a text, and
    passes it to ``show``."""

    longest: int | None = MAX_SHOWN

    def __call__(self, event: Event) -> None:
        self.show(cleaned(event, self.longest))

    def show(self, event: Event) -> None:
        """Show ``event``, which is clean."""
        raise NotImplementedError


class Terminal(Renderer):
    """For a person: everything on one stream, with the time of day before each
    connection.

    While the server cannot be reached, ``renew`` rewrites one line; without ``renew``
    there is at most one line in LOST_INTERVAL.
    """

    def __init__(
        self,
        out: Put,
        clock: Callable[[], str] = time_of_day,
        renew: Renew | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._clock = clock
        self._renew = renew
        self._now = now
        self._renewable: str | None = None
        """The last line, if it says that the server cannot be reached."""
        self._lost_at: float | None = None
        """When such a line was last written."""
        self._is_lost = False
        """Whether the user was told that the tunnel is lost, and not yet that it is
        open again."""
        self._url: str | None = None
        self._opened_at: float | None = None
        self._requests = self._connections = 0
        """How many have ended."""
        self._round_trip_shown = False
        self._last_failure = ""
        """Why the target could not be reached for the last request, if it could not."""

    def show(self, event: Event) -> None:
        match event:
            case TunnelOpened():
                self._opened(event)
            case ServerPinned():
                self._put(f"Server  {event.server} has the key {event.fingerprint}, first seen now")
            case ServerNotice():
                self._timed(event.text)
            case RoundTripMeasured():
                self._measured(event.seconds)
            case TunnelLost():
                self._lost(event)
            case RequestFinished():
                self._request_finished(event)
            case RequestStarted():
                state = ["-", "waiting"] if event.status is None else [str(event.status), "open"]
                self._request(event, *state)
            case VisitorJoined():
                self._timed(f"#{event.number}  {event.peer or 'visitor'}  connected")
            case UpstreamFailed():
                self._upstream_failed(event)
            case VisitorLeft():
                self._connections += 1
                size = show_size(event.received + event.sent)
                self._timed(f"#{event.number}  {event.reason}  {show_duration(event.seconds)}  {size}")

    def closed(self) -> None:
        """Say goodbye to the user, who has pressed Ctrl-C, if the tunnel was ever
        open."""
        if self._opened_at is None:
            return
        seconds = show_duration(self._now() - self._opened_at)
        served = how_many(self._connections, "connection") if self._is_tcp else how_many(self._requests, "request")
        # The terminal has written ^C at the beginning of the line.
        self._put(f"\rClosed  after {seconds}: {served}")

    @property
    def _is_tcp(self) -> bool:
        return self._url is not None and self._url.startswith("tcp:")

    def _opened(self, event: TunnelOpened) -> None:
        url = event.url
        if self._opened_at is None:
            self._opened_at = self._now()
        was_lost, self._is_lost = self._is_lost, False
        if url == self._url:
            if was_lost:
                self._timed(f"connected again: {url}")
            return
        for line in event.banner.splitlines()[:MAX_BANNER_LINES]:
            self._put(f"{QUOTED}{line}")
        self._show_url(url)
        for other in event.also:
            self._put(f"Also    {other}")
        self._put(f"Target  {event.target}")
        self._url = url

    def _measured(self, seconds: float) -> None:
        """Show the first one as a property of the tunnel, and a change as an event with
        its time."""
        shown = show_milliseconds(seconds)
        if self._round_trip_shown:
            self._timed(f"round trip {shown}")
        else:
            self._put(f"Round trip  {shown}")
        self._round_trip_shown = True

    def _request(self, event: RequestStarted | RequestFinished, *parts: str) -> None:
        self._timed("  ".join([event.visitor or "visitor", f"{event.method} {event.path}", *parts]))

    def _request_finished(self, event: RequestFinished) -> None:
        self._requests += 1
        if event.error is None:
            self._last_failure = ""
        parts = ["-" if event.status is None else str(event.status), show_duration(event.seconds)]
        parts.append(show_size(event.sent))
        if event.error is not None:
            parts.append(event.error)
        self._request(event, *parts)

    def _upstream_failed(self, event: UpstreamFailed) -> None:
        """Say why, for each connection of a TCP tunnel. Requests have lines of their
        own, so once is enough there."""
        message = event.message
        if self._is_tcp:
            self._timed(f"#{event.number}  closed: {message}")
        elif message != self._last_failure:
            self._last_failure = message
            self._timed(message)

    def _lost(self, event: TunnelLost) -> None:
        if event.retry_in is None:
            # The client gives up, and the program's last sentence says why.
            return
        what = "cannot connect" if self._url is None else "lost"
        when = f"retrying in {event.retry_in:.1f} s" if event.retry_in >= SHORTEST_WAIT else "retrying now"
        line = f"{self._clock()}  {what}: {event.message.rstrip('.')}; {when}"
        if self._renewable is not None and self._renew is not None:
            self._renew(self._renewable, line)
        elif self._renew is not None or self._lost_at is None or self._now() - self._lost_at >= LOST_INTERVAL:
            self._put(line)
        else:
            return
        self._renewable = line
        self._lost_at = self._now()
        self._is_lost = True

    def _show_url(self, url: str) -> None:
        self._put(f"URL     {url}")

    def _timed(self, line: str) -> None:
        self._put(f"{self._clock()}  {line}")

    def _put(self, line: str) -> None:
        self._renewable = None
        self._out(line)


class Piped(Terminal):
    """For a script that reads the URL, beside a person or a log that reads the rest."""

    def __init__(
        self,
        out: Put,
        err: Put,
        clock: Callable[[], str] = time_of_day,
        renew: Renew | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(err, clock, renew, now)
        self._put_url = out

    def _show_url(self, url: str) -> None:
        self._put_url(url)


def renewing(put: Put, columns: Callable[[], int]) -> Renew:
    """Return a ``Renew`` for a terminal with ``columns``, by sequences of ECMA-48 that
    all terminals know."""

    def renew(last: str, line: str) -> None:
        rows = max(1, -(-len(last) // max(1, columns())))
        put(f"\x1b[{rows}A\r\x1b[J{line}")

    return renew


class Quiet(Renderer):
    """For a script that wants the URL and nothing else."""

    def __init__(self, out: Put) -> None:
        self._put = out
        self._url: str | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, TunnelOpened) and event.url != self._url:
            self._url = event.url
            self._put(event.url)


class Json(Renderer):
    """For a program: ``{"event": "tunnel_opened", "time": …, "url": …}``, as
    ``docs/events.md`` explains."""

    longest = None

    def __init__(self, out: Put, clock: Callable[[], str] = utc_now) -> None:
        self._put = out
        self._clock = clock

    def show(self, event: Event) -> None:
        self._line(_snake_case(type(event).__name__), msgspec.structs.asdict(event))

    def failed(self, code: str, message: str, exit_code: int) -> None:
        """The last line of a program that ends with an error."""
        self._line("failed", {"code": code, "message": clean(message, MAX_ERROR), "exit_code": exit_code})

    def _line(self, name: str, fields: dict[str, object]) -> None:
        self._put(json.dumps({"event": name, "time": self._clock(), **fields}))


@lru_cache
def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
