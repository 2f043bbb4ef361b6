"""An ASGI application whose answer has no length, for uvicorn: it is sent in chunks, whatever the request's version."""

from collections.abc import Awaitable, Callable
from typing import Any

PIECES = 3


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer with the version that was asked by, in pieces."""
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(PIECES):
        body = f"asked by {scope['http_version']}\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
