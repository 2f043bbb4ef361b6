"""Files that people write, or may have damaged: settings, known servers, stored tokens."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from localtunnel.cli.settings.config import client_config, server_config
from localtunnel.client.trust.credentials import Credentials
from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.errors import ConfigError
from localtunnel.server.access import tokens
from localtunnel.server.access.tokens import TokenStore

SERVER_NAME = "example.com"

_directory = tempfile.TemporaryDirectory(prefix="localtunnel-fuzz-")


def _written(name: str, data: bytes) -> Path:
    """Return a private file that holds ``data``."""
    path = Path(_directory.name, name)
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def server_settings(data: bytes) -> None:
    """A server.toml: taken, or refused with a sentence that names the file."""
    path = _written("server.toml", data)
    _refused_by_name(path, lambda: server_config({"--config": str(path)}, {}))


def client_settings(data: bytes) -> None:
    """A client.toml."""
    path = _written("client.toml", data)
    _refused_by_name(path, lambda: client_config({"--config": str(path)}, {}))


def known_servers(data: bytes) -> None:
    """The file of servers that a client has met: a damaged one pins nothing else than it says, and is not repaired."""
    known = KnownServers(_written("known-servers", data).parent)
    _refused_by_name(known.path, lambda: known.find(SERVER_NAME))


def stored_tokens(data: bytes) -> None:
    """The file of a client's tokens."""
    stored = Credentials(_written("credentials.json", data).parent)
    try:
        stored.find(SERVER_NAME)
    except ConfigError:
        pass


def server_tokens(data: bytes) -> None:
    """The server's file of tokens: refused at the start, and while the server runs never the reason for an end."""
    directory = _written("tokens.json", data).parent
    _refused_by_name(directory / "tokens.json", lambda: tokens.read(directory))
    store = TokenStore(directory)
    store.refresh()
    store.reserved_for("demo")


def _refused_by_name(path: Path, read: Callable[[], object]) -> None:
    try:
        read()
    except ConfigError as error:
        text = str(error)
    else:
        return
    assert str(path) in text
