"""docs/behind-a-proxy.md: each recipe runs as it stands there, but for domain, ports and the place of the certificate.

Visitors come by HTTPS from an address of their own, through the real proxy and the real server and client.
"""

import hashlib
import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent.ssl
import msgspec
import pytest
import trustme
import websocket
from gevent.event import Event
from harness import (
    CAP,
    LOOPBACK,
    ROOT,
    Address,
    ClientProcess,
    ServerProcess,
    connect,
    parse_response,
    read_head,
    read_to_end,
    request,
    running_upstream,
    unused_port,
    web_programs,
)
from harness.beside import curl, running
from harness.programs import Program

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "behind-a-proxy.md").read_text()
DOMAIN = "localhost"
"""In the place of the page's domain: names below it lead to this machine."""

VISITOR = "127.0.0.5"
MEGABYTE = 1 << 20


def recipe(section: str, language: str) -> str:
    """Return what stands in the one block of ``language`` in a section."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (found,) = [part for part in text if part.startswith(section + "\n")]
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", found, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, (section, language)
    return blocks[0]


class Place(msgspec.Struct):
    """Where the parts of one run are."""

    directory: Path
    port: int
    server: int
    """The port of the server's frontend."""

    def fit(self, text: str) -> str:
        """Return a recipe for this run. Everything that is replaced has to be in some of them, and nothing else is."""
        for there, here in {
            '"https://tunnels.example.com"': f'"https://{DOMAIN}:{self.port}"',
            "https://tunnels.example.com, https://*.tunnels.example.com {": (
                f"https://{DOMAIN}:{self.port}, https://*.{DOMAIN}:{self.port} {{"
            ),
            "tunnels.example.com": DOMAIN,
            "/etc/ssl/tunnels.pem": str(self.directory / "tunnels.pem"),
            "/etc/ssl/tunnels.key": str(self.directory / "tunnels.key"),
            "127.0.0.1:8000": f"{LOOPBACK}:{self.server}",
            "bind :443 ": f"bind {LOOPBACK}:{self.port} ",
            "listen 443 ": f"listen {LOOPBACK}:{self.port} ",
        }.items():
            text = text.replace(there, here)
        return text


@contextmanager
def caddy(place: Place, text: str) -> Iterator[None]:
    file = place.directory / "Caddyfile"
    # The port for redirects to HTTPS would be 80, which belongs to whoever runs the test; and so does what this machine
    # trusts, to which Caddy adds an authority of its own, whether it signs anything or not.
    ours = "admin off\n\tauto_https disable_redirects\n\tskip_install_trust\n"
    file.write_text(text.replace("admin off\n", ours))
    command = ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
    log = place.directory / "caddy.log"
    # It would write down there what it was last run with.
    home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(place.directory))
    with running(command, place.port, log, env=home):
        assert "installing root certificate" not in log.read_text()
        yield


