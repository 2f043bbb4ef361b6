"""One request and its answer, as an observer has seen them pass."""

from msgspec import Struct

from localtunnel.http.message.request import RequestHead
from localtunnel.http.message.response import SWITCHING_PROTOCOLS, ResponseHead


class Exchange(Struct, eq=False, gc=False):
    """One request, and what has been seen of its answer.

    ``received`` and ``sent`` count bytes of the bodies, without chunk sizes and
    trailer, or after a 101 of the other protocol.
    """

    request: RequestHead
    response: ResponseHead | None = None
    """The final head, once it has come."""
    received: int = 0
    sent: int = 0
    interim: int = 0
    """How many interim responses have come."""
    error: str | None = None
    """The code of the reason why the answer was never complete."""

    @property
    def switched(self) -> bool:
        """Whether the connection has changed to another protocol."""
        return self.response is not None and self.response.status == SWITCHING_PROTOCOLS
