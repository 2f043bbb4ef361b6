"""The exit codes of both commands.

====  =====================  ==============================================================================
code  constant               meaning
====  =====================  ==============================================================================
0     CLEAN                  ended as asked: ``--help``, ``--version``, SIGTERM, SIGHUP
1     INTERNAL_ERROR         a fault of localtunnel itself, or its output cannot be written
2     USAGE                  the command line was not understood
3     CONFIG                 a setting in a file or in the environment is wrong, or the data directory cannot be used
4     AUTHENTICATION         a token is missing, mistyped or refused, or the server is not trusted
5     NAME_REFUSED           the name, the public port or an option is refused, or another run has the tunnel
6     UNREACHABLE            the server cannot be reached or failed; with ``--no-retry`` only
7     VERSION_MISMATCH       the two programs do not speak the same protocol
8     CANNOT_LISTEN          an address to listen on is taken, or not of this machine
130   INTERRUPTED            Ctrl-C (SIGINT), as shells count it: 128 + 2
====  =====================  ==============================================================================

Both commands stop gracefully on SIGINT, on SIGTERM, and on the SIGHUP of a terminal
that closes, unless that was ignored at their start (nohup). Only the exit code tells
which signal it was: a service manager, which sends SIGTERM, expects success, and a
script has to notice that its user interrupted it.
"""

from localtunnel import errors

CLEAN = 0
INTERNAL_ERROR = 1
USAGE = 2
CONFIG = 3
AUTHENTICATION = 4
NAME_REFUSED = 5
UNREACHABLE = 6
VERSION_MISMATCH = 7
CANNOT_LISTEN = 8
INTERRUPTED = 130

# The first class that fits decides, so a subclass stands before its parent.
_TABLE: tuple[tuple[type[BaseException], int], ...] = (
    (errors.UsageError, USAGE),
    (errors.TokenInvalid, AUTHENTICATION),
    (errors.ConfigError, CONFIG),
    (errors.StorageError, CONFIG),
    (errors.OutputError, INTERNAL_ERROR),
    (errors.NameUnavailable, NAME_REFUSED),
    (errors.NameInvalid, NAME_REFUSED),
    (errors.PortRefused, NAME_REFUSED),
    (errors.OptionRefused, NAME_REFUSED),
    (errors.ClientReplaced, NAME_REFUSED),
    (errors.ClientKicked, NAME_REFUSED),
    (errors.NotAllowed, NAME_REFUSED),
    (errors.LimitReached, NAME_REFUSED),
    (errors.AuthError, AUTHENTICATION),
    (errors.TrustError, AUTHENTICATION),
    (errors.RequestInvalid, VERSION_MISMATCH),
    (errors.RefusedError, UNREACHABLE),
    (errors.Flooded, UNREACHABLE),
    (errors.ProtocolError, VERSION_MISMATCH),
    (errors.ListenError, CANNOT_LISTEN),
    (errors.NetworkError, UNREACHABLE),
    (KeyboardInterrupt, INTERRUPTED),
)


def exit_code(error: BaseException) -> int:
    """Return the code for the error that ended the program; one without an entry is an
    internal error."""
    for kind, code in _TABLE:
        if isinstance(error, kind):
            return code
    return INTERNAL_ERROR