@contextmanager
def nginx(place: Place, text: str) -> Iterator[None]:
    user = "user root;" if os.geteuid() == 0 else ""
    paths = "\n".join(
        f"{kind}_temp_path {place.directory};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = place.directory / "nginx.conf"
    file.write_text(
        f"{user} daemon off; pid {place.directory}/nginx.pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}\n{text}}}\n"
    )
    command = ["nginx", "-p", str(place.directory), "-c", str(file), "-e", "stderr"]
    with running(command, place.port, place.directory / "nginx.log"):
        yield


@contextmanager
def haproxy(place: Place, text: str) -> Iterator[None]:
    file = place.directory / "haproxy.cfg"
    file.write_text(text)
    with running(["haproxy", "-db", "-f", str(file)], place.port, place.directory / "haproxy.log"):
        yield


RECIPES: dict[str, tuple[Any, str]] = {
    "Caddy": (caddy, "caddyfile"),
    "nginx": (nginx, "nginx"),
    "haproxy": (haproxy, "haproxy"),
    "haproxy with the PROXY protocol": (haproxy, "haproxy"),
}


class Upstream:
    """A local server that shows what it gets, streams events, and takes uploads as they come."""

    def __init__(self) -> None:
        self.seen = Event()
        """Set by the test once the first of what is on its way has arrived."""
        self.begun = Event()
        """Set once the first bytes of an upload have arrived."""

    def serve(self, sock: Any) -> None:
        data = read_head(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        path = head.split()[1]
        if path == b"/events":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
            assert self.seen.wait(CAP)
            sock.sendall(b"data: 2\n\n")
            return
        if path == b"/steal":
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /private/key\r\nContent-Length: 2\r\n\r\nok")
            return
        if path == b"/upload":
            digest = hashlib.sha256()
            found = re.search(rb"content-length: ([0-9]+)", head.lower())
            assert found is not None, head
            left = int(found[1])
            while left:
                digest.update(body)
                left -= len(body)
                self.begun.set()
                body = sock.recv(1 << 16) if left else b""
            answer = digest.hexdigest().encode()
        else:
            lines = head.decode("latin-1").split("\r\n")[1:]
            answer = json.dumps([line.split(": ", 1) for line in lines]).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


class Run(msgspec.Struct):
    """A proxy before a server, and what clients may expose."""

    place: Place
    context: Any
    upstream: Any
    port: int
    """Of the upstream."""
    websockets: int
    """The port of the one for WebSocket."""

    @property
    def address(self) -> Address:
        return LOOPBACK, self.place.port

    def host(self, name: str) -> str:
        return f"{name}.{DOMAIN}:{self.place.port}"

    def dial(self, name: str = "demo", source: str = VISITOR) -> Any:
        """Return a connection of a visitor, over TLS."""
        return self.context.wrap_socket(connect(self.address, source, cap=3 * CAP), server_hostname=f"{name}.{DOMAIN}")

    @contextmanager
    def client(self, port: int, name: str) -> Iterator[None]:
        """Run a client that knows nothing but the public URL."""
        url = f"https://{DOMAIN}:{self.place.port}"
        env = {"SSL_CERT_FILE": str(self.place.directory / "roots.pem")}
        with UrlClient(port, name, url, env) as client:
            assert client.wait_until_open(3 * CAP) == f"https://{self.host(name)}"
            yield

    def curl(self, *arguments: str) -> bytes:
        """Return what curl prints for the first page of the tunnel."""
        roots = str(self.place.directory / "roots.pem")
        url = f"https://{self.host('demo')}/"
        return curl("--cacert", roots, "--interface", VISITOR, *arguments, url).stdout


class UrlClient(ClientProcess):
    """A client that is given a URL for its server."""

    def __init__(self, port: int, name: str, url: str, env: dict[str, str]) -> None:
        Program.__init__(self, "lt-client", [f"--server={url}", f"--name={name}", "--json", str(port)], None, env)


@contextmanager
def proxied(section: str, directory: Path, change: Any = lambda text: text) -> Iterator[Run]:
    """Run the recipe of ``section``, changed by ``change``, before a server, beside two upstreams."""
    start, language = RECIPES[section]
    authority = trustme.CA()
    issued = authority.issue_cert(DOMAIN, f"demo.{DOMAIN}", f"chat.{DOMAIN}")
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "tunnels.pem"))
    issued.private_key_pem.write_to_path(str(directory / "tunnels.key"))
    authority.cert_pem.write_to_path(str(directory / "roots.pem"))
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    upstream = Upstream()
    place = Place(directory, unused_port(), unused_port())
    settings = recipe("The server", "toml")
    if "PROXY" in section:
        settings += recipe(section, "toml")
    config = re.sub(r"^(frontend|backend) = .*\n", "", place.fit(settings), flags=re.MULTILINE)
    with (
        ServerProcess(config=config, frontend_port=place.server),
        start(place, change(place.fit(recipe(section, language)))),
        running_upstream(upstream.serve) as port,
        web_programs.websockets(directory) as websockets,
    ):
        yield Run(place, context, upstream, port, websockets)


every_recipe = pytest.mark.parametrize("section", RECIPES)


