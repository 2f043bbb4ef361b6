"""Time that passes when the test says so."""


class Clock:
    """Called, it says what time it is, as ``time.monotonic`` does. The test moves ``now``."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
