"""The systems under comparison, each set up on ports of its own in front of the same
upstream."""

import getpass
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from programs import HAPROXY, LOOPBACK, NGINX, SSH, SSHD, START_TIMEOUT, Programs, require, unused_port

ROOT = Path(__file__).resolve().parent.parent

JOIN, HTTP = "join", "http"
EDGES = (HTTP, JOIN)
"""The two modes of lt-server, its default first."""

DIRECT, HOP, SSH_R = "nginx, direct", "haproxy, one TCP hop", "ssh -R"
"""The names of the other systems in tables."""

HOST = "bench.localhost"
"""The Host field of every request, to all systems alike; ours routes by it."""

NEIGHBOUR = "neighbour.localhost"
"""The Host of the second tunnel of ours: the one that takes uploads, and that is not
flooded when the first one is."""

SSHD_DIRECTORY = Path("/run/sshd")
"""Where sshd, run by root, wants an empty directory; Debian's service makes it, and so
do we where that is not run."""

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
    """Where the visitors of one upstream connect, and their Host field."""

    port: int
    host: str = HOST
    address_host: str = LOOPBACK

    @property
    def address(self) -> tuple[str, int]:
        """What to connect to."""
        return self.address_host, self.port


@dataclass(frozen=True)
class Upstreams:
    """The ports of the local servers: nginx for requests and downloads, and the sink
    for uploads, if there is one."""

    requests: int
    uploads: int | None = None

    @property
    def ports(self) -> list[int]:
        """The ports that are in use."""
        return [port for port in (self.requests, self.uploads) if port is not None]


@dataclass(frozen=True)
class System:
    """One way for a visitor to the upstreams: where visitors connect, and whose memory
    it takes."""

    name: str
    requests: Door
    uploads: Door | None = None
    """None where only the first upstream can be reached."""
    server: int | None = None
    """Process id of the public side; None if nothing is between visitor and upstream,
    or its process is unknown."""
    client: int | None = None
    """Process id of the side next to the upstream; None if the system is not a
    tunnel."""
    others: tuple[int, ...] = ()
    """Process ids of further clients: those of the second upstream, where it needs one
    of its own."""
    backend: int | None = None
    """Port for clients of ours."""
    encrypted: bool = False
    """Whether our link uses TLS, which is lt-client's default."""

    @property
    def port(self) -> int:
        """Where visitors of the first upstream connect."""
        return self.requests.port


@dataclass(frozen=True)
class Route:
    """How the laptop's side reaches the public side: what to put before a command, and
    the address to dial."""

    prefix: Sequence[str] = ()
    server_host: str = LOOPBACK


