"""``lt-client login`` and ``logout``, and where a client's token comes from.

A token is never an argument: every user of a machine can see all command lines, and
shells record them. It comes from a file, from the environment, or from what ``login``
has stored.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localtunnel.cli import exit_codes, program, usage
from localtunnel.errors import ConfigError, LocaltunnelError, TokenInvalid
from localtunnel.files import text_of
from localtunnel.protocol.login import token
from localtunnel.protocol.login.token import Token

if TYPE_CHECKING:
    from localtunnel.client.config import ClientConfig
    from localtunnel.client.trust.credentials import Credentials
    from localtunnel.net.address import HostPort, ServerAddress

USAGE = """\
lt-client login: stores the token for a server, which its operator made with lt-server token create.

Usage:
  lt-client login <server> [options]
  lt-client logout <server> [options]

Commands:
  login                Read a token and keep it for this server. It becomes the one that lt-client uses where no
                       --server names another.
  logout               Forget the token for this server.

Options:
  --token-file=FILE    Read the token from FILE. Else it is asked for, or read from stdin if that is not a terminal.
  --config=FILE        The settings file of lt-client, which may say where its data is.
  -h --help            Show this.

The token is stored in credentials.json in the data directory, readable by you alone.
"""

COMMANDS = ("login", "logout")

VARIABLE = "LT_TOKEN"

MAX_TOKEN_FILE = 4096
"""Bytes that are read of a token file. A token has a hundred; a device or a wrong file
may be endless."""


def command(argv: list[str]) -> int:
    """Run ``lt-client`` with ``argv``, whose first word is one of COMMANDS; return the
    exit code."""
    arguments = usage.parse(USAGE, argv, COMMANDS)
    if arguments["--help"]:
        program.show(USAGE)
        return exit_codes.CLEAN
    from localtunnel.cli.settings.config import client_config

    stored = _credentials(client_config({"--config": arguments["--config"]}, os.environ))
    server = arguments["<server>"]
    if arguments["login"]:
        stored.store(server, _read_token(arguments["--token-file"]))
        program.say(
            f"The token for {server} is stored in {stored.path}. From now on lt-client uses {server} where no --server "
            "names another one."
        )
    elif stored.forget(server):
        program.say(f"The token for {server} is forgotten. It stays valid until the server's operator revokes it.")
    else:
        program.say(f"No token is stored for {server}.")
    return exit_codes.CLEAN


def find_token(config: "ClientConfig", arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Token | None:
    """Return the token to log in with: from ``--token-file``, LT_TOKEN, LT_TOKEN_FILE,
    the settings or ``login``.

    The first of these counts. Raises ConfigError, also where a token would be used
    without encryption.
    """
    text = environ.get(VARIABLE)
    if text and not arguments.get("--token-file"):
        found: Token | None = _parse(text, VARIABLE)
    elif config.token_file:
        found = _from_file(config.token_file)
    else:
        found = _credentials(config).find(config.server)
    if found is not None and config.insecure:
        raise ConfigError(
            f"There is a token for {config.server}, and a token is never used without encryption. Leave --insecure out,"
            f" or take the token away: it comes from LT_TOKEN, a token file, or lt-client login {config.server}."
        )
    return found


def find_shared_token(config: "ClientConfig") -> "Callable[[HostPort], Token | None] | None":
    """Return a function from a backend to the token of its server, if that is stored
    under another port or scheme.

    ``example.com`` and ``example.com:8000`` are one server if both name the same
    backend. None if no token for that host is stored, or none may be used.
    """
    from localtunnel.net.address import parse_server

    others = [] if config.insecure else _credentials(config).others_on(parse_server(config.server).host)
    if not others:
        return None

    def find(backend: "HostPort") -> Token | None:
        return next((stored for server, stored in others if _is_backend_of(server, backend, config)), None)

    return find


def _is_backend_of(server: "ServerAddress", backend: "HostPort", config: "ClientConfig") -> bool:
    """Ask ``server`` for its backend, blocking the greenlet. A server that does not
    tell is another one."""
    from localtunnel.client.discovery import discover_backend
    from localtunnel.net.deadline import Deadline

    try:
        return discover_backend(server, Deadline(config.timeouts.connect)) == backend
    except LocaltunnelError:
        return False


def _credentials(config: "ClientConfig") -> "Credentials":
    from localtunnel.client.trust.credentials import Credentials
    from localtunnel.files import data_directory

    return Credentials(data_directory(config.data_dir, os.environ))


def _read_token(file: str | None) -> Token:
    if file is not None:
        return _from_file(file)
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        return token.parse(getpass("Token (not shown): "))
    return token.parse("" if sys.stdin is None else _text_of(sys.stdin.buffer.read(MAX_TOKEN_FILE)))


def _from_file(name: str) -> Token:
    if name.startswith(token.PREFIX):
        # Not quoted, since stderr ends up in logs.
        raise ConfigError("This is a token, but the name of a file belongs here. Other users can see a command line.")
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKEN_FILE)
    except OSError as error:
        raise ConfigError(f"The token file {path} cannot be read: {error.strerror}.") from None
    return _parse(_text_of(data), str(path))


def _text_of(data: bytes) -> str:
    """Return the text of ``data``, or an empty one, which the token parser refuses."""
    try:
        return text_of(data)
    except UnicodeDecodeError:
        return ""


def _parse(text: str, origin: str) -> Token:
    try:
        return token.parse(text)
    except TokenInvalid as error:
        raise TokenInvalid(f"{origin}: {error}") from None
