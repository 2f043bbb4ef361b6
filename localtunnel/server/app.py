"""Makes the parts of the server and connects them; starts and stops them in order."""

import gc
import itertools
import logging
import os
from collections.abc import Callable
from ipaddress import ip_address

import gevent
from gevent.event import Event

from localtunnel.files import data_directory
from localtunnel.net import descriptors, signals
from localtunnel.net.address import Bind, PublicUrl, parse_bind, parse_public, parse_range
from localtunnel.net.closing import Lingering
from localtunnel.net.descriptors import Share
from localtunnel.net.flow.half_closed import HalfClosed
from localtunnel.net.flow.hangups import HangUps
from localtunnel.net.listen import Accept, Listener, listen
from localtunnel.networks import Networks
from localtunnel.protocol.reserved import Reserved
from localtunnel.server.access import bans
from localtunnel.server.access.auth import Gate
from localtunnel.server.access.tokens import TokenStore
from localtunnel.server.certificates.own import Certificate
from localtunnel.server.clients.backend import Backend
from localtunnel.server.clients.control import Control
from localtunnel.server.clients.last_words import LastWords
from localtunnel.server.clients.opening import Openings
from localtunnel.server.config import ServerConfig
from localtunnel.server.limits.quotas import make_quotas
from localtunnel.server.names import leases
from localtunnel.server.names.ports import Ports
from localtunnel.server.names.registry import Policy, Registry
from localtunnel.server.operator.admin import Admin
from localtunnel.server.stats import Stats
from localtunnel.server.store import Store
from localtunnel.server.tunnels.join import Join, Joins
from localtunnel.server.tunnels.tunnel import STOPPED
from localtunnel.server.visitors.admission import Admission
from localtunnel.server.visitors.frontend import Frontend
from localtunnel.server.visitors.http_edge import Edge
from localtunnel.server.visitors.join_edge import PlainEdge
from localtunnel.server.visitors.routes import Meta, Routes
from localtunnel.server.visitors.tcp_edge import TcpEdge

log = logging.getLogger("localtunnel.server")

GC_THRESHOLD = (50_000, 20, 50)
"""Allocations between two runs of the garbage collector. No long-lived cycles are made
for each connection, and with the default of 700 the collector took 4 % of the samples
under churn."""


TICK = 5.0
"""Seconds between two checks of everything that ages: parked connections, pools,
tokens."""


