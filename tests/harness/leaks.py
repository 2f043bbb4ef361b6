"""What a test used and has to give back."""

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import msgspec

from harness.waiting import CAP, POLL


class Resources(msgspec.Struct, frozen=True):
    """What this process holds: sockets and pipes, those that linger among them, and watchers that run."""

    descriptors: frozenset[str]
    watchers: int

    @classmethod
    def now(cls) -> "Resources":
        """Count them."""
        return cls(_descriptors(), gevent.get_hub().loop.activecnt)

    def within(self, before: "Resources") -> bool:
        """Say whether there is nothing that was not there ``before``."""
        return self.descriptors <= before.descriptors and self.watchers <= before.watchers


def _descriptors() -> frozenset[str]:
    links = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            links.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return frozenset(link for link in links if link.startswith(("socket:", "pipe:")))


@contextmanager
def nothing_left_over(cap: float = CAP) -> Iterator[None]:
    """Fail when the block leaves a descriptor, a greenlet or a watcher behind, or lets an exception die in the hub."""
    hub = gevent.get_hub()
    # The hub makes its thread pool and its waker on first use; they stay.
    hub.threadpool.spawn(int).get()
    before = Resources.now()
    with _no_unhandled_error(hub), _spawned() as spawned:
        yield
        give_up = time.monotonic() + cap
        while left := _left_over(before, spawned):
            assert time.monotonic() < give_up, left
            gevent.sleep(POLL)


def _left_over(before: Resources, spawned: "weakref.WeakSet[gevent.Greenlet]") -> str:
    now, alive = Resources.now(), [greenlet for greenlet in spawned if not greenlet.dead]
    return "" if now.within(before) and not alive else f"left over: had {before}, has {now}, alive {alive}"


@contextmanager
def _spawned() -> Iterator["weakref.WeakSet[gevent.Greenlet]"]:
    """Collect every greenlet that is spawned in the block."""
    greenlets: weakref.WeakSet[gevent.Greenlet] = weakref.WeakSet()
    gevent.Greenlet.add_spawn_callback(greenlets.add)
    try:
        yield greenlets
    finally:
        gevent.Greenlet.remove_spawn_callback(greenlets.add)


@contextmanager
def _no_unhandled_error(hub: Any) -> Iterator[None]:
    """Collect what greenlets and callbacks die of, beside gevent's own traceback on stderr."""
    errors: list[str] = []
    report = hub.handle_error

    def handle_error(context: object, kind: type[BaseException], value: object, trace: object) -> None:
        if not issubclass(kind, hub.NOT_ERROR + hub.SYSTEM_ERROR):
            errors.append(f"{kind.__name__}: {value} in {context!r}")
        report(context, kind, value, trace)

    hub.handle_error = handle_error
    try:
        yield
    finally:
        del hub.handle_error
    assert not errors, f"nobody handled {errors}"
