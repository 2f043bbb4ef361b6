"""The servers that this user's clients have met, and how each is recognised: a file
that people can edit.

Each has a line: its name as the user typed it, how it was verified (``pin``, ``roots``,
or ``clear`` for one met without encryption), the fingerprint of a pinned key (else
``-``), and the oldest version of LTP to speak to it.
"""

from pathlib import Path
from typing import Literal, NamedTuple, get_args

from localtunnel import files
from localtunnel.errors import ConfigError
from localtunnel.net.tls.keys import parse_fingerprint

FILE = "known-servers"

OLDEST_VERSION = "0.3"
"""A server that has spoken LTP/0.3 is never asked in LTP/0.2, which has neither
sessions nor encryption."""

NO_FINGERPRINT = "-"

_HEADING = b"""\
# The servers that lt-client has met: name, mode, fingerprint, oldest version of LTP that is spoken to it.
# Remove a line to meet that server anew, for example when its owner has told you that its key was replaced.
"""

Mode = Literal["pin", "roots", "clear"]

_MODES: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}


class Known(NamedTuple):
    """An entry of the file. ``line`` is its number, from 1."""

    mode: Mode
    fingerprint: str | None
    line: int


class KnownServers:
    """The file ``known-servers`` in the client's data directory. It is read each time,
    since other clients write it too."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE

    def find(self, server: str) -> Known | None:
        """Return the entry of ``server``, or None. Raises ConfigError when the file
        cannot be read or understood."""
        for number, line in enumerate(self._lines(), 1):
            if line.strip() and not line.startswith("#"):
                name, known = self._parse(line, number)
                if name == server:
                    return known
        return None

    def remember(self, server: str, mode: Mode, fingerprint: str | None) -> None:
        """Write an entry for ``server``, in place of an older one. Raises
        ConfigError."""
        files.make_directory(self.path.parent)
        with files.locked(self.path):
            lines = self._lines() or _HEADING.decode().splitlines()
            kept = [line for line in lines if line.split()[:1] != [server]]
            kept.append(f"{server} {mode} {fingerprint or NO_FINGERPRINT} {OLDEST_VERSION}")
            files.replace(self.path, "".join(f"{line}\n" for line in kept).encode())

    def _lines(self) -> list[str]:
        # Names and fingerprints are not secret, but their writer chooses which servers
        # are trusted.
        data = files.read(self.path, secret=False)
        try:
            return files.text_of(data or b"").splitlines()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path} is not text; repair or remove it.") from error

    def _parse(self, line: str, number: int) -> tuple[str, Known]:
        words = line.split()
        mode = _MODES.get(words[1]) if len(words) == 4 else None
        if mode is None or words[3] != OLDEST_VERSION:
            raise ConfigError(f"{self.path}, line {number}: expected NAME MODE FINGERPRINT {OLDEST_VERSION}.")
        if mode != "pin":
            return words[0], Known(mode, None, number)
        try:
            return words[0], Known("pin", parse_fingerprint(words[2]), number)
        except ConfigError as error:
            raise ConfigError(f"{self.path}, line {number}: {error}") from None
