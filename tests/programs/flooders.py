"""Peers that send control messages without a pause, each a process of its own: ``python flooders.py client|server …``.

Written from PROTOCOL.md and of nothing but the standard library, so that the flood costs the test's own process no
time. Each prints one line of JSON with what it did; the counts and the seconds are bounded.

``client HOST PORT NAME SECONDS`` opens the tunnel and floods until it is ended, and again, for that long.
``server JOINS SECONDS`` waits for a client's tunnel, hands its upstream that many visitors, which echo whatever comes,
and floods the control connection once it gets SIGUSR1. With a certificate (PEM, with its key) as the last argument it
speaks TLS, and so does the client with ``tls``.
"""

import json
import os
import select
import signal
import socket
import ssl
import sys
import time
from typing import Any

HEADER = b"LTP/0.3"
PAUSE = 0.02
"""Seconds between two tunnels of the flooding client."""


def frame(message: object) -> bytes:
    payload = json.dumps(message).encode()
    return len(payload).to_bytes(4, "big") + payload


FLOOD = frame({"control": "ping"}) * 1000


def read_message(sock: socket.socket) -> Any:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = sock.recv(size - len(data))
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    return json.loads(exactly(int.from_bytes(exactly(4), "big")))


def flood(sock: socket.socket, until: float) -> tuple[int, str]:
    """Send pings and drop what comes, until the peer ends it or the time is over: bytes sent, and the last error."""
    sent, heard = 0, b""
    sock.setblocking(False)
    while time.monotonic() < until:
        readable, _, _ = select.select([sock], [sock], [], 0.1)
        try:
            if readable:
                data = sock.recv(65536)
                if not data:
                    break
                heard = (heard + data)[-1024:]
            sent += sock.send(FLOOD)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            continue
        except OSError:
            break
    sock.close()
    return sent, "flooded" if b'"flooded"' in heard else ""


def flood_as_client(host: str, port: str, name: str, seconds: str, *tls: str) -> dict[str, Any]:
    until = time.monotonic() + float(seconds)
    request = {"control": {"name": name, "client": "flooder@test;Linux", "instance": "one"}}
    done: dict[str, Any] = {"tunnels": 0, "sent": 0, "ends": []}
    while time.monotonic() < until:
        sock = socket.create_connection((host, int(port)), timeout=5)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        sock.sendall(HEADER + frame(request))
        if "control" in read_message(sock):
            done["tunnels"] += 1
            sent, end = flood(sock, until)
            done["sent"] += sent
            done["ends"].append(end)
        sock.close()
        time.sleep(PAUSE)
    return done


def flood_as_server(joins: str, seconds: str, *certificate: str) -> dict[str, Any]:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[0])

    def accept() -> socket.socket:
        while True:
            sock, _ = listener.accept()
            sock.settimeout(30)
            try:
                sock = sock if context is None else context.wrap_socket(sock, server_side=True)
            except OSError:
                # A client looks for an authority first, and then for the key.
                continue
            assert sock.recv(len(HEADER)) == HEADER
            read_message(sock)
            return sock

    control = accept()
    reply = {"host": "demo.localhost", "concurrency": int(joins), "banner": "", "session": "5e" * 16}
    control.sendall(frame({"control": reply}))
    visitors = [accept() for _ in range(int(joins))]
    for number, visitor in enumerate(visitors, 1):
        visitor.sendall(frame({"proxy": {"id": number, "peer": "203.0.113.7:51234", "kind": "tcp"}}))
    for number, visitor in enumerate(visitors, 1):
        assert read_message(visitor) == {"got": number}
        assert read_message(visitor) == {"ready": number}
    echoing = os.fork()
    if not echoing:
        echo(visitors)
    try:
        signal.sigwait({signal.SIGUSR1})
        until = time.monotonic() + float(seconds)
        sent, _ = flood(control, until)
        time.sleep(max(0.0, until - time.monotonic()))
    finally:
        os.kill(echoing, signal.SIGKILL)
        os.waitpid(echoing, 0)
    # Each visitor was replaced by another parked connection, which may have come before the end.
    return {"sent": sent, "tunnels": sum("control" in message for message in arrived(listener, context))}


def arrived(listener: socket.socket, context: ssl.SSLContext | None) -> list[Any]:
    """Return the requests of the connections that have come in the meantime, as far as they are whole."""
    listener.settimeout(0.1)
    requests = []
    while True:
        try:
            sock, _ = listener.accept()
            sock.settimeout(0.5)
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
            sock.recv(len(HEADER))
            requests.append(read_message(sock))
        except TimeoutError:
            return requests
        except OSError:
            continue


def echo(socks: list[socket.socket]) -> None:
    """Send back whatever comes: bytes of a stream over TLS are chunks in both directions alike."""
    for sock in socks:
        sock.setblocking(False)
    poll = select.epoll()
    by_descriptor = {sock.fileno(): sock for sock in socks}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            try:
                data = by_descriptor[descriptor].recv(65536)
                by_descriptor[descriptor].sendall(data)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            except OSError:
                data = b""
            if not data:
                poll.unregister(descriptor)


if __name__ == "__main__":
    kinds = {"client": flood_as_client, "server": flood_as_server}
    print(json.dumps(kinds[sys.argv[1]](*sys.argv[2:])), flush=True)
