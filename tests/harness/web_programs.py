"""Web servers as people run them behind a tunnel: Flask, gunicorn, Node, Python's own, and one for WebSocket.

Each is a context manager, listens on a port of its own, which it yields, and writes its log to the directory given.
What they serve is in tests/programs/upstreams; ``/echo/NAME`` says in all of them what was asked for and gives the
body back. ``/once/NAME`` says how often that name was posted, in Flask's application and in Node.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from harness import unused_port
from harness.beside import running
from harness.places import PROGRAMS

UPSTREAMS = PROGRAMS / "upstreams"
APART = UPSTREAMS / "apart"


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


# One application in several frameworks, for tests that ask whether visitors notice each other.
# /echo/NAME reads the body and answers with the method and the name, /ignore/NAME does so without
# a look at the body; /empty/NAME and /unchanged/NAME answer 204 and 304, with a body all the same
# where the server lets them.


def apart_flask(directory: Path) -> AbstractContextManager[int]:
    """Flask's development server."""
    return _module(directory, "flask", "--app", "flask_app", "run", "--port={port}")


def apart_gunicorn(directory: Path) -> AbstractContextManager[int]:
    """gunicorn, in the only one of its ways without gevent that keeps connections."""
    return _module(directory, "gunicorn", "--bind=127.0.0.1:{port}", "--threads=8", "flask_app:app")


def apart_django(directory: Path) -> AbstractContextManager[int]:
    """Django's development server."""
    pytest.importorskip("django")
    return _program(directory, sys.executable, "django_site.py", "{port}", cwd=APART)


def apart_uvicorn(directory: Path, parser: str) -> AbstractContextManager[int]:
    """uvicorn with ``parser``, h11 or httptools."""
    pytest.importorskip("uvicorn")
    return _module(directory, "uvicorn", f"--http={parser}", "--lifespan=off", "--port={port}", "asgi:app")


def apart_daphne(directory: Path) -> AbstractContextManager[int]:
    """daphne, the server of Django's channels."""
    pytest.importorskip("daphne")
    return _module(directory, "daphne", "--port={port}", "--bind=127.0.0.1", "asgi:app")


def apart_node(directory: Path) -> AbstractContextManager[int]:
    """Node."""
    return _program(directory, "node", "node_server.js", "{port}", cwd=APART)


def apart_php(directory: Path) -> AbstractContextManager[int]:
    """PHP's built-in server."""
    return _program(directory, "php", "-S", "127.0.0.1:{port}", "router.php", cwd=APART)


def stock_http_server(directory: Path) -> AbstractContextManager[int]:
    """Python's http.server as it comes, for files that say what the application would."""
    if sys.version_info < (3, 11):
        pytest.skip("http.server takes --protocol from Python 3.11 on")
    files = directory / "www"
    for way in ("echo", "ignore", "empty", "unchanged"):
        (files / way).mkdir(parents=True)
        for name in ("attacker", "victim", *(f"victim-{number}" for number in range(10))):
            (files / way / name).write_text(f"GET {name}\n", encoding="ascii")
    options = ("--protocol=HTTP/1.1", "--bind=127.0.0.1", f"--directory={files}")
    return _module(directory, "http.server", *options, "{port}")


def _module(directory: Path, module: str, *arguments: str) -> AbstractContextManager[int]:
    return _program(directory, sys.executable, "-m", module, *arguments, cwd=APART)


@contextmanager
def _program(directory: Path, *command: str, cwd: Path = UPSTREAMS) -> Iterator[int]:
    port = unused_port()
    arguments = [argument.format(port=port) for argument in command]
    with running(arguments, port, directory / "upstream.log", cwd=cwd):
        yield port
