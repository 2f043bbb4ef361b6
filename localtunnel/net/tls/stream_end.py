"""A TLS connection as an end of the pump: a stream of chunks with an end mark, since
TLS has no half-close."""

import contextlib
import errno
from typing import Any, cast

import gevent

from localtunnel.errors import FrameError
from localtunnel.net import closing
from localtunnel.net.flow.ends import End, SocketEnd
from localtunnel.net.sockets import WRITE, Socket, is_silent
from localtunnel.net.tls.context import TlsSocket, is_tls
from localtunnel.protocol.wire.stream import END, LENGTH_SIZE, MAX_CHUNK, RECORD_SIZE, Unchunker, chunked

FEW_CHUNKS = 64
"""Chunks in one record that cost no more to read than a record without any; our side
sends one in each."""


def to_stream(sock: Socket, data: bytes) -> bytes:
    """Return ``data`` as the beginning of a stream on ``sock``: in chunks over TLS,
    else unchanged."""
    return chunked(data) if is_tls(sock) else data


def begin_stream(sock: Socket, received: bytes) -> tuple[Unchunker | None, bytes]:
    """Return the parser of the stream on ``sock``, None if it has no chunks, and the
    content of ``received``.

    ``received`` are the bytes after the last message. Raises FrameError when they are
    not of a stream; the caller closes.
    """
    if not is_tls(sock):
        return None, received
    stream = Unchunker()
    return stream, stream.feed(received)


def stream_end(end: SocketEnd, stream: Unchunker | None, written: int = 0, *, goes_on: bool = False) -> End:
    """Return the end that relays a stream that has begun on ``end``, which it replaces.

    Bytes of the stream that were ``written`` before count as well. ``goes_on`` says
    that messages may follow the stream over TLS, once it has ended in both directions.
    """
    if stream is None:
        return end
    replacement = TlsEnd(end.sock, end.label, end.watcher, stream, goes_on=goes_on)
    replacement.written = written
    return replacement


def _is_large(size: int, taken: int) -> bool:
    """Return whether to read another record: this one was full, and of few chunks. Many
    take milliseconds."""
    return size == RECORD_SIZE and size - taken <= FEW_CHUNKS * LENGTH_SIZE


