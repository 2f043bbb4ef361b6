"""Collecting a head that arrives in pieces: what requests and responses share of it."""

import re

from localtunnel.http import refusal
from localtunnel.http.refusal import Kind

_BARE_LF_END = re.compile(rb"\n\r?\n")


class Collector:
    """Collects the bytes of one connection until a head is whole.

    The caller feeds what it receives until a head is returned or an error is raised, and then no more; it owns the
    deadline and the socket. The work is linear in the bytes, however finely they arrive.
    """

    def __init__(self, kind: Kind, max_bytes: int) -> None:
        self.received = bytearray()
        self._kind = kind
        self._max_bytes = max_bytes
        self._size = 0

    @property
    def data(self) -> bytes:
        """Every byte received so far, the head and what followed it."""
        return bytes(self.received)

    @property
    def rest(self) -> bytes:
        """What was received behind the head: the body, or the next head on this connection."""
        return bytes(self.received[self._size :])

    def collect(self, data: bytes | memoryview) -> bytes | None:
        """Take ``data``; return the whole head up to and including its blank line, or None while more is needed.

        Raises the error of the message's kind when the head is too large, or would end if bare line feeds were ends.
        """
        received = self.received
        known = len(received)
        received += data
        # The end may straddle the border between two feeds; what lies further back has been searched before.
        end = received.find(b"\r\n\r\n", max(known - 3, 0))
        size = end + 4 if end >= 0 else len(received) + 1
        if size > self._max_bytes:
            refusal.refuse_size(self._kind, self._max_bytes)
        if end >= 0:
            self._size = size
            return bytes(received[:size])
        if _BARE_LF_END.search(received, max(known - 2, 0)):
            refusal.refuse_bare_line_end(self._kind, "head")
        return None
