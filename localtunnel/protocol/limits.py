"""Every limit and interval of the protocol and the two programs, and why that number.

Durations are in seconds, sizes in bytes. PROTOCOL.md has those that a peer can observe;
a test compares.
"""

MAX_PORT = 65535
"""Ports are 16 bits."""

MAX_MESSAGE = 64 * 1024
"""The payload of one preamble message: far above any real one (under 1 KiB), and cheap
to hold."""

MAX_HEARTBEAT = 4 * 1024
"""The payload of a message on an established control connection: those are tiny, and
there may be many connections."""

MAX_DEPTH = 8
"""How deep arrays and objects may nest in a message. Real ones use 2, and a peer must
not spend a parser's stack."""

PREAMBLE_TIMEOUT = 5.0
"""From accepting a backend connection to its whole first message, in total: a round
trip round the world is 0.4 s."""

HANDSHAKE_TIMEOUT = 5.0
"""From the first byte of a TLS handshake to its end: two round trips, of which the
slowest take half a second each."""

HEARTBEAT_INTERVAL = 5.0
"""Between two pings of the server: what LTP/0.2 has always used, and short enough to
keep NAT entries alive."""

HEARTBEAT_TIMEOUT = 5.0
"""From a ping to its pong, as in LTP/0.2."""

CLIENT_HEARTBEAT_TIMEOUT = 3 * HEARTBEAT_INTERVAL
"""After three intervals without a ping, a client counts the control connection as
dead."""

MISSED_HEARTBEATS = 3
"""Heartbeat intervals of silence after which an LTP/0.3 peer is dead: two may be
missed, any traffic counts."""

HEARTBEAT_BOUNDS = (0.05, 60.0)
"""Bounds of the interval that a client accepts from a server: no flood of pings, no
silence longer than NAT time-outs."""

MESSAGE_BURST = 32
"""Messages that a side may send at once on an open control connection. A link that
stood still for three intervals delivers six heartbeats and the changes of the pool
together; 32 cost their receiver about a millisecond."""

MESSAGE_RATE = 8
"""Messages a second that a side may send on average. A server of ours sends four in an
interval of 5 s while it renews a pool."""

MESSAGES_PER_HEARTBEAT = 8
"""Messages that a side may send in one interval, where that is more: twice those four.
So a peer that keeps to the interval is never cut, however short that is."""

FLOODED_PAUSE = 30.0
"""Seconds until a client tries again after a flood, at the earliest: the fault that
caused it, on either side, is still there."""

LEASE = 30.0
"""How long an LTP/0.3 name is kept for a client without a key that has gone without
``release``: a reconnect takes seconds, and the same address may be another client's by
then."""

OWNED_LEASE = 600.0
"""The same for an owner that proves itself by a token or a key: enough to carry a
laptop from one desk to another."""

LEASES_PER_OWNER = 20
"""Names that are kept for one owner while no client is connected: more than a person
works on at a time."""

MAX_FIRST = 16 * 1024
"""A visitor's bytes that go out with an LTP/0.3 assignment and are held until ``got``:
a request head with cookies."""

GOT_TIMEOUT = 0.2
"""The least time for ``got``, before an assignment is repeated elsewhere: a busy laptop
takes tens of milliseconds."""

GOT_ROUND_TRIPS = 3
"""``got`` may take this many smoothed round trips of the connection: one, and a loss
that is repaired fast."""

READY_TIMEOUT = 30.0
"""From ``got`` to ``ready`` or ``failed``: the client has a shorter limit; this one is
for a client that is stuck."""

SEEN_IDS = 4096
"""Assignment ids that a client remembers, to refuse a repeated one: far more than can
be repeated within POOL_WAIT."""

MARK_TIMEOUT = 1.0
"""From the server's end mark to the client's, on a connection that is to come back: the
client closes its upstream at once, and a slow link is allowed its round trips."""

MAX_BEHIND_ANSWER = 64 * 1024
"""Bytes of the stream in that time, which nobody gets: more than that, and the upstream
is likely to go on for long."""

ENDED_TIMEOUT = 5.0
"""From the end of a stream to the request by which its connection comes back: the
client decides that at once."""

