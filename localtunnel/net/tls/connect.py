"""Dialling over TLS: a connection, a handshake, and a look at who is there, within one deadline."""

from collections.abc import Callable, Sequence

from localtunnel.errors import LocaltunnelError
from localtunnel.net import closing
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, Dial, Done
from localtunnel.net.sockets import Socket
from localtunnel.net.tls.context import Context, Ticket
from localtunnel.net.tls.handshake import Handshake


class SecureDial:
    """As ``net.dial.Dial``, and the socket that it brings is TLS.

    ``check(sock)`` looks at the server before anything is sent to it, and raises what is wrong with it: the connection
    is closed then, and the error is what the attempt ended with. ``session`` is resumed if the server still can.
    """

    __slots__ = ("_address", "_check", "_context", "_deadline", "_dial", "_done", "_handshake", "_host", "_session")

    def __init__(
        self,
        addresses: Sequence[Address],
        seconds: float,
        done: Done,
        *,
        context: Context,
        host: str,
        session: Ticket | None,
        check: Callable[[Socket], None],
    ) -> None:
        self._deadline = Deadline(seconds)
        self._done: Done | None = done
        self._context = context
        self._host = host
        self._session = session
        self._check = check
        self._address: Address | None = None
        self._handshake: Handshake | None = None
        self._dial = Dial(addresses, seconds, self._dialled)

    def start(self) -> None:
        """Begin; ``done`` is called exactly once, perhaps before this returns."""
        self._dial.start()

    def cancel(self) -> None:
        """Give up silently, and close what was begun. May be called twice."""
        self._done = None
        self._dial.cancel()
        if self._handshake is not None:
            self._handshake.cancel()

    def _dialled(self, sock: Socket | None, address: Address | None, error: LocaltunnelError | None) -> None:
        if sock is None:
            self._finish(None, error)
            return
        self._address = address
        seconds = self._deadline.remaining() or 0.0
        self._handshake = Handshake(sock, self._context, seconds, self._shaken, host=self._host, session=self._session)
        self._handshake.start()

    def _shaken(self, sock: Socket | None, error: LocaltunnelError | None) -> None:
        if sock is None:
            self._finish(None, error)
            return
        try:
            self._check(sock)
        except LocaltunnelError as failure:
            closing.close(sock)
            self._finish(None, failure)
        else:
            self._finish(sock, None)

    def _finish(self, sock: Socket | None, error: LocaltunnelError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(sock, None if sock is None else self._address, error)
