"""The server's certificate and key: the operator's files, or a key that the server
made.
"""

import logging
import os
from pathlib import Path

from localtunnel import files
from localtunnel.errors import ConfigError
from localtunnel.net.tls import keys
from localtunnel.net.tls.context import ServerContext, server_context
from localtunnel.server.config import ServerConfig

log = logging.getLogger("localtunnel.server")

OWN_FILE = "tls.pem"
"""The server's own key and its certificate, in the data directory. They share one file,
so that both change in one step."""


class Certificate:
    """The certificate for new TLS handshakes.

    Open connections keep the one they began with. ``is_own`` says that the server made
    it: no authority has signed it, so clients can recognise the server only by the
    key's fingerprint.
    """

    context: ServerContext

    def __init__(self, config: ServerConfig) -> None:
        self._certificate, self._key = _paths(config)
        self.is_own = not config.tls_certificate
        self._domain = config.domain
        self._stamps: list[files.Stamp | None] = []

    def load(self) -> None:
        """Load the files, or make the server's own key if there is none.

        Raises ConfigError.
        """
        if self.is_own:
            _make_own(self._certificate, self._domain)
        self._stamps = self._look()
        self.context = server_context(self._certificate, self._key)

    @property
    def fingerprint(self) -> str:
        """The value that clients pin: ``SHA256:`` and the digest of the public key."""
        return self.context.fingerprint

    def refresh(self) -> None:
        """Load the files again if they have changed.

        If they are invalid, log and keep the old ones. A certificate and its key are
        replaced one after the other. In between, the two do not belong together; they
        are loaded when the second has changed as well.
        """
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self.context = server_context(self._certificate, self._key)
        except ConfigError as error:
            log.error("certificate not loaded, the old one stays", extra={"detail": str(error)})
        else:
            log.info("certificate loaded", extra={"fingerprint": self.fingerprint})

    def _look(self) -> list[files.Stamp | None]:
        return [files.stamp(path) for path in (self._certificate, self._key)]


def fingerprint(config: ServerConfig) -> str:
    """Return the fingerprint of a server with ``config``.

    Makes its key if there is none. Raises ConfigError.
    """
    certificate = Certificate(config)
    certificate.load()
    return certificate.fingerprint


def check_named(config: ServerConfig) -> None:
    """Load the files that ``config`` names, if it names any.

    Raises ConfigError for those that cannot be used.
    """
    certificate = Certificate(config)
    if not certificate.is_own:
        certificate.load()


def _paths(config: ServerConfig) -> tuple[Path, Path]:
    if config.tls_key and not config.tls_certificate:
        raise ConfigError("tls_key is set without tls_certificate; set both.")
    if not config.tls_certificate:
        own = files.data_directory(config.data_dir, os.environ) / OWN_FILE
        return own, own
    certificate = Path(config.tls_certificate).expanduser()
    return certificate, Path(config.tls_key).expanduser() if config.tls_key else certificate


def _make_own(path: Path, domain: str) -> None:
    """Make the server's own key unless there is one.

    A key that others may read is refused.
    """
    files.make_directory(path.parent)
    if files.read(path) is not None:
        return
    with files.locked(path):
        if files.read(path) is None:
            files.replace(path, keys.make_self_signed(domain))
            log.info("key made", extra={"file": str(path)})
