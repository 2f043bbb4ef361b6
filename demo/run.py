"""``make demo``: a server, the sample application and a client, in one process.

The first line on stdout is the address to open; everything else goes to stderr. Serves
until SIGINT or SIGTERM, then closes the client, the server and the application in that
order, so that no process and no port is left over.
"""

import logging
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import gevent
from gevent.event import AsyncResult

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.app import serve
from localtunnel import Client, ClientConfig, Server, ServerConfig
from localtunnel.cli.exit_codes import CANNOT_LISTEN, CLEAN, INTERNAL_ERROR, exit_code
from localtunnel.client.events import Event, RequestFinished, TunnelLost, TunnelOpened, UpstreamFailed
from localtunnel.errors import ListenError, LocaltunnelError

NAME = "demo"
"""The tunnel's name: with the default domain and port it makes
http://demo.localhost:8000."""

GRACE = 1.0
"""Seconds that open connections may take to finish at the end: the user who pressed
Ctrl-C is waiting."""


def main() -> int:
    """Run the demo and return the exit code: 0 after a signal, 8 when a port is taken,
    else the client's."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    ended = AsyncResult()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, ended.set, CLEAN)
    # The server's key and the client's known servers need not outlive the demo.
    with TemporaryDirectory(prefix="localtunnel-demo-") as directory:
        server = Server(ServerConfig(data_dir=f"{directory}/server"))
        try:
            server.start()
        except ListenError as error:
            # The demo has no flags, so the advice behind the semicolon is dropped.
            fault = str(error).partition(";")[0].rstrip(".")
            say(f"make demo: {fault}. The demo needs the ports 8000 and 8001: stop the other program, then try again.")
            return CANNOT_LISTEN
        try:
            return serve_until(ended, f"{directory}/client")
        finally:
            server.stop(GRACE)


def serve_until(ended: AsyncResult, data_dir: str) -> int:
    """Run the application and the client until ``ended`` has an exit code, and return
    it."""
    app = serve()
    client = Client(ClientConfig(target=app.server_port, name=NAME, data_dir=data_dir), report)
    running = gevent.spawn(run_client, client, ended)
    try:
        return int(ended.get())
    finally:
        client.stop()
        running.join(GRACE)
        app.stop(GRACE)


def run_client(client: Client, ended: AsyncResult) -> None:
    """Run the client, whose end also ends the demo."""
    code = INTERNAL_ERROR
    try:
        client.run()
    except LocaltunnelError as error:
        say(f"make demo: {error}")
        code = exit_code(error)
    finally:
        if not ended.ready():
            ended.set(code)


def report(event: Event) -> None:
    """Print what happens: the address once on stdout, one line for each request on
    stderr."""
    match event:
        case TunnelOpened(url=url, resumed=False):
            print(url, flush=True)
            say(f"Open it in a browser, or: curl {url}")
            say("Where the name does not resolve: curl -H 'Host: demo.localhost' http://127.0.0.1:8000/")
            say("Ctrl-C ends the demo.")
        case TunnelLost(message=message, retry_in=retry_in):
            say(message if retry_in is None else f"{message} Next try in {retry_in:.1f} s.")
        case RequestFinished(visitor=visitor, method=method, path=path, status=status):
            say(f"{visitor} {method} {path} {status}")
        case UpstreamFailed(message=message):
            say(message)


def say(line: str) -> None:
    """Print one line on stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
