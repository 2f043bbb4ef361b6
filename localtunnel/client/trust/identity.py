"""The identity of this client: for the server's log, to tell two clients of one laptop
apart, and to own names."""

import getpass
import hashlib
import hmac
import platform
import re
import secrets
from pathlib import Path

from localtunnel import files
from localtunnel.errors import ConfigError
from localtunnel.net.address import parse_server
from localtunnel.protocol.limits import MAX_CLIENT_ID

KEY_FILE = "owner.key"

KEY_BYTES = 32
"""Bytes of the key in that file: 256 random bits, as many as the digests that are made
of it."""

_KEY = re.compile(rb"[0-9a-f]{%d}\n?" % (2 * KEY_BYTES))


def user_at_host() -> str:
    """Return ``user@host;System``, printable and within the protocol's limit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    text = f"{user}@{platform.node() or 'unknown'};{platform.system()}"
    return "".join(char if char.isprintable() else "?" for char in text)[: MAX_CLIENT_ID // 2]


def new_instance() -> str:
    """Return a unique name for this run of the client."""
    return secrets.token_hex(8)


def owner_key(directory: Path, server: str) -> str:
    """Return the key that owns this user's names on ``server``, which is named as the
    user typed it.

    It is an HMAC of the server's name under the key in ``directory``, which never
    leaves this machine and is made when there is none. So each server gets a key that
    is of no use with another server. Raises ConfigError.
    """
    path = directory / KEY_FILE
    # An existing key needs no lock, which a read-only file system could not hold.
    data = files.read(path) or _make_key(path)
    if not _KEY.fullmatch(data):
        raise ConfigError(
            f"The file {path} is damaged; remove it. A new key is made then, and the names of the old one become free "
            "within ten minutes."
        )
    return hmac.new(bytes.fromhex(data.decode()), str(parse_server(server)).encode(), hashlib.sha256).hexdigest()


def _make_key(path: Path) -> bytes:
    """Make the file ``path``, unless another process was faster, and return its
    content."""
    files.make_directory(path.parent)
    with files.locked(path):
        data = files.read(path)
        if data is None:
            data = secrets.token_hex(KEY_BYTES).encode() + b"\n"
            files.replace(path, data)
    return data
