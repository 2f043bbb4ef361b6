"""Which signals ask a program to stop, on either side."""

import signal


def stopping() -> list[int]:
    """Return the numbers of SIGINT and SIGTERM, and of SIGHUP where a closed terminal is to end the program.

    Whoever started it with SIGHUP ignored, as ``nohup`` does, wants it to go on; systems other than
    Unix have no such signal. It may come several times at once, from the shell and from the kernel:
    only the first asks for anything.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    return list(map(int, numbers))


def is_hangup(number: int) -> bool:
    """Say whether ``number`` is SIGHUP."""
    return number == getattr(signal, "SIGHUP", None)


def ignore_hangup() -> None:
    """Let no further SIGHUP end the program, which is ending already."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
