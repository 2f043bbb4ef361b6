"""The root of every error that localtunnel raises on purpose."""


class LocaltunnelError(Exception):
    """Something went wrong. ``advice`` says what to do about it to a user for whom
    nothing has worked so far."""

    code = "internal_error"

    def __init__(self, message: str = "", *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice

    @property
    def fact(self) -> str:
        """What went wrong, without the advice."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.fact} {self.advice}" if self.advice else self.fact
