"""haproxy and nginx in front of the server: whom a proxy speaks for is who the visitor is, if the proxy is trusted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from harness import LOOPBACK, Address, ClientProcess, ServerProcess, unused_port, web_programs
from harness.beside import Nginx, running
from harness.http_visitor import Request, Visitor

pytestmark = pytest.mark.slow

VISITOR = "127.0.0.5"
OTHER = "127.0.0.6"
CLAIMS = {"X-Forwarded-For": "192.0.2.66", "Forwarded": "for=192.0.2.66", "X-Real-IP": "192.0.2.66"}
"""What a visitor may say of itself, and nobody may believe."""

TRUSTING = f'trusted_proxies = ["{LOOPBACK}/32"]\n'
PROXIED = f"{TRUSTING}proxy_protocol = true\n"

_HAPROXY_CFG = """\
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    {defaults}
listen proxy
    bind {host}:{port}
    server tunnel {server[0]}:{server[1]} {options}
"""

_NGINX_LOCATION = """
        location / {{
            proxy_pass http://{server[0]}:{server[1]};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
        }}
"""


@contextmanager
def haproxy(directory: Path, server: Address, defaults: str, options: str = "") -> Iterator[Address]:
    """haproxy in front of ``server``; yields where it listens."""
    port = unused_port()
    file = directory / "haproxy.cfg"
    file.write_text(_HAPROXY_CFG.format(host=LOOPBACK, port=port, server=server, defaults=defaults, options=options))
    with running(["haproxy", "-db", "-f", str(file)], port, directory / "haproxy.log"):
        yield LOOPBACK, port


@contextmanager
def nginx(directory: Path, server: Address) -> Iterator[Address]:
    """nginx in front of ``server``, which says that visitors came by https; yields where it listens."""
    with Nginx(directory / "nginx", _NGINX_LOCATION.format(server=server)) as proxy:
        yield LOOPBACK, proxy.port


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Node server that tells which fields it has received."""
    with web_programs.node(tmp_path_factory.mktemp("node"), 5.0) as port:
        yield port


class Seen(msgspec.Struct):
    """What the upstream was told about the visitor."""

    forwarded_for: str
    real_ip: str
    proto: str
    forwarded: str


def seen(body: bytes) -> Seen:
    """Return what the upstream was told; each of it once."""
    told = json.loads(body)
    fields = [(name.lower(), value) for name, value in zip(told[::2], told[1::2], strict=True)]
    names = "x-forwarded-for", "x-real-ip", "x-forwarded-proto", "forwarded"
    values = [[value for name, value in fields if name == wanted] for wanted in names]
    assert [len(each) for each in values] == [1] * len(names), fields
    return Seen(*(each[0] for each in values))


def ask(proxy: Address, source: str, fields: dict[str, str] | None = None) -> Seen:
    """Ask through ``proxy`` as the visitor at ``source``."""
    visitor = Visitor(proxy, "demo.localhost", source)
    answer = visitor.ask(Request("GET", "/fields/all", fields or {}))
    visitor.close()
    assert answer.status == 200, answer
    return seen(answer.body)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"])
def test_haproxy_speaks_the_proxy_protocol(version: str, upstream: int, tmp_path: Path) -> None:
    with (
        ServerProcess(config=PROXIED) as server,
        haproxy(tmp_path, server.frontend, "mode tcp", version) as proxy,
        ClientProcess(upstream, server=proxy, name="demo") as client,
    ):
        client.wait_until_open()
        for source in (VISITOR, OTHER):
            told = ask(proxy, source, {**CLAIMS, "X-Forwarded-Proto": "https"})
            forwarded = f'for={source};proto=http;host="demo.localhost"'
            assert told == Seen(source, source, "http", forwarded)
        # The second came on the connection of the first.
        finished = [client.wait_for_event("request_finished", count) for count in (1, 2)]
        assert [(each["connection"], each["visitor"]) for each in finished] == [(1, VISITOR), (1, OTHER)]


def test_connection_of_one_visitor_carries_several_requests_after_its_header(upstream: int, tmp_path: Path) -> None:
    with (
        ServerProcess(config=PROXIED) as server,
        haproxy(tmp_path, server.frontend, "mode tcp", "send-proxy-v2") as proxy,
        ClientProcess(upstream, server=proxy, name="demo") as client,
    ):
        client.wait_until_open()
        visitor = Visitor(proxy, "demo.localhost", VISITOR)
        answers = [visitor.ask(Request("GET", "/fields/all")) for _ in range(3)]
        visitor.close()

    assert all(answer.stays_open for answer in answers)
    assert {seen(answer.body).forwarded_for for answer in answers} == {VISITOR}


