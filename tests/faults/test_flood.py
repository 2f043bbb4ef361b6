"""A peer that sends control messages without a pause: its neighbours notice nothing, and it is ended.

The flooder is a process of its own (``flooders``), which a test's own hub could not be: it would flood more slowly the
more its victim suffers.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from gevent.pool import Pool
from harness import (
    CAP,
    LOOPBACK,
    Address,
    ClientProcess,
    ServerProcess,
    answer_hello,
    at_most,
    fetch,
    listening,
    read_exactly,
    request,
    running_client,
    running_upstream,
)
from harness.places import PROGRAMS
from harness.tls import write_certificate

from localtunnel.net.local import ask
from localtunnel.protocol.limits import FLOODED_PAUSE
from localtunnel.server.operator.admin import SOCKET

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TUNNELS = 50
AT_ONCE = 2
PACE = 0.005
"""Requests, or echoes, at a time, and the seconds between two of them: far from using the machine up, and so many that
a moment in which it does something else is not one in a hundred of them."""

FLOOD = 6.0
"""Seconds that a flood lasts, if nobody ends it."""

CALM = 2.0
"""Seconds for which the same is measured before."""

P99 = 0.05
"""Seconds within which 99 of 100 requests of the neighbours have to be answered, or within three times what it took in
the calm before, where other programs take so much of this machine that it is more: the flooder is one program more.
Without the cure it was as long as the flood."""


@contextmanager
def flooding(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    program = PROGRAMS / "flooders.py"
    command = [sys.executable, str(program), *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def in_thread(function: Any, *arguments: Any) -> Any:
    return gevent.get_hub().threadpool.apply(function, arguments)


def next_line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    with at_most(30, "the flooder's word"):
        return json.loads(in_thread(process.stdout.readline))


def p99_of(step: Callable[[int], None], seconds: float) -> float:
    """Call ``step(number)`` again and again, for that long, and return how long 99 of 100 took at most."""
    took: list[float] = []

    def timed(number: int) -> None:
        began = time.monotonic()
        step(number)
        took.append(time.monotonic() - began)

    steps = Pool(AT_ONCE)
    began = time.monotonic()
    spawned = 0
    while time.monotonic() - began < seconds:
        steps.spawn(timed, spawned)
        spawned += 1
        gevent.sleep(PACE)
    with at_most(CAP, "the last of them"):
        steps.join()
    assert len(took) == spawned, f"{spawned - len(took)} of {spawned} failed"
    return sorted(took)[len(took) * 99 // 100]


def command(directory: Path, name: str, subject: str) -> tuple[Any, float]:
    """Return what the running server answers its owner, and after how many seconds."""
    began = time.monotonic()
    question = json.dumps({"command": name, "subject": subject}).encode()
    with at_most(20, name):
        answer = json.loads(in_thread(ask, directory / SOCKET, question))
    return answer, time.monotonic() - began


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tls", [(), ("tls",)], ids=["in the clear", "over TLS"])
def test_neighbours_of_a_client_that_floods(tls: tuple[str, ...], tmp_path: Path) -> None:
    config = f'data_dir = "{tmp_path}"\n[timeouts]\nerror_hold = 0.2\n'
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream(answer_hello))
        server = stack.enter_context(ServerProcess(config=config))
        for number in range(TUNNELS):
            stack.enter_context(running_client(server.frontend, upstream, name=f"tunnel-{number}", insecure=True))

        def visit(number: int) -> None:
            host = f"tunnel-{number % (TUNNELS - 1)}.localhost"
            assert fetch(server.frontend, request(host)).status == 200

        calm = p99_of(visit, CALM)
        flooder = stack.enter_context(flooding("client", *server.backend, "flooder", FLOOD, *tls))
        server.wait_for_record("tunnel opened", TUNNELS + 1)
        asked = (("kick", f"tunnel-{TUNNELS - 1}"), ("ban", "203.0.113.9"))
        commands = [gevent.spawn_later(FLOOD / 4, command, tmp_path, *question) for question in asked]
        assert p99_of(visit, FLOOD * 3 / 4) < max(P99, 3 * calm)
        for answered, seconds in (asking.get() for asking in commands):
            assert "ok" in answered, answered
            assert seconds < 1.0
        done = next_line(flooder)
        # The last one may have been cut short by the end of the time, and one may have seen a reset before the error.
        assert done["tunnels"] >= 3, done
        assert "flooded" in done["ends"]
        closed = [record["reason"] for record in server.records if record["event"] == "tunnel closed"]
        assert closed.count("flooded") >= done["tunnels"] - 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("tls", [False, True], ids=["in the clear", "over TLS"])
def test_visitors_of_a_client_whose_server_floods(tls: bool, tmp_path: Path) -> None:
    certificate = [write_certificate(trustme.CA(), tmp_path, LOOPBACK)] if tls else []
    with ExitStack() as stack:
        upstream = stack.enter_context(listening())
        flooder = stack.enter_context(flooding("server", TUNNELS, FLOOD, *certificate))
        backend: Address = (LOOPBACK, next_line(flooder)["port"])
        arguments = [f"--backend={backend[1]}", *([] if tls else ["--insecure"])]
        client = stack.enter_context(
            ClientProcess(upstream.getsockname()[1], *arguments, server=(LOOPBACK, 1), name="demo")
        )
        client.wait_until_open()
        visitors = [stack.enter_context(upstream.accept()[0]) for _ in range(TUNNELS)]

        def echo(number: int) -> None:
            visitor = visitors[number % TUNNELS]
            visitor.sendall(b"12345678")
            assert read_exactly(visitor, 8) == b"12345678"

        calm = p99_of(echo, CALM)
        flooder.send_signal(signal.SIGUSR1)
        assert p99_of(echo, FLOOD / 2) < max(P99, 3 * calm)
        lost = client.wait_for_event("tunnel_lost")
        assert lost["code"] == "flooded"
        assert lost["retry_in"] >= FLOODED_PAUSE
        done = next_line(flooder)
        assert done["tunnels"] == 0, "it has come back"
