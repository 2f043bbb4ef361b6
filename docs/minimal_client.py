#!/usr/bin/env python3
"""A minimal client of LTP/0.3 for an HTTP upstream, to be read beside PROTOCOL.md: its sections stand in brackets.

usage: minimal_client.py NAME UPSTREAM_PORT BACKEND_HOST BACKEND_PORT [SHA256:FINGERPRINT]

It speaks TLS where the server's fingerprint is given, and in the clear otherwise. It ends with its control connection:
what has started it starts it again, after the delays of [10]. It does not log in, knows no options, never falls back
to LTP/0.2 and sends no connection back to the pool. asyncio, not threads: both directions of a connection are used at
the same time, and two threads may not share one over TLS.
"""

import asyncio
import base64
import collections
import hashlib
import itertools
import json
import re
import secrets
import signal
import socket
import ssl
import struct
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from typing import Any

NAME, UPSTREAM_PORT, HOST, PORT, *FINGERPRINT = sys.argv[1:]
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE  # dial() looks at the key instead.
BROKEN = (OSError, EOFError, ValueError, TypeError, asyncio.TimeoutError)


class Refused(Exception):
    """The server says an error [9], or is not the one that it should be [6.1]."""


class Stopped(Exception):
    """The client's user ends it."""


def item(der: bytes, at: int) -> tuple[int, int]:
    """Return where the content of the DER item at this place begins, and where it ends."""
    begin = at + 2 + (der[at + 1] & 127 if der[at + 1] > 127 else 0)
    return begin, begin + (int.from_bytes(der[at + 2 : begin], "big") if der[at + 1] > 127 else der[at + 1])


def fingerprint(der: bytes) -> str:
    """Return the digest of a certificate's key, behind version, number, algorithm, issuer, dates and subject [6.1]."""
    at = item(der, item(der, 0)[0])[0]
    for _ in range(6):
        at = item(der, at)[1]
    return "SHA256:" + base64.b64encode(hashlib.sha256(der[at : item(der, at)[1]]).digest()).decode().rstrip("=")


async def dial(request: Any) -> tuple[StreamReader, StreamWriter]:
    """Connect to the backend, verify its key, and only then say something: header and first message [6]."""
    opening = asyncio.open_connection(HOST, PORT, ssl=TLS if FINGERPRINT else None)
    reader, writer = await asyncio.wait_for(opening, 10)
    if FINGERPRINT and [fingerprint(writer.get_extra_info("ssl_object").getpeercert(True))] != FINGERPRINT:
        reset(writer)
        raise Refused("this is not the server with that fingerprint")
    writer.write(b"LTP/0.3")
    send(writer, request)
    return reader, writer