def nginx(programs: Programs, files: Path, prefix: Sequence[str] = (), port: int | None = None) -> System:
    """Start nginx with one worker, which answers ``/`` from memory and serves ``files``
    below ``/files/``.

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
    """Start haproxy with one thread as one TCP hop: the cost of a hop without a
    tunnel."""
    ports = [unused_port() for _ in upstreams.ports]
    config = programs.directory / "haproxy.cfg"
    hops = [_HOP.format(host=LOOPBACK, port=port, upstream=to) for port, to in zip(ports, upstreams.ports, strict=True)]
    config.write_text(_HAPROXY + "".join(hops))
    process = programs.start(HAPROXY, [require(HAPROXY, "haproxy"), "-db", "-f", str(config)])
    for port in ports:
        programs.wait_for_port(HAPROXY, process, port)
    return System(HOP, *map(Door, ports), server=process.pid)


def localtunnel(
    programs: Programs,
    upstreams: Upstreams,
    route: Route | None = None,
    edge: str | None = None,
    *,
    encrypted: bool = False,
) -> System:
    """Start lt-server and two lt-clients with ``route``, with this interpreter and a
    data directory for each.

    ``edge`` is the server's mode, None for its default. ``encrypted`` leaves the
    clients their default, TLS; without it they use none, as the TCP hop and most peers
    do.
    """
    route = route or Route()
    system = lt_server(programs, route, edge)
    clients, doors = [], []
    for host, upstream in zip((HOST, NEIGHBOUR), upstreams.ports, strict=False):
        clients.append(lt_client(programs, system, host, upstream, route, encrypted=encrypted))
        doors.append(Door(system.port, host))
    first, *others = clients
    name = ours(edge, encrypted=encrypted)
    found = System(name, *doors, server=system.server, client=first, others=tuple(others), backend=system.backend)
    return replace(found, encrypted=encrypted)


def ours(edge: str | None, *, encrypted: bool = False) -> str:
    """Return what tables call localtunnel in a mode of its server, with or without
    encryption."""
    return ", ".join(["localtunnel", *([] if edge is None else [edge]), *(["TLS"] if encrypted else [])])


def lt_server(programs: Programs, route: Route, edge: str | None = None, settings: str = "") -> System:
    """Start an lt-server, to which no client has come yet; ``edge`` is its mode, None
    for its default, ``settings`` what else its file says."""
    port, backend = unused_port(), unused_port()
    name = f"lt-server-{port}"
    config = _configure(programs, name, _QUOTAS + settings)
    command = [sys.executable, str(ROOT / "bin/lt-server"), f"--config={config}", f"--frontend={LOOPBACK}:{port}"]
    command += [f"--backend={route.server_host}:{backend}", "--grace=0", "--log-level=warning"]
    if edge is not None:
        command.append(f"--edge={edge}")
    server = programs.start(name, command)
    programs.wait_for_port(name, server, port)
    return System(ours(edge), Door(port), server=server.pid, backend=backend)


def lt_client(programs: Programs, server: System, host: str, upstream: int, route: Route, *, encrypted: bool) -> int:
    """Start an lt-client for ``host``, and return its process id once its tunnel is
    open."""
    name = f"lt-client-{server.port}-{host}"
    command = [sys.executable, str(ROOT / "bin/lt-client"), f"--config={_configure(programs, name)}", "--quiet"]
    command += [f"--name={host.partition('.')[0]}", f"--server={route.server_host}:{server.port}"]
    command += [f"--backend={route.server_host}:{server.backend}", *([] if encrypted else ["--insecure"])]
    client = programs.start(name, [*route.prefix, *command, str(upstream)])
    programs.wait_for_line(name, client)
    return client.pid


def _configure(programs: Programs, name: str, more: str = "") -> Path:
    """Write a settings file for one of our programs, with a data directory of its own;
    the user's are not touched."""
    path = programs.directory / f"{name}.toml"
    path.write_text(f'data_dir = "{programs.directory / name}"\n{more}')
    return path


def ssh(programs: Programs, upstreams: Upstreams, route: Route | None = None) -> System:
    """Start an sshd with a host key of its own, and ``ssh -R`` to it with ``route`` and
    a key of its own."""
    route, user = route or Route(), getpass.getuser()
    ports, sshd_port = [unused_port() for _ in upstreams.ports], unused_port()
    keys = [programs.directory / name for name in ("host_key", "user_key")]
    for key in keys:
        _make_key(key)
    config = programs.directory / "sshd_config"
    authorized = keys[1].with_suffix(".pub")
    config.write_text(
        _SSHD.format(host=route.server_host, port=sshd_port, host_key=keys[0], authorized=authorized, user=user)
    )
    if os.geteuid() == 0:
        programs.make_directory(SSHD_DIRECTORY)
    sshd = programs.start(SSHD, [require(SSHD, "openssh-server"), "-D", "-e", "-f", str(config)])
    programs.wait_for_port(SSHD, sshd, sshd_port, route.server_host)
    options = [word for option in _SSH_OPTIONS for word in ("-o", option)]
    for port, upstream in zip(ports, upstreams.ports, strict=True):
        options += ["-R", f"{LOOPBACK}:{port}:{LOOPBACK}:{upstream}"]
    command = [require(SSH, "openssh-client"), "-F", "none", "-N", "-p", str(sshd_port), "-i", str(keys[1]), *options]
    client = programs.start(SSH, [*route.prefix, *command, f"{user}@{route.server_host}"])
    # It is sshd that listens for visitors, once the client has asked it to.
    for port in ports:
        programs.wait_for_port(SSH, sshd, port)
    return System(SSH_R, *map(Door, ports), server=sshd.pid, client=client.pid)


def _make_key(path: Path) -> None:
    command = [require("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=START_TIMEOUT)


_QUOTAS = """\
[quotas]
strangers_per_address = 0
tunnels_per_address = 0
tunnels_per_owner = 0
"""
"""All clients of a benchmark come from one address, and those by hand have no key: they
would be one owner."""

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
