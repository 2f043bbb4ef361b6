"""``lt-server check``: lists everything that is wrong with the server's settings,
without starting it."""

import os

from localtunnel.cli import exit_codes, program, usage

USAGE = """\
lt-server check: checks the settings of a server without starting it, before a restart for example.

Usage:
  lt-server check [options]

Options:
  --config=FILE          The settings file. Default: LT_CONFIG.
  -h --help              Show this.

It lists everything that is wrong, one line each. The certificate that the settings name is loaded too. Addresses and
ports are not tried, so that a server may be running with the same file.

Environment: LT_CONFIG, LT_LOG_LEVEL.

Exit codes: 0 the settings are valid, 1 internal error, 2 usage, 3 something is wrong.
"""

COMMANDS = ("check",)


def command(argv: list[str]) -> int:
    """Run ``lt-server`` with ``argv``, which begins with ``check``; return the exit
    code."""
    arguments = usage.parse(USAGE, argv, COMMANDS)
    if arguments["--help"]:
        program.show(USAGE)
        return exit_codes.CLEAN
    from localtunnel.cli.settings import config
    from localtunnel.server.certificates.own import check_named

    file = arguments["--config"] or os.environ.get(config.FILE_VARIABLE)
    if file is None:
        raise usage.refusal(USAGE, "No settings file: name it with --config=FILE.")
    faults = config.server_faults(arguments, os.environ)
    for fault in faults:
        program.complain("lt-server", fault)
    if faults:
        return exit_codes.CONFIG
    check_named(config.server_config(arguments, os.environ))
    program.say(f"The settings in {file} are valid.")
    return exit_codes.CLEAN
