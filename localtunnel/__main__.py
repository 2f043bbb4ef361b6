"""``python -m localtunnel server`` and ``… client``: the two commands, wherever their
scripts are."""

import sys

USAGE = """\
localtunnel: gives local servers public addresses through the Localtunnel Protocol.

Usage:
  python -m localtunnel client ...    The same as lt-client; client --help explains it.
  python -m localtunnel server ...    The same as lt-server; server --help explains it.
"""


def main(argv: list[str]) -> int:
    """Run the command that ``argv`` begins with; return its exit code."""
    from localtunnel.cli import client, exit_codes, program, server

    commands = {"client": client.main, "server": server.main}
    word = argv[0] if argv else ""
    if word in commands:
        return commands[word](argv[1:])
    if word in ("-h", "--help"):
        program.show(USAGE)
        return exit_codes.CLEAN
    program.say(USAGE.rstrip())
    return exit_codes.USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
