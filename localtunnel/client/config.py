"""The client's settings: one typed, immutable object, made by ``cli.settings.config``
from flags, environment and file.

Every duration is in seconds. ``conf/client.toml`` shows every key with its default and
the reason for it; a test holds the two together.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from localtunnel.protocol import limits

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Text = Annotated[str, Meta(min_length=1, max_length=limits.MAX_TEXT)]
Lines = tuple[Annotated[str, Meta(min_length=1, max_length=limits.MAX_OPTION_TEXT)], ...]


class Timeouts(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How long the client waits, in seconds."""

    connect: Seconds = 10.0
    reply: Seconds = 10.0
    heartbeat: Seconds = limits.CLIENT_HEARTBEAT_TIMEOUT
    upstream: Seconds = 5.0
    half_closed: Seconds = limits.HALF_CLOSED
    retry_first: Seconds = 0.5
    retry_longest: Seconds = 30.0


class ClientConfig(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The settings of ``lt-client``. ``backend`` None means that it is discovered.

    ``protect`` to ``server_timing`` are options of the tunnel (``client.options``),
    which the server enforces.
    """

    target: int | str = ""
    server: str = "localhost:8000"
    name: str | None = None
    backend: int | str | None = None
    kind: Literal["http", "tcp"] = "http"
    remote_port: Annotated[int, Meta(ge=1, le=limits.MAX_PORT)] | None = None
    insecure: bool = False
    legacy: bool = False
    fingerprint: str | None = None
    data_dir: str = ""
    token_file: str = ""
    takeover: bool = False
    domain: Text | None = None
    protect: str | None = None
    allow_ip: Lines = ()
    host_header: Annotated[str, Meta(max_length=limits.MAX_TEXT)] = "preserve"
    request_header_add: Lines = ()
    request_header_remove: Lines = ()
    response_header_add: Lines = ()
    cors: bool = False
    server_timing: bool = False
    retry: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    timeouts: Timeouts = Timeouts()
