"""localtunnel.server.app: what is started and stopped, and in which order."""

import logging
import signal
import time

import gevent
import pytest
from harness import (
    LOOPBACK,
    RawClient,
    ServerProcess,
    at_most,
    backend,
    connect,
    forwarded,
    frontend,
    is_reset,
    listening,
    read_exactly,
    read_head,
    read_message,
    read_to_end,
    request,
    running_server,
    unused_port,
    wait_until,
)

from localtunnel import Server, ServerConfig
from localtunnel.errors import AddressError, ListenError
from localtunnel.server.stats import Stats

pytestmark = pytest.mark.usefixtures("no_leaks")

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def joined(address_of_frontend, address_of_backend, name="foo"):
    """Return a client, its proxy connection and the visitor that is joined to it."""
    client = RawClient(address_of_backend, name)
    client.beat()
    proxy = client.park()
    visitor = connect(address_of_frontend)
    visitor.sendall(request(f"{name}.localhost", fields="Connection: close\r\n"))
    assert read_message(proxy) == {"proxy": True}
    assert read_head(proxy) == forwarded(request(f"{name}.localhost"))
    return client, proxy, visitor


def test_stats_say_what_there_is_at_this_moment():
    with running_server() as server:
        assert server.stats() == Stats()
        client, proxy, visitor = joined(frontend(server), backend(server))
        with connect(frontend(server)) as waits, connect(backend(server)):
            waits.sendall(request("foo.localhost"))
            wait_until(lambda: server.stats().waiting == server.stats().arriving == 1)
            assert server.stats() == Stats(tunnels=1, arriving=1, waiting=1, joins=2, visitors=2, requests=2)
            client.answer_one()
            read_head(waits)
        proxy.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        read_head(visitor)
        visitor.close()
        client.park()
        wait_until(lambda: server.stats() == Stats(tunnels=1, parked=1, requests=2))
        client.close()
        wait_until(lambda: server.stats() == Stats(requests=2))


def test_starting_says_where_it_listens(caplog):
    caplog.set_level(logging.INFO, "localtunnel.server")
    with running_server() as server:
        (record,) = [record for record in caplog.records if record.getMessage() == "listening"]
        assert record.frontend == f"{LOOPBACK}:{frontend(server)[1]}"
        assert record.backend == f"{LOOPBACK}:{backend(server)[1]}"
        assert record.domain == "localhost"


def test_without_hosts_the_domain_localhost_listens_on_both_loopbacks():
    with running_server(frontend=0, backend=":0") as server:
        for addresses in (server.frontend_addresses, server.backend_addresses):
            assert [host for host, _ in addresses] == ["127.0.0.1", "::1"]
            assert len({port for _, port in addresses}) == 1
        with connect(("::1", frontend(server)[1])) as visitor:
            visitor.sendall(request("localhost", "/meta/version"))
            assert read_to_end(visitor).startswith(b"HTTP/1.1 200 ")


def test_without_hosts_another_domain_listens_everywhere():
    with running_server(frontend=0, backend=0, domain="tunnels.example") as server:
        assert [host for host, _ in server.frontend_addresses] == ["::"]
        assert [host for host, _ in server.backend_addresses] == ["::"]


@pytest.mark.parametrize("taken", ["frontend", "backend"])
def test_a_port_that_is_taken_leaves_nothing_open(taken):
    other = "backend" if taken == "frontend" else "frontend"
    free = unused_port()
    with listening() as holder:
        ports = {taken: f"{LOOPBACK}:{holder.getsockname()[1]}", other: f"{LOOPBACK}:{free}"}
        with pytest.raises(ListenError, match=f"--{taken}"):
            Server(ServerConfig(**ports)).start()
        listening(port=free).close()


def test_an_address_that_is_none_is_told():
    with pytest.raises(AddressError):
        Server(ServerConfig(frontend="nonsense:port", backend=f"{LOOPBACK}:0")).start()


def test_two_servers_live_side_by_side():
    with running_server() as one, running_server() as two:
        first, second = RawClient(backend(one), "foo"), RawClient(backend(two), "foo")
        assert len(one.registry) == len(two.registry) == 1
        first.close()
        wait_until(lambda: len(one.registry) == 0)
        assert len(two.registry) == 1
        second.close()


def test_stop_accepts_nobody_and_lets_visitors_finish():
    with running_server() as server:
        addresses = frontend(server), backend(server)
        client, proxy, visitor = joined(*addresses)
        stopping = gevent.spawn(server.stop, 30.0)
        gevent.idle()
        for address in addresses:
            with pytest.raises(ConnectionRefusedError):
                connect(address)
        assert not stopping.dead
        proxy.sendall(ANSWER)
        proxy.close()
        assert read_exactly(visitor, len(ANSWER)) == ANSWER
        visitor.close()
        # Well before the grace is over.
        with at_most(5):
            stopping.get()
        client.close()


def test_the_grace_has_an_end():
    with running_server() as server:
        client, proxy, visitor = joined(frontend(server), backend(server))
        with at_most(5):
            server.stop(0.1)
        assert is_reset(visitor)
        assert is_reset(proxy)
        assert not server.joins
        visitor.close()
        client.close()


def test_stop_may_be_called_twice_and_without_start():
    with running_server() as server:
        server.stop(0)
        server.stop(0)
    Server(ServerConfig()).stop(0)


def test_a_stopped_servers_ports_are_free():
    with running_server() as server:
        ports = {"frontend": f"{LOOPBACK}:{frontend(server)[1]}", "backend": f"{LOOPBACK}:{backend(server)[1]}"}
    with running_server(**ports) as again:
        assert frontend(again) == frontend(server)


# With signals, in a process of its own.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_stops_an_idle_server_at_once(number, code):
    with ServerProcess("--grace=60") as program:
        client = RawClient(program.backend, "foo")
        program.signal(number)
        assert program.wait(5) == code
        assert read_to_end(client.control).endswith(b"}")
        client.close()
        assert [record["event"] for record in program.records][-1] == "stopped"


def test_after_a_signal_a_visitor_may_finish():
    with ServerProcess("--grace=60") as program:
        client, proxy, visitor = joined(program.frontend, program.backend)
        program.signal(signal.SIGTERM)
        assert program.wait_for_record("stopping")["joins"] == 1
        proxy.sendall(ANSWER)
        proxy.close()
        assert read_exactly(visitor, len(ANSWER)) == ANSWER
        visitor.close()
        assert program.wait(5) == 0
        client.close()


def test_a_second_signal_ends_the_grace():
    with ServerProcess("--grace=60") as program:
        client, proxy, visitor = joined(program.frontend, program.backend)
        program.signal(signal.SIGTERM)
        program.wait_for_record("stopping")
        began = time.monotonic()
        program.signal(signal.SIGINT)
        assert program.wait(5) == 0
        assert time.monotonic() - began < 3
        assert is_reset(visitor)
        assert is_reset(proxy)
        visitor.close()
        client.close()


def test_a_second_signal_ends_the_grace_while_a_visitor_waits_for_a_connection():
    with ServerProcess("--grace=60") as program:
        client = RawClient(program.backend, "foo")
        client.beat()
        visitor = connect(program.frontend)
        visitor.sendall(request("foo.localhost"))
        wait_until(lambda: program.metrics()["joins"] == 1)
        program.signal(signal.SIGTERM)
        program.wait_for_record("stopping")
        program.signal(signal.SIGTERM)
        assert program.wait(5) == 0
        assert is_reset(visitor)
        assert "Traceback" not in program.stderr
        visitor.close()
        client.close()
