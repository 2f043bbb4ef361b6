"""``lt-server tunnels …``: asks the running server, through the unix socket in its data
directory."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localtunnel.cli import exit_codes, program, usage
from localtunnel.cli.amounts import rfc3339
from localtunnel.cli.commands.table import table
from localtunnel.errors import AddressError, RemoteFailure, Unreachable, UsageError

USAGE = """\
lt-server tunnels: shows and ends the tunnels of the server that runs on this machine.

Usage:
  lt-server tunnels list [--json] [--config=FILE]
  lt-server tunnels kick <name> [--config=FILE]
  lt-server tunnels ban <address> [--config=FILE]
  lt-server tunnels unban <address> [--config=FILE]
  lt-server tunnels bans [--json] [--config=FILE]

Commands:
  list                   Show every tunnel, and every name that is kept for a client that is not connected.
  kick                   End a tunnel. Its client is told and stops. The name is closed for a minute.
  ban                    End the tunnels of an address or a network, such as 203.0.113.0/24, and refuse clients from
                         there. Visitors from there are still served.
  unban                  End a ban.
  bans                   Show every ban.

Options:
  --json                 Print JSON.
  --config=FILE          The server's settings file, which says where its data is.
  -h --help              Show this.

Exit codes: 0 clean, 1 internal error, 2 usage, 3 config, 6 no server is running, or it cannot do that.
"""

VERBS = ("list", "kick", "ban", "unban", "bans")

COLUMNS = ("NAME", "STATE", "KIND", "VISITORS", "FOR", "ADDRESS", "OWNER", "CLIENT")


def command(argv: list[str]) -> int:
    """Run ``lt-server`` with ``argv``, whose first word is ``tunnels``; return the exit
    code."""
    arguments = usage.parse(USAGE, argv, verbs=VERBS)
    if arguments.get("--help"):
        program.show(USAGE)
        return exit_codes.CLEAN
    # These load gevent, which ``--help`` and a wrong command line need not wait for.
    from localtunnel.cli.settings.config import server_config
    from localtunnel.files import data_directory

    config = server_config(arguments, os.environ)
    verb = next(word for word in VERBS if arguments[word])
    subject = arguments["<name>"] or _address(arguments["<address>"]) or ""
    answer = _ask(data_directory(config.data_dir, os.environ), verb, subject)
    if arguments["--json"]:
        for ban in answer.get("bans", ()):
            ban["since"] = rfc3339(ban["since"])
        program.show(json.dumps(answer))
    else:
        _say(verb, subject, answer)
    return exit_codes.CLEAN


def _address(text: str | None) -> str | None:
    """Return ``text``, checked before the server is asked. Raises UsageError."""
    from localtunnel.networks import parse_network

    if text is not None:
        try:
            parse_network(text)
        except AddressError as error:
            raise UsageError(f"<address>: {error}") from error
    return text


def _ask(directory: Path, verb: str, subject: str) -> dict[str, Any]:
    from localtunnel.net.local import ask
    from localtunnel.server.operator.admin import SOCKET

    question = json.dumps({"command": verb, "subject": subject}).encode()
    try:
        answer: dict[str, Any] = json.loads(ask(directory / SOCKET, question))
    except Unreachable as error:
        raise Unreachable(
            f"No server answers in the data directory {directory}: none is running with it, or it is another"
            " user's. Name the server's settings file with --config."
        ) from error
    if "error" in answer:
        raise RemoteFailure(answer["error"])
    return answer


def _say(verb: str, subject: str, answer: Mapping[str, Any]) -> None:
    if verb == "list":
        program.show(table(COLUMNS, [_row(tunnel) for tunnel in answer["tunnels"]]))
    elif verb == "bans":
        now = time.time()
        program.show(table(("NETWORK", "FOR"), [(ban["network"], _age(now - ban["since"])) for ban in answer["bans"]]))
    elif verb == "kick":
        program.say(f"The tunnel {subject} has ended.")
    elif verb == "ban":
        program.say(f"{subject} is banned. Tunnels and names ended: {answer['ended']}.")
    else:
        program.say(f"{subject} is no longer banned.")


def _row(tunnel: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one tunnel. Some come from its client, and are cleaned for
    the terminal."""
    from localtunnel.cli.clean import clean

    kind = tunnel["kind"] if tunnel["port"] is None else f"{tunnel['kind']} {tunnel['port']}"
    values = (tunnel["name"], tunnel["state"], kind, str(tunnel["visitors"]), _age(tunnel["seconds"]))
    words = (*values, tunnel["address"], tunnel["owner"], tunnel["client"])
    return tuple(clean(word) or "-" for word in words)


def _age(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least two."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(max(0.0, seconds))} s"
