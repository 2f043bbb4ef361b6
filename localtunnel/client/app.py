"""The client: one session after the other, under the same name, until its user stops
it."""

import logging
import os
from collections.abc import Callable
from typing import NoReturn

import gevent
from greenlet import GreenletExit, getcurrent

from localtunnel.client.config import ClientConfig
from localtunnel.client.discovery import discover_backend
from localtunnel.client.events import Event, TunnelLost, TunnelOpened
from localtunnel.client.fallback import Fallback
from localtunnel.client.options import from_config
from localtunnel.client.retry import Retry
from localtunnel.client.sessions.round_trip import RoundTrip
from localtunnel.client.sessions.session import Session
from localtunnel.client.trust.identity import new_instance, owner_key, user_at_host
from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.client.trust.link import Link
from localtunnel.client.trust.trust import Trust
from localtunnel.client.visits.upstream import Upstream
from localtunnel.client.visits.visits import Visits
from localtunnel.errors import (
    AuthError,
    AuthThrottled,
    ClientKicked,
    ClientReplaced,
    ConfigError,
    LimitReached,
    LocaltunnelError,
    NameUnavailable,
    NetworkError,
    NotAllowed,
    OptionRefused,
    PortRefused,
    ProtocolError,
    RefusedError,
    RequestInvalid,
    VersionError,
)
from localtunnel.files import data_directory
from localtunnel.net import descriptors
from localtunnel.net.address import HostPort, parse_backend, parse_server, parse_target
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import literals
from localtunnel.net.tls.keys import parse_fingerprint
from localtunnel.protocol import names
from localtunnel.protocol.login.token import Token
from localtunnel.protocol.messages import ControlReply, ControlRequest
from localtunnel.protocol.options import to_wire
from localtunnel.protocol.version import Version

log = logging.getLogger("localtunnel.client")

GHOST_PATIENCE = 60.0
"""Seconds for which a reconnecting client that gets ``unavailable`` assumes that its
own dead connection still has the name: the server notices one after two heartbeat
intervals at most."""

MAX_ALSO = 4
"""Further URLs of a tunnel to report. Our server has one, and many would push the first
off the screen."""

FINAL = (
    AuthError,
    ClientKicked,
    ClientReplaced,
    NotAllowed,
    OptionRefused,
    PortRefused,
    RequestInvalid,
    VersionError,
)
"""Refusals that do not go away when the client tries again."""

GENERATED_TRIES = 5
"""Generated names to try before giving up: one in a hundred million is taken."""


