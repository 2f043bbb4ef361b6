"""``lt-server fingerprint``: prints the fingerprint by which clients know the
server."""

import os

from localtunnel.cli import exit_codes, program, usage

USAGE = """\
lt-server fingerprint: prints the fingerprint of the server's key, for lt-client --fingerprint.

Usage:
  lt-server fingerprint [options]

Options:
  --config=FILE          The server's settings file, which says where its certificate or its data directory is.
  -h --help              Show this.

It is that of the certificate that the settings name, or else of the server's own key, which is made if there is none
yet. It stays the same when a certificate is renewed for the same key.

Environment: LT_CONFIG.

Exit codes: 0 clean, 1 internal error, 2 usage, 3 config.
"""

COMMANDS = ("fingerprint",)


def command(argv: list[str]) -> int:
    """Run ``lt-server`` with ``argv``, which begins with ``fingerprint``; return the
    exit code."""
    arguments = usage.parse(USAGE, argv, COMMANDS)
    if arguments["--help"]:
        program.show(USAGE)
        return exit_codes.CLEAN
    from localtunnel.cli.settings import config
    from localtunnel.server.certificates.own import fingerprint

    program.show(fingerprint(config.server_config(arguments, os.environ)))
    return exit_codes.CLEAN
