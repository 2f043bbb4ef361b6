"""Reaching the server's backend: over TLS, with a server that is trusted, or without
encryption."""

import time
from collections.abc import Sequence

from localtunnel.client.trust.trust import Trust
from localtunnel.errors import CertificateUnknown, CertificateUntrusted
from localtunnel.net import closing
from localtunnel.net.address import HostPort
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, Dialler, dial, resolve
from localtunnel.net.sockets import Socket
from localtunnel.net.tls.connect import connect
from localtunnel.net.tls.context import Context, Ticket, certificate_of, client_context, is_tls, session_of
from localtunnel.protocol.version import LTP_0_2, Version

TICKET_AGE = 600.0
"""Seconds after which a fresh ticket replaces the last one. A server forgets its
tickets when it restarts, and after two hours. Keeping one costs more than it saves on
one handshake, so not every ticket is kept."""


class Link:
    """Connects to one server. Its control connection comes first, and decides how the
    others are made."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._contexts: dict[bool, Context] = {}
        self._by_roots = True
        self.addresses: Sequence[Address] = ()
        """The addresses of the backend, as last resolved."""
        self._host = ""
        self._session: Ticket | None = None
        self._session_since = 0.0

    def connect(self, backend: HostPort, deadline: Deadline, *, encrypted: bool) -> tuple[Socket, Address]:
        """Block the greenlet until the backend is connected and verified; the caller
        closes the socket.

        Raises a NetworkError, a TrustError, or ConfigError for a file of known servers
        that cannot be read.
        """
        self.trust.look_up()
        addresses = self.addresses = resolve([backend.host], backend.port, deadline)
        if not encrypted:
            self.trust.check_plain()
            return dial(addresses, deadline)
        self._host = backend.host
        self._use(by_roots=self.trust.by_roots)
        try:
            return self.dial(addresses, deadline)
        except CertificateUntrusted as error:
            self.trust.fall_back(error, unknown_authority=isinstance(error, CertificateUnknown))
        self._use(by_roots=False)
        return self.dial(addresses, deadline)

    def dialler(self, control: Socket) -> Dialler | None:
        """Return what dials further connections as ``control`` was made: None where
        plain TCP is enough."""
        return self.dial if is_tls(control) else None

    def dial(self, addresses: Sequence[Address], deadline: Deadline) -> tuple[Socket, Address]:
        """Connect as ``connect`` did last, and verify the server before anything is
        sent.

        Raises a NetworkError or a TrustError; the connection is closed then.
        """
        # Another attempt may change it while this one waits.
        by_roots = self._by_roots
        sock, address = connect(addresses, deadline, self._context(by_roots=by_roots), self._host, self._session)
        try:
            self.trust.check(certificate_of(sock), by_roots=by_roots)
        except BaseException:
            closing.close(sock)
            raise
        return sock, address

    def accepted(self, control: Socket, version: Version) -> str | None:
        """Remember the server, which has opened the tunnel in ``version``.

        Returns its fingerprint if that was pinned now.
        """
        if not is_tls(control):
            if version is not LTP_0_2:
                self.trust.remember_plain()
            return None
        self.keep_session(control)
        return self.trust.remember(certificate_of(control), by_roots=self._by_roots)

    def keep_session(self, sock: Socket) -> None:
        """Keep the ticket of ``sock``, which has received bytes, unless the last one is
        fresh enough."""
        now = time.monotonic()
        if self._session is None or now - self._session_since > TICKET_AGE:
            session = session_of(sock)
            if session is not None and session.has_ticket:
                self._session, self._session_since = session, now

    def _use(self, *, by_roots: bool) -> None:
        """Verify by roots or by key from now on; a session of the other way cannot be
        resumed."""
        if by_roots != self._by_roots:
            self._by_roots = by_roots
            self._session = None

    def _context(self, *, by_roots: bool) -> Context:
        if by_roots not in self._contexts:
            self._contexts[by_roots] = client_context(roots=by_roots)
        return self._contexts[by_roots]
