"""A relay beside which somebody looks at the bytes: the client's, between the server and
its upstream.

It also knows from what has passed when the upstream owes nothing. That decides when the
upstream's connection is closed, and whether a request has begun to reach it, and so
whether the server may send that request again.
"""

from collections.abc import Callable
from typing import Protocol

from localtunnel.net.flow.ends import End
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.pump import Side
from localtunnel.net.flow.relay import Relay
from localtunnel.net.flow.splice import PIPE_SIZE
from localtunnel.net.sockets import acknowledge


class Tap(Protocol):
    """An observer of the bytes that pass a relay.

    It can neither change nor delay them. But the relay goes by ``is_owed`` and
    ``is_at_rest``: with ``ends_when_answered`` it hands a further request on, or does
    not, by the latter, and that no request is done twice rests on it.

    ``from_a`` tells which end the bytes are from. ``data`` is valid until the call
    returns.
    """

    def seen(self, data: memoryview, *, from_a: bool) -> None:
        """Look at the next bytes, before they go on."""

    def unseen(self, *, from_a: bool) -> int:
        """Return how many of the next bytes need not be seen, and may move inside the
        kernel."""

    def passed(self, size: int, *, from_a: bool) -> None:
        """Count ``size`` bytes that passed unseen."""

    def ended(self, *, from_a: bool) -> None:
        """Note that this end has reached EOF."""

    @property
    def is_owed(self) -> bool:
        """Whether ``b`` speaks next: it owes the rest of an answer, say."""

    @property
    def is_at_rest(self) -> bool:
        """Whether everything so far has been understood, and ``b`` owes nothing."""


class TappedRelay(Relay):
    """A relay whose bytes ``tap`` sees, if there is one.

    With ``prompt``, bytes from ``b`` are acknowledged at once, unless the tap knows that
    ``b`` waits for ``a``. With ``ends_when_answered``, ``a`` ends its direction only
    when it has the whole answer, so that ``b`` is closed with it where the tap knows of
    no more to come.
    """

    __slots__ = ("_ends_when_answered", "_prompt", "_taken", "_tap")

    def __init__(
        self,
        a: End,
        b: End,
        on_end: Callable[[str], None],
        *,
        tap: Tap | None,
        prompt: bool = False,
        half_closed: HalfClosed | None = None,
        give_back: Callable[[End], None] | None = None,
        ends_when_answered: bool = False,
    ) -> None:
        super().__init__(a, b, on_end, half_closed=half_closed, give_back=give_back)
        self._a.bind(self, self._b, filtered=tap is not None)
        self._b.bind(self, self._a, filtered=prompt or tap is not None)
        self._tap = tap
        self._prompt = prompt
        self._ends_when_answered = ends_when_answered
        self._taken: int | None = None
        """The bytes of ``a`` before those that ``b``, which had ended, was not given."""

    @property
    def delivered(self) -> int:
        """The most bytes of ``a`` that ``b`` can have got."""
        return self._a.count - len(self._b.backlog) if self._taken is None else self._taken

    def start(self, to_a: bytes = b"", to_b: bytes = b"") -> None:
        """Begin as any relay does; the tap sees the bytes that were read before."""
        if self._tap is not None:
            if to_b:
                self._tap.seen(memoryview(to_b), from_a=True)
            if to_a:
                self._tap.seen(memoryview(to_a), from_a=False)
        super().start(to_a, to_b)

    # Called by the sides.

    def filter(self, side: Side, data: memoryview) -> memoryview:
        """Pass the bytes on, or none of them where ``b`` was done before."""
        tap, from_a = self._tap, side is self._a
        if self._ends_when_answered and self._is_over(len(data), from_a=from_a):
            return data[:0]
        if tap is not None:
            tap.seen(data, from_a=from_a)
        if self._prompt and not from_a and (tap is None or tap.is_owed):
            acknowledge(side.end.sock)
        return data

    def unseen(self, side: Side) -> int:
        """Return how many bytes the tap need not see."""
        return PIPE_SIZE if self._tap is None else self._tap.unseen(from_a=side is self._a)

    def passed(self, side: Side, size: int) -> None:
        """Tell the tap; the side has counted them."""
        if self._tap is not None:
            self._tap.passed(size, from_a=side is self._a)

    def read_ended(self, side: Side) -> None:
        """End as any relay does, and close ``b`` behind a whole answer."""
        if side is self._b and self._is_answered():
            self._give_b_nothing(self._a.count)
        if self._tap is not None:
            self._tap.ended(from_a=side is self._a)
        if side is self._a and self._is_answered():
            self._b.reading = False
        super().read_ended(side)

    # When an answer is whole.

    def _is_over(self, size: int, *, from_a: bool) -> bool:
        """Say whether the next ``size`` bytes are not to go on, because ``b`` was done
        before they came.

        What ``b`` says without having been asked, such as a 408, must not become the
        answer of a request that is in flight. And a request that finds ``b`` closed, or
        talking, can go elsewhere as long as it has got nothing of it.
        """
        taken = self._a.count - size if from_a else self._a.count
        if not (taken and self._is_answered()) or (from_a and self._b.end.is_quiet):
            return False
        self._give_b_nothing(taken)
        self._b.reading = False
        self._b.watch()
        if self._tap is not None:
            self._tap.ended(from_a=False)
        self.all_written(self._a)
        return True

    def _give_b_nothing(self, taken: int) -> None:
        self._taken = taken
        self._a.discarding = True

    def _is_answered(self) -> bool:
        tap = self._tap
        if tap is None or not self._ends_when_answered:
            return False
        return tap.is_at_rest and not (self._a.backlog or self._b.backlog)

    def _is_as_good_as_ended(self, side: Side) -> bool:
        return super()._is_as_good_as_ended(side) or (side is self._b and self._is_answered())

    def _is_lossy(self) -> bool:
        """As for any relay, but what ``b`` was not given is not lost where it is known
        where that begins."""
        return self._b.discarding or (self._a.discarding and self._taken is None)

    def _forget_owner(self) -> None:
        super()._forget_owner()
        self._tap = None
