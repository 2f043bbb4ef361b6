"""The tokens that ``lt-client login`` has stored, one for each server, in a file that
only its owner may read.

The file is in the order of the logins: a client without a server uses that of the last
one.
"""

from pathlib import Path

import msgspec

from localtunnel import files
from localtunnel.errors import ConfigError
from localtunnel.net.address import ServerAddress, parse_server
from localtunnel.protocol.login import token
from localtunnel.protocol.login.token import Token

FILE = "credentials.json"

_decoder = msgspec.json.Decoder(dict[str, str])


class Credentials:
    """The stored tokens in ``directory``, by server as the user typed it, with its
    port. Raises ConfigError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / FILE

    def find(self, server: str) -> Token | None:
        """Return the token for ``server``, or None when none is stored."""
        text = self._read().get(_key(server))
        return None if text is None else token.parse(text)

    def latest(self) -> str | None:
        """Return the server of the last login that is still stored, or None."""
        return next(reversed(self._read()), None)

    def others_on(self, host: str) -> list[tuple[ServerAddress, Token]]:
        """Return the servers on ``host`` for which a token is stored, whatever their
        port, and the tokens."""
        stored = [(parse_server(server), text) for server, text in self._read().items()]
        return [(server, token.parse(text)) for server, text in stored if server.host == host]

    def store(self, server: str, new: Token) -> None:
        """Store ``new`` for ``server`` as the last login, in place of an older
        token."""
        files.make_directory(self._directory)
        with files.locked(self.path):
            kept = self._read()
            kept.pop(_key(server), None)
            self._write({**kept, _key(server): new.text()})

    def forget(self, server: str) -> bool:
        """Remove the token for ``server``; return whether there was one."""
        if not self._read():
            return False
        with files.locked(self.path):
            kept = self._read()
            found = kept.pop(_key(server), None)
            if found is not None:
                self._write(kept)
        return found is not None

    def _read(self) -> dict[str, str]:
        data = files.read(self.path)
        if data is None:
            return {}
        try:
            return _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ConfigError(f"The file {self.path} is damaged; remove it, and log in again.") from None

    def _write(self, kept: dict[str, str]) -> None:
        files.replace(self.path, msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def _key(server: str) -> str:
    return str(parse_server(server))
