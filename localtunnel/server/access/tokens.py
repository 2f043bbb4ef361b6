"""The tokens of a server and their rights, in a file in the data directory.

The file cannot be used to log in (``protocol.login.scram``). It is read and replaced as
a whole: by ``edit`` in commands, each a process of its own, and by ``TokenStore`` in
the running server, which checks now and then whether it has changed.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from localtunnel import files
from localtunnel.errors import AuthFailed, ConfigError, NotAllowed, TokenExpired
from localtunnel.protocol.login import scram, token
from localtunnel.protocol.login.scram import Credentials
from localtunnel.protocol.login.token import Token
from localtunnel.protocol.messages import Kind

log = logging.getLogger("localtunnel.server")

FILE = "tokens.json"

DECOY_KEY_SIZE = 32
"""The size of the secret that gives unknown ids their salt: that of the digest."""

Limit = Annotated[int, Meta(ge=1)]


class TokenRecord(Struct, frozen=True, kw_only=True):
    """A token without its secret.

    ``names`` are globs, times are seconds since 1970, and None is no limit.
    """

    id: str
    label: str = ""
    created: float
    expires: float | None = None
    names: tuple[str, ...] = ("*",)
    kinds: tuple[Kind, ...] = ("http", "tcp")
    reserved: tuple[str, ...] = ()
    """Names that only this token gets, even while it does not use them."""
    max_tunnels: Limit | None = None
    max_connections: Limit | None = None
    """Visitors at a time, in all its tunnels together."""
    bandwidth: Limit | None = None
    """Bytes per second, in both directions and all its tunnels together."""
    credentials: Credentials

    def check_current(self, now: float) -> None:
        """Raise TokenExpired if the token has expired."""
        if self.expires is not None and now >= self.expires:
            raise TokenExpired("This token has expired; ask the server's operator for a new one.")

    def check_allows(self, name: str, kind: Kind, host: str | None = None) -> None:
        """Raise NotAllowed unless the token covers such a tunnel.

        A name that it reserves is always covered.
        """
        if kind not in self.kinds:
            raise NotAllowed(f"This token does not allow {kind} tunnels, only {' and '.join(self.kinds)}.")
        for option, wanted in (("--name", name.lower()), ("--domain", host and host.lower().rstrip("."))):
            if wanted and wanted not in self.reserved and not any(fnmatchcase(wanted, glob) for glob in self.names):
                allowed = (*self.names, *self.reserved)
                raise NotAllowed(
                    f"This token does not cover the name {wanted!r}, only {', '.join(allowed)}. Choose a name that it "
                    f"covers, with {option}.",
                    allowed if wanted == name.lower() else (),
                )


class _Content(Struct, kw_only=True):
    decoy_key: bytes
    tokens: tuple[TokenRecord, ...] = ()


_decoder = msgspec.json.Decoder(_Content)


@contextmanager
def edit(directory: Path) -> Iterator[dict[str, TokenRecord]]:
    """Lend the tokens of ``directory`` by id, and write the mapping back afterwards.

    Other editors wait in the meantime. If the block raises, nothing changes. Raises
    ConfigError.
    """
    files.make_directory(directory)
    path = directory / FILE
    with files.locked(path):
        content = _read(path) or _Content(decoy_key=secrets.token_bytes(DECOY_KEY_SIZE))
        records = {record.id: record for record in content.tokens}
        yield records
        content.tokens = tuple(records.values())
        files.replace(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def read(directory: Path) -> tuple[TokenRecord, ...]:
    """Return the tokens of ``directory``, or none if there is no file.

    Raises ConfigError.
    """
    content = _read(directory / FILE)
    return content.tokens if content is not None else ()


def create(
    directory: Path, fingerprint: str, hand_over: Callable[[Token, TokenRecord], None] | None = None, **allowed: Any
) -> tuple[Token, TokenRecord]:
    """Make a token for the server with this ``fingerprint``, and write its record.

    ``allowed`` are fields of the record. The token itself is returned and stored
    nowhere. ``hand_over``, if given, is called with both before the record is written.
    If it raises, nothing is written, since nobody has seen the token. Raises
    ConfigError.
    """
    secret = token.base32(secrets.token_bytes(token.SECRET_LENGTH))[: token.SECRET_LENGTH]
    kept = scram.credentials(secret, secrets.token_bytes(scram.SALT_SIZE))
    with edit(directory) as records:
        name = _unused_id(records)
        record = TokenRecord(id=name, created=time.time(), credentials=kept, **allowed)
        check_reserved(record, records)
        records[name] = record
        made = Token(name, secret, fingerprint)
        if hand_over is not None:
            hand_over(made, record)
    return made, record


def check_reserved(record: TokenRecord, records: dict[str, TokenRecord]) -> None:
    """Raise ConfigError if another token reserves a name that ``record`` does."""
    for other in records.values():
        taken = set(record.reserved) & set(other.reserved)
        if other.id != record.id and taken:
            raise ConfigError(f"The name {min(taken)!r} is already reserved for the token {other.id}.")


def _unused_id(records: dict[str, TokenRecord]) -> str:
    while True:
        name = token.base32(secrets.token_bytes(token.ID_LENGTH))[: token.ID_LENGTH]
        if name not in records:
            return name


class TokenStore:
    """The tokens of the running server. Without a file, the server is open to all.

    Once it has read a file, it requires a token until its next start. If the file is
    lost or damaged, the last tokens stay in force. A file without tokens admits no
    client.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / FILE
        self._clock = clock
        self._content: _Content | None = None
        self._records: dict[str, TokenRecord] = {}
        self._reserved: dict[str, str] = {}
        self._seen: files.Stamp | None = None

    def load(self) -> None:
        """Read the file at the start. Raises ConfigError if it is damaged."""
        self._seen = files.stamp(self._path)
        self._take(_read(self._path))

    def refresh(self) -> bool:
        """Read the file again if it has changed, and say whether it has.

        Never raises. Costs one stat if nothing has changed.
        """
        stamp = files.stamp(self._path)
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            content = _read(self._path)
        except ConfigError as error:
            log.error("tokens not read again, the last ones stay in force", extra={"detail": str(error)})
            return False
        if content is None:
            if self._content is not None:
                log.error("the file of tokens is gone, the last ones stay in force", extra={"file": str(self._path)})
            return False
        self._take(content)
        log.info("tokens read again", extra={"tokens": len(self._records)})
        return True

    def exist(self) -> bool:
        """Whether this server requires tokens.

        It does once one was made, even if none is left.
        """
        return self._content is not None

    def find(self, name: str) -> TokenRecord | None:
        """Return the record of a token's id."""
        return self._records.get(name)

    def credentials(self, name: str) -> Credentials:
        """Return the credentials for ``name``.

        For an unknown id, some that no proof matches.
        """
        key = self._content.decoy_key if self._content is not None else _OPEN_DECOY_KEY
        # Computed in both cases, so that the time reveals nothing.
        nobody = scram.decoy(key, name)
        record = self._records.get(name)
        return nobody if record is None else record.credentials

    def reserved_for(self, name: str) -> str | None:
        """Return the id of the token that reserves ``name``."""
        return self._reserved.get(name.lower())

    def current(self, name: str) -> TokenRecord:
        """Return the record of a valid token. Raises AuthFailed and TokenExpired."""
        record = self._records.get(name)
        if record is None:
            raise AuthFailed("This token was revoked; ask the server's operator for a new one.")
        record.check_current(self._clock())
        return record

    def _take(self, content: _Content | None) -> None:
        self._content = content
        self._records = {record.id: record for record in content.tokens} if content is not None else {}
        self._reserved = {name: record.id for record in self._records.values() for name in record.reserved}


_OPEN_DECOY_KEY = secrets.token_bytes(DECOY_KEY_SIZE)
"""For an open server, which has no file. A client with a token gets the same answer as
one with a wrong token."""


def _read(path: Path) -> _Content | None:
    data = files.read(path)
    if data is None:
        return None
    try:
        content = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"The file {path} is damaged: {error}. Restore it from a copy.") from error
    return content
