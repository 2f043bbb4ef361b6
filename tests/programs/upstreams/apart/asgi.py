"""The application for ASGI servers: uvicorn and daphne. It leaves every rule of HTTP to the server."""

from collections.abc import Awaitable, Callable
from typing import Any

STATUSES = {"empty": 204, "unchanged": 304}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer one request."""
    assert scope["type"] == "http"
    _, way, name = f"{scope['path']}//".split("/")[:3]
    while way == "echo" and (await receive()).get("more_body"):
        pass
    body = f"{scope['method']} {name}\n".encode()
    status = STATUSES.get(way, 200)
    fields = [(b"content-type", b"text/plain")]
    if status == 200:
        fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
