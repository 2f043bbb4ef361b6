"""Whether the server is the one that the user named: verified by this machine's
authorities, or by a pinned key.

At the first contact it is verified by the authorities or, if none has signed its
certificate, trusted as ssh trusts a new host. The way is recorded under the name that
the user typed, and holds from then on: a server once verified by the authorities is
never accepted by a key, nor a pinned one with another key.
"""

import logging

from localtunnel.client.trust.known_servers import Known, KnownServers, Mode
from localtunnel.errors import CertificateUntrusted, ConfigError, DowngradeRefused, KeyChanged
from localtunnel.net.tls.keys import fingerprint

log = logging.getLogger("localtunnel.client")


class Trust:
    """Decides whether ``server`` is the right one.

    ``pinned`` is a fingerprint that the user gave; it overrides the file of known
    servers. ``introduced`` is one that came with a token; it counts at the first
    contact with a server that no authority has verified.
    """

    def __init__(
        self, server: str, known: KnownServers, *, pinned: str | None = None, introduced: str | None = None
    ) -> None:
        self.server = server
        self.path = known.path
        self._known_servers = known
        self._pinned = pinned
        self._introduced = introduced
        self._known: Known | None = None
        self._met: Known | None = None
        """Known without encryption: that holds it to its version, and does not verify
        it."""
        self._checked = b""
        self._looked_up = False
        self._complaint = ""

    def look_up(self) -> None:
        """Read the file of known servers again, before a connection is made.

        Raises ConfigError the first time. Later a damaged file does not end the tunnel:
        the entry that was read before holds, and the user is warned, once for each
        reason.
        """
        self._checked = b""
        try:
            found = self._known_servers.find(self.server)
        except ConfigError as error:
            if not self._looked_up:
                raise
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.warning("known servers not read again", extra={"server": self.server, "detail": self._complaint})
            return
        self._looked_up = True
        if found is not None and found.mode == "clear":
            self._met = found
        else:
            self._known = found or self._known

    def introduce(self, fingerprint: str) -> bool:
        """Accept the fingerprint of a token that was found later.

        Returns False if the server has another key, since the token is then for another
        server. Raises ConfigError.
        """
        self.look_up()
        known = self._pinned or (None if self._known is None else self._known.fingerprint)
        if known not in (None, fingerprint):
            return False
        self._introduced = fingerprint
        return True

    @property
    def is_bound(self) -> bool:
        """Whether the server's identity is known, so that it must not be used without
        encryption."""
        return not (self._known is None and self._pinned is None and self._introduced is None)

    @property
    def was_met(self) -> bool:
        """Whether the server ever opened a tunnel in LTP/0.3 for this user, encrypted
        or not."""
        return self._met is not None or self._known is not None

    @property
    def line(self) -> str:
        """The line of the file of known servers, for messages."""
        known = self._known or self._met
        return f"its line in {self.path}" if known is None else self._where(known)

    @property
    def by_roots(self) -> bool:
        """Whether to verify the server by this machine's authorities."""
        return self._pinned is None and (self._known is None or self._known.mode == "roots")

    def check_plain(self) -> None:
        """Raise DowngradeRefused if the server must not be used without encryption."""
        if self._known is not None:
            raise DowngradeRefused(
                f"The server {self.server} has been used with encryption before, so it is not used without. "
                f"Leave --insecure out, or remove {self._where(self._known)} if its operator has given encryption up."
            )

    def fall_back(self, error: CertificateUntrusted, *, unknown_authority: bool) -> None:
        """Raise TrustError unless a server that the authorities do not verify may be
        pinned by its key."""
        if self._known is not None:
            raise KeyChanged(
                f"The server {self.server} was verified by a certificate authority before, and cannot be now. "
                f"{error} The connection may be intercepted. If its operator has told you that it has its own key now, "
                f"remove {self._where(self._known)}."
            ) from error
        if not unknown_authority and self._introduced is None:
            raise CertificateUntrusted(
                f"{error} Check the server's name and the clock of this machine, or ask its operator for the "
                "fingerprint of its key (lt-server fingerprint) and give it with --fingerprint."
            ) from error

    def check(self, certificate: bytes, *, by_roots: bool) -> None:
        """Check the server's DER certificate, which is verified already if
        ``by_roots``. Raises TrustError."""
        if by_roots or certificate == self._checked:
            return
        found = fingerprint(certificate)
        expected, source, way_out = self._expected()
        if expected is not None and found != expected:
            raise KeyChanged(
                f"The server {self.server} has the key {found}, which is not {source}: {expected}. Either its key was "
                f"replaced, or the connection is intercepted; nothing was sent. {way_out}"
            )
        self._checked = certificate

    def _expected(self) -> tuple[str | None, str, str]:
        """Return the expected fingerprint, if any, its source, and advice for the
        user."""
        ask = "Ask its operator (lt-server fingerprint prints it)"
        if self._pinned is not None:
            return self._pinned, "the one that you gave", f"{ask}."
        if self._known is not None:
            line = self._where(self._known)
            return self._known.fingerprint, f"the one in {line}", f"{ask}, and if the new one is right, remove {line}."
        return self._introduced, "the one of your token", f"{ask}, and for a new token if the key was replaced."

    def remember(self, certificate: bytes, *, by_roots: bool) -> str | None:
        """Record how the server was verified, once it has opened a tunnel; return the
        fingerprint if it was pinned now.

        If that cannot be written, the user is warned, and the next run meets the server
        as if for the first time.
        """
        if self._known is not None and self._known.mode == "roots":
            return None
        key = None if by_roots else fingerprint(certificate)
        mode: Mode = "roots" if by_roots else "pin"
        if self._known is not None and (self._known.mode, self._known.fingerprint) == (mode, key):
            return None
        self._known = Known(mode, key, 0)
        self._write_down(mode, key)
        return key

    def remember_plain(self) -> None:
        """Record that the server speaks LTP/0.3, though without encryption: it is not
        asked in LTP/0.2 any more."""
        if not self.was_met:
            self._met = Known("clear", None, 0)
            self._write_down("clear", None)

    def _write_down(self, mode: Mode, key: str | None) -> None:
        try:
            self._known_servers.remember(self.server, mode, key)
        except ConfigError as error:
            log.warning("server not remembered", extra={"server": self.server, "detail": str(error)})

    def _where(self, known: Known) -> str:
        return f"line {known.line} of {self.path}" if known.line else f"its line in {self.path}"
