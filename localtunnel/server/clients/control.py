"""Control connections, from the request for a tunnel to its end. One greenlet each."""

from localtunnel.errors import (
    DeadlineExceeded,
    Flooded,
    NetworkError,
    ProtocolError,
    RefusedError,
    StorageError,
)
from localtunnel.net.address import SCHEME_PORTS
from localtunnel.protocol import messages
from localtunnel.protocol.messages import ControlReply, ControlRequest, Drain
from localtunnel.server.clients.last_words import LastWords
from localtunnel.server.clients.opening import Opened, Openings
from localtunnel.server.clients.session import ClientChannel, ControlSession, Released
from localtunnel.server.clients.strangers import Stranger
from localtunnel.server.config import ServerConfig
from localtunnel.server.tunnels.tunnel import FAILED, RELEASED


class Control:
    """Serves control connections. ``serve`` runs in the greenlet of one connection."""

    def __init__(self, config: ServerConfig, openings: Openings, last_words: LastWords) -> None:
        self._config = config
        self._openings = openings
        self.last_words = last_words
        self._sessions: set[ControlSession] = set()
        """Those whose tunnel is open."""
        self._scheme = "http"
        self._port = ""

    def publish(self, scheme: str, port: int) -> None:
        """Set the frontend's scheme and port for the URLs that clients show.

        The default port of the scheme is left out.
        """
        self._scheme = scheme
        self._port = "" if port == SCHEME_PORTS[scheme] else f":{port}"

    def drain(self, seconds: float) -> None:
        """Tell every LTP/0.3 client that the server stops within ``seconds``."""
        for session in list(self._sessions):
            session.tell(Drain(seconds))

    def serve(self, channel: ClientChannel, request: ControlRequest, host: str, stranger: Stranger) -> None:
        """Answer a control request, and keep the tunnel while its client is connected.

        Blocks the greenlet. ``stranger`` is the connection's place among those whose
        identity is not proved.
        """
        session = ControlSession(channel, request, host, self._config.timeouts)
        try:
            opened = self._openings.open(session, stranger)
        except (RefusedError, StorageError, ProtocolError, DeadlineExceeded) as error:
            self.last_words.refuse(channel, error)
            return
        except NetworkError:
            channel.close()
            return
        except BaseException:
            channel.close()
            raise
        reason = FAILED
        try:
            reason = self._converse(session, opened)
        finally:
            self._openings.close(opened, reason)

    def _converse(self, session: ControlSession, opened: Opened) -> str:
        """Confirm the tunnel, keep it alive, and return the reason why it ended.

        The channel is then closed, or lingers.
        """
        channel = session.channel
        try:
            session.accept(self._reply(opened))
            self._sessions.add(session)
            session.keep(opened.tunnel.measured)
        except Released:
            channel.close()
            return RELEASED
        except Flooded as error:
            self.last_words.error(channel, messages.FLOODED, str(error), read=False)
            return error.code
        except ProtocolError as error:
            self.last_words.error(channel, messages.EXCEPTION, str(error))
            return f"protocol error: {error}"
        except DeadlineExceeded:
            channel.close()
            return "no heartbeat"
        except NetworkError:
            channel.close()
            return "control connection closed"
        except BaseException:
            channel.close()
            raise
        finally:
            session.close()
            self._sessions.discard(session)

    def _reply(self, opened: Opened) -> ControlReply:
        tunnel, claim = opened.tunnel, opened.claim
        below = f"{claim.name}.{self._config.domain}"
        name = claim.host or below
        banner = self._config.banner or f"Tunnel open on {self._config.domain}."
        if not tunnel.version.has_sessions:
            return ControlReply(name + self._port, self._config.pool_size, banner)
        if claim.kind == "tcp":
            host = f"{self._config.domain}:{claim.port}"
            url = f"tcp://{host}"
        else:
            host = name + self._port
            url = f"{self._scheme}://{host}"
        heartbeat = self._config.timeouts.heartbeat
        names = opened.asked.names or None
        also = (f"{self._scheme}://{below}{self._port}",) if name != below else None
        return ControlReply(
            host,
            tunnel.size,
            banner,
            url,
            claim.session,
            heartbeat,
            opened.grant.answer,
            names,
            also,
            True if claim.kind == "http" and self._config.edge == "http" else None,
            True if tunnel.recycles else None,
        )
