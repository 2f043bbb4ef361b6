"""The two commands of ``bin/`` as real processes: streams, signals, exit codes."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys

import pytest
from harness.places import ROOT
from harness.state import put_server_key

from localtunnel import __version__
from localtunnel.cli import exit_codes


@pytest.fixture
def environment(tmp_path):
    """What the commands get: nothing of the settings of the person who runs the tests, and a server's key."""
    put_server_key(tmp_path / ".local" / "share" / "localtunnel")
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


@pytest.fixture
def started(environment):
    """A function that starts a command of ``bin/``; whatever still runs at the end of the test is killed."""
    processes = []

    def start(name, *argv, **environ):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "bin" / name), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **environ},
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def tunnel_server(started):
    """A running ``lt-server`` on free ports, as (process, the frontend's address)."""
    process = started("lt-server", "--frontend=127.0.0.1:0", "--backend=127.0.0.1:0", "--log-format=json")
    listening = json.loads(process.stderr.readline())
    if listening["event"] == "descriptors":
        # It is said where the limit had to be raised.
        listening = json.loads(process.stderr.readline())
    assert listening["event"] == "listening"
    return process, listening["frontend"]


def end(process, number):
    """Send a signal, wait for the end, and return exit code, the rest of stdout and the rest of stderr."""
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_server_ends_as_the_signal_says(tunnel_server, number, code):
    process, _ = tunnel_server
    assert end(process, number)[0] == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_client_ends_as_the_signal_says(started, tunnel_server, number, code):
    process = started("lt-client", f"--server={tunnel_server[1]}", "8080")
    assert process.stdout.readline().startswith("http://")
    returncode, out, err = end(process, number)
    assert (returncode, out) == (code, "")
    assert "Traceback" not in err
    assert "error" not in err


def test_the_url_is_the_first_line_and_all_else_is_on_stderr(started, tunnel_server):
    process = started("lt-client", "http", "-s", tunnel_server[1], "--name=demo", "8080")
    port = tunnel_server[1].rpartition(":")[2]
    assert process.stdout.readline() == f"http://demo.localhost:{port}\n"
    _, out, err = end(process, signal.SIGTERM)
    assert out == ""
    assert "Target  localhost:8080\n" in err


def test_quiet_is_the_url_and_an_empty_stderr(started, tunnel_server):
    process = started("lt-client", "--quiet", "8080", LT_SERVER=tunnel_server[1], LT_NAME="demo")
    assert process.stdout.readline().startswith("http://demo.localhost:")
    assert end(process, signal.SIGTERM) == (0, "", "")


def test_json_tells_the_opening_and_the_failure(started, tunnel_server):
    first = started("lt-client", "--json", "--name=demo", "8080", LT_SERVER=tunnel_server[1])
    met, opened = (json.loads(first.stdout.readline()) for _ in range(2))
    assert met["event"] == "server_pinned"
    assert (opened["event"], opened["name"], opened["target"]) == ("tunnel_opened", "demo", "localhost:8080")
    second = started("lt-client", "--json", "--name=demo", "8080", LT_SERVER=tunnel_server[1])
    out, err = second.communicate(timeout=20)
    assert second.returncode == exit_codes.NAME_REFUSED
    failed = json.loads(out)
    assert (failed["event"], failed["code"], failed["exit_code"]) == ("failed", "unavailable", 5)
    assert err == f"lt-client: {failed['message']}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), exit_codes.USAGE, "No target: name the port or the address of the local server, as in lt-client 8080."),
        (("--server=x:", "80"), exit_codes.USAGE, "--server: 'x:' is not a server's address"),
        (("--config=/nowhere", "80"), exit_codes.CONFIG, "The settings file /nowhere cannot be read"),
        (("--name=a_b", "80"), exit_codes.NAME_REFUSED, "The name 'a_b' is not a DNS label"),
    ],
)
def test_json_tells_a_failure_before_anything_was_tried(started, arguments, code, message):
    process = started("lt-client", "--json", *arguments)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    failed = json.loads(out)
    assert (failed["event"], failed["exit_code"]) == ("failed", code)
    assert failed["message"].startswith(message)
    assert "Usage" not in failed["message"]
    assert err.startswith(f"lt-client: {failed['message']}")


