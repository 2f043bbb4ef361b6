"""The client's settings: one typed, immutable object, made by ``cli.config`` from flags, environment and file.

Every duration is in seconds. ``conf/client.toml`` shows every key with its default and the reason for it; a test
holds the two together.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from localtunnel.protocol import limits

Seconds = Annotated[float, Meta(gt=0, le=86400)]


class Timeouts(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How long the client waits, in seconds."""

    connect: Seconds = 10.0
    reply: Seconds = 10.0
    heartbeat: Seconds = limits.CLIENT_HEARTBEAT_TIMEOUT
    upstream: Seconds = 5.0
    retry_first: Seconds = 0.5
    retry_longest: Seconds = 30.0


class ClientConfig(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What ``lt-client`` runs with. ``target`` is what the user named; ``backend`` None means: discover it."""

    target: int | str = ""
    server: str = "localhost:8000"
    name: str | None = None
    backend: int | str | None = None
    kind: Literal["http", "tcp"] = "http"
    remote_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    retry: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    timeouts: Timeouts = Timeouts()
