"""Waiting for something, with a cap: a test that waits in vain fails with a sentence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent

CAP = 10.0
"""Seconds after which a wait has failed: long enough for a machine that does other things as well."""

POLL = 0.01
"""Seconds between two looks at what has no event to wait for."""


def wait_until(predicate: Callable[[], Any], cap: float = CAP, what: object = "") -> Any:
    """Return the first true value of ``predicate``; fails the test when there is none within ``cap`` seconds.

    ``what`` is shown then, as it is at that time.
    """
    timeout = gevent.Timeout(cap)
    try:
        with timeout:
            while True:
                value = predicate()
                if value:
                    return value
                gevent.sleep(POLL)
    except gevent.Timeout as error:
        if error is not timeout:
            raise
        raise AssertionError(f"not within {cap:g} s: {what or predicate}") from None


@contextmanager
def at_most(seconds: float, what: str = "this block") -> Iterator[None]:
    """Fail the test when the block takes longer than ``seconds``."""
    with gevent.Timeout(seconds, AssertionError(f"{what} took more than {seconds:g} s")):
        yield
