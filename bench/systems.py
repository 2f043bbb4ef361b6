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

HOST = "bench.localhost"
"""The Host field of every request, to all systems alike; ours routes by it."""

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
class System:
    """One way for a visitor to the upstream: where visitors connect, and whose memory it takes."""

    name: str
    port: int
    server: int | None = None
    """Process id of the public side; None where nothing is between visitor and upstream."""
    client: int | None = None
    """Process id of the side next to the upstream; None for what is no tunnel."""


@dataclass(frozen=True)
class Route:
    """How the laptop's side reaches the public side: what to put before a command, and the address to dial."""

    prefix: Sequence[str] = ()
    server_host: str = LOOPBACK


def nginx(programs: Programs, files: Path, prefix: Sequence[str] = ()) -> System:
    """Start nginx with one worker, which answers ``/`` from memory and serves ``files`` below ``/files/``.

    ``prefix`` is put before the command, to run it on the laptop's side.
    """
    port = unused_port()
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    config = programs.directory / "nginx.conf"
    config.write_text(
        _NGINX.format(user=user, directory=programs.directory, port=port, files=files, host=LOOPBACK),
    )
    process = programs.start(NGINX, [*prefix, require(NGINX, "nginx"), "-c", str(config), "-e", "stderr"])
    programs.wait_for_port(NGINX, process, port)
    return System("nginx, direct", port)


def haproxy(programs: Programs, upstream_port: int) -> System:
    """Start haproxy with one thread as one TCP hop: what a tunnel without a tunnel would cost."""
    port = unused_port()
    config = programs.directory / "haproxy.cfg"
    config.write_text(_HAPROXY.format(host=LOOPBACK, port=port, upstream=upstream_port))
    process = programs.start(HAPROXY, [require(HAPROXY, "haproxy"), "-db", "-f", str(config)])
    programs.wait_for_port(HAPROXY, process, port)
    return System("haproxy, one TCP hop", port, server=process.pid)


def localtunnel(programs: Programs, upstream_port: int, route: Route) -> System:
    """Start lt-server, and lt-client with ``route``, with this interpreter and their defaults."""
    port, backend = unused_port(), unused_port()
    command = [sys.executable, str(ROOT / "bin/lt-server"), f"--frontend={LOOPBACK}:{port}"]
    server = programs.start("lt-server", [*command, f"--backend={route.server_host}:{backend}", "--grace=0"])
    programs.wait_for_port("lt-server", server, port)
    command = [sys.executable, str(ROOT / "bin/lt-client"), "--quiet", f"--name={HOST.partition('.')[0]}"]
    command += [f"--server={route.server_host}:{port}", f"--backend={route.server_host}:{backend}", str(upstream_port)]
    client = programs.start("lt-client", [*route.prefix, *command])
    programs.wait_for_line("lt-client", client)
    return System("localtunnel", port, server=server.pid, client=client.pid)


def ssh(programs: Programs, upstream_port: int, route: Route) -> System:
    """Start an sshd with a host key of its own, and ``ssh -R`` to it with ``route`` and a key of its own."""
    port, sshd_port = unused_port(), unused_port()
    keys = [programs.directory / name for name in ("host_key", "user_key")]
    for key in keys:
        _make_key(programs, key)
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
    forward = f"{LOOPBACK}:{port}:{LOOPBACK}:{upstream_port}"
    command = [require(SSH, "openssh-client"), "-F", "none", "-N", "-p", str(sshd_port), "-i", str(keys[1]), *options]
    client = programs.start(SSH, [*route.prefix, *command, "-R", forward, f"{_user()}@{route.server_host}"])
    # It is sshd that listens for visitors, once the client has asked it to.
    programs.wait_for_port(SSH, sshd, port)
    return System("ssh -R", port, server=sshd.pid, client=client.pid)


def _user() -> str:
    return getpass.getuser()


def _make_key(programs: Programs, path: Path) -> None:
    command = [require("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, timeout=START_TIMEOUT)


_NGINX = """\
daemon off;
{user}
worker_processes 1;
error_log stderr error;
pid {directory}/nginx.pid;
events {{ worker_connections 4096; }}
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
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 600s
    timeout server 600s
listen hop
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
