"""How programs stop: a server lets visitors finish, for a while, or not when it is told twice; a closed terminal."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from gevent import socket
from gevent.event import Event
from harness import (
    CAP,
    LOOPBACK,
    ROOT,
    Address,
    ClientProcess,
    ServerProcess,
    answer_hello,
    connect,
    fetch,
    is_reset,
    read_exactly,
    read_head,
    read_to_end,
    request,
    running_upstream,
    unused_port,
    wait_until,
)

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
FIRST, REST = b"x" * 100_000, b"y" * 5_000_000

LONG = 60
"""A grace, in seconds, that no test waits for."""


class Download:
    """A response of which the first part is sent at once, and the rest when ``go_on`` is set."""

    def __init__(self) -> None:
        self.go_on = Event()

    def __call__(self, sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(HEAD + FIRST)
        self.go_on.wait()
        sock.sendall(REST)


@contextmanager
def running_download(grace: float) -> Iterator[tuple[ServerProcess, socket.socket, Download]]:
    """Yield a server, a visitor that has received the first part, and the means to let it have the rest."""
    download = Download()
    with (
        running_upstream(download) as port,
        ServerProcess(f"--grace={grace}") as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        with connect(server.frontend) as visitor:
            visitor.sendall(request("demo.localhost"))
            assert read_exactly(visitor, len(HEAD + FIRST)) == HEAD + FIRST
            yield server, visitor, download


@pytest.fixture(autouse=True)
def hangups_end_programs() -> Iterator[None]:
    """Let the programs be ended by SIGHUP, also where whoever runs the tests has said ``nohup``: that is inherited."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def is_refused(address: Address) -> bool:
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_running_download_finishes_within_the_grace(number: int, code: int) -> None:
    with running_download(LONG) as (server, visitor, download):
        server.signal(number)
        server.wait_for_record("stopping")
        wait_until(lambda: is_refused(server.frontend), what="the server listens no more")
        assert server.process.poll() is None

        download.go_on.set()

        assert read_to_end(visitor) == REST
        visitor.close()
        assert server.wait() == code


def test_grace_ends() -> None:
    with running_download(0.5) as (server, visitor, _):
        begun = time.monotonic()
        server.signal(signal.SIGTERM)

        assert is_reset(visitor)
        assert server.wait() == 0
        assert 0.5 <= time.monotonic() - begun < CAP


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_the_grace_at_once(second: int) -> None:
    with running_download(LONG) as (server, visitor, _):
        server.signal(signal.SIGTERM)
        server.wait_for_record("stopping")
        server.signal(second)

        assert is_reset(visitor)
        assert server.wait(cap=5) == 0


def test_client_that_is_stopped_ends_its_visitors() -> None:
    """Whoever downloads must see a failure, never a short file."""
    download = Download()
    with (
        running_upstream(download) as port,
        ServerProcess() as server,
        ClientProcess(port, server=server.frontend, name="demo") as client,
    ):
        client.wait_until_open()
        with connect(server.frontend) as visitor:
            visitor.sendall(request("demo.localhost"))
            read_exactly(visitor, len(HEAD + FIRST))
            assert client.stop() == 0

            assert is_reset(visitor)
        wait_until(lambda: server.metrics()["joins"] == 0, what="no join left")


def test_hangups_beyond_the_first_end_no_grace() -> None:
    """A terminal that closes sends one from the shell and another from the kernel."""
    with running_download(LONG) as (server, visitor, download):
        server.signal(signal.SIGHUP)
        server.wait_for_record("stopping")
        server.signal(signal.SIGHUP)
        wait_until(lambda: is_refused(server.frontend), what="the server listens no more")
        assert server.process.poll() is None
        download.go_on.set()
        assert read_to_end(visitor) == REST
        visitor.close()
        assert server.wait() == 0


class Terminal:
    """A terminal of its own, and a program on it that ``close`` leaves without one. Both ends belong to the test."""

    def __init__(self, command: str, *arguments: str, directory: Path, nohup: bool = False) -> None:
        self._master, slave = os.openpty()

        def begin() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

        environment = {**os.environ, "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "bin" / command), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={name: value for name, value in environment.items() if not name.startswith("LT_")},
            start_new_session=True,
            preexec_fn=begin,
        )
        os.close(slave)

    def wait_to_show(self, text: str) -> None:
        """Wait until the program has written ``text``."""
        os.set_blocking(self._master, False)
        shown = bytearray()

        def read() -> bool:
            with suppress(BlockingIOError):
                shown.extend(os.read(self._master, 65536))
            return text.encode() in shown

        wait_until(read, what=f"the program writes {text!r}")

    def close(self) -> None:
        """Close it, as its window does: the kernel sends SIGHUP, and whatever is written from now on fails."""
        if self._master != -1:
            os.close(self._master)
            self._master = -1

    def wait(self) -> int:
        """Return the program's exit code, once it has ended."""
        wait_until(lambda: self.process.poll() is not None, what="the end of the program")
        return self.process.returncode

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def test_a_terminal_that_is_closed_ends_the_client_as_sigterm_does(tmp_path: Path) -> None:
    with ServerProcess() as server:
        arguments = [f"--server={server.frontend[0]}:{server.frontend[1]}", "--name=demo", str(unused_port())]
        with Terminal("lt-client", *arguments, directory=tmp_path) as terminal:
            terminal.wait_to_show("URL     http://demo.localhost")
            terminal.close()
            assert terminal.wait() == 0
            assert server.wait_for_record("tunnel closed")["reason"] == "released"


def test_a_client_that_was_started_with_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with running_upstream(answer_hello) as port, ServerProcess() as server:
        arguments = [f"--server={server.frontend[0]}:{server.frontend[1]}", "--name=demo", str(port)]
        with Terminal("lt-client", *arguments, directory=tmp_path, nohup=True) as terminal:
            terminal.wait_to_show("URL     http://demo.localhost")
            terminal.close()
            for _ in range(3):
                assert fetch(server.frontend, request("demo.localhost")).body == b"hello"
            assert terminal.process.poll() is None
            terminal.process.terminate()
            assert terminal.wait() == 0


def test_a_terminal_that_is_closed_stops_the_server_gently(tmp_path: Path) -> None:
    port, download = unused_port(), Download()
    arguments = [f"--frontend={LOOPBACK}:{port}", f"--backend={LOOPBACK}:0", f"--grace={LONG}"]
    with (
        running_upstream(download) as target,
        Terminal("lt-server", *arguments, directory=tmp_path) as terminal,
        ClientProcess(target, server=(LOOPBACK, port), name="demo") as client,
    ):
        terminal.wait_to_show("listening")
        client.wait_until_open()
        with connect((LOOPBACK, port)) as visitor:
            visitor.sendall(request("demo.localhost"))
            assert read_exactly(visitor, len(HEAD + FIRST)) == HEAD + FIRST
            terminal.close()
            wait_until(lambda: client.stdout.count("stops within") == 1, what="the client is told")
            assert terminal.process.poll() is None
            download.go_on.set()
            assert read_to_end(visitor) == REST
        assert terminal.wait() == 0
