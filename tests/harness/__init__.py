"""What the tests share: servers and clients in this process or beside it, raw peers, waiting, and a check for leaks.

waiting     until something is so, with a cap
sockets     connecting, listening, reading to the end
web         HTTP by hand, and local web servers
peers       a client and a server of LTP/0.2 by hand
v3          the same of LTP/0.3 (imported by itself)
logins      tokens, and a client of LTP/0.3 over TLS by hand (imported by itself)
state       where servers and clients keep their files
inprocess   a Server and a Client in the hub of the test
messages    HTTP messages of tests/corpus (imported by itself)
upstreams   upstreams that get HTTP wrong (imported by itself)
relays      a relay between two peers (imported by itself: it has ten megabytes of bulk)
programs    lt-server and lt-client as processes
garbage     holding it to leaving nothing to the cyclic collector (imported by itself)
leaks       holding a test to giving back what it took

Everything in this process runs in the hub of the test, so a test uses gevent's sockets, and nothing is monkey-patched.
"""

from harness.inprocess import RunningClient, backend, frontend, running_client, running_server
from harness.leaks import Resources, nothing_left_over
from harness.peers import ANSWER, HEADER_0_2, RawClient, RawServer, assert_error_and_close, frame, read_message
from harness.programs import ROOT, ClientProcess, Program, ServerProcess
from harness.sockets import (
    LOOPBACK,
    Address,
    connect,
    is_reset,
    listening,
    pair,
    read_exactly,
    read_to_end,
    silent_listener,
    unused_port,
)
from harness.waiting import CAP, at_most, wait_until
from harness.web import (
    Handler,
    Response,
    answer_hello,
    fetch,
    forwarded,
    parse_response,
    read_head,
    request,
    running_upstream,
)

__all__ = [
    "ANSWER",
    "CAP",
    "HEADER_0_2",
    "LOOPBACK",
    "ROOT",
    "Address",
    "ClientProcess",
    "Handler",
    "Program",
    "RawClient",
    "RawServer",
    "Resources",
    "Response",
    "RunningClient",
    "ServerProcess",
    "answer_hello",
    "assert_error_and_close",
    "at_most",
    "backend",
    "connect",
    "fetch",
    "forwarded",
    "frame",
    "frontend",
    "is_reset",
    "listening",
    "nothing_left_over",
    "pair",
    "parse_response",
    "read_exactly",
    "read_head",
    "read_message",
    "read_to_end",
    "request",
    "running_client",
    "running_server",
    "running_upstream",
    "silent_listener",
    "unused_port",
    "wait_until",
]
