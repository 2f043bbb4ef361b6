"""Upstreams that get HTTP wrong, each in a way of its own that real servers have shown: raw sockets, and no library.

Imported by itself. An upstream is a function that serves one connection, a ``Wire``, until that ends; ``serving`` runs
one. Every answer says whose request it is for: ``X-Visitor`` and the first line of the body repeat the request's
``X-Visitor`` and target, and the request's body follows, where it was read as one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import gevent
import msgspec
from gevent import socket

from harness.web import running_upstream

A_MOMENT = 0.005
"""Seconds by which a late one is late: an answer has long been passed on by then."""


class Asked(msgspec.Struct):
    """A request as an upstream reads it; ``body`` is what was read as one. Values of one field stand in lines."""

    method: str
    target: str
    version: str
    fields: dict[str, str]
    body: bytes = b""

    @property
    def visitor(self) -> str:
        """Who sent it, as the request itself says."""
        return self.fields.get("x-visitor", "nobody")


class Wire:
    """One connection of an upstream. What is wrong about an upstream is which of these methods it calls, and when."""

    def __init__(self, sock: socket.socket, seen: Callable[[Asked], None]) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._data = bytearray()
        self._seen = seen

    def heads(self) -> Iterator[Asked]:
        """Yield the head of one request after the other, until the connection ends or says that it does.

        What is no request is answered 400, and is the last.
        """
        while (asked := self._head()) is not None:
            yield asked
            self._seen(asked)
            if asked.fields.get("connection", "").lower() == "close":
                return

    def requests(self) -> Iterator[Asked]:
        """Yield one whole request after the other, with its body."""
        for asked in self.heads():
            self.read_body(asked)
            yield asked

    def read_body(self, asked: Asked) -> None:
        """Read the body that belongs to ``asked``, as RFC 9112 has it."""
        if "transfer-encoding" in asked.fields:
            while size := int(self._until(b"\r\n").partition(b";")[0], 16):
                asked.body += self._exactly(size)
                self._exactly(2)
            while self._until(b"\r\n") != b"\r\n":
                pass
        else:
            self.read_counted(asked)

    def read_counted(self, asked: Asked) -> None:
        """Read the body that a Content-Length announces, if there is one."""
        asked.body += self._exactly(int(asked.fields.get("content-length", "0")))

    def answer(self, asked: Asked, status: str = "200 OK", fields: str = "") -> None:
        """Answer as is right: with a head that says how long the body is, and the body unless there must be none."""
        bare = asked.method == "HEAD" or status[:3] in ("204", "304")
        self.say(response(asked, status, fields, length=status[:3] != "204"), b"" if bare else page(asked))

    def say(self, *pieces: bytes) -> None:
        """Send ``pieces`` in one go."""
        self.sock.sendall(b"".join(pieces))

    def _head(self) -> Asked | None:
        try:
            start, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        except EOFError:
            return None
        words = start.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self.say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return None
        asked = Asked(*words, {})
        for name, _, value in (line.partition(":") for line in lines):
            known = asked.fields.get(name.lower())
            asked.fields[name.lower()] = value.strip() if known is None else f"{known}\n{value.strip()}"
        return asked

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            self._more()
        return self._exactly(self._data.index(mark) + len(mark))

    def _exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    def _more(self) -> None:
        piece = self.sock.recv(1 << 16)
        if not piece:
            raise EOFError
        self._data += piece


Upstream = Callable[[Wire], None]


def page(asked: Asked) -> bytes:
    """Return what an upstream has to say to ``asked``."""
    return f"{asked.visitor} {asked.target}\n".encode() + asked.body


def response(asked: Asked, status: str = "200 OK", fields: str = "", *, length: bool = True) -> bytes:
    """Return the head of an answer to ``asked``; ``fields`` are whole lines with their CRLF."""
    counted = f"Content-Length: {len(page(asked))}\r\n" if length else ""
    return f"HTTP/1.1 {status}\r\nX-Visitor: {asked.visitor}\r\n{counted}{fields}\r\n".encode()


def surplus(asked: Asked) -> bytes:
    """Return the worst that can follow an answer: a whole response, of the visitor who sent ``asked``."""
    return response(asked) + page(asked)


def in_chunks(asked: Asked, extension: str = "") -> bytes:
    """Return the page for ``asked`` as a chunked body."""
    content = page(asked)
    return f"{len(content):x}{extension}\r\n".encode() + content + b"\r\n0\r\n\r\n"


CHUNKED = "Transfer-Encoding: chunked\r\n"


# What is right.


def is_right(wire: Wire) -> None:
    """Get nothing wrong: what the others are compared with."""
    for asked in wire.requests():
        wire.answer(asked)


# Bodies of requests.


def reads_no_bodies(wire: Wire) -> None:
    """Answer at the end of the head, and take a body for the next request (http.server, Flask's server of 2.1)."""
    for asked in wire.heads():
        wire.answer(asked)


def reads_counted_bodies_only(wire: Wire) -> None:
    """Know no chunks, and take them for the next request (Django's development server)."""
    for asked in wire.heads():
        if "transfer-encoding" not in asked.fields:
            wire.read_body(asked)
        wire.answer(asked)


def answers_first(wire: Wire) -> None:
    """Answer at the end of the head, and read the body after that."""
    for asked in wire.heads():
        wire.answer(asked)
        wire.read_body(asked)


def refuses_uploads(wire: Wire) -> None:
    """Refuse what has a body without reading it, and close (werkzeug, where a view does not look at the body)."""
    for asked in wire.heads():
        if "transfer-encoding" in asked.fields or asked.fields.get("content-length", "0") != "0":
            wire.answer(asked, "413 Content Too Large", "Connection: close\r\n")
            return
        wire.answer(asked)


# Bodies of answers.


def answers_head_with_a_body(wire: Wire) -> None:
    """Send a page in answer to HEAD, and one that looks like an answer itself (bun, WsgiDAV)."""
    for asked in wire.requests():
        wire.answer(asked)
        if asked.method == "HEAD":
            gevent.sleep(A_MOMENT)
            wire.say(surplus(asked))


def answers_204_with_a_body(wire: Wire) -> None:
    """Send a page behind a 204, which has none."""
    _bodies_behind(wire, "204 No Content")


def answers_304_with_a_body(wire: Wire) -> None:
    """Send a page behind a 304, which has none."""
    _bodies_behind(wire, "304 Not Modified")


def answers_205_with_a_body(wire: Wire) -> None:
    """Send a page behind a 205 that says it has none."""
    for asked in wire.requests():
        wire.say(response(asked, "205 Reset Content", "Content-Length: 0\r\n", length=False))
        gevent.sleep(A_MOMENT)
        wire.say(surplus(asked))


def _bodies_behind(wire: Wire, status: str) -> None:
    for asked in wire.requests():
        wire.answer(asked, status)
        gevent.sleep(A_MOMENT)
        wire.say(surplus(asked))


def sends_a_surplus_at_once(wire: Wire) -> None:
    """Send two answers to each request, in one piece."""
    for asked in wire.requests():
        wire.say(response(asked), page(asked), surplus(asked))


def sends_a_surplus_late(wire: Wire) -> None:
    """Send two answers to each request, the second a moment later."""
    for asked in wire.requests():
        wire.answer(asked)
        gevent.sleep(A_MOMENT)
        wire.say(surplus(asked))


# How answers end.


def chunks_whatever_the_version(wire: Wire) -> None:
    """Answer HTTP/1.0 with chunks, which that does not have (uvicorn with httptools, Flask's server)."""
    for asked in wire.requests():
        wire.say(response(asked, fields=CHUNKED, length=False), b"" if asked.method == "HEAD" else in_chunks(asked))


def chunks_204(wire: Wire) -> None:
    """Announce chunks for a 204, which has none, and send their end (Node proxies); none with HEAD (meinheld)."""
    for asked in wire.requests():
        end = b"" if asked.method == "HEAD" else b"0\r\n\r\n"
        wire.say(response(asked, "204 No Content", CHUNKED, length=False), end)


def extends_chunks(wire: Wire) -> None:
    """Put extensions behind the sizes of chunks, on which readers differ."""
    for asked in wire.requests():
        wire.say(response(asked, fields=CHUNKED, length=False), in_chunks(asked, ";name=value"))


def sends_trailers(wire: Wire) -> None:
    """Put fields behind the last chunk, which many a reader leaves where they are."""
    for asked in wire.requests():
        wire.say(response(asked, fields=CHUNKED, length=False), in_chunks(asked)[:-2], b"X-Sum: 1\r\n\r\n")


def closes_while_idle(wire: Wire) -> None:
    """Close a moment after an answer that has said nothing of it."""
    for asked in wire.requests():
        wire.answer(asked)
        gevent.sleep(A_MOMENT)
        return


def closes_at_once(wire: Wire) -> None:
    """Close right behind an answer that has said nothing of it."""
    for asked in wire.requests():
        wire.answer(asked)
        return


def ends_within_the_head(wire: Wire) -> None:
    """Send a head without the empty line behind it, and close."""
    for asked in wire.requests():
        wire.say(response(asked)[: -len(b"\r\n")])
        return


def greets(wire: Wire) -> None:
    """Say something before it was asked anything, as servers of other protocols do."""
    wire.say(b"220 ready\r\n")
    for asked in wire.requests():
        wire.answer(asked)


# Interim answers.


def sends_interim_answers(wire: Wire) -> None:
    """Send a hint before each answer, and another one a moment later, when nothing is to be answered any more."""
    for asked in wire.requests():
        hints = f"HTTP/1.1 103 Early Hints\r\nLink: </{asked.visitor}>\r\n\r\n".encode()
        wire.say(hints, response(asked), page(asked))
        gevent.sleep(A_MOMENT)
        wire.say(hints)


def floods_1xx(wire: Wire) -> None:
    """Say 100 Continue and nothing else, for as long as anybody listens."""
    for _ in wire.requests():
        while True:
            wire.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
            gevent.sleep(0)


# Heads of requests.


def answers_within_the_head(wire: Wire) -> None:
    """Refuse a long request line at once, and take the rest of the head for the next request."""
    for asked in wire.requests():
        if len(asked.target) > LONGEST_TARGET:
            wire.answer(asked, "414 URI Too Long")
            gevent.sleep(A_MOMENT)
            wire.say(surplus(asked))
        else:
            wire.answer(asked)


LONGEST_TARGET = 1000
"""Characters of a target that ``answers_within_the_head`` takes."""


# Logins of a connection.


def logs_connections_in(wire: Wire) -> None:
    """Ask for NTLM once, and know whoever uses the connection from then on (IIS).

    The first line of the page is the one who logged in, "nobody" before that, in place of who asks.
    """
    user = "nobody"
    for asked in wire.requests():
        for value in asked.fields.get("authorization", "").split("\n"):
            scheme, _, name = value.partition(" ")
            if scheme in ("NTLM", "Negotiate"):
                user = name
        asked.fields["x-visitor"] = user
        wire.answer(asked)


def serving(upstream: Upstream, seen: Callable[[Asked], None] = lambda asked: None) -> AbstractContextManager[int]:
    """Run ``upstream`` for every connection; yields the port. ``seen`` is shown each request that was answered."""

    def serve(sock: socket.socket) -> None:
        try:
            upstream(Wire(sock, seen))
        except EOFError:
            return

    return running_upstream(serve)
