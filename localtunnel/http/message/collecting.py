"""Heads that arrive in pieces, and heads that repeat, of requests and of responses."""

import re
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from localtunnel.http.message import refusal
from localtunnel.http.message.fields import Field
from localtunnel.http.message.refusal import Kind

REPEATED = 256
"""Parsed heads that are remembered, of either kind: about 1 MiB if all are long."""

MAX_REPEATED = 512
"""Bytes of a head that is remembered: programs send shorter ones. Those of browsers are
longer, and rarely the same."""

_SECRETS = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"})

_BARE_LF_END = re.compile(rb"\n\r?\n")


class Collector:
    """Collects the bytes of one connection until a head is whole.

    The caller feeds what it receives until a head is returned or an error is raised,
    and then nothing more; it owns the deadline and the socket. The work is linear in
    the bytes, however finely they arrive.
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
    def room(self) -> int:
        """How many bytes to read at most: a head that needs more is too large."""
        return max(1, self._max_bytes + 1 - len(self.received))

    @property
    def rest(self) -> bytes:
        """What was received behind the head: a body, or the next head."""
        return bytes(self.received[self._size :])

    def collect(self, data: bytes | memoryview) -> bytes | None:
        """Take ``data``; return the whole head up to and including its blank line, or
        None while more is needed.

        Raises the error of the message's kind for a head that is too large, or that
        would end if bare line feeds were line ends.
        """
        received = self.received
        known = len(received)
        received += data
        # The end may lie across two feeds; older bytes have been searched before.
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


class _Head(Protocol):
    @property
    def fields(self) -> list[Field]: ...


Head = TypeVar("Head", bound=_Head)


class Repeated(Generic[Head]):
    """Parses heads, and remembers the results: programs that poll or push send one head
    again and again.

    Parsing is a third of the work of serving such a request. A head that may hold a
    secret is not remembered.
    """

    def __init__(self, parse: Callable[[bytes], Head]) -> None:
        self._parse = parse
        self._known: dict[bytes, Head] = {}
        self.recall: Callable[[bytes], Head | None] = self._known.get
        """Returns the parsed form of a remembered head, None for any other bytes."""

    def read(self, head: bytes) -> Head:
        """Return what ``parse(head)`` returns, or raise what it raises."""
        known = self._known.get(head)
        if known is None:
            known = self._parse(head)
            if len(head) <= MAX_REPEATED and _SECRETS.isdisjoint([name for name, _, _ in known.fields]):
                if len(self._known) >= REPEATED:
                    self._known.clear()
                self._known[head] = known
        return known
