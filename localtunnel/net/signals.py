"""Which signals ask a program to stop, on either side."""

import signal


def stopping() -> list[int]:
    """Return the numbers of SIGINT and SIGTERM, and of SIGHUP where a closed terminal
    is to end the program.

    A program that was started with SIGHUP ignored, as by ``nohup``, is meant to go on.
    Systems other than Unix have no such signal. A closed terminal sends it several
    times, from the shell and from the kernel, and only the first counts.
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
    """Ignore further SIGHUPs: the program is ending already."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