class Client:
    """Exposes one target through one server. ``run`` blocks; ``stop`` may be called
    from anywhere.

    ``report`` gets every event (``client.events``); it must not block or raise. The
    client logs in with ``token``. Without one it calls ``find_token`` once it knows the
    server's backend; that may block the greenlet. Raises AddressError and NameInvalid
    for settings that cannot work.
    """

    def __init__(
        self,
        config: ClientConfig,
        report: Callable[[Event], None],
        token: Token | None = None,
        find_token: Callable[[HostPort], Token | None] | None = None,
    ) -> None:
        self._config = config
        self._token = token
        self._find_token = find_token if token is None else None
        self._report = report
        self._server = parse_server(config.server)
        self._upstream = Upstream(parse_target(config.target), config.timeouts.upstream)
        self._link = Link(_trust(config, str(self._server), token))
        self._visits = Visits(self._upstream, report, config.timeouts.half_closed)
        self._options = from_config(config)
        self._fallback = Fallback(config, self._options, self._link, report)
        self._chosen = config.name is not None
        self._name = names.check(config.name) if config.name is not None else names.generate()
        self._patterns: tuple[str, ...] = ()
        """The names that the token covers, as the server tells when it refuses another
        one."""
        self._user = user_at_host()
        self._instance = new_instance()
        self._key = self._own_key()
        self._session: str | None = None
        """The secret of the last LTP/0.3 session, which gets the name back at once."""
        self._was_refused_at_0_2 = False
        self._retry = Retry(config.timeouts)
        self._round_trip = RoundTrip()
        self._ever_opened = False
        self._ghost = Deadline(0)
        self._runner: object = None

    @property
    def visitors(self) -> int:
        """The number of visitors being served."""
        return len(self._visits)

    def run(self) -> None:
        """Keep the tunnel up until ``stop``.

        Raises the error that makes it give up: one of ``FINAL``, NameUnavailable, or
        with ``retry`` off any error that ends the first session.
        """
        self._runner = getcurrent()
        descriptors.reserve()
        try:
            self._resolve_upstream()
            self._run_sessions()
        except GreenletExit:
            log.debug("stopped")
        finally:
            self._runner = None
            self._visits.end("client stopped")

    def stop(self) -> None:
        """End ``run`` and every visitor's connection. Idempotent."""
        if self._runner is not None:
            gevent.kill(self._runner)

    def _resolve_upstream(self) -> None:
        try:
            self._upstream.resolve()
        except NetworkError as error:
            log.warning("target does not resolve", extra={"target": str(self._upstream), "detail": str(error)})

    def _run_sessions(self) -> NoReturn:
        tries = 1
        while True:
            version = self._fallback.version
            session = self._new_session(version)
            backend: HostPort | None = None
            failure: LocaltunnelError | None
            self._retry.begin(self._link.addresses or literals(self._server.host, self._server.port))
            try:
                backend = self._backend()
                if self._adopt_token(backend):
                    session = self._new_session(version)
                session.run(backend, self._opened)
            except (NetworkError, ProtocolError, RefusedError) as error:
                failure = error if backend is None else self._fallback.explain(session, backend, error)
            if failure is None:
                continue
            self._fallback.reset()
            if isinstance(failure, NameUnavailable) and self._may_be_own_ghost(version):
                continue
            if isinstance(failure, NotAllowed):
                self._patterns = failure.names
            if _is_about_its_name(failure) and self._has_another_name(tries):
                tries += 1
                self._fallback.version = version
                continue
            self._wait_to_retry(session, failure)

    def _new_session(self, version: Version) -> Session:
        request = self._request(version)
        return Session(
            self._config, version, request, self._link, self._visits, self._report, self._token, self._round_trip
        )

    def _adopt_token(self, backend: HostPort) -> bool:
        """Look for a stored token of this server, once; return whether the client uses
        one from now on."""
        if self._find_token is None:
            return False
        find, self._find_token = self._find_token, None
        token = find(backend)
        if token is None or not self._link.trust.introduce(token.fingerprint):
            return False
        self._token, self._key = token, None
        return True

    def _request(self, version: Version) -> ControlRequest:
        config = self._config
        if not version.has_sessions:
            if not self._chosen:
                # To a server of 2013 a hyphen ends the name.
                self._name = self._name.replace("-", "")
            return ControlRequest(self._name, f"{self._user};{self._instance}")
        return ControlRequest(
            self._name,
            self._user,
            domain=config.domain,
            instance=self._instance,
            kind=config.kind,
            port=config.remote_port,
            resume=self._session,
            owner=self._key,
            takeover=True if config.takeover and not self._ever_opened else None,
            options=to_wire(self._options) or None,
        )

    def _own_key(self) -> str | None:
        """Return the key that owns this client's names, unless a token does, or the
        link is not encrypted."""
        if self._token is not None or self._config.insecure:
            return None
        try:
            return owner_key(data_directory(self._config.data_dir, os.environ), self._config.server)
        except ConfigError as error:
            log.warning(
                "names are kept only briefly, because there is no key to own them", extra={"detail": str(error)}
            )
            return None

    def _may_be_own_ghost(self, version: Version) -> bool:
        """Return whether to try LTP/0.3 once more, since this client may hold the name
        that LTP/0.2 was refused.

        A link that is cut between an LTP/0.3 request and its reply looks like an old
        server. It leaves a lease behind that an LTP/0.2 request cannot use.
        """
        if version.leases or self._was_refused_at_0_2:
            return False
        self._was_refused_at_0_2 = True
        return True

    def _has_another_name(self, tries: int) -> bool:
        """Choose another generated name, one that the token covers if that is known;
        return whether there is one."""
        if self._chosen or self._ever_opened or tries >= GENERATED_TRIES:
            return False
        fitting = [pattern for pattern in self._patterns if pattern != self._name]
        name = names.generate_for(fitting) if self._patterns else names.generate()
        if name is None:
            return False
        self._name = name
        return True

    def _backend(self) -> HostPort:
        if self._config.backend is not None:
            return parse_backend(self._config.backend, self._server.host)
        return discover_backend(self._server, Deadline(self._config.timeouts.connect))

    def _opened(self, reply: ControlReply) -> None:
        self._session = reply.session
        self._was_refused_at_0_2 = False
        url = reply.url or f"http://{reply.host}"
        also = (reply.also or ())[:MAX_ALSO]
        self._report(TunnelOpened(url, self._name, str(self._upstream), reply.banner, self._ever_opened, also))
        self._ever_opened = True

    def _wait_to_retry(self, session: Session, error: LocaltunnelError) -> None:
        """Report ``error`` and wait for the next attempt. Raises it if there is to be
        none."""
        if session.opened:
            self._ghost = Deadline(GHOST_PATIENCE)
        if self._is_final(error):
            raise error
        delay = self._retry.delay(session.lasted, error)
        # After a first success the settings are known to be right: no advice on them.
        message = error.fact if self._ever_opened else str(error)
        self._report(TunnelLost(error.code, message, delay))
        self._retry.wait(delay, error)

    def _is_final(self, error: LocaltunnelError) -> bool:
        if isinstance(error, NameUnavailable | LimitReached):
            return not self._config.retry or self._ghost.remaining() == 0.0
        if isinstance(error, AuthThrottled):
            return not self._config.retry
        return isinstance(error, FINAL) or not self._config.retry


def _is_about_its_name(failure: LocaltunnelError) -> bool:
    return isinstance(failure, NameUnavailable) or (isinstance(failure, NotAllowed) and bool(failure.names))


def _trust(config: ClientConfig, server: str, token: Token | None) -> Trust:
    """Return how the server is verified. Raises ConfigError for a fingerprint that is
    invalid, or of no use."""
    if config.insecure and config.fingerprint is not None:
        raise ConfigError("--insecure leaves no key to compare with --fingerprint; leave one of the two out.")
    pinned = None if config.fingerprint is None else parse_fingerprint(config.fingerprint)
    known = KnownServers(data_directory(config.data_dir, os.environ))
    return Trust(server, known, pinned=pinned, introduced=None if token is None else token.fingerprint)
