"""The systems under comparison, each set up from nothing on ports of its own, in front of the same upstream."""

import getpass
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from programs import HAPROXY, LOOPBACK, NGINX, SSH, SSHD, START_TIMEOUT, Programs, require, unused_port

ROOT = Path(__file__).resolve().parent.parent

JOIN, HTTP = "join", "http"
"""The two modes of lt-server."""

DIRECT, HOP, SSH_R = "nginx, direct", "haproxy, one TCP hop", "ssh -R"
"""What tables call the others."""

HOST = "bench.localhost"
"""The Host field of every request, to all systems alike; ours routes by it."""

NEIGHBOUR = "neighbour.localhost"
"""The Host of the second tunnel of ours: the one that takes uploads, and that is not flooded when the first one is."""

SSHD_DIRECTORY = Path("/run/sshd")
"""Where sshd, run by root, wants an empty directory; Debian's service makes it, and so do we where that is not run."""

_SSH_OPTIONS = (
    "BatchMode=yes",
    "ExitOnForwardFailure=yes",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
)


@dataclass(frozen=True)
class Door:
    """Where visitors of one upstream come in, and the Host field that they send."""

    port: int
    host: str = HOST
    address_host: str = LOOPBACK

    @property
    def address(self) -> tuple[str, int]:
        """What to connect to."""
        return self.address_host, self.port


@dataclass(frozen=True)
class Upstreams:
    """The ports of the local servers: nginx for requests and downloads, and the sink for uploads, if there is one."""

    requests: int
    uploads: int | None = None

    @property
    def ports(self) -> list[int]:
        """Those that there are."""
        return [port for port in (self.requests, self.uploads) if port is not None]


@dataclass(frozen=True)
class System:
    """One way for a visitor to the upstreams: where visitors connect, and whose memory it takes."""

    name: str
    requests: Door
    uploads: Door | None = None
    """None where only the first upstream can be reached."""
    server: int | None = None
    """Process id of the public side; None where nothing is between visitor and upstream, or it is not ours to see."""
    client: int | None = None
    """Process id of the side next to the upstream; None for what is no tunnel."""
    others: tuple[int, ...] = ()
    """Process ids of further clients: those of the second upstream, where it needs one of its own."""
    backend: int | None = None
    """Port for clients of ours."""

    @property
    def port(self) -> int:
        """Where visitors of the first upstream connect."""
        return self.requests.port


@dataclass(frozen=True)
class Route:
    """How the laptop's side reaches the public side: what to put before a command, and the address to dial."""

    prefix: Sequence[str] = ()
    server_host: str = LOOPBACK


def nginx(programs: Programs, files: Path, prefix: Sequence[str] = (), port: int | None = None) -> System:
    """Start nginx with one worker, which answers ``/`` from memory and serves ``files`` below ``/files/``.

    ``prefix`` is put before the command, to run it on the laptop's side.
    """
    port = port or unused_port()
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    config = programs.directory / "nginx.conf"
    config.write_text(
        _NGINX.format(user=user, directory=programs.directory, port=port, files=files, host=LOOPBACK),
    )
    process = programs.start(NGINX, [*prefix, require(NGINX, "nginx"), "-c", str(config), "-e", "stderr"])
    programs.wait_for_port(NGINX, process, port)
    return System(DIRECT, Door(port))


def sink(programs: Programs, port: int | None = None) -> int:
    """Start the server that takes uploads, and return its port."""
    port = port or unused_port()
    process = programs.start("sink", [sys.executable, str(ROOT / "bench/bulk.py"), str(port)])
    programs.wait_for_port("sink", process, port)
    return port


def haproxy(programs: Programs, upstreams: Upstreams) -> System:
    """Start haproxy with one thread as one TCP hop: what a tunnel without a tunnel would cost."""
    ports = [unused_port() for _ in upstreams.ports]
    config = programs.directory / "haproxy.cfg"
    hops = [_HOP.format(host=LOOPBACK, port=port, upstream=to) for port, to in zip(ports, upstreams.ports, strict=True)]
    config.write_text(_HAPROXY + "".join(hops))
    process = programs.start(HAPROXY, [require(HAPROXY, "haproxy"), "-db", "-f", str(config)])
    for port in ports:
        programs.wait_for_port(HAPROXY, process, port)
    return System(HOP, *map(Door, ports), server=process.pid)


def edges() -> tuple[str, ...]:
    """Return the modes that this checkout's lt-server can be started in."""
    command = [sys.executable, str(ROOT / "bin/lt-server"), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=START_TIMEOUT).stdout
    return (JOIN, HTTP) if "--edge" in said else (JOIN,)


