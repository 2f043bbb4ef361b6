"""``lt-client``: gives a local server a public address for as long as it runs."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from localtunnel.cli import exit_codes, program, usage
from localtunnel.errors import LocaltunnelError, UsageError

if TYPE_CHECKING:
    from localtunnel.client.app import Client
    from localtunnel.client.config import ClientConfig
    from localtunnel.client.events import Event
    from localtunnel.protocol.login.token import Token

USAGE = """\
lt-client: gives a local server a public address.

Usage:
  lt-client [http | tcp] [options] [<target>]

Commands:
  http                    A web server, which gets a public URL. This is the default.
  tcp                     Any other server that speaks TCP, such as SSH: it gets a public port.

Commands with a --help of their own:
  lt-client login         Store the token for a server. lt-client logout forgets it.

Targets:
  8080                    Port 8080 of this machine, IPv4 first, then IPv6.
  HOST:8080               Port 8080 of another machine; [IPV6]:8080 and http://HOST:8080 work as well.
                          The target may be left out when the settings file names one. tcp takes no http://.

Options:
  -s --server=HOST[:PORT]  The server's frontend, or https://HOST behind a TLS proxy. Default: the last login.
  -n --name=NAME           The name to ask for: the first label of the public host. Default: a generated one.
  --subdomain=NAME         The same as --name.
  --domain=HOST            A public host of your own that leads here as well, if the server allows it.
  --remote-port=N          The public port to ask for, with tcp. Default: the server chooses one.
  --takeover               Take the name over from another of your clients, which ends.
  --backend=[HOST:]PORT    The server's backend. Default: the frontend is asked for it.
  --protect=USER:PASSWORD  Ask visitors for this (HTTP Basic). Other users can see it in ps, but not LT_PROTECT.
  --allow-ip=NETWORK       Admit only visitors from this address or network. May be repeated.
  --host-header=HOST       The Host that your server gets: preserve (the default), rewrite (to its own) or a value.
  --request-header-add=FIELD     Give requests the field "Name: value" instead of their own. May be repeated.
  --request-header-remove=NAME   Take this field out of requests. May be repeated.
  --response-header-add=FIELD    Give responses the field "Name: value" instead of their own. May be repeated.
  --cors                   Let web pages of any origin use the tunnel: add CORS fields, answer preflights.
  --server-timing          Tell visitors, in Server-Timing, where the time of each request went.
  --config=FILE            A TOML file with settings. Default: ~/.config/localtunnel/client.toml, if there is one.
  --print-config           Print a settings file with every key, its default and the reason for it.
  --fingerprint=TEXT       The server's key must be this one. Default: its certificate or the first contact decides.
  --insecure               No encryption: only for a server on this machine, or for looking at what is sent.
  --legacy                 Allow LTP/0.2, without encryption, where a server of 2013 does not answer in LTP/0.3,
                           which is tried first.
  --token-file=FILE        A file with the token for the server. Default: LT_TOKEN, or the one that login has stored.
  --json                   One JSON object per line on stdout for every event.
  --quiet                  Only the URL on stdout, and only errors on stderr.
  --no-retry               End when the server cannot be reached, instead of trying again.
  --log-level=L            debug, info, warning or error.
  -h --help                Show this.
  --version                Show the version; with --server that of the server as well, if it can be reached.

Examples:
  lt-client 8080
  lt-client --server=example.com --name=demo 8080
  lt-client --server=example.com tcp --remote-port=20022 22

Environment, weaker than an option and stronger than the file:
  LT_SERVER, LT_NAME, LT_PROTECT, LT_CONFIG, LT_LOG_LEVEL, LT_TOKEN, LT_TOKEN_FILE, NO_COLOR.

