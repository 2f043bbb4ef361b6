"""The last answer on a connection at the backend: an error reply, or a page for a
browser.
"""

from collections.abc import Sequence

from localtunnel.errors import LocaltunnelError, NameInvalid, OptionRefused, ProtocolError, RefusedError
from localtunnel.http.pages.render import render
from localtunnel.net import closing
from localtunnel.net.closing import Lingering
from localtunnel.protocol import limits, messages
from localtunnel.protocol.messages import ErrorReply
from localtunnel.protocol.version import Version
from localtunnel.server.clients.session import ClientChannel

_HTTP_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"PRI ")
_WRONG_PORT = render(
    400,
    [("Content-Type", "text/plain; charset=utf-8")],
    b"This is the backend of a localtunnel server, where lt-client connects. Visitors use the frontend's port.\n",
)


class LastWords:
    """Answers connections and closes them; after an error reply, ``seconds`` later.

    The client of 2013 dials again immediately after any error, so the close is held
    back.
    """

    def __init__(self, lingering: Lingering, seconds: float) -> None:
        self._lingering = lingering
        self._seconds = seconds

    def refuse(self, channel: ClientChannel, error: LocaltunnelError) -> None:
        """Tell the client why it gets no tunnel, and close."""
        self.error(channel, _code_of(error, channel.version), str(error), getattr(error, "names", ()))

    def error(
        self, channel: ClientChannel, code: str, text: str, names: Sequence[str] = (), *, read: bool = True
    ) -> None:
        """Send an error reply, and close.

        What the client sends in the meantime is dropped, or not even ``read``.
        """
        try:
            channel.send(ErrorReply(code, text, tuple(names[: limits.MAX_PATTERNS]) or None))
        except LocaltunnelError:
            channel.close()
        else:
            self._lingering.hold(channel.sock, self._seconds, read=read)

    def stranger(self, channel: ClientChannel) -> None:
        """Close the connection of a peer that speaks no LTP.

        A browser is told that this is the wrong port.
        """
        sock, start = channel.detach()
        if start.startswith(_HTTP_METHODS):
            self._lingering.linger(sock, _WRONG_PORT)
        else:
            closing.close(sock)


def _code_of(error: LocaltunnelError, version: Version) -> str:
    """Return the code that refuses a connection before its tunnel is open.

    Most errors have a code on the wire. A client tries again after ``exception``, so a
    request that cannot succeed later gets another code, if the client's version has
    one.
    """
    if isinstance(error, NameInvalid):
        return messages.UNAVAILABLE
    if isinstance(error, ProtocolError) and version.has_final_codes:
        return messages.INVALID_REQUEST
    if isinstance(error, RefusedError) and (version.has_final_codes or not isinstance(error, OptionRefused)):
        return error.code
    return messages.EXCEPTION
