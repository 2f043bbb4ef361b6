"""Decides which clients may open a tunnel: the login with a token.

A server without tokens admits every client. One with tokens admits none without, and
slows down addresses whose logins fail. Open tunnels are checked again every few
seconds. Names, sessions and leases are the registry's.
"""

import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from localtunnel.errors import (
    AuthFailed,
    AuthRequired,
    AuthThrottled,
    MessageError,
    NotAllowed,
    TlsRequired,
)
from localtunnel.net.channel import Channel
from localtunnel.net.deadline import Deadline
from localtunnel.net.flow.metered import Allowance
from localtunnel.net.tls.context import channel_binding
from localtunnel.networks import network_of
from localtunnel.protocol import names
from localtunnel.protocol.login.scram import NONCE_SIZE, ServerLogin
from localtunnel.protocol.messages import Challenge, ControlRequest, FromClient, Proof
from localtunnel.protocol.version import Version
from localtunnel.server.access.tokens import TokenRecord, TokenStore

log = logging.getLogger("localtunnel.server")

FREE_FAILURES = 10
"""Failed logins that each address has free. A team behind one address that mistypes
needs a few."""

FAILURE_INTERVAL = 6.0
"""Seconds in which one failed login is forgiven. Ten a minute do not hinder honest
mistakes, and do not help guessing."""

WORST_DEBT = 20
"""The most failures that count against an address, however many logins were in flight
at once: two minutes' worth."""

MAX_ADDRESSES = 10_000
"""Addresses whose failures are remembered, at 200 bytes each. Beyond that, the one that
failed longest ago is forgotten."""


@dataclass(frozen=True)
class Grant:
    """What a client has proved. ``token`` is None for a client without one.

    ``answer`` goes into the control reply.
    """

    token: TokenRecord | None = None
    answer: str | None = None


ANYBODY = Grant()


class Gate:
    """Admits clients.

    ``legacy`` admits LTP/0.2 clients, which know no tokens, even where a token is
    required.
    """

    def __init__(self, tokens: TokenStore, *, legacy: bool = False, timeout: float) -> None:
        self._tokens = tokens
        self._legacy = legacy
        self._timeout = timeout
        self._failures = Failures()
        self._meters: WeakValueDictionary[str, Allowance] = WeakValueDictionary()
        """By the token's id. The tunnels and visitors that count against an allowance
        keep it alive."""

    def admit(self, channel: Channel[FromClient], request: ControlRequest, address: str) -> Grant:
        """Return the grant of a client that asks for a tunnel.

        With a token, this blocks the greenlet for a round trip, at most ``timeout``
        seconds. Raises AuthError, MessageError, or the channel's error; the caller
        answers and closes.
        """
        # A token must work right after it was made, and not after it was revoked.
        self._tokens.refresh()
        if request.auth is None:
            self._check_anybody(channel.version)
            return ANYBODY
        binding = channel_binding(channel.sock)
        if binding is None:
            raise TlsRequired("A token is accepted over an encrypted connection only; leave --insecure out.")
        self._failures.check(address)
        try:
            return self._log_in(channel, request.auth, binding)
        except AuthFailed:
            self._failures.add(address)
            log.warning("login failed", extra={"peer": address})
            raise

    def check(self, grant: Grant, request: ControlRequest, version: Version) -> None:
        """Raise an error unless ``grant`` covers this tunnel, open or not.

        That is an AuthError, NotAllowed, or NameUnavailable for a name that is reserved
        for another token.
        """
        if grant.token is None:
            self._check_anybody(version)
        else:
            token = self._tokens.current(grant.token.id)
            token.check_allows(request.name, request.kind or "http", request.domain)
        holder = self._tokens.reserved_for(request.name)
        if holder is not None and (grant.token is None or holder != grant.token.id):
            raise names.taken(request.name)

    def check_count(self, grant: Grant, held: Counter[str]) -> None:
        """Count an open tunnel of a token in ``held``.

        Raises NotAllowed if the token has too many.
        """
        if grant.token is None:
            return
        held[grant.token.id] += 1
        most = self._tokens.current(grant.token.id).max_tunnels
        if most is not None and held[grant.token.id] > most:
            raise NotAllowed(
                f"This token now allows fewer tunnels at a time ({most}) than are open, so this one was closed."
            )

    def most_connections(self, grant: Grant) -> int | None:
        """Return the token's limit of visitors, or None for no limit of its own."""
        token = self._record(grant)
        return None if token is None else token.max_connections

    def meter(self, grant: Grant) -> Allowance | None:
        """Return the allowance that all visitors of the token share, if it has one.

        Its rate is the token's current one.
        """
        token = self._record(grant)
        if token is None or token.bandwidth is None:
            return None
        allowance = self._meters.get(token.id)
        if allowance is None:
            allowance = self._meters[token.id] = Allowance(token.bandwidth)
        allowance.rate = token.bandwidth
        return allowance

    def _record(self, grant: Grant) -> TokenRecord | None:
        return None if grant.token is None else self._tokens.find(grant.token.id)

    def _check_anybody(self, version: Version) -> None:
        if self._tokens.exist() and (version.has_tokens or not self._legacy):
            raise AuthRequired(
                "This server requires a token. Ask its operator for one, and store it with lt-client login."
            )

    def _log_in(self, channel: Channel[FromClient], first: str, binding: bytes) -> Grant:
        login = ServerLogin(first, secrets.token_urlsafe(NONCE_SIZE), binding)
        channel.send(Challenge(login.challenge(self._tokens.credentials(login.user))))
        proof = channel.receive(Deadline(self._timeout))
        if not isinstance(proof, Proof):
            raise MessageError("The client answered the challenge with something other than a proof.")
        answer = login.verify(proof.text)
        try:
            return Grant(self._tokens.current(login.user), answer)
        except AuthFailed as error:
            raise AuthFailed("This token was revoked just now.") from error


class Failures:
    """Counts failed logins by address, or by IPv6 network. ``clock`` is monotonic.

    A few are free; the following ones are slowed down. An address is refused before
    anything is computed for it, and may try again as soon as a failure is forgiven. So
    a valid token behind a busy address waits for seconds and not forever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._forgiven_at: OrderedDict[str, float] = OrderedDict()
        """The time at which each address is forgiven, in the order of their last
        failures."""

    def check(self, address: str) -> None:
        """Raise AuthThrottled while the address has too many failures."""
        over = self._debt(network_of(address)) - FREE_FAILURES + 1
        if over > 0:
            seconds = max(1, round(over * FAILURE_INTERVAL))
            raise AuthThrottled(f"Too many logins from your address have failed; try again in {seconds} seconds.")

    def add(self, address: str) -> None:
        """Count a failed login."""
        network = network_of(address)
        debt = min(WORST_DEBT, self._debt(network) + 1)
        self._forgiven_at[network] = self._clock() + debt * FAILURE_INTERVAL
        self._forgiven_at.move_to_end(network)
        if len(self._forgiven_at) > MAX_ADDRESSES:
            self._forgiven_at.popitem(last=False)

    def _debt(self, network: str) -> float:
        """Return the failures that are not forgiven yet."""
        at = self._forgiven_at.get(network)
        if at is None:
            return 0.0
        left = at - self._clock()
        if left <= 0:
            del self._forgiven_at[network]
            return 0.0
        return left / FAILURE_INTERVAL
