"""What the tests share: servers and clients in this process or beside it, raw peers, waiting, and a check for leaks.

These are here by their names:

waiting     until something is so, with a cap
sockets     connecting, listening, reading to the end
web         HTTP by hand, and local web servers
peers       a client and a server of LTP/0.2 by hand
inprocess   a Server and a Client in the hub of the test
programs    lt-server and lt-client as processes
leaks       holding a test to giving back what it took
places      where the parts of this checkout are

A test that needs one of these imports it by itself:

v3             a client and a server of LTP/0.3 by hand
logins         tokens, and a client of LTP/0.3 over TLS by hand
protocol_pair  two channels without a socket between them
server_2013    the server of 2013, by hand
exchanges      a visitor and an upstream by hand, with a server between them
http_visitor   visitors that are Python's http.client
upstreams      upstreams that get HTTP wrong
channels       channels of LTP on sockets, with a peer by hand
tunnels        tunnels without a server around them
relays         a relay between two peers, and ten megabytes of bulk
link           a link between client and server that can be cut
networks       networks of the test's own, in namespaces of the kernel
tls            authorities, certificates, and a man in the middle
messages       HTTP messages of the corpus
vector_items   the test vectors
vector_runner  one case of them in progress
state          where servers and clients keep their files
installed      programs that some tests run beside ours
beside         nginx, curl and chromium
web_programs   web servers as people run them
tcp_programs   OpenSSH, PostgreSQL and Redis
clock          time that passes when the test says so
garbage        holding a test to leaving nothing to the cyclic collector

Everything in this process runs in the hub of the test, so a test uses gevent's sockets, and nothing is monkey-patched.
"""

from harness.inprocess import RETRY_SOON, RunningClient, backend, frontend, raw_client, running_client, running_server
from harness.leaks import Resources, nothing_left_over
from harness.peers import ANSWER, HEADER_0_2, RawClient, RawServer, assert_error_and_close, frame, read_message
from harness.places import ROOT
from harness.programs import ClientProcess, Program, ServerProcess
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
    "RETRY_SOON",
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
    "raw_client",
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