def send(writer: StreamWriter, message: Any) -> None:
    """Write one message in its frame [7.1]."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    writer.write(struct.pack(">I", len(payload)) + payload)


async def receive(reader: StreamReader, limit: int = 65536) -> Any:
    """Return the next message, whose length and depth are checked before it is parsed [7.1, 10]."""
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    payload = await reader.readexactly(length) if length <= limit else b""
    # In a string no bracket counts; one without an end goes to the end, so that this takes linear time.
    outside_strings = re.sub(rb'(?s)"(?:\\.?|[^"\\])*(?:"|\Z)', b"", payload)
    depths = itertools.accumulate((byte in b"[{") - (byte in b"]}") for byte in outside_strings)
    if not 1 <= max(depths, default=0) <= 8:
        raise ValueError("a payload is no message")
    message = json.loads(payload)
    if "error" in message:
        raise Refused(message["error"], message.get("message"))
    return message


async def control() -> None:
    """Open the tunnel, and hold its control connection until that ends, or its user ends it [5.1, 8]."""
    me = {"name": NAME, "client": "minimal@localhost;Python", "instance": secrets.token_hex(8), "kind": "http"}
    reader, writer = await dial({"control": me})
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, reader.set_exception, Stopped())
    reply = await asyncio.wait_for(receive(reader), 15)
    match reply:
        case {"control": {"host": str(host), "session": str(session)}} if 32 <= len(session) <= 64:
            print(f"The tunnel {host!a} is open.", flush=True)  # !a: a terminal obeys nothing in it [7.3].
        case other:
            raise ValueError(f"this is no reply: {other!a}")
    interval = min(max(reply["control"].get("heartbeat") or 5, 0.05), 60)
    pool = Pool(session, max(reply["control"].get("concurrency", 1), 1), writer)
    pinging = asyncio.create_task(ping(writer, interval))
    try:
        while True:
            match await asyncio.wait_for(receive(reader, 4096), 3 * interval):
                case {"control": "ping"}:
                    send(writer, {"control": "pong"})
                case {"control": "pong"} | {"notice": _}:
                    pass
                case {"concurrency": int(size)} if size >= 0:
                    pool.keep(size)
                case {"drain": _}:
                    pool.opens = False
                case {"replaced": text}:
                    raise Refused("replaced", text)
                case other:
                    raise ValueError(f"a message may not come now: {other!a}")
    except Stopped:
        send(writer, {"release": True})
        for task in pool.tasks:
            task.cancel()
        raise
    finally:
        pinging.cancel()
        writer.close()
        await pool.end()


async def ping(writer: StreamWriter, interval: float) -> None:
    """Ping the server in every interval, by which it knows that the client is there [8]."""
    while True:
        send(writer, {"control": "ping"})
        await asyncio.sleep(interval)


class Pool:
    """The proxy connections: ``tasks`` has each, and whether it is parked."""

    def __init__(self, session: str, size: int, control: StreamWriter) -> None:
        self.session, self.control, self.opens = session, control, True
        self.tasks: dict[Any, bool] = {}
        self.seen: collections.deque[int] = collections.deque(maxlen=4096)
        self.keep(size)

    def keep(self, size: int) -> None:
        """Make the pool as large as that: open what is missing, and close the oldest of what is too much [5.5]."""
        self.size = min(size, 1000)
        parked = [task for task, is_parked in self.tasks.items() if is_parked]
        for task in parked[: max(0, len(parked) - self.size)]:
            task.cancel()
            self.tasks[task] = False
        for _ in range(self.size - len(parked) if self.opens else 0):
            self.tasks[asyncio.create_task(self.proxy())] = True

    async def end(self) -> None:
        """Close what is parked; the joins end by themselves [5.1]."""
        self.opens = False
        self.keep(0)
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def proxy(self) -> None:
        """Park a connection, and serve the visitor that it is assigned to; another one takes its place [5.2]."""
        task, writer = asyncio.current_task(), None
        try:
            reader, writer = await dial({"proxy": {"name": NAME, "session": self.session}})
            match await receive(reader):
                case {"proxy": {"id": int(assigned), "peer": str(), **more}} if 0 < assigned < 1 << 53:
                    self.tasks[task] = False
                    self.keep(self.size)
                case other:
                    raise ValueError(f"this is no assignment: {other!a}")
            if more.get("kind", "http") != "http":
                raise ValueError("this is no assignment of an HTTP tunnel")
            await self.serve(assigned, reader, writer)
        except Refused:
            self.opens = False
            await asyncio.sleep(1)  # Why may be under way on the control connection [9].
            self.control.close()
        except BROKEN:
            if writer:
                reset(writer)
            await asyncio.sleep(1)  # Should that recur [10].
        finally:
            if writer:
                writer.close()
            del self.tasks[task]
            self.keep(self.size)

    async def serve(self, assigned: int, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer an assignment, each id once, and copy both ways until both have ended [5.4]."""
        if assigned in self.seen:
            return send(writer, {"failed": {"id": assigned, "error": "seen"}})
        self.seen.append(assigned)
        send(writer, {"got": assigned})
        try:
            upstream = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", UPSTREAM_PORT), 10)
        except (OSError, asyncio.TimeoutError) as error:
            word = "refused" if isinstance(error, ConnectionRefusedError) else "timeout"
            return send(writer, {"failed": {"id": assigned, "error": word}})
        send(writer, {"ready": assigned})
        try:
            answering = asyncio.create_task(outward(upstream[0], writer))
            await asyncio.gather(answering, inward(reader, upstream[1], answering))
            upstream[1].close()
        except (asyncio.CancelledError, *BROKEN):
            reset(upstream[1])
            reset(writer)
            raise


async def inward(reader: StreamReader, upstream: StreamWriter, answering: asyncio.Task[None]) -> None:
    """Copy the visitor's stream to the upstream, and take nothing behind its end [6.2]."""
    async for data in pieces(reader):
        upstream.write(data)
        await upstream.drain()
    upstream.write_eof()
    behind = asyncio.ensure_future(reader.read(1))
    await asyncio.wait([behind, answering], return_when=asyncio.FIRST_COMPLETED)
    if not behind.cancel() and behind.result():
        raise ConnectionResetError("a byte came behind the mark")


async def pieces(reader: StreamReader) -> AsyncIterator[bytes]:
    """Yield a stream from the server: up to the FIN, or over TLS up to the mark, without which it was cut [6.2]."""
    while not FINGERPRINT and (data := await reader.read(16380)):
        yield data
    while FINGERPRINT and (left := int.from_bytes(await reader.readexactly(4), "big")):
        while left:
            yield (data := await reader.read(min(left, 16380)))
            if not data:
                raise EOFError("the stream was cut")
            left -= len(data)


async def outward(upstream: StreamReader, writer: StreamWriter) -> None:
    """Copy the upstream's stream to the visitor, and end it with a FIN, or over TLS with the mark [6.2]."""
    while data := await upstream.read(16380):
        writer.write((struct.pack(">I", len(data)) if FINGERPRINT else b"") + data)
        await writer.drain()
    writer.write(bytes(4)) if FINGERPRINT else writer.write_eof()


def reset(writer: StreamWriter) -> None:
    """End a connection so that nobody takes a cut stream for a whole one [5.2]."""
    if not writer.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


if __name__ == "__main__":
    try:
        asyncio.run(control())
    except (KeyboardInterrupt, Stopped, Refused, *BROKEN) as error:
        sys.exit(f"The tunnel has ended: {error!a}")
