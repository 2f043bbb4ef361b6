"""Falling back to LTP/0.2, the only version of servers of 2013 (PROTOCOL.md, section
4).

LTP/0.2 has no encryption, no sessions and no guards. So it is spoken only where the
user asked for it, or wants no encryption anyway; never to a server that has spoken
LTP/0.3 before, and never where a setting of the user would be lost. Otherwise an
attacker who can cut a connection could take all that away.
"""

import logging
import secrets
from collections.abc import Callable

from localtunnel.client.config import ClientConfig
from localtunnel.client.events import Event, ServerNotice
from localtunnel.client.sessions.session import Session
from localtunnel.client.trust.link import Link
from localtunnel.errors import ConnectionClosed, LocaltunnelError, NameUnavailable, NetworkError, VersionError
from localtunnel.net.address import HostPort
from localtunnel.net.channel import client_channel
from localtunnel.net.deadline import Deadline
from localtunnel.protocol.messages import ProxyRequest
from localtunnel.protocol.options import Options
from localtunnel.protocol.version import LTP_0_2, LTP_0_3

log = logging.getLogger("localtunnel.client")

FALLING_BACK = "The server does not speak LTP/0.3; falling back to LTP/0.2, which has no encryption."

NO_HYPHENS = (
    "If it is one of 2013, it will not find the name {name}: those have letters and digits only. Choose another one."
)


class Fallback:
    """Decides the ``version`` of the next attempt, by the failure of the last one."""

    def __init__(self, config: ClientConfig, options: Options, link: Link, report: Callable[[Event], None]) -> None:
        self.version = LTP_0_3
        self._config = config
        self._needs = _needs(config, options)
        self._link = link
        self._report = report
        self._told = False

    def reset(self) -> None:
        """Return to the newest version: a fallback holds for one control connection."""
        self.version = LTP_0_3

    def explain(self, session: Session, backend: HostPort, error: LocaltunnelError) -> LocaltunnelError | None:
        """Return the error to report for ``error``, which ended ``session``; None to
        try LTP/0.2 now.

        Blocks the greenlet if it has to ask the server.
        """
        unanswered = isinstance(error, ConnectionClosed) and session.connected and not session.answered
        if session.version is LTP_0_2:
            if unanswered and self._speaks_0_2(backend):
                return NameUnavailable(
                    "The server closed the connection without an answer, as one of 2013 does when another client has "
                    f"the name {session.name!r}; choose another one."
                )
            return error
        says_so = isinstance(error, VersionError) and self._config.insecure
        if not (unanswered or says_so) or self._link.trust.is_bound:
            return error
        if self._link.trust.was_met:
            return self._for_one_that_was_met(error)
        if not (self._config.insecure or self._config.legacy):
            return ConnectionClosed(
                f"The server at {backend} closed the connection without an answer.", advice=self._advice()
            )
        if not self._needs:
            self._fall_back(session.name)
            return None
        if says_so or self._speaks_0_2(backend):
            return VersionError(f"The server speaks LTP/0.2 only, it seems, and {self._needs_more()}")
        return error

    def _fall_back(self, name: str) -> None:
        self.version = LTP_0_2
        if self._told:
            return
        self._told = True
        self._report(ServerNotice(FALLING_BACK))
        if self._config.name is not None and "-" in name:
            self._report(ServerNotice(NO_HYPHENS.format(name=name)))

    def _for_one_that_was_met(self, error: LocaltunnelError) -> LocaltunnelError:
        if isinstance(error, VersionError):
            error.advice = (
                "It spoke LTP/0.3 before, and is not spoken to in an older version from then on. If its operator went "
                f"back to an older server, remove {self._link.trust.line}."
            )
        return error

    def _advice(self) -> str:
        """Return the advice on a server that does not answer, to a user who has not met
        it before."""
        if self._needs:
            return f"It may have no room now; or it is one of 2013, and {self._needs_more()}"
        return (
            "It may have no room now. If it is one of 2013, which speaks LTP/0.2 only and cannot "
            "encrypt, --legacy lets this client do the same."
        )

    def _needs_more(self) -> str:
        *others, last = self._needs
        subject = f"{', '.join(others)} and {last} need" if others else f"{last} needs"
        return f"{subject} LTP/0.3. Ask the server's operator for a newer version, or do without."

    def _speaks_0_2(self, backend: HostPort) -> bool:
        """Ask the server a harmless question in LTP/0.2, and return whether it answers.

        A server that is restarting, or a forwarded port with nothing behind it, is thus
        not taken for an old one.
        """
        timeouts = self._config.timeouts
        try:
            sock, _ = self._link.connect(backend, Deadline(timeouts.connect), encrypted=False)
        except NetworkError as error:
            log.debug("server does not answer in LTP/0.2 either", extra={"error": error.code})
            return False
        channel = client_channel(sock, LTP_0_2, f"the server at {backend}")
        try:
            # No tunnel has that name, so a server that understands the request refuses
            # it.
            channel.send(ProxyRequest(secrets.token_hex(8), secrets.token_hex(8)), header=LTP_0_2.header)
            channel.receive(Deadline(timeouts.reply))
        except LocaltunnelError as error:
            log.debug("server does not answer in LTP/0.2 either", extra={"error": error.code})
            return False
        finally:
            channel.close()
        return True


def _needs(config: ClientConfig, options: Options) -> list[str]:
    """Return the settings of the user that LTP/0.2 lacks, or would silently ignore."""
    needs = [f"--{name.replace('_', '-')}" for name in options.names]
    if config.domain is not None:
        needs.append("--domain")
    if config.kind == "tcp":
        needs.append("a TCP tunnel")
    return needs
