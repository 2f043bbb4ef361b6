"""Real programs beside ours: nginx behind the client, curl and chromium in front of the server.

Each works in a directory that its caller gives it, on a port of its own, and is ended by its own process id. What
waits for a program does so in a thread, so that upstreams in the hub of the test go on. gevent's own subprocess is no
choice: its child watcher would reap the children of the harness.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from harness.installed import environment, installed

END_TIMEOUT = 10.0
"""Seconds that a program may take to end when it is told to."""

START_TIMEOUT = 30.0
"""Seconds until a program has to listen."""

_NGINX_CONF = """\
daemon off;
{user}
error_log {directory}/error.log info;
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    types {{
        text/html html; text/css css; application/javascript js; image/svg+xml svg; application/json json;
    }}
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location /upload/ {{ dav_methods PUT DELETE; create_full_put_path on; }}
        {locations}
    }}
}}
"""


class Nginx:
    """nginx that serves ``directory/www`` on ``port`` and stores what is PUT below /upload/. A context manager.

    ``locations`` is more of its configuration, as it stands in a server block.

    It inherits a socket that listens already (the way in which nginx replaces its own binary), so that nobody has to
    guess a free port or wait until it is ready.
    """

    def __init__(self, directory: Path, locations: str = "") -> None:
        self._locations = locations
        self.root = directory / "www"
        self.root.mkdir(parents=True)
        self._directory = directory
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Nginx":
        configuration = self._directory / "nginx.conf"
        # Started by root, its worker would otherwise be nobody, who may not enter the test's directory.
        user = "user root;" if os.geteuid() == 0 else ""
        text = _NGINX_CONF.format(
            directory=self._directory, root=self.root, port=self.port, user=user, locations=self._locations
        )
        configuration.write_text(text)
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(
            [installed("nginx"), "-p", str(self._directory), "-c", str(configuration)],
            env={**environment(), "NGINX": f"{descriptor};"},
            pass_fds=[descriptor],
            stderr=subprocess.DEVNULL,
        )
        self._listener.close()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            end(self._process)


@contextmanager
def running(
    command: list[str], port: int, log: Path, env: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block has ended; it takes connections on ``port`` when the block begins.

    ``env`` is added to the environment.
    """
    command = [installed(command[0]), *command[1:]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **options,
        )
    try:
        give_up = time.monotonic() + START_TIMEOUT
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, f"{command[0]} does not listen: {log.read_text()}"
            gevent.sleep(0.02)
        yield process
    finally:
        end(process)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def curl(*arguments: str, limit: float = 60.0) -> subprocess.CompletedProcess[bytes]:
    """Run curl, which resolves ``*.localhost`` itself; it fails when it takes more than ``limit`` seconds."""
    command = [installed("curl"), "--silent", "--show-error", "--noproxy", "*", "--max-time", str(limit), *arguments]
    finished: subprocess.CompletedProcess[bytes] = _in_thread(
        subprocess.run, command, capture_output=True, timeout=limit + END_TIMEOUT, check=False
    )
    return finished


def rendered_page(url: str, directory: Path, limit: float = 40.0) -> str:
    """Return the page at ``url`` as HTML, once chromium has loaded everything in it and run its scripts."""
    command = [
        installed("chromium"),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-proxy-server",
        "--no-first-run",
        f"--user-data-dir={directory / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
        url,
    ]
    browser = subprocess.Popen(
        command,
        env={**os.environ, "HOME": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        page, _ = _in_thread(browser.communicate, timeout=limit)
    finally:
        end_session(browser)
    return str(page, "utf-8")


def end(process: subprocess.Popen[bytes]) -> None:
    """End ``process``, gently and then not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_TIMEOUT)


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """Kill ``leader``, which was started in a session of its own, and every process that it has left there."""
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    leader.wait(END_TIMEOUT)


def _in_thread(function: Any, *arguments: Any, **options: Any) -> Any:
    return gevent.get_hub().threadpool.apply(function, arguments, options)
