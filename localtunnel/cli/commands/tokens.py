"""``lt-server token …``: makes, lists, changes and revokes tokens, whether or not the
server runs."""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from localtunnel.cli import exit_codes, program, usage
from localtunnel.cli.amounts import how_many, parse_moment, parse_rate, rfc3339, show_moment
from localtunnel.cli.commands.table import table
from localtunnel.errors import ConfigError, LocaltunnelError, UsageError
from localtunnel.files import data_directory
from localtunnel.protocol import names
from localtunnel.protocol.login.token import Token
from localtunnel.server.access import tokens
from localtunnel.server.access.tokens import TokenRecord

if TYPE_CHECKING:
    from localtunnel.server.config import ServerConfig

USAGE = """\
lt-server token: makes and revokes the tokens that clients need to open tunnels.

Usage:
  lt-server token create [--name=GLOB]... [--kind=KIND]... [--reserve=NAME]... [options]
  lt-server token update <id> [--name=GLOB]... [--kind=KIND]... [--reserve=NAME]... [options]
  lt-server token revoke <id> [options]
  lt-server token list [options]

Commands:
  create                 Make a token and print it. It is shown only once: the server does not keep it.
  update                 Change what a token allows. Options that are not given stay as they are.
  revoke                 Revoke a token for good.
  list                   Show every token, without its secret.

Options:
  --label=TEXT           A note to remember the token by, such as its holder or its purpose.
  --name=GLOB            A name that its tunnels may have, such as demo or ann-*. Repeat it for more. Default: all.
  --kind=KIND            http or tcp. Repeat it for both. Default: both.
  --reserve=NAME         A name that is kept for this token even while it is not used. Repeat it for more. In an
                         update, an empty one drops them all.
  --max-tunnels=N        Tunnels at a time. 0 means no limit, as in the next two.
  --max-connections=N    Visitors' connections at a time, in all its tunnels together.
  --bandwidth=RATE       Bytes a second in all its tunnels together, such as 500k or 10M.
  --expires=WHEN         When it expires: after 12h or 30d, say, or on a date such as 2027-01-31 (UTC), or never.
  --json                 Print JSON.
  --config=FILE          The server's settings file, which says where its data is.
  -h --help              Show this.

From the first token on, the server requires one of every client. A running server notices changes within seconds, and
closes what is revoked, expired or no longer covered. To open it to all clients again, stop it and remove tokens.json
from its data directory.

Exit codes: 0 clean, 1 internal error, 2 usage, 3 config.
"""

VERBS = ("create", "update", "revoke", "list")

COLUMNS = ("ID", "LABEL", "NAMES", "KINDS", "RESERVED", "LIMITS", "EXPIRES")

_GLOB = re.compile(r"[a-z0-9.*?\[\]!-]{1,253}", re.ASCII)


def command(argv: list[str]) -> int:
    """Run ``lt-server`` with ``argv``, whose first word is ``token``; return the exit
    code."""
    arguments = usage.parse(USAGE, argv, ("token",), VERBS)
    if arguments["--help"]:
        program.show(USAGE)
        return exit_codes.CLEAN
    from localtunnel.cli.settings.config import server_config

    config = server_config(arguments, os.environ)
    directory = data_directory(config.data_dir, os.environ)
    if arguments["list"]:
        _list(directory, as_json=arguments["--json"])
    elif arguments["revoke"]:
        _revoke(directory, arguments["<id>"])
    elif arguments["update"]:
        _update(directory, arguments["<id>"], _allowed(arguments) | _dropped(arguments))
    else:
        _create(directory, config, _allowed(arguments), as_json=arguments["--json"])
    return exit_codes.CLEAN


def _create(directory: Path, config: "ServerConfig", allowed: dict[str, Any], *, as_json: bool) -> None:
    # This import loads TLS, which no other command here needs.
    from localtunnel.server.certificates.own import fingerprint

    is_first = not (directory / tokens.FILE).exists()

    def hand_over(token: Token, record: TokenRecord) -> None:
        program.show(json.dumps({"token": token.text(), **_fields(record)}) if as_json else token.text())

    _, record = tokens.create(directory, fingerprint(config), hand_over, **allowed)
    program.say(
        f"Token {record.id} was created. It is shown only once, and anyone who has it can use it, so pass it on "
        "in secret. Its holder runs lt-client login SERVER once and pastes it there."
    )
    if is_first:
        program.say(
            "This is the first token: from now on the server requires one, and tunnels that were opened without a "
            "token are closed."
        )