Exit codes: 0 clean, 1 internal error, 2 usage, 3 config, 4 authentication, 5 name, port or option
refused, 6 unreachable, 7 version mismatch, 130 Ctrl-C.
"""

COMMANDS = ("http", "tcp")

FIRST_WORDS = {"login": "lt-client login SERVER", "logout": "lt-client logout SERVER"}
"""The commands with a usage of their own, each with an example."""

VERSION_TIMEOUT = 2.0
"""Seconds for which ``--version`` waits for the server."""

DEFAULT_COLUMNS = 80
"""The width of a terminal that does not tell its own."""

_Report = Callable[["Event"], None]
_Ended = Callable[[LocaltunnelError | None], None]
"""Called when the tunnel has ended, with the error that ended it, or None for
Ctrl-C."""


def main(argv: list[str] | None = None) -> int:
    """Run ``lt-client`` with ``argv`` (the process's own when None) until it is
    stopped; return the exit code."""
    return program.run("lt-client", _command, argv)


def _command(argv: list[str]) -> int:
    if argv and argv[0] in FIRST_WORDS:
        from localtunnel.cli.commands import login

        return login.command(argv)
    arguments = usage.parse(USAGE, argv, COMMANDS, first_words=FIRST_WORDS)
    if arguments["--help"]:
        program.show(USAGE)
        return exit_codes.CLEAN
    if arguments["--print-config"]:
        program.show(program.sample("client.toml"))
        return exit_codes.CLEAN
    if arguments["--version"]:
        _show_versions(arguments["--server"])
        return exit_codes.CLEAN
    if arguments["--json"] and arguments["--quiet"]:
        raise UsageError("--json and --quiet exclude each other; give one of them.")
    from localtunnel.cli import log

    try:
        settings, token = _settings(arguments)
    except LocaltunnelError as error:
        if arguments["--json"]:
            _output_of_json(program.show)[1](error)
        raise
    level = "error" if arguments["--quiet"] and not arguments["--log-level"] else settings.log_level
    log.configure(level, "text", os.environ)
    return _tunnel(settings, token, as_json=arguments["--json"], quiet=arguments["--quiet"])


def _settings(arguments: Mapping[str, Any]) -> tuple["ClientConfig", "Token | None"]:
    """Return the settings of the tunnel, and the token for its server."""
    from localtunnel.cli.commands.login import find_token
    from localtunnel.cli.settings import config

    settings = config.client_config(arguments, os.environ)
    token = find_token(settings, arguments, os.environ)
    if settings.target == "":
        example = "lt-client tcp 22" if settings.kind == "tcp" else "lt-client 8080"
        sentence = f"No target: name the port or the address of the local server, as in {example}."
        raise usage.refusal(USAGE, sentence)
    return settings, token


def _show_versions(server: str | None) -> None:
    """Show this program's version, and that of a server named on the command line."""
    from localtunnel import __version__

    program.show(f"lt-client {__version__}")
    if server is None:
        return
    from localtunnel.cli.clean import clean
    from localtunnel.client.discovery import server_version

    version = server_version(server, VERSION_TIMEOUT)
    program.show(f"server {server} {'cannot be reached' if version is None else clean(version)}")


def _tunnel(settings: "ClientConfig", token: "Token | None", *, as_json: bool, quiet: bool) -> int:
    """Run the client with the chosen output, which is written when this returns."""
    import logging

    from localtunnel.cli import log
    from localtunnel.cli.amounts import how_many
    from localtunnel.cli.commands.login import find_shared_token
    from localtunnel.cli.writer import LineWriter, Stream
    from localtunnel.client.app import Client
    from localtunnel.net.descriptors import raise_limit

    writer, out = LineWriter(), Stream(sys.stdout)
    try:
        report, ended = _output(writer, out, as_json=as_json, quiet=quiet)
        log.take_over_hub()
        before, now = raise_limit()
        logging.getLogger("localtunnel.client").debug("descriptors", extra={"limit": now, "before": before})
        try:
            client = Client(settings, report, token, find_shared_token(settings))
            # Without its URL a tunnel is of no use. Once that was written, the tunnel
            # goes on even if a disk fills up.
            out.on_useless = _stopper(client)
            # What is loaded now stays, so the garbage collector need not look at it
            # again.
            gc.freeze()
            number = _until_signal(client)
        except LocaltunnelError as error:
            ended(error)
            raise
        if number is None and out.failure is not None and not out.useful:
            raise program.unwritable(out.failure)
        if number != signal.SIGINT:
            return exit_codes.CLEAN
        ended(None)
        return exit_codes.INTERRUPTED
    finally:
        writer.close()
        if writer.dropped:
            dropped = how_many(writer.dropped, "line")
            program.say(f"lt-client: {dropped} of output had to be dropped, because nothing read the output in time.")


def _output_of_json(put: Callable[[str], None]) -> tuple[_Report, _Ended]:
    from localtunnel.cli import output

    json = output.Json(put)

    def ended(error: LocaltunnelError | None) -> None:
        if error is not None:
            # The usage that follows the sentence of some errors is for people.
            json.failed(error.code, str(error).partition("\n\n")[0], exit_codes.exit_code(error))

    return json, ended


def _output(writer: Any, out: Any, *, as_json: bool, quiet: bool) -> tuple[_Report, _Ended]:
    """Return the functions to call with each event, and at the end. ``out`` is
    stdout."""
    from localtunnel.cli import output
    from localtunnel.cli.writer import Stream

    err = Stream(sys.stderr)

    def put(line: str) -> None:
        writer.put(out, line)

    def put_error(line: str) -> None:
        writer.put(err, line)

    if as_json:
        return _output_of_json(put)
    if quiet:
        return output.Quiet(put), _nothing
    if sys.stdout is not None and sys.stdout.isatty():
        terminal = output.Terminal(put, renew=_renewing(sys.stdout, put))
        return terminal, lambda error: terminal.closed() if error is None else None
    return output.Piped(put, put_error, renew=_renewing(sys.stderr, put_error)), _nothing


def _renewing(stream: TextIO | None, put: Callable[[str], None]) -> Any:
    """Return a function that rewrites the last line on ``stream``, None if that is not
    a capable terminal."""
    from localtunnel.cli.output import renewing

    if stream is None or not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    descriptor = stream.fileno()

    def columns() -> int:
        try:
            return os.get_terminal_size(descriptor).columns or DEFAULT_COLUMNS
        except OSError:
            return DEFAULT_COLUMNS

    return renewing(put, columns)


def _stopper(client: "Client") -> Callable[[], None]:
    """Return a function that stops the client from another thread."""
    import gevent

    loop = gevent.get_hub().loop
    return lambda: loop.run_callback_threadsafe(client.stop)


def _nothing(error: LocaltunnelError | None) -> None:
    """``program.run`` says on stderr which error ends the program; there is nothing to
    add."""


def _until_signal(client: "Client") -> int | None:
    """Run the client until it ends, and return None, or until a signal stops it, and
    return its number.

    A second signal ends the process as if it had no handler. A second SIGHUP does not:
    a terminal that closes sends several, and the server is still to be told.
    """
    import gevent

    from localtunnel.net import signals

    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        _cancel(watchers)
        if signals.is_hangup(number):
            signals.ignore_hangup()
        client.stop()

    watchers = [gevent.signal_handler(number, stop, number) for number in signals.stopping()]
    try:
        client.run()
    finally:
        _cancel(watchers)
    return received[0] if received else None


def _cancel(watchers: list[Any]) -> None:
    while watchers:
        watchers.pop().cancel()
