"""How fast the client reopens a whole pool at once with its own dialler, as it does
after a network failure."""

import itertools
import time
from collections.abc import Callable, Sequence

from figures import REDIAL_CLIENT, REDIAL_SERVER, REDIALS, Figures
from gevent.event import Event
from processes import cpu_seconds
from programs import LOOPBACK, BenchError, Programs
from systems import Route, lt_server

from localtunnel.client.sessions.opening import Opening, say_goodbye
from localtunnel.client.sessions.proxies import Proxies
from localtunnel.client.trust.known_servers import KnownServers
from localtunnel.client.trust.link import Link
from localtunnel.client.trust.trust import Trust
from localtunnel.errors import LocaltunnelError
from localtunnel.net import closing
from localtunnel.net.address import HostPort
from localtunnel.net.channel import Channel, client_channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.dial import Address, Dialler
from localtunnel.net.sockets import Socket
from localtunnel.protocol.messages import PING, ControlRequest, FromServer, Pong, ProxyRequest
from localtunnel.protocol.version import LTP_0_3

PLAIN, FULL, RESUMED = "without encryption", "TLS, each handshake from nothing", "TLS, resumed by a ticket"
"""The three ways in which a pool can be dialled; PLAIN is what the handshakes are
compared with."""

TIMEOUT = 10.0
"""Seconds to wait for each answer of the server."""

_MICROSECONDS = 1e6

_numbers = itertools.count()


def measure_redials(size: int, rounds: int, say: Callable[[str], None], figures: Figures) -> None:
    """Open a pool of ``size`` in each of the three ways in every round. Raises
    BenchError."""
    with Programs() as programs:
        server = lt_server(programs, Route())
        if server.backend is None or server.server is None:
            raise BenchError("The server is not one of ours.")
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}: pool redials")
            for way in (RESUMED, FULL, PLAIN):
                # A server that was met over TLS is refused without it, where that is
                # known.
                link = Link(Trust(LOOPBACK, KnownServers(programs.directory / way)))
                try:
                    found = redial(link, way, HostPort(LOOPBACK, server.backend), server.server, size)
                except LocaltunnelError as error:
                    raise BenchError(f"A pool was not opened, {way}: {error}") from error
                for measure, figure in found.items():
                    figures.add(way, measure, figure)


def redial(link: Link, way: str, backend: HostPort, server: int, size: int) -> dict[str, float]:
    """Open a tunnel and its pool; return how many proxy connections a second were
    parked, and the CPU time of each.

    ``server`` is the process id of the other side. Raises BenchError or what the
    client's own parts do.
    """
    sock, address = link.connect(backend, Deadline(TIMEOUT), encrypted=way != PLAIN)
    channel = client_channel(sock, LTP_0_3, "the server")
    try:
        name = f"redial{next(_numbers)}"
        reply = Opening(LTP_0_3, ControlRequest(name, "bench@bench;Linux", instance=name), None, TIMEOUT).run(channel)
        if way == RESUMED:
            link.accepted(sock, LTP_0_3)
        secure = link.dialler(sock)
        counter = _Counter(secure, size, resumed=way == RESUMED) if secure is not None else None
        request = ProxyRequest(name, session=reply.session)
        refused, dialler = (_refused, None) if counter is None else (counter.refused, counter.dial)
        proxies = Proxies(address, LTP_0_3, request, size, TIMEOUT, _taken, refused, dialler)
        try:
            started, cpu = time.monotonic(), (cpu_seconds(server), time.process_time())
            proxies.fill()
            # Without encryption all have sent their request by now: on this machine
            # none had to be waited for.
            if counter is not None:
                counter.wait()
            _wait_for_answer(channel)
            seconds = time.monotonic() - started
            taken = [cpu_seconds(server) - cpu[0], time.process_time() - cpu[1]]
        finally:
            proxies.close()
        say_goodbye(channel)
    finally:
        channel.close()
    per_redial = [each / size * _MICROSECONDS for each in taken]
    return {REDIALS: size / seconds, REDIAL_SERVER: per_redial[0], REDIAL_CLIENT: per_redial[1]}


class _Counter:
    """Dials as ``dial`` does, and counts until ``size`` connections have sent their
    request."""

    def __init__(self, dial: Dialler, size: int, *, resumed: bool) -> None:
        self._dial = dial
        self._left = size
        self._resumed = resumed
        self._fault: str | None = None
        self._over = Event()

    def dial(self, addresses: Sequence[Address], deadline: Deadline) -> tuple[Socket, Address]:
        try:
            sock, address = self._dial(addresses, deadline)
        except LocaltunnelError as error:
            self._end(str(error))
            raise
        if getattr(sock, "session_reused", False) != self._resumed:
            self._end("a handshake was resumed that should not be, or the other way round")
        self._left -= 1
        if not self._left:
            # The request is sent before the greenlet that waits for this has its turn.
            self._over.set()
        return sock, address

    def refused(self, reply: object) -> None:
        self._end(f"the server answered {reply}")

    def wait(self) -> None:
        """Block the greenlet until all have. Raises BenchError when one has not."""
        if not self._over.wait(TIMEOUT):
            self._end(f"{self._left} of its connections were not made within {TIMEOUT:g} s")
        if self._fault is not None:
            raise BenchError(f"A pool was not opened: {self._fault}.")

    def _end(self, fault: str) -> None:
        self._fault = self._fault or fault
        self._over.set()


def _wait_for_answer(channel: Channel[FromServer]) -> None:
    """Ping the server on the control connection: its answer shows that it has read
    everything before."""
    channel.send(PING)
    deadline = Deadline(TIMEOUT)
    while not isinstance(channel.receive(deadline), Pong):
        pass


def _refused(reply: object) -> None:
    raise BenchError(f"A pool was not opened: the server answered {reply}.")


def _taken(sock: Socket, assignment: object, first: bytes) -> None:
    """Drop an assigned connection; no visitor should come here."""
    closing.close(sock)
