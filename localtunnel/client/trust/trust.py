"""Whether the server is the one that the user named: by this machine's authorities, or by a key that is pinned.

The first time it is verified by the authorities or, where none has signed its certificate, taken as it is, as ssh does;
how is written down under the name that the user typed. From then on it has to be verified in that way: a server that
was once verified by the authorities never gets away with a key, nor a pinned one with another key.
"""

import logging

from localtunnel.client.trust.known_servers import Known, KnownServers, Mode
from localtunnel.errors import CertificateUntrusted, ConfigError, DowngradeRefused, KeyChanged
from localtunnel.net.tls.keys import fingerprint

log = logging.getLogger("localtunnel.client")


class Trust:
    """What makes ``server`` the right one.

    ``pinned`` is a fingerprint that the user named: it counts before anything that is written down. ``introduced`` is
    one that came with a token: it counts for the first contact with a server that no authority has verified.
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
        """Known without encryption: enough to hold it to its version, and nothing to verify it by."""
        self._checked = b""
        self._looked_up = False
        self._complaint = ""

    def look_up(self) -> None:
        """Read again what is written down, before a connection is made.

        Raises ConfigError the first time. Later on a file that cannot be relied on ends no tunnel: what was read
        before is known, and the user is warned, once for each reason.
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
        """Let the fingerprint of a token that was found later count as one that came with it.

        False where the server is known by another key: then the token is another server's. Raises ConfigError.
        """
        self.look_up()
        known = self._pinned or (None if self._known is None else self._known.fingerprint)
        if known not in (None, fingerprint):
            return False
        self._introduced = fingerprint
        return True

    @property
    def is_bound(self) -> bool:
        """Whether the server can be told from another one, so that it is never to be used without encryption."""
        return not (self._known is None and self._pinned is None and self._introduced is None)

    @property
    def was_met(self) -> bool:
        """Whether the server has ever opened a tunnel in LTP/0.3 for a client of this user, encrypted or not."""
        return self._met is not None or self._known is not None

    @property
    def line(self) -> str:
        """Where it is written down that the server was met."""
        known = self._known or self._met
        return f"its line in {self.path}" if known is None else self._where(known)

    @property
    def by_roots(self) -> bool:
        """Whether the server is to be verified by the authorities that this machine knows."""
        return self._pinned is None and (self._known is None or self._known.mode == "roots")

    def check_plain(self) -> None:
        """Raise DowngradeRefused where the server is not to be used without encryption."""
        if self._known is not None:
            raise DowngradeRefused(
                f"The server {self.server} has been used with encryption before, so it is not used without. "
                f"Leave --insecure out, or remove {self._where(self._known)} if its operator has given encryption up."
            )

    def fall_back(self, error: CertificateUntrusted, *, unknown_authority: bool) -> None:
        """Decide whether a server that the authorities do not verify may be known by its key. Raises TrustError."""
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
        """Look at what the server shows, a DER certificate that is verified if ``by_roots``. Raises TrustError."""
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
        """Return the fingerprint that the server has to have, if any, who says so, and what the user can do."""
        ask = "Ask its operator (lt-server fingerprint prints it)"
        if self._pinned is not None:
            return self._pinned, "the one that you gave", f"{ask}."
        if self._known is not None:
            line = self._where(self._known)
            return self._known.fingerprint, f"the one in {line}", f"{ask}, and if the new one is right, remove {line}."
        return self._introduced, "the one of your token", f"{ask}, and for a new token if the key was replaced."

    def remember(self, certificate: bytes, *, by_roots: bool) -> str | None:
        """The server has proved to be one. Write down by what it is known, and return the fingerprint if that is new.

        Where that cannot be written down, the next run will meet the server as if for the first time: a warning.
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
        """The server has opened a tunnel in LTP/0.3 without encryption: it is never spoken to below that again."""
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
