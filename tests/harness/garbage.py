"""What only the cyclic collector would free: objects of the package, and of TLS, in reference cycles.

A server serves with a collector that is slowed down, so that whatever waits for it adds up.
"""

import gc
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PACKAGE = "localtunnel"
TLS = ("ssl", "_ssl")
"""The modules of the objects behind a connection over TLS. Those of the tests are of gevent's."""


@contextmanager
def no_cycles() -> Iterator[None]:
    """Fail when the block, all of which has ended, leaves objects of the package or of TLS to the collector."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        found = Counter(name for name in map(_name_of_ours, gc.garbage) if name)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()
    assert not found, f"left to the collector: {dict(found.most_common(25))}"


def _name_of_ours(value: Any) -> str:
    """Return what ``value`` is, empty where it is nobody's but the test's."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == PACKAGE or kind.__module__ in TLS:
        return kind.__qualname__
    if isinstance(value, types.FunctionType) and (value.__module__ or "").partition(".")[0] == PACKAGE:
        return f"function {value.__qualname__}"
    if isinstance(value, types.MethodType) and type(value.__self__).__module__.partition(".")[0] == PACKAGE:
        return f"method {value.__func__.__qualname__}"
    if isinstance(value, types.FrameType) and value.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        return f"frame {value.f_code.co_name} in {value.f_globals['__name__']}"
    return ""
