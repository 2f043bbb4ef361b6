"""The tokens that ``lt-client login`` has stored, one for each server, in a file that only its owner may read."""

from pathlib import Path

import msgspec

from localtunnel import files
from localtunnel.errors import ConfigError
from localtunnel.net.address import parse_server
from localtunnel.protocol import token
from localtunnel.protocol.token import Token

FILE = "credentials.json"

_decoder = msgspec.json.Decoder(dict[str, str])


class Credentials:
    """The stored tokens in ``directory``. A server is what the user typed, its port included. Raises ConfigError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / FILE

    def find(self, server: str) -> Token | None:
        """Return the token for ``server``, or None when none is stored."""
        text = self._read().get(_key(server))
        return None if text is None else token.parse(text)

    def store(self, server: str, new: Token) -> None:
        """Keep ``new`` for ``server``, in the place of the one that was there."""
        files.make_directory(self._directory)
        with files.locked(self.path):
            self._write({**self._read(), _key(server): new.text()})

    def forget(self, server: str) -> bool:
        """Remove the token for ``server``, and say whether there was one."""
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