def test_haproxy_that_shares_its_connections_among_visitors(upstream: int, tmp_path: Path) -> None:
    """In its HTTP mode, one connection to the server carries the requests of several visitors, one after the other."""
    defaults = "mode http\n    http-reuse always\n    option forwardfor"
    with (
        ServerProcess(config=TRUSTING) as server,
        haproxy(tmp_path, server.frontend, defaults) as proxy,
        ClientProcess(upstream, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        visitors = {source: Visitor(proxy, "demo.localhost", source) for source in (VISITOR, OTHER)}
        for _ in range(5):
            for source, visitor in visitors.items():
                told = seen(visitor.ask(Request("GET", "/fields/all")).body)
                assert (told.forwarded_for, told.real_ip) == (source, source)
        for visitor in visitors.values():
            visitor.close()


def test_nginx_says_who_the_visitor_is_and_how_it_came(upstream: int, tmp_path: Path) -> None:
    """nginx appends the visitor's address to what the visitor has written: only what it has appended counts."""
    with (
        ServerProcess(config=TRUSTING) as server,
        nginx(tmp_path, server.frontend) as proxy,
        ClientProcess(upstream, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        forwarded = f'for={VISITOR};proto=https;host="demo.localhost"'
        assert ask(proxy, VISITOR) == Seen(VISITOR, VISITOR, "https", forwarded)
        assert ask(proxy, VISITOR, CLAIMS) == Seen(VISITOR, VISITOR, "https", forwarded)
        # Who comes past the proxy speaks for nobody.
        assert ask(server.frontend, OTHER, CLAIMS).forwarded_for == OTHER


_BARE_LOCATION = """
        location / {{
            proxy_pass http://{server[0]}:{server[1]};
            proxy_set_header Host $http_host;
        }}
"""


@pytest.mark.parametrize("program", ["uvicorn", "flask"])
def test_nginx_that_asks_by_http_1_0_passes_on_what_is_sent_in_chunks(program: str, tmp_path: Path) -> None:
    """It does unless it is told otherwise, and both upstreams chunk whatever the version."""
    pytest.importorskip(program)
    run = {"uvicorn": web_programs.uvicorn, "flask": web_programs.flask}[program]
    with (
        run(tmp_path) as port,
        ServerProcess() as server,
        Nginx(tmp_path / "nginx", _BARE_LOCATION.format(server=server.frontend)) as proxy,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        visitor = Visitor((LOOPBACK, proxy.port), "demo.localhost")
        if program == "flask":
            for body in (b"one", b"two", b""):
                visitor.ask(Request("PUT", "/channel/a", body=body))
            answers = [visitor.ask(Request("GET", "/channel/a/events"))]
            expected = b"data: one\n\ndata: two\n\n"
        else:
            answers = [visitor.ask(Request("GET", "/")) for _ in range(3)]
            expected = b"asked by 1.1\n" * 3
        visitor.close()

    assert [(answer.status, answer.body) for answer in answers] == [(200, expected)] * len(answers)


def test_proxy_that_is_not_trusted_is_the_visitor(upstream: int, tmp_path: Path) -> None:
    with (
        ServerProcess() as server,
        nginx(tmp_path, server.frontend) as proxy,
        ClientProcess(upstream, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        forwarded = f'for={LOOPBACK};proto=http;host="demo.localhost"'
        assert ask(proxy, VISITOR, CLAIMS) == Seen(LOOPBACK, LOOPBACK, "http", forwarded)


def test_visitors_of_a_trusted_proxy_are_let_in_by_their_own_address(upstream: int, tmp_path: Path) -> None:
    with (
        ServerProcess(config=TRUSTING) as server,
        nginx(tmp_path, server.frontend) as proxy,
        ClientProcess(upstream, f"--allow-ip={VISITOR}", server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        statuses = {}
        for source in (VISITOR, OTHER):
            visitor = Visitor(proxy, "demo.localhost", source)
            statuses[source] = visitor.ask(Request("GET", "/fields/all")).status
            visitor.close()

    assert statuses == {VISITOR: 200, OTHER: 403}
