"""``lt-server``: the public side, which passes visitors' connections to clients."""

import os
import signal
from collections.abc import Mapping
from typing import Any

from localtunnel.cli import exit_codes, program, usage

USAGE = """\
lt-server: gives local servers public addresses through the Localtunnel Protocol.

Usage:
  lt-server [options]

Commands, each with its own --help:
  lt-server token        Make and revoke tokens, with which clients open tunnels: create, list, update, revoke.
  lt-server fingerprint  Print the fingerprint of the server's key, for lt-client --fingerprint.
  lt-server tunnels      Show and end tunnels, and ban addresses: list, kick, ban, unban, bans.
  lt-server check        Check a settings file without starting a server.

Options:
  --domain=NAME        The domain below which tunnels get their hosts. With localhost, and no host in an ADDR,
                       only this machine can connect.
  --frontend=ADDR      Where visitors connect: PORT, :PORT, HOST:PORT or [IPV6]:PORT.
  --backend=ADDR       Where clients connect, in the same forms.
  --edge=MODE          http: each request is routed, checked and forwarded by itself. join: the first one decides,
                       then bytes only; a server of this kind offers no options that guard a tunnel.
  --public-url=URL     What visitors see when a proxy is in front of the frontend, such as https://example.com.
  --config=FILE        A TOML file with settings.
  --print-config       Print a settings file with every key, its default and the reason for it.
  --tcp-ports=RANGE    Public ports for TCP tunnels, as FIRST-LAST. Without it there are no TCP tunnels.
  --pool-size=N        Idle connections that each client of LTP/0.2 is asked to keep ready. What newer clients
                       keep follows their visitors.
  --grace=S            Seconds that open connections are given to finish when the server stops.
  --log-level=L        debug, info, warning or error.
  --log-format=FORMAT  text or json.
  -h --help            Show this.
  --version            Show the version.

Without options it serves http://NAME.localhost:8000 to this machine, and clients connect to port 8001.

Environment, weaker than an option and stronger than the file:
  LT_CONFIG, LT_LOG_LEVEL, NO_COLOR.

Exit codes: 0 clean, 1 internal error, 2 usage, 3 config, 8 cannot listen, 130 Ctrl-C.
"""


FIRST_WORDS = {
    "token": "lt-server token COMMAND",
    "fingerprint": "lt-server fingerprint",
    "tunnels": "lt-server tunnels COMMAND",
    "check": "lt-server check",
}
"""The commands with a usage of their own, each with an example."""


def main(argv: list[str] | None = None) -> int:
    """Run ``lt-server`` with ``argv`` (the process's own when None) until it is
    stopped; return the exit code."""
    return program.run("lt-server", _command, argv)


def _command(argv: list[str]) -> int:
    if argv[:1] == ["token"]:
        from localtunnel.cli.commands import tokens

        return tokens.command(argv)
    if argv[:1] == ["fingerprint"]:
        from localtunnel.cli.commands import fingerprint

        return fingerprint.command(argv)
    if argv[:1] == ["tunnels"]:
        from localtunnel.cli.commands import tunnels

        return tunnels.command(argv)
    if argv[:1] == ["check"]:
        from localtunnel.cli.commands import check

        return check.command(argv)
    arguments = usage.parse(USAGE, argv, first_words=FIRST_WORDS)
    if arguments["--help"]:
        program.show(USAGE)
    elif arguments["--print-config"]:
        program.show(program.sample("server.toml"))
    elif arguments["--version"]:
        from localtunnel import __version__

        program.show(f"lt-server {__version__}")
    else:
        return _serve(arguments)
    return exit_codes.CLEAN


def _serve(arguments: Mapping[str, Any]) -> int:
    import logging

    from localtunnel.cli import log
    from localtunnel.cli.settings import config

    settings = config.server_config(arguments, os.environ)
    log.configure(settings.log_level, settings.log_format, os.environ)
    # These load gevent, which the checks above need not wait for.
    from localtunnel.net.descriptors import raise_limit
    from localtunnel.server.app import Server

    log.take_over_hub()
    before, now = raise_limit()
    if now != before:
        logging.getLogger("localtunnel.server").info("descriptors", extra={"limit": now, "before": before})
    stopped_by = Server(settings).run()
    return exit_codes.INTERRUPTED if stopped_by == signal.SIGINT else exit_codes.CLEAN
