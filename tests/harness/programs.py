"""``lt-server`` and ``lt-client`` from this checkout, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.places import ROOT
from harness.sockets import LOOPBACK, Address
from harness.state import put_server_key
from harness.waiting import CAP, wait_until
from harness.web import fetch, request


class Program:
    """A command of ours in a process of its own. stdout and stderr go to files, so that it never waits for the test."""

    def __init__(
        self,
        command: str,
        arguments: list[str],
        config: str | None,
        env: Mapping[str, str] | None,
        nofile: tuple[int, int] | None = None,
    ) -> None:
        """``nofile`` is the soft and the hard limit on its descriptors, where they are not the test's own."""
        self._directory = tempfile.TemporaryDirectory(prefix="localtunnel-test-")
        self._out = Path(self._directory.name, "stdout")
        self._err = Path(self._directory.name, "stderr")
        if config is not None:
            path = Path(self._directory.name, "config.toml")
            path.write_text(config)
            arguments = [f"--config={path}", *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*_limiting(nofile), sys.executable, str(ROOT / "bin" / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**_clean_environment(), **_own_files(Path(self._directory.name)), **(env or {})},
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it has written to stdout so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._err.read_text()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, cap: float = CAP) -> int:
        """Return the exit code, once the process has ended by itself or by a signal that was sent."""
        wait_until(lambda: self.process.poll() is not None, cap, "the end of the process")
        return self.process.returncode

    def stop(self, cap: float = CAP) -> int:
        """Send SIGTERM and return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(cap)

    def descriptors(self) -> int:
        """Return how many file descriptors the process has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def close(self) -> None:
        """Kill the process if it still runs, and forget its output."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._directory.cleanup()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_for_object(self, read: Callable[[], str], event: str, count: int, cap: float) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            matching = [entry for entry in _objects(read()) if entry.get("event") == event]
            if len(matching) < count and self.process.poll() is not None:
                raise AssertionError(f"the program ended with {self.process.returncode}: {self.stderr}")
            return matching[count - 1] if len(matching) >= count else None

        entry: dict[str, Any] = wait_until(found, cap, f"{event!r} number {count}")
        return entry


class ServerProcess(Program):
    """``bin/lt-server`` on free ports of 127.0.0.1, or on the ports given; listens once it is made.

    ``config`` is the text of a settings file. ``frontend`` and ``backend`` are addresses as (host, port).
    """

    def __init__(
        self,
        *arguments: str,
        frontend_port: int = 0,
        backend_port: int = 0,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        nofile: tuple[int, int] | None = None,
    ) -> None:
        ports = [f"--frontend={LOOPBACK}:{frontend_port}", f"--backend={LOOPBACK}:{backend_port}"]
        super().__init__("lt-server", [*ports, "--log-format=json", *arguments], config, env, nofile)
        try:
            listens = self.wait_for_record("listening")
        except BaseException:
            self.close()
            raise
        self.frontend = _address(listens["frontend"])
        self.backend = _address(listens["backend"])

    def __enter__(self) -> "ServerProcess":
        return self

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log so far, a record each."""
        return _objects(self.stderr)

    def wait_for_record(self, event: str, count: int = 1, cap: float = CAP) -> dict[str, Any]:
        """Return the ``count``-th log record of that event, once it has been written."""
        return self._wait_for_object(lambda: self.stderr, event, count, cap)

    def metrics(self) -> dict[str, Any]:
        """Return what /meta/metrics says."""
        return metrics_of(self.frontend)


class ClientProcess(Program):
    """``bin/lt-client`` for ``target`` at the frontend ``server``; with ``--json`` unless ``as_json`` is False."""

    def __init__(
        self,
        target: int | str,
        *arguments: str,
        server: Address,
        name: str | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        as_json: bool = True,
        nofile: tuple[int, int] | None = None,
    ) -> None:
        options = [f"--server={server[0]}:{server[1]}"]
        options += [] if name is None else [f"--name={name}"]
        options += ["--json"] if as_json else []
        super().__init__("lt-client", [*options, *arguments, str(target)], config, env, nofile)

    def __enter__(self) -> "ClientProcess":
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events so far, an object each."""
        return _objects(self.stdout)

    def wait_for_event(self, event: str, count: int = 1, cap: float = CAP) -> dict[str, Any]:
        """Return the ``count``-th event of that name (``tunnel_opened`` …), once it has been written."""
        return self._wait_for_object(lambda: self.stdout, event, count, cap)

    def wait_until_open(self, cap: float = CAP) -> str:
        """Return the URL of the tunnel, once it is open."""
        url: str = self.wait_for_event("tunnel_opened", cap=cap)["url"]
        return url


def metrics_of(frontend: Address) -> dict[str, Any]:
    """Return what the server there counts, by name."""
    response = fetch(frontend, request("localhost", "/meta/metrics"))
    return {metric["name"]: metric["value"] for metric in json.loads(response.body)}


def _limiting(nofile: tuple[int, int] | None) -> list[str]:
    if nofile is None:
        return []
    soft, hard = nofile
    return ["sh", "-c", f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$@"', "sh"]


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LT_")}


def _own_files(directory: Path) -> dict[str, str]:
    """Return the variables that keep a program's files in ``directory``, where a server finds the key of this run."""
    put_server_key(directory / "data" / "localtunnel")
    return {"XDG_DATA_HOME": str(directory / "data"), "XDG_CONFIG_HOME": str(directory / "config")}


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects among the whole lines of ``text``."""
    lines = text.split("\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith("{")]


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)
