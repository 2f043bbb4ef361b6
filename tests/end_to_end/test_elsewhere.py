"""The client where Linux is not: a whole tunnel without splice, epoll, TCP_INFO, Linux's socket options and /proc."""

import os
import subprocess
import sys

import pytest
from harness import ServerProcess, fetch, read_head, request, running_upstream, wait_until
from harness.places import PROGRAMS

pytestmark = pytest.mark.slow

SCRIPT = PROGRAMS / "without_linux.py"

BIG = 8 * 1024 * 1024
"""Bytes of an answer and of an upload: as much as moves through a pipe where there is one."""


def answer(sock):
    """Answer with ``BIG`` bytes, or say how many came."""
    head, _, body = read_head(sock).partition(b"\r\n\r\n")
    if head.startswith(b"POST"):
        size = len(body)
        while size < BIG:
            size += len(sock.recv(65536))
        text = b"%d" % size
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
    else:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG)


@pytest.mark.parametrize("options", [[], ["--insecure"]], ids=["tls", "plain"])
def test_a_whole_tunnel_without_what_only_linux_has(tmp_path, options):
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    with running_upstream(answer) as port, ServerProcess() as server:
        address = f"--server=127.0.0.1:{server.frontend[1]}"
        command = [sys.executable, str(SCRIPT), address, "--name=demo", *options, str(port)]
        err = tmp_path / "stderr"
        with (
            err.open("w") as stream,
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stream, text=True) as client,
        ):
            try:
                assert client.stdout.readline() == f"http://demo.localhost:{server.frontend[1]}\n", err.read_text()
                assert fetch(server.frontend, request("demo.localhost")).body == b"x" * BIG
                upload = request("demo.localhost", "/", "POST", body=b"y" * BIG)
                assert fetch(server.frontend, upload).body == b"%d" % BIG
            finally:
                client.terminate()
        wait_until(lambda: client.poll() is not None)
        assert client.returncode == 0
        assert "internal error" not in err.read_text()