def localtunnel(
    programs: Programs, upstreams: Upstreams, route: Route | None = None, edge: str | None = None
) -> System:
    """Start lt-server and two lt-clients with ``route``, with this interpreter and their defaults.

    ``edge`` is the server's mode, None for its default.
    """
    route = route or Route()
    port, backend = unused_port(), unused_port()
    name = f"lt-server-{port}"
    command = [sys.executable, str(ROOT / "bin/lt-server"), f"--frontend={LOOPBACK}:{port}", "--grace=0"]
    command += [f"--backend={route.server_host}:{backend}", "--log-level=warning"]
    if edge is not None and len(edges()) > 1:
        command.append(f"--edge={edge}")
    server = programs.start(name, command)
    programs.wait_for_port(name, server, port)
    clients, doors = [], []
    for host, upstream in zip((HOST, NEIGHBOUR), upstreams.ports, strict=False):
        clients.append(tunnel(programs, port, backend, host, upstream, route))
        doors.append(Door(port, host))
    first, *others = clients
    return System(ours(edge), *doors, server=server.pid, client=first, others=tuple(others), backend=backend)


def ours(edge: str | None) -> str:
    """Return what tables call localtunnel in a mode of its server."""
    return "localtunnel" if edge is None else f"localtunnel, {edge}"


def tunnel(programs: Programs, port: int, backend: int, host: str, upstream: int, route: Route) -> int:
    """Start an lt-client for ``host``, and return its process id once its tunnel is open."""
    name = f"lt-client-{port}-{host}"
    command = [sys.executable, str(ROOT / "bin/lt-client"), "--quiet", f"--name={host.partition('.')[0]}"]
    command += [f"--server={route.server_host}:{port}", f"--backend={route.server_host}:{backend}", str(upstream)]
    client = programs.start(name, [*route.prefix, *command])
    programs.wait_for_line(name, client)
    return client.pid


def ssh(programs: Programs, upstreams: Upstreams, route: Route | None = None) -> System:
    """Start an sshd with a host key of its own, and ``ssh -R`` to it with ``route`` and a key of its own."""
    route = route or Route()
    ports, sshd_port = [unused_port() for _ in upstreams.ports], unused_port()
    keys = [programs.directory / name for name in ("host_key", "user_key")]
    for key in keys:
        _make_key(key)
    config = programs.directory / "sshd_config"
    authorized = keys[1].with_suffix(".pub")
    config.write_text(
        _SSHD.format(host=route.server_host, port=sshd_port, host_key=keys[0], authorized=authorized, user=_user())
    )
    if os.geteuid() == 0:
        programs.make_directory(SSHD_DIRECTORY)
    sshd = programs.start(SSHD, [require(SSHD, "openssh-server"), "-D", "-e", "-f", str(config)])
    programs.wait_for_port(SSHD, sshd, sshd_port, route.server_host)
    options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
    for port, upstream in zip(ports, upstreams.ports, strict=True):
        options += ["-R", f"{LOOPBACK}:{port}:{LOOPBACK}:{upstream}"]
    command = [require(SSH, "openssh-client"), "-F", "none", "-N", "-p", str(sshd_port), "-i", str(keys[1]), *options]
    client = programs.start(SSH, [*route.prefix, *command, f"{_user()}@{route.server_host}"])
    # It is sshd that listens for visitors, once the client has asked it to.
    for port in ports:
        programs.wait_for_port(SSH, sshd, port)
    return System(SSH_R, *map(Door, ports), server=sshd.pid, client=client.pid)


def _user() -> str:
    return getpass.getuser()


def _make_key(path: Path) -> None:
    command = [require("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=START_TIMEOUT)


_NGINX = """\
daemon off;
{user}
worker_processes 1;
error_log stderr error;
pid {directory}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {host}:{port} backlog=4096;
        location = / {{ return 200 "hello"; }}
        location /files/ {{ alias {files}/; }}
    }}
}}
"""

_HAPROXY = """\
global
    nbthread 1
    maxconn 9500
defaults
    mode tcp
    timeout connect 5s
    timeout client 600s
    timeout server 600s
"""

_HOP = """\
listen hop_{port}
    bind {host}:{port} backlog 4096
    server upstream {host}:{upstream}
"""

_SSHD = """\
ListenAddress {host}:{port}
HostKey {host_key}
AuthorizedKeysFile {authorized}
AllowUsers {user}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
UseDNS no
LogLevel ERROR
PidFile none
"""
