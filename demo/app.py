"""The sample application of ``make demo``: it answers every request with a description
of that request.

A browser gets a page, ``Accept: application/json`` gets JSON, and everything else, curl
among it, gets text. It shows the request as it came through the tunnel: the fields as
they were spelled, the body's size, digest and beginning.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from html import escape
from http import HTTPStatus
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from gevent.pywsgi import WSGIHandler, WSGIServer

BODY_SHOWN = 4 * 1024
"""Bytes that are shown of a body: enough for a form or a webhook."""

READ_SIZE = 64 * 1024
"""Bytes that are read of a body at a time: uploads of any size are not held in
memory."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that are answered; any other gets 405."""


@dataclass(frozen=True)
class Seen:
    """One request, as the application received it. ``body`` is its beginning, and
    ``body_bytes`` its whole size."""

    method: str
    target: str
    version: str
    fields: list[tuple[str, str]]
    body: str
    body_bytes: int
    body_sha256: str


class Handler(WSGIHandler):
    """Passes on the original spelling of target and fields, which WSGI changes."""

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["demo.target"] = self.path
        environ["demo.fields"] = self.headers.items()
        return environ


def serve() -> WSGIServer:
    """Start the application on a free port of 127.0.0.1 and return its server; the
    caller calls ``stop()``.

    The port is ``server_port``. Raises OSError when no port can be had.
    """
    # Without a name of its own, the server would look one up in the DNS.
    server = WSGIServer(("127.0.0.1", 0), answer, handler_class=Handler, log=None, environ={"SERVER_NAME": "localhost"})
    server.start()
    # Accepted sockets inherit it. Without it, each answer on a kept connection waits
    # for a delayed acknowledgement.
    server.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    return server


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    seen = look(environ)
    content_type, render = choose(environ.get("HTTP_ACCEPT", ""))
    content = render(seen).encode()
    status = HTTPStatus.OK if seen.method in METHODS else HTTPStatus.METHOD_NOT_ALLOWED
    headers = [
        ("Content-Type", f"{content_type}; charset=utf-8"),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept"),
        ("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'unsafe-inline'"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", ", ".join(sorted(METHODS))))
    start_response(f"{status.value} {status.phrase}", headers)
    return [] if seen.method == "HEAD" else [content]


def look(environ: dict[str, Any]) -> Seen:
    """Describe the request, reading its body to the end."""
    shown = b""
    size = 0
    digest = hashlib.sha256()
    # An upgrade has no body: what follows its head would be the new protocol's, and
    # never ends.
    while environ["wsgi.input_terminated"] and (data := environ["wsgi.input"].read(READ_SIZE)):
        shown += data[: BODY_SHOWN - len(shown)]
        size += len(data)
        digest.update(data)
    return Seen(
        method=environ["REQUEST_METHOD"],
        target=environ["demo.target"],
        version=environ["SERVER_PROTOCOL"],
        fields=environ["demo.fields"],
        body=shown.decode("utf-8", "replace"),
        body_bytes=size,
        body_sha256=digest.hexdigest(),
    )


def as_text(seen: Seen) -> str:
    """The request as plain text, for curl."""
    lines = [f"{seen.method} {seen.target} {seen.version}"]
    lines += [f"{name}: {value}" for name, value in seen.fields]
    if seen.body_bytes:
        lines += ["", seen.body, "", body_note(seen)]
    return "\n".join(lines) + "\n"


def as_json(seen: Seen) -> str:
    """The request as a JSON object; ``fields`` is a list of pairs, since a name may
    come twice."""
    return json.dumps(asdict(seen), indent=2, ensure_ascii=False) + "\n"


def as_html(seen: Seen) -> str:
    """The request as a page. Everything in it that the visitor sent is escaped."""
    rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in seen.fields)
    body = ""
    if seen.body_bytes:
        body = f"<h2>Body</h2>\n<pre>{escape(seen.body)}</pre>\n<p>{escape(body_note(seen))}</p>"
    return PAGE.format(
        method=escape(seen.method),
        target=escape(seen.target),
        version=escape(seen.version),
        rows=rows,
        body=body,
    )


def body_note(seen: Seen) -> str:
    """One line on the body's size, and on whether all of it is shown."""
    shown = f", the first {BODY_SHOWN:,} shown" if seen.body_bytes > BODY_SHOWN else ""
    return f"{seen.body_bytes:,} bytes{shown}; SHA-256 {seen.body_sha256}"


RENDERERS: dict[str, Callable[[Seen], str]] = {
    "text/plain": as_text,
    "text/html": as_html,
    "application/json": as_json,
}
"""What can be served; the first one is served when the visitor has no wish."""


def choose(accept: str) -> tuple[str, Callable[[Seen], str]]:
    """The type to answer with, and what renders it, by the Accept field (RFC 9110,
    12.5.1).

    The highest quality wins, then the most specific range, then the order of
    ``RENDERERS``. A field that accepts nothing of what there is gets the first one, as
    that section allows.
    """
    wishes = dict(wish(part) for part in accept.split(",") if part.strip())
    best = max(RENDERERS, key=lambda name: rank(name, wishes))
    return best, RENDERERS[best]


def wish(part: str) -> tuple[str, float]:
    """One element of an Accept field as its media range and its quality; a quality that
    is not a number counts as 0."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return media_range, float(quality)
    except ValueError:
        return media_range, 0.0


def rank(name: str, wishes: dict[str, float]) -> tuple[float, int]:
    """How much a type is wanted: the quality that its most specific range gives it, and
    how specific that one is."""
    for specific, media_range in ((2, name), (1, name.partition("/")[0] + "/*"), (0, "*/*")):
        if media_range in wishes:
            return wishes[media_range], specific
    return 0.0, 0


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{method} {target} · localtunnel demo</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --accent: #0b7a5c; }}
@media (prefers-color-scheme: dark) {{ :root {{ --accent: #4fd1a5; }} }}
body {{ margin: 3rem auto; max-width: 52rem; padding: 0 1.25rem; font: 1rem/1.6 system-ui, sans-serif; }}
body {{ overflow-wrap: anywhere; }}
h1 {{ margin: 0 0 .25rem; font-size: 1.6rem; }}
h2 {{ margin: 2.25rem 0 .5rem; font-size: 1.05rem; }}
code, pre, table {{ font: .9rem/1.5 ui-monospace, monospace; }}
pre {{ padding: .7rem 1rem; border: 1px solid var(--line); white-space: pre-wrap; }}
.line {{ padding: .7rem 1rem; border: 0; border-left: .25rem solid var(--accent); background: #8881; font-size: 1rem; }}
table {{ width: 100%; border-collapse: collapse; }}
th, td {{ padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; }}
th, td {{ vertical-align: top; }}
th {{ width: 14rem; color: var(--accent); font-weight: 600; }}
@media (max-width: 40rem) {{ th, td {{ display: block; width: auto; border: 0; padding: 0; }} }}
@media (max-width: 40rem) {{ td {{ padding-bottom: .5rem; }} }}
</style>
</head>
<body>
<h1>It came through the tunnel</h1>
<p>This page is served by a small application on a port of its own. It shows the request as it arrived there.</p>
<pre class="line">{method} {target} {version}</pre>
<h2>Fields</h2>
<table>
{rows}
</table>
{body}
<h2>As text or JSON</h2>
<p>The same address answers <code>curl</code> with text, and <code>Accept: application/json</code> with JSON.</p>
</body>
</html>
"""
