"""A server and a client in this process, in the hub of the test."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event as Flag

from harness.peers import ServerByHand
from harness.sockets import LOOPBACK, Address
from harness.state import own_directory, put_server_key
from harness.waiting import CAP, at_most, wait_until
from localtunnel import Client, ClientConfig, Server, ServerConfig
from localtunnel.client.events import Event, TunnelOpened
from localtunnel.protocol.login.token import Token

RETRY_SOON = {"retry_first": 0.01, "retry_longest": 0.05}
"""Timeouts of a client that tries again at once."""


@contextmanager
def running_server(**settings: Any) -> Iterator[Server]:
    """Run a Server on free ports of 127.0.0.1, with settings as plain values; stop it without grace.

    It has the key of this run, and a data directory that goes when it does, unless the settings name one.
    """
    with own_directory() as directory:
        config = {"frontend": f"{LOOPBACK}:0", "backend": f"{LOOPBACK}:0", "data_dir": str(directory), **settings}
        put_server_key(Path(config["data_dir"]))
        server = Server(msgspec.convert(config, ServerConfig))
        server.start()
        try:
            yield server
        finally:
            server.stop(0.0)


def frontend(server: Server) -> Address:
    """Return where visitors connect."""
    return server.frontend_addresses[0]


def backend(server: Server) -> Address:
    """Return where clients connect."""
    return server.backend_addresses[0]


def nothing_but(server: Server, *names: str) -> None:
    """Wait until the server knows these tunnels and no other."""
    wait_until(lambda: sorted(tunnel.name for tunnel in server.registry.tunnels()) == sorted(names))
    assert len(server.registry) == len(names)


class RunningClient:
    """A Client in a greenlet, and everything that it reported."""

    def __init__(self, config: ClientConfig, token: Token | None = None) -> None:
        self.events: list[Event] = []
        self._reported = Flag()
        self.client = Client(config, self._report, token)
        self.greenlet = gevent.spawn(self._run)

    def _run(self) -> Exception | None:
        """Return, not raise, what ended the client, so that gevent prints no traceback."""
        try:
            self.client.run()
        except Exception as error:
            return error
        return None

    def _report(self, event: Event) -> None:
        self.events.append(event)
        self._reported.set()

    def seen(self, kind: type) -> list[Any]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type, count: int = 1, cap: float = CAP) -> Any:
        """Return the ``count``-th event of a kind, once it has come."""
        with at_most(cap, f"waiting for {kind.__name__} number {count}, having {self.events}"):
            while len(self.seen(kind)) < count:
                self._reported.clear()
                self._reported.wait()
        return self.seen(kind)[count - 1]

    def ended(self, cap: float = CAP) -> Exception | None:
        """Return the error with which ``run`` ended by itself, or None when it returned."""
        with at_most(cap, "waiting for the client's end"):
            result: Exception | None = self.greenlet.get()
        return result

    def stop(self) -> None:
        """Stop the client and wait until it has ended."""
        self.client.stop()
        with at_most(CAP, "stopping the client"):
            self.greenlet.join()


@contextmanager
def running_client(
    server: Address, target: int | str, *, opened: bool = True, token: Token | None = None, **settings: Any
) -> Iterator[RunningClient]:
    """Run a Client for ``target`` at the frontend ``server``, with an open tunnel unless ``opened`` is False.

    As every client it encrypts, unless the settings have ``insecure``, which a raw server needs. It has met no server
    before, unless the settings have a ``data_dir``.
    """
    with own_directory() as directory:
        config = {"server": f"{server[0]}:{server[1]}", "target": target, "data_dir": str(directory), **settings}
        running = RunningClient(msgspec.convert(config, ClientConfig), token)
        try:
            if opened:
                running.wait_for(TunnelOpened)
            yield running
        finally:
            running.stop()


def raw_client(
    server: ServerByHand, target: int | str = 1, *, opened: bool = False, **settings: Any
) -> AbstractContextManager[RunningClient]:
    """Run a client at a server by hand, which it reaches in the clear and without asking a frontend."""
    settings = {"name": "foo", "timeouts": RETRY_SOON, **settings}
    return running_client((LOOPBACK, 1), target, opened=opened, backend=server.port, insecure=True, **settings)