def test_versions_of_both(started, tunnel_server):
    process = started("lt-client", "--version", f"--server={tunnel_server[1]}")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert out == f"lt-client {__version__}\nserver {tunnel_server[1]} {__version__}\n"


def test_a_reader_of_the_url_that_goes_away_does_not_end_the_tunnel(started, tunnel_server):
    process = started("lt-client", "--json", "--name=demo", "8080", LT_SERVER=tunnel_server[1])
    assert process.stdout.readline()
    process.stdout.close()
    # A visitor makes the client print again: the target does not answer, so that the visitor gets a 502.
    host, _, port = tunnel_server[1].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n")
        assert visitor.recv(4096).startswith(b"HTTP/1.1 ")
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert "Traceback" not in process.stderr.read()


def test_a_terminal_gets_everything_on_its_one_stream(tunnel_server, environment):
    reading, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bin" / "lt-client"), "--name=demo", "8080"],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env={**environment, "LT_SERVER": tunnel_server[1]},
    )
    try:
        seen = b""
        while b"Target  localhost:8080\r\n" not in seen:
            assert select.select([reading], [], [], 20)[0], seen
            seen += os.read(reading, 4096)
        assert re.search(rb"URL     http://demo\.localhost:\d+\r\n", seen)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=20)[1]
        assert re.search(rb"\rClosed  after \S+ \w+: 0 requests\r\n\Z", os.read(reading, 4096))
    finally:
        process.kill()
        os.close(reading)
        os.close(terminal)
    assert process.returncode == 130
    assert err == b""


def test_an_unreachable_server_is_tried_again_and_it_says_when(started):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    process = started("lt-client", "8080", LT_SERVER=address)
    assert re.search(r"cannot connect: .+; retrying (now|in \d+\.\d s)$", process.stderr.readline())
    assert end(process, signal.SIGTERM)[:2] == (0, "")


def test_an_unreachable_server_ends_a_client_that_does_not_retry(started):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    process = started("lt-client", "--no-retry", "8080", LT_SERVER=address)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (exit_codes.UNREACHABLE, "")
    assert err.startswith("lt-client: ")
    assert err.count("\n") == 1


def test_an_address_that_is_taken_ends_the_server(started):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = started("lt-server", f"--frontend={address}", "--backend=127.0.0.1:0", "--log-level=warning")
        _, err = process.communicate(timeout=20)
    assert process.returncode == exit_codes.CANNOT_LISTEN
    assert address in err
    assert err.count("\n") == 1


def test_a_reserved_name_is_refused(started, tunnel_server):
    process = started("lt-client", "--name=www", "8080", LT_SERVER=tunnel_server[1])
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (exit_codes.NAME_REFUSED, "")
    assert "'www' is reserved" in err


@pytest.mark.parametrize("name", ["lt-server", "lt-client"])
def test_help_into_a_pipe_that_is_closed_is_quiet(name):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        command = [sys.executable, str(ROOT / "bin" / name), "--help"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_stderr_stdout_has_nothing_of_it(environment):
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, str(ROOT / "bin" / "lt-client")]
    for argv, code in ((["--no-such-option"], exit_codes.USAGE), (["--no-retry", "-s", "127.0.0.1:1", "80"], 6)):
        done = subprocess.run([*command, *argv], stdout=subprocess.PIPE, env=environment, timeout=20)
        assert (done.returncode, done.stdout) == (code, b"")


def test_a_client_whose_url_cannot_be_written_ends(tunnel_server, environment):
    command = [sys.executable, str(ROOT / "bin" / "lt-client"), "-s", tunnel_server[1], "8080"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, text=True, timeout=20)
    assert done.returncode == exit_codes.INTERNAL_ERROR
    assert done.stderr.endswith("lt-client: The output cannot be written: No space left on device.\n")