@every_recipe
def test_a_recipe(section: str, tmp_path: Path) -> None:
    with proxied(section, tmp_path) as site, site.client(site.port, "demo"):
        pages_and_addresses(site)
        events(site)
        uploads(site)
        chat(site)


def pages_and_addresses(site: Run) -> None:
    """The visitor is who it is, whatever it says of itself, and came by HTTPS."""
    with site.dial() as sock:
        claims = "X-Forwarded-For: 192.0.2.66\r\nX-Forwarded-Proto: ftp\r\nForwarded: for=192.0.2.66\r\n"
        sock.sendall(request(site.host("demo"), fields=f"{claims}Connection: close\r\n"))
        response = parse_response(read_to_end(sock))
    assert response.status == 200
    body = response.body
    if response.fields.get("transfer-encoding") == "chunked":
        body = b"".join(re.findall(rb"(?:^|\r\n)[0-9a-f]+\r\n(.+?)(?=\r\n)", body, re.DOTALL))
    fields = [(name.lower(), value) for name, value in json.loads(body)]
    told = {name: value for name, value in fields if name.startswith("x-") or name == "host"}
    assert told["x-forwarded-for"] == told["x-real-ip"] == VISITOR
    assert told["x-forwarded-proto"] == "https"
    assert told["host"].partition(":")[0] == told["x-forwarded-host"].partition(":")[0] == f"demo.{DOMAIN}"
    assert site.curl("--http2", "-w", "\n%{http_code}").endswith(b"\n200")


def events(site: Run) -> None:
    """An event arrives before the next one is sent."""
    with site.dial() as sock:
        sock.sendall(request(site.host("demo"), "/events", fields="Accept: text/event-stream\r\n"))
        data = b""
        while b"data: 1" not in data:
            piece = sock.recv(1 << 16)
            assert piece, data
            data += piece
        site.upstream.seen.set()
        while b"data: 2" not in data:
            piece = sock.recv(1 << 16)
            assert piece, data
            data += piece


def uploads(site: Run) -> None:
    """An upload arrives while it is being sent, and whole."""
    body = os.urandom(8 * MEGABYTE)
    with site.dial() as sock:
        whole = request(site.host("demo"), "/upload", "POST", "Connection: close\r\n", body)
        sock.sendall(whole[:MEGABYTE])
        assert site.upstream.begun.wait(3 * CAP), "nothing of it has arrived"
        sock.sendall(whole[MEGABYTE:])
        assert hashlib.sha256(body).hexdigest().encode() in read_to_end(sock)


def chat(site: Run) -> None:
    """A WebSocket, both ways."""
    with site.client(site.websockets, "chat"):
        url = f"wss://{site.host('chat')}/"
        channel = websocket.create_connection(url, socket=site.dial("chat"), enable_multithread=False)
        for message in (b"x", os.urandom(MEGABYTE)):
            channel.send_binary(message)
            assert channel.recv() == message
        channel.close(timeout=CAP)


def test_a_proxy_that_keeps_the_host_to_itself(tmp_path: Path) -> None:
    """The setting that is forgotten most often is named by the server's own pages."""
    line = "proxy_set_header Host $host;"
    with proxied("nginx", tmp_path, lambda text: text.replace(line, "")) as site:
        page = site.curl().decode()
    assert "The Host field of the request names localtunnel," in page
    assert line in page


def test_a_tunnel_cannot_have_the_proxy_show_its_own_files(tmp_path: Path) -> None:
    """nginx obeys an application's X-Accel-Redirect, and this application is a stranger's."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    more = f"location /private/ {{ internal; root {tmp_path}; }}\n    location / {{"
    with (
        proxied("nginx", tmp_path, lambda text: text.replace("location / {", more)) as site,
        site.client(site.port, "demo"),
        site.dial() as sock,
    ):
        sock.sendall(request(site.host("demo"), "/steal", fields="Connection: close\r\n"))
        assert parse_response(read_to_end(sock)).body == b"ok"


def test_every_language_of_the_page_is_run() -> None:
    languages = set(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE))
    assert languages == {"toml", *(language for _, language in RECIPES.values())}
