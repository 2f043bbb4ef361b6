"""A WebSocket server of the websockets library, on the port of its argument, that gives every message back."""

import sys

from websockets.sync.server import ServerConnection, serve

MAX_MESSAGE = 1 << 24
"""Bytes of the largest message, 16 MB."""


def echo(connection: ServerConnection) -> None:
    """Give every message back until the visitor has gone."""
    for message in connection:
        connection.send(message)


with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=MAX_MESSAGE) as server:
    server.serve_forever()