PARKED_AGE = 600.0
"""Seconds after which a parked LTP/0.3 connection is replaced, less a random fifth:
middle boxes forget old flows."""

ERROR_HOLD = 1.0
"""How long the server keeps a connection open after an error reply: the client of 2013
redials at once on any error."""

DEFAULT_CONCURRENCY = 10
"""The pool size asked of a client: a page's burst of requests (browsers open 6 a host)
finds connections waiting."""

FIRST_CONCURRENCY = 4
"""The pool size of a new LTP/0.3 tunnel, which then follows the demand: enough for one
page of one browser."""

IDLE_CONCURRENCY = 2
"""The pool size of an LTP/0.3 tunnel without visitors: one connection for the first that
comes, and one in case that it is dead."""

IDLE_TUNNEL = 300.0
"""Seconds without a visitor after which a tunnel's pool is that small: over TLS each
connection costs the server 24 KiB."""

MAX_CONCURRENCY = 1000
"""The largest pool a client opens, whatever the server asks: it costs the laptop a
descriptor and 3 KiB each."""

TUNNEL_CONCURRENCY = 256
"""The largest pool that the server asks of an LTP/0.3 client, however large the bursts
of its visitors."""

TOTAL_CONCURRENCY = 20_000
"""Parked connections that the server asks of all LTP/0.3 clients together: 3 KiB and a
descriptor each."""

POOL_WAIT = 10.0
"""How long a visitor waits for a proxy connection: longer than any reconnect, shorter
than a browser's patience."""

MAX_WAITING_VISITORS = 1024
"""Visitors that wait for one tunnel at a time: each costs a greenlet (9 KiB); the next
one is told to come back."""

HEAD_TIMEOUT = 10.0
"""From accepting a visitor to its whole request head, in total: a slow sender must not
hold a place forever."""

KEEP_ALIVE_TIMEOUT = 75.0
"""How long a visitor's connection may be idle between two requests, as with nginx:
browsers use one again for a minute, and proxies in front of the server want it to be
kept longer than they keep it themselves, which is often 60 s."""

MAX_HEAD_BYTES = 64 * 1024
"""A request head: servers take 8 to 32 KiB, so no request that an upstream would accept
is refused here."""

MAX_HEAD_FIELDS = 100
"""Fields in a request head, as Apache and nginx-like servers bound them."""

MAX_VISITORS = 10_000
"""Connections of visitors at a time: with one to a client for each, a third of the
descriptors of lt-server.service."""

ADDRESS_VISITORS = 256
"""The same from one address: forty browsers behind one router, yet forty attackers are
needed to take every place."""

ADDRESS_CONNECTION_RATE = 100.0
"""New connections a second from one address, on average: many times a browser's, a
hundredth of what costs the server its time."""

ADDRESS_REQUEST_RATE = 500.0
"""Requests a second from one address, on average: a development server's page of 2,000
modules passes at once."""

HALF_CLOSED = 60.0
"""How long a stream of bytes may be silent once one side has said everything. A visitor
that has gone looks the same, so connections would pile up without a limit. An upstream
rarely needs longer for an answer."""

MAX_NAME = 63
"""A tunnel's name is one DNS label (RFC 1035 2.3.4)."""

MAX_HOST = 253
"""The longest host name that fits into the 255 octets of RFC 1035 2.3.4."""

MAX_CLIENT_ID = 256
"""The ``client`` string of a request: user, host, system and instance take a fraction
of it."""

MAX_TEXT = 255
"""Any other text of a request: a host name has 253 characters at most, and an error
that quotes it stays small."""

MAX_PATTERNS = 32
"""Names and globs in an error that says what a token covers: a client needs one that it
can make a name of."""

MAX_OPTION_ITEMS = 32
"""Networks or field lines in one option of a tunnel: a head stays small, and longer
lists belong in a firewall."""

MAX_OPTION_TEXT = 1024
"""One network or field line in an option: a content security policy fits, and a few of
the longest fit a message."""

MAX_BANNER = 512
"""The banner in a control reply: with it, the whole reply stays below the 1 KiB that
0.2 clients read at once."""

MAX_SCRAM = 512
"""One message of a login: the longest real one, with a binding of 64 bytes and both
nonces, has about 300."""