class TlsEnd:
    """A TLS connection as an end of a relay, which closes it.

    The peer's direction ends with its mark. A connection that ends without the mark
    counts as reset, so that a cut stream cannot look complete. ``has_pending`` is also
    true from the mark until the reader has seen the end.

    Where messages may follow the stream, the owner may ``part`` the connection from it
    instead of closing both; ``rest`` is what of them has come already.
    """

    __slots__ = (
        "_closing",
        "_held",
        "_last",
        "_marked",
        "_may_go_on",
        "_stream",
        "_writer",
        "has_pending",
        "label",
        "sock",
        "watcher",
        "written",
    )

    descriptor = -1

    def __init__(self, sock: Socket, label: str, watcher: Any, stream: Unchunker, *, goes_on: bool = False) -> None:
        self.sock = cast(TlsSocket, sock)
        self.label = label
        self.watcher = watcher
        self.has_pending = stream.ended
        self._stream = stream
        self.written = 0
        """Bytes of the stream that were written, without their framing."""
        self._may_go_on = goes_on
        """Whether messages may follow, which is not before our own mark: a peer that has
        not seen this knows nothing of it yet."""
        self._held = b""
        """A chunk that had no room: OpenSSL wants the same bytes again
        (SSL_write(3))."""
        self._marked = False
        self._last = b""
        """The mark, and what follows it, while ``_writer`` waits for room for them."""
        self._writer: Any = None
        self._closing: Any = None

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to read: no record, no part of a chunk, and not the
        mark."""
        # No record is left decrypted here: ``has_pending`` tells after every read.
        return not self.has_pending and self._stream.is_between_chunks and is_silent(self.sock)

    def try_read(self, buffer: bytearray | memoryview) -> int:
        """Read records into ``buffer`` while whole ones fit and come; return the number
        of bytes, 0 at the end."""
        stream = self._stream
        if stream.ended:
            self.has_pending = False
            return 0
        view = memoryview(buffer)
        room = len(view)
        size = self.sock.read_record(view)
        filled = self._take(view, size)
        taken = filled
        while not stream.ended and (not filled or (_is_large(size, taken) and room - filled >= RECORD_SIZE)):
            try:
                size = self.sock.read_record(view[filled:])
                taken = self._take(view[filled:], size)
                filled += taken
            except OSError:
                if not filled:
                    raise
                break
        # A read with room for a whole record leaves nothing behind.
        self.has_pending = filled > 0 and (stream.ended or (room < RECORD_SIZE and self.sock.pending() > 0))
        return filled

    def _take(self, view: memoryview, size: int) -> int:
        """Strip the record of ``size`` bytes in ``view`` of its framing; return the
        bytes of the stream."""
        if size == 0:
            raise ConnectionResetError(errno.ECONNRESET, "The connection ended before its stream did")
        try:
            return self._stream.compact(view, size)
        except FrameError as error:
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error

    def try_write(self, data: bytes | memoryview) -> int:
        """Write what fits, in whole chunks, and return the number of bytes. After
        BlockingIOError the caller repeats them."""
        total = len(data)
        if total <= MAX_CHUNK and not self._held:
            return self._write(data)
        view, sent = memoryview(data), 0
        while sent < total:
            try:
                sent += self._write(view[sent : sent + MAX_CHUNK])
            except BlockingIOError:
                if not sent:
                    raise
                break
        return sent

    def _write(self, data: bytes | memoryview) -> int:
        """Write ``data``, or else the chunk that had no room, as one chunk; return its
        bytes of the stream."""
        chunk = self._held or len(data).to_bytes(LENGTH_SIZE, "big") + data
        try:
            self.sock.send(chunk)
        except BlockingIOError:
            self._held = chunk
            raise
        self._held = b""
        size = len(chunk) - LENGTH_SIZE
        self.written += size
        return size

    @property
    def goes_on(self) -> bool:
        """Whether messages may follow the stream, of which nothing waits to be sent."""
        return self._may_go_on and not self._held and self._writer is None

    def unlimited(self) -> "TlsEnd":
        """Return the end itself."""
        return self

    @property
    def rest(self) -> bytes:
        """What has come behind the peer's mark, once our own was sent."""
        return self._stream.rest

    def part(self, message: bytes = b"") -> bool:
        """End this direction with its mark, unless it has ended, and with ``message``.

        Returns whether all of it has gone out, and leaves the socket to the caller then.
        Otherwise the caller closes, which waits for what can still go out.
        """
        try:
            return self.goes_on and self._send_last(message)
        except OSError:
            return False

    def shutdown_write(self) -> None:
        """Send the end mark, now or as soon as there is room."""
        if not self._marked:
            self._send_last(b"")

    def _send_last(self, message: bytes) -> bool:
        """Send the mark, if it is missing, and ``message``; return whether there was
        room for them."""
        data = message if self._marked else END + message
        self._marked = True
        self._stream.goes_on = self._may_go_on
        try:
            if data:
                self.sock.send(data)
        except BlockingIOError:
            self._last = data
            self._writer = gevent.get_hub().loop.io(self.sock.fileno(), WRITE)
            self._writer.start(self._send_again)
            return False
        return True

    def _send_again(self) -> None:
        try:
            # Exactly the same bytes, as in ``_write``.
            self.sock.send(self._last)
        except BlockingIOError:
            return
        except OSError:
            self._stop_writer()
            return
        self._stop_writer()
        if self._closing is not None:
            self._closed()

    def close(self) -> None:
        """Close; written bytes go out first, then the mark, and a message that it was
        sent with, for which a slow peer has ``closing.TOTAL`` seconds.

        After a chunk that was cut short there is no mark: the stream is not whole.
        """
        self.watcher.close()
        if not self._held:
            with contextlib.suppress(OSError):
                self.shutdown_write()
        if self._writer is None:
            self._closed()
        elif self._closing is None:
            self._closing = gevent.get_hub().loop.timer(closing.TOTAL)
            self._closing.start(self._closed)

    def reset(self) -> None:
        """Close with an RST."""
        self.watcher.close()
        self._stop_writer()
        closing.reset(self.sock)

    def _closed(self) -> None:
        self._stop_writer()
        if self._closing is not None:
            self._closing.close()
            self._closing = None
        closing.close(self.sock)

    def _stop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
