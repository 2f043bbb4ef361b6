"""Web servers as people run them behind a tunnel: Flask, gunicorn, Node, Python's own, and one for WebSocket.

Each is a context manager, listens on a port of its own, which it yields, and writes its log to the directory given.
What they serve is in tests/upstreams; ``/echo/NAME`` says in all of them what was asked for and gives the body back.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from beside import running
from harness import unused_port

UPSTREAMS = Path(__file__).parent / "upstreams"


def flask(directory: Path, *options: str) -> AbstractContextManager[int]:
    """Flask's development server; ``--without-threads`` makes it take one connection at a time."""
    return _program(directory, sys.executable, "-m", "flask", "--app", "flask_app", "run", "--port={port}", *options)


def gunicorn(directory: Path, *options: str) -> AbstractContextManager[int]:
    """gunicorn in front of the Flask application."""
    return _program(directory, sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:{port}", *options, "flask_app:app")


def uvicorn(directory: Path) -> AbstractContextManager[int]:
    """uvicorn with httptools, which chunks its answers to HTTP/1.0 as well (Kludex/uvicorn#1360)."""
    options = ("--http=httptools", "--lifespan=off", "--port={port}")
    return _program(directory, sys.executable, "-m", "uvicorn", *options, "asgi_app:app")


def node(directory: Path, keep_alive: float) -> AbstractContextManager[int]:
    """Node, which closes a connection a second and ``keep_alive`` seconds after an answer; by default these are 5."""
    return _program(directory, "node", "node_server.js", "{port}", str(round(keep_alive * 1000)))


def http_server(directory: Path, version: str) -> AbstractContextManager[int]:
    """Python's http.server, which serves one connection at a time."""
    return _program(directory, sys.executable, "plain_server.py", "{port}", version)


def django(directory: Path) -> AbstractContextManager[int]:
    """Django's development server, with its admin, in which ann logs in with ``secret``."""
    return _program(directory, sys.executable, "django_site.py", "{port}", str(directory))


def websockets(directory: Path) -> AbstractContextManager[int]:
    """The server of the websockets library."""
    return _program(directory, sys.executable, "websocket_server.py", "{port}")


@contextmanager
def _program(directory: Path, *command: str) -> Iterator[int]:
    port = unused_port()
    arguments = [argument.format(port=port) for argument in command]
    with running(arguments, port, directory / "upstream.log", cwd=UPSTREAMS):
        yield port
