"""How many messages a side may send on an open control connection (PROTOCOL.md,
"Heartbeats").

A control connection is idle except for heartbeats and an occasional message. A peer
that sends without a pause would take all of its receiver's time, at a few Mbit/s, and
every other tunnel would stand still.
"""

from localtunnel.errors import Flooded
from localtunnel.protocol.limits import MESSAGE_BURST, MESSAGE_RATE, MESSAGES_PER_HEARTBEAT


class Pace:
    """Counts the messages of a peer whose heartbeats are ``interval`` seconds apart.
    ``now`` is monotonic time.

    A token bucket that is kept as the time at which it will be full again, so that no
    timer refills it.
    """

    __slots__ = ("_full_at", "_gap")

    def __init__(self, interval: float) -> None:
        self._gap = 1 / max(MESSAGE_RATE, MESSAGES_PER_HEARTBEAT / interval)
        self._full_at = 0.0

    def count(self, now: float) -> None:
        """Count one message that came at ``now``. Raises Flooded when it is one too
        many."""
        full_at = max(self._full_at, now)
        # Half a message to spare keeps rounding from cutting a burst that is just
        # allowed.
        if full_at - now > self._gap * (MESSAGE_BURST - 0.5):
            raise Flooded(
                f"Too many messages came on the control connection: {MESSAGE_BURST} at once are allowed, and "
                f"{1 / self._gap:g} a second."
            )
        self._full_at = full_at + self._gap