def _list(directory: Path, *, as_json: bool) -> None:
    records = tokens.read(directory)
    if as_json:
        program.show(json.dumps([_fields(record) for record in records]))
    else:
        program.show(table(COLUMNS, [_row(record) for record in records]))


def _revoke(directory: Path, name: str) -> None:
    with tokens.edit(directory) as records:
        _known(records, name)
        del records[name]
    program.say(f"Token {name} is revoked; a running server closes its tunnels within seconds.")


def _update(directory: Path, name: str, allowed: dict[str, Any]) -> None:
    if not allowed:
        raise usage.refusal(USAGE, "Nothing to change: give at least one option, such as --label or --name.")
    with tokens.edit(directory) as records:
        record = msgspec.structs.replace(_known(records, name), **allowed)
        tokens.check_reserved(record, records)
        records[name] = record
    program.say(f"Token {name} is changed; a running server closes what it no longer allows within seconds.")


def _known(records: Mapping[str, TokenRecord], name: str) -> TokenRecord:
    if name not in records:
        raise UsageError(f"There is no token {name!r}; lt-server token list shows all of them.")
    return records[name]


def _allowed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that the command line sets. Raises UsageError."""
    fields: dict[str, Any] = {}
    for flag, key, parse in (
        ("--label", "label", _label),
        ("--name", "names", _globs),
        ("--kind", "kinds", _kinds),
        ("--reserve", "reserved", _names),
        ("--max-tunnels", "max_tunnels", _count),
        ("--max-connections", "max_connections", _count),
        ("--bandwidth", "bandwidth", lambda text: parse_rate(text) or None),
        ("--expires", "expires", lambda text: None if text == "never" else parse_moment(text, time.time())),
    ):
        if arguments[flag] in (None, []) or _drops(arguments, flag):
            continue
        try:
            fields[key] = parse(arguments[flag])
        except LocaltunnelError as error:
            raise UsageError(f"{flag}: {error}") from None
    return fields


def _drops(arguments: Mapping[str, Any], flag: str) -> bool:
    """Say whether ``flag`` is the empty ``--reserve=`` of an update. In ``create``,
    that is an unset shell variable."""
    return flag == "--reserve" and bool(arguments["update"]) and arguments[flag] == [""]


def _dropped(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"reserved": ()} if _drops(arguments, "--reserve") else {}


def _label(text: str) -> str:
    if not text.isprintable():
        raise ConfigError("a label is one line of printable characters.")
    return text


def _globs(texts: Sequence[str]) -> tuple[str, ...]:
    for text in texts:
        if not _GLOB.fullmatch(text.lower()):
            raise ConfigError(f"{text!r} is not a name, nor a pattern of one such as ann-*.")
    return tuple(text.lower() for text in texts)


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names.check(text) for text in texts))


def _kinds(texts: Sequence[str]) -> tuple[str, ...]:
    for text in texts:
        if text not in ("http", "tcp"):
            raise ConfigError(f"{text!r} is not a kind of tunnel; write http or tcp.")
    return tuple(dict.fromkeys(texts))


def _count(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{text!r} is not a count; write a whole number, or 0 for no limit.")
    return int(text) or None


def _fields(record: TokenRecord) -> dict[str, Any]:
    """Return all fields of a token except its credentials."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    del fields["credentials"]
    for key in ("created", "expires"):
        fields[key] = None if fields[key] is None else rfc3339(fields[key])
    return fields


def _row(record: TokenRecord) -> tuple[str, ...]:
    limits = [
        how_many(count, what)
        for count, what in ((record.max_tunnels, "tunnel"), (record.max_connections, "connection"))
        if count is not None
    ]
    if record.bandwidth is not None:
        limits.append(f"{record.bandwidth} bytes/s")
    return (
        record.id,
        record.label or "-",
        " ".join(record.names),
        " ".join(record.kinds),
        " ".join(record.reserved) or "-",
        ", ".join(limits) or "-",
        "never" if record.expires is None else show_moment(record.expires),
    )
