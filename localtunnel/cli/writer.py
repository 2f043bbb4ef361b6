"""Lines to stdout and stderr that never make the tunnel wait.

Their reader may pause: a terminal after Ctrl-S, a pager, a busy script. A write from
the hub would then stop every connection. So a thread writes, from a bounded queue:
lines that do not fit are dropped and counted. It writes to the descriptor itself, since
a thread that waits inside Python's buffered stream holds a lock that the interpreter
needs in order to exit.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import TextIO

MAX_LINES = 1000
"""Lines that may wait to be written: some seconds of a busy tunnel."""

GATHER = 0.01
"""Seconds for which lines are gathered after a write. Each time that the thread wakes,
the hub loses the interpreter to it for a moment, which cost 8 microseconds a request
when it woke for every line. People see no delay of this length, and a line that comes
alone has none."""

CLOSE_TIMEOUT = 1.0
"""How long ``close`` waits for the lines still queued, in seconds: a reader that is
there needs far less."""


class Stream:
    """One destination. ``None`` for a stream that was closed before the program
    started, as with ``>&-``.

    ``failure`` is the error of a write, unless the reader has just gone. ``on_useless``
    is called in the writing thread when the first write fails, so that no output was
    seen.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.failure: OSError | None = None
        self.on_useless: Callable[[], None] | None = None
        self.useful = False
        """Whether anything was written."""
        self._descriptor = None if stream is None else stream.fileno()
        self._encoding = "utf-8" if stream is None else stream.encoding

    def encode(self, line: str) -> bytes:
        return f"{line}\n".encode(self._encoding, "backslashreplace")

    def write(self, data: bytes) -> None:
        """Write everything, however long that takes. Does nothing after a failure, such
        as a reader that has gone."""
        view = memoryview(data)
        while self._descriptor is not None and view:
            try:
                view = view[os.write(self._descriptor, view) :]
                self.useful = True
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except BrokenPipeError:
                self._descriptor = None
            except OSError as error:
                self._descriptor = None
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.failure = error
        if not self.useful and self.on_useless is not None:
            self.on_useless()


class LineWriter:
    """Writes lines in the order in which they were put, whatever their destination.
    Owns one daemon thread.

    Callable from the hub: ``put`` never blocks. The owner calls ``close`` once nothing
    more is to come.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[Stream, bytes]] = deque()
        self._in_hand = 0
        """Lines that the thread has taken, and not written yet."""
        self._dropped = 0
        self._is_idle = False
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="localtunnel-output", daemon=True)
        self._thread.start()

    def put(self, stream: Stream, line: str) -> None:
        """Queue one line, or drop and count it while ``MAX_LINES`` wait."""
        waiting = len(self._lines) + self._in_hand
        if waiting >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append((stream, stream.encode(line)))
        if self._is_idle or waiting >= MAX_LINES // 2:
            self._is_idle = False
            self._wake.set()

    @property
    def dropped(self) -> int:
        """Lines dropped so far."""
        return self._dropped

    def close(self) -> None:
        """Write what is queued, for ``CLOSE_TIMEOUT`` seconds at most. Idempotent."""
        self._closed = True
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT)

    def _run(self) -> None:
        while self._lines or not self._closed:
            self._is_idle = True
            # A line that came before the flag was set has not woken the thread.
            if not self._lines and not self._closed:
                self._wake.wait()
            self._is_idle = False
            self._wake.clear()
            self._write(len(self._lines))
            if not self._closed:
                self._wake.wait(GATHER)

    def _write(self, count: int) -> None:
        """Write the first ``count`` lines, in one write for each destination in
        turn."""
        taken = [self._lines.popleft() for _ in range(count)]
        self._in_hand = count
        for stream, lines in groupby(taken, itemgetter(0)):
            stream.write(b"".join(line for _, line in lines))
        self._in_hand = 0
