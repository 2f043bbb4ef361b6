"""The pump: one read and one write per readiness event, in the hub. The product's hot
loop.

One buffer serves all connections, so an open one has no greenlet and no buffer. A side
that cannot take more stops the reading of the other (back pressure), with at most one
buffer held in between. The owner of the two sides decides what an end of input or a
failure means: ``net.flow.relay`` for bytes, an exchange for HTTP.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent

from localtunnel.net.flow import splice
from localtunnel.net.flow.buffer import FIRST_PIECE, LEAST_PIECE, PIECE, buffer, view
from localtunnel.net.flow.ends import End
from localtunnel.net.sockets import READ, WRITE

SLOW = 0.001
SLOW_BYTE = 50e-9
"""A piece is slow when it takes so many seconds in all, and so many for each of its
bytes: ten times what they take where no owner looks at them."""

FLOWING = 8 * 1024 * 1024
"""Bytes that a flow moves without a stop before it is read in large pieces: more than
the kernel buffers for a connection (tcp_wmem), so a reader that never reads does not
get that far."""

_sizes = [LEAST_PIECE << n for n in range((PIECE // LEAST_PIECE).bit_length())]
_larger = {size: view[: min(2 * size, PIECE)] for size in _sizes}
_piece, _first_piece, _least_piece = view[:PIECE], view[:FIRST_PIECE], view[:LEAST_PIECE]


class Owner(Protocol):
    """The owner of two sides, which decides how a direction ends."""

    def filter(self, side: "Side", data: memoryview) -> bytes | memoryview:
        """Return the bytes to write to the other side instead of ``data``. Called if
        ``side.filtered``.

        It may set ``side.reading`` to False, which makes this the last read, and it may
        close both sides.
        """

    def unseen(self, side: "Side") -> int:
        """Return how many of the next bytes may bypass ``filter``. Called if
        ``side.filtered``."""

    def passed(self, side: "Side", size: int) -> None:
        """Count ``size`` bytes that bypassed ``filter``."""

    def read_ended(self, side: "Side") -> None:
        """Handle the end of input of ``side``; ``side.reading`` is False already."""

    def read_failed(self, side: "Side", error: OSError) -> None:
        """Handle that ``side`` was reset, or has timed out."""

    def all_written(self, side: "Side") -> None:
        """Handle that ``side`` has got everything; the other side is not read any
        more."""

    def write_failed(self, side: "Side") -> None:
        """Handle that ``side`` takes no more bytes."""


class Side:
    """One end in the pump: the bytes that wait to be written to it, and whether it is
    read and written.

    It may serve several owners in turn, each of which binds it.
    """

    __slots__ = (
        "_flows_at",
        "_pipe",
        "_pipe_after",
        "_room",
        "_turn",
        "_watcher",
        "backlog",
        "bound",
        "closed",
        "count",
        "discarding",
        "end",
        "filtered",
        "other",
        "owner",
        "piece",
        "reading",
        "writable",
    )

    other: "Side"
    owner: Owner

    def __init__(self, end: End) -> None:
        self.end = end
        self.backlog: bytes | memoryview | splice.Pipe = b""
        self.bound = False
        self.closed = False
        self.count = 0
        self.reading = False
        self._pipe: splice.Pipe | None = None
        self._room = _first_piece
        self._turn: Any = None
        self._watcher = end.watcher

    def bind(self, owner: Owner, other: "Side", *, filtered: bool) -> None:
        """Begin anew, beside ``other``; an earlier watch ends. ``watch`` starts it."""
        self._watcher.stop()
        self.bound = True
        self.owner, self.other, self.filtered = owner, other, filtered
        self.backlog = b""
        self.count = 0
        self._flows_at = FLOWING
        self._pipe_after = splice.AFTER
        self.discarding = False
        self.piece: memoryview | None = None
        """The buffer of one read, for an owner that holds the bytes and wants fewer at
        a time."""
        self.reading = self.writable = True
        if not filtered:
            self._room = _piece

    def watch(self) -> None:
        """Watch for the events that this side can use now."""
        events = READ if self.reading and not self.other.backlog else 0
        if self.backlog:
            events |= WRITE
        watcher = self._watcher
        if watcher.active:
            if watcher.events == events:
                return
            watcher.stop()
        if events:
            if watcher.events != events:
                watcher.events = events
            watcher.start(self._ready)
            if self.end.has_pending and events & READ:
                watcher.feed(READ, self._ready)

    def watch_for(self, readable: Callable[[], None]) -> None:
        """Call ``readable()`` when there are bytes to read, while the side has no
        owner."""
        watcher = self._watcher
        if watcher.events != READ:
            watcher.events = READ
        watcher.start(readable)
        if self.end.has_pending:
            watcher.feed(READ, readable)

    def write(self, data: bytes | memoryview) -> None:
        """Write ``data`` and keep the rest as the backlog, which is empty before. The
        caller then calls ``watch``."""
        try:
            sent = self.end.try_write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.owner.write_failed(self)
            return
        if sent < len(data):
            self.backlog = bytes(data[sent:])

    def flush(self) -> None:
        """Write as much of the backlog as fits."""
        backlog = self.backlog
        if isinstance(backlog, splice.Pipe):
            backlog = self._drain(backlog)
            if not backlog:
                return
        try:
            sent = self.end.try_write(backlog)
        except BlockingIOError:
            return
        except OSError:
            self.owner.write_failed(self)
            return
        if sent < len(backlog):
            self.backlog = memoryview(backlog)[sent:]
            return
        self._all_flushed()

    def _all_flushed(self) -> None:
        self.backlog = b""
        self.watch()
        if self.other.reading:
            self.other.watch()
        else:
            self.owner.all_written(self)

    def unbind(self) -> None:
        """Stop watching, and leave the end open for another owner. Idempotent."""
        self._watcher.stop()
        if self._turn is not None:
            self._end_turn()
        if self.bound:
            self.bound = self.reading = False
            self.backlog = b""
            if self._pipe is not None:
                self._give_pipe_back()
            del self.other, self.owner

    def close(self, *, reset: bool) -> None:
        """Stop watching and close the end."""
        self.closed = True
        self.unbind()
        if reset:
            self.end.reset()
        else:
            self.end.close()

    def take_in(self, received: memoryview) -> None:
        """Pass bytes that this end has received to the other side."""
        data: bytes | memoryview = received
        if self.filtered:
            data = self.owner.filter(self, received)
            if not data:
                return
        other = self.other
        try:
            sent = other.end.try_write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.owner.write_failed(other)
            return
        if sent < len(data):
            other.backlog = bytes(data[sent:])
            self._flows_at = self.count + FLOWING
            self.watch()
            other.watch()
        elif not self.reading:
            self.owner.all_written(other)

    def _ready(self) -> None:
        if self.backlog:
            self.flush()
        if self.reading and not self.other.backlog:
            if self._pipe is None:
                self._read()
            else:
                self._splice(self._pipe)
            if self.end.has_pending and self.reading and not self.other.backlog and self._turn is None:
                self._await_turn()

    def _await_turn(self) -> None:
        """Read on in the hub's next turn. A fed event would come in this one, before
        those of other connections."""
        self._turn = gevent.get_hub().loop.timer(0)
        self._turn.start(self._take_turn)

    def _take_turn(self) -> None:
        self._end_turn()
        self._ready()

    def _end_turn(self) -> None:
        self._turn.close()
        self._turn = None

    def _read(self) -> None:
        began = monotonic()
        room = self._room if self.piece is None else self.piece
        try:
            size = self.end.try_read(buffer if len(room) == PIECE and self.count >= self._flows_at else room)
        except BlockingIOError:
            return
        except OSError as error:
            self.owner.read_failed(self, error)
            return
        if size == 0:
            self.reading = False
            self.watch()
            self.owner.read_ended(self)
            return
        self.count += size
        if self.discarding:
            return
        if size >= splice.LARGE and self.count >= self._pipe_after:
            self._take_pipe()
        self.take_in(view[:size])
        seconds = monotonic() - began
        if seconds > SLOW and seconds > size * SLOW_BYTE:
            self._room = _least_piece
        elif size == len(room) and seconds < SLOW / 2 and self.piece is None:
            self._room = _larger[size]

    # A flow that stays large.

    def _take_pipe(self) -> None:
        if self.end.descriptor >= 0 and self.other.end.descriptor >= 0:
            self._pipe = splice.take()
        self._pipe_after = self.count + splice.AFTER

    def _give_pipe_back(self) -> None:
        pipe = self._pipe
        if pipe is not None:
            self._pipe = None
            self._pipe_after = self.count + splice.AFTER
            pipe.close()

    def _splice(self, pipe: splice.Pipe) -> None:
        """As ``_read``, for bytes that no owner has to see."""
        unseen = self.owner.unseen(self) if self.filtered else splice.PIPE_SIZE
        try:
            size = 0 if self.discarding or unseen < splice.LARGE else pipe.fill(self.end.descriptor, unseen)
        except BlockingIOError:
            return
        except OSError:
            # A read finds out whether the connection has failed, or cannot be spliced.
            size = 0
        if not size:
            self._give_pipe_back()
            self._read()
            return
        self.count += size
        if self.filtered:
            self.owner.passed(self, size)
        other = self.other
        other.backlog = pipe
        other.flush()
        if other.backlog:
            self.watch()
            other.watch()
        elif size < splice.SMALL:
            self._give_pipe_back()

    def _drain(self, pipe: splice.Pipe) -> bytes:
        """Write as much of ``pipe`` as fits; return bytes that have to be written the
        ordinary way."""
        try:
            pipe.drain(self.end.descriptor)
        except BlockingIOError:
            return b""
        except OSError:
            # A write finds out whether the connection has failed, or cannot be spliced.
            self.backlog = rest = pipe.read()
            return rest
        if not pipe:
            self._all_flushed()
        return b""