class Server:
    """A localtunnel server in this thread's hub.

    ``start``, then ``stop``; or ``run`` for both, with signals.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._half_closed = HalfClosed(config.timeouts.half_closed)
        self._joins = Joins(self._half_closed)
        self._lingering = Lingering()
        self._hang_ups = HangUps()
        ids = itertools.count(1)
        loopback = config.domain == "localhost"
        frontend_host = parse_bind(config.frontend).host
        self._visitors = Share(descriptors.for_visitors(), self._give_way)
        wait = config.timeouts.pool_wait
        tcp_edge = TcpEdge(frontend_host, ids, self._visitors, loopback=loopback, wait=wait)
        self._directory = data_directory(config.data_dir, os.environ)
        self.tokens = TokenStore(self._directory)
        quotas = make_quotas(config.quotas)
        reserved = Reserved(config.reserved_names)
        policy = Policy(reserved, quotas.tunnels, quotas.leases, self.tokens.reserved_for)
        self._store = Store(self._directory, (leases.SCHEMA, bans.SCHEMA))
        self._bans = bans.Bans(self._store)
        kept = leases.Leases(self._store)
        self.registry = Registry(config.domain, policy, kept, Ports(parse_range(config.tcp_ports), kept))
        self._admin = Admin(self._directory, self.registry, self._bans)
        gate = Gate(self.tokens, legacy=config.legacy in (True, "only"), timeout=config.timeouts.preamble)
        self._openings = Openings(
            config, gate, self.registry, self._joins, quotas, self._bans.hold, tcp_edge.listen_for
        )
        last_words = LastWords(self._lingering, config.timeouts.error_hold)
        self._control = Control(config, self._openings, last_words)
        self._certificate = Certificate(config)
        self._backend = Backend(config, self._certificate, self.registry, self._control, quotas, self._bans)
        self._meta = Meta(config.domain, self.stats)
        self._routes = Routes(self.registry, self._meta, warns=config.warning_page)
        self._public = parse_public(config.public_url) if config.public_url else None
        exempt = Networks.parse((*config.limits.exempt, *config.trusted_proxies))
        self._admission = Admission(config.limits, exempt, self._visitors.below)
        self._frontend = Frontend(config, self._make_edge(config, ids))
        self._ticker = Ticker(self._tick)
        self._backend_listeners: list[Listener] = []
        self._frontend_listeners: list[Listener] = []
        self._stopping = Event()
        self._signal: int | None = None

    @property
    def frontend_addresses(self) -> list[tuple[str, int]]:
        """The addresses for visitors, as (host, port), once started."""
        return [listener.address[:2] for listener in self._frontend_listeners]

    @property
    def backend_addresses(self) -> list[tuple[str, int]]:
        """The addresses for clients, as (host, port), once started."""
        return [listener.address[:2] for listener in self._backend_listeners]

    @property
    def joins(self) -> frozenset[Join]:
        """The open joins."""
        return frozenset(self._joins)

    def stats(self) -> Stats:
        """Return the current numbers."""
        tunnels = self.registry.tunnels()
        return Stats(
            tunnels=len(tunnels),
            arriving=self._backend.arriving,
            parked=sum(tunnel.parked for tunnel in tunnels),
            returning=sum(tunnel.returning for tunnel in tunnels),
            waiting=sum(tunnel.waiting for tunnel in tunnels),
            joins=len(self._joins),
            kept=sum(tunnel.kept_count for tunnel in tunnels),
            visitors=self._admission.open,
            lingering=len(self._lingering),
            requests=self._routes.requests,
            repeated=self._joins.repeated,
        )

    def start(self) -> None:
        """Listen and serve in the background.

        Raises ListenError, AddressError or, for a fault in the data directory,
        ConfigError. Nothing is left open then.
        """
        self._certificate.load()
        self.tokens.load()
        self._store.open()
        try:
            self._hang_ups.open()
            self._bans.load()
            self.registry.restore(self._config.timeouts.lease)
            self._admin.start()
            bind, share = parse_bind(self._config.backend), Share(give_way=self._give_way)
            self._backend_listeners = self._listen(bind, self._backend.accept, "backend", share)
            bind = parse_bind(self._config.frontend)
            self._frontend_listeners = self._listen(bind, self._frontend.accept, "frontend", self._visitors)
        except BaseException:
            self._stop_listening()
            self._forget()
            raise
        public = self._public or PublicUrl("http", self._config.domain, self.frontend_addresses[0][1])
        self._control.publish(public.scheme, public.port)
        self._meta.publish_backend(self.backend_addresses[0][1])
        self._ticker.start()
        for listener in (*self._backend_listeners, *self._frontend_listeners):
            listener.start()
        log.info(
            "listening",
            extra={
                "frontend": ", ".join(listener.bound for listener in self._frontend_listeners),
                "backend": ", ".join(listener.bound for listener in self._backend_listeners),
                "domain": self._config.domain,
            },
        )
        if not self.tokens.exist():
            self._warn_of_openness()

    def stop(self, grace: float = 0.0) -> None:
        """Stop accepting, wait for visitors, then end all connections. Blocks.

        Visitors have up to ``grace`` seconds to finish.
        """
        self._stop_listening()
        self._frontend.stop()
        self._control.drain(grace)
        for tunnel in self.registry.tunnels():
            tunnel.drain()
        self._joins.wait_until_empty(grace)
        self._ticker.stop()
        self._backend.stop()
        self._joins.abort_all(STOPPED)
        self._half_closed.close()
        self._forget()
        self._lingering.end()
        log.info("stopped")

    def run(self) -> int:
        """Start, serve until SIGTERM, SIGINT or SIGHUP, and stop with the set grace.

        A second signal ends the grace. Returns the number of the first signal. Raises
        the errors of ``start``.
        """
        handlers = [gevent.signal_handler(number, self._on_signal, number) for number in signals.stopping()]
        try:
            self.start()
            descriptors.reserve()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)
            self._stopping.wait()
            if self._joins:
                log.info("stopping", extra={"joins": len(self._joins), "grace": self._config.grace})
            self.stop(self._config.grace)
        finally:
            for handler in handlers:
                handler.cancel()
        if self._signal is not None and signals.is_hangup(self._signal):
            signals.ignore_hangup()
        return self._signal or 0

    def _tick(self) -> None:
        """Let all parts check their age.

        Tunnels that tokens no longer cover come first.
        """
        self.tokens.refresh()
        self._openings.review()
        self._certificate.refresh()
        for tunnel in self.registry.tunnels():
            tunnel.tick()
        for join in self._joins:
            join.tick(TICK)

    def _make_edge(self, config: ServerConfig, ids: "itertools.count[int]") -> Edge | PlainEdge:
        routes, admission = self._routes, self._admission
        if config.edge == "join":
            return PlainEdge(config, routes, admission, ids, self._lingering)
        return Edge(config, routes, admission, ids, self._lingering, self._hang_ups)

    def _on_signal(self, number: int) -> None:
        if self._stopping.is_set() and not signals.is_hangup(number):
            self._joins.abort_all(STOPPED)
        self._signal = self._signal or number
        self._stopping.set()

    def _warn_of_openness(self) -> None:
        """Warn that the server is open, unless only this machine can connect."""
        if not all(ip_address(host).is_loopback for host, _ in self.backend_addresses):
            log.warning(
                "this server is open: any client that reaches the backend can open tunnels under the domain; "
                "lt-server token create makes the first token, and from then on a token is required",
                extra={"domain": self._config.domain},
            )

    def _listen(self, bind: Bind, accept: Accept, what: str, share: Share) -> list[Listener]:
        return listen(bind, loopback=self._config.domain == "localhost", accept=accept, what=what, share=share)

    def _give_way(self) -> bool:
        """Close an idle connection, because descriptors are short.

        Say whether there was one. If there is none, clients are asked to park fewer,
        which frees some soon.
        """
        if self._lingering.end_oldest() or self._admission.give_way():
            return True
        self._openings.ease_pools()
        return False

    def _forget(self) -> None:
        """Release the data directory, after everything is written.

        Blocks; idempotent.
        """
        self._hang_ups.close()
        self._admin.stop()
        self.registry.close()
        self._store.close()

    def _stop_listening(self) -> None:
        for listener in (*self._frontend_listeners, *self._backend_listeners):
            listener.stop()


class Ticker:
    """Calls ``tick`` every few seconds."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._timer = gevent.get_hub().loop.timer(TICK, TICK)

    def start(self) -> None:
        """Start the timer."""
        self._timer.start(self._tick)

    def stop(self) -> None:
        """Stop. Idempotent."""
        self._timer.close()
