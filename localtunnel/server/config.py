"""The server's settings: one typed, immutable object, made by ``cli.settings``.

Durations are in seconds. ``conf/server.toml`` shows each key with its default and the
reason for it; a test compares the two.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from localtunnel.protocol import limits, reserved

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1)]
Quota = Annotated[int, Meta(ge=0)]
PerSecond = Annotated[float, Meta(ge=0, le=1_000_000)]


class Timeouts(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Timeouts and intervals, in seconds."""

    handshake: Seconds = limits.HANDSHAKE_TIMEOUT
    preamble: Seconds = limits.PREAMBLE_TIMEOUT
    head: Seconds = limits.HEAD_TIMEOUT
    keep_alive: Seconds = limits.KEEP_ALIVE_TIMEOUT
    pool_wait: Seconds = limits.POOL_WAIT
    half_closed: Seconds = limits.HALF_CLOSED
    heartbeat: Annotated[float, Meta(ge=limits.HEARTBEAT_BOUNDS[0], le=86400)] = limits.HEARTBEAT_INTERVAL
    heartbeat_reply: Seconds = limits.HEARTBEAT_TIMEOUT
    lease: Seconds = limits.OWNED_LEASE
    idle_tunnel: Seconds = limits.IDLE_TUNNEL
    error_hold: Annotated[float, Meta(ge=0, le=60)] = limits.ERROR_HOLD


class Limits(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Sizes and rates. Rates are per second, and 0 is no limit."""

    head_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = limits.MAX_HEAD_BYTES
    waiting_visitors: Count = limits.MAX_WAITING_VISITORS
    tunnel_concurrency: Annotated[int, Meta(ge=4, le=limits.MAX_CONCURRENCY)] = limits.TUNNEL_CONCURRENCY
    total_concurrency: Count = limits.TOTAL_CONCURRENCY
    visitors: Quota = limits.MAX_VISITORS
    address_visitors: Quota = limits.ADDRESS_VISITORS
    address_connection_rate: PerSecond = limits.ADDRESS_CONNECTION_RATE
    address_request_rate: PerSecond = limits.ADDRESS_REQUEST_RATE
    tunnel_request_rate: PerSecond = 0.0
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1")


class QuotaLimits(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The quotas of one address, one owner and all clients together. 0 is no limit."""

    strangers_per_address: Quota = 1024
    strangers: Quota = 4096
    tunnels_per_address: Quota = 256
    tunnels_per_owner: Quota = 100
    tunnels: Quota = 10_000
    leases_per_address: Quota = 256
    leases_per_owner: Quota = limits.LEASES_PER_OWNER
    leases: Quota = 10_000
    parked_per_address: Quota = 5_000
    parked_per_owner: Quota = 5_000
    parked: Quota = 30_000
    joined_per_owner: Quota = 10_000
    joined: Quota = 20_000


class ServerConfig(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The settings of ``lt-server``."""

    domain: str = "localhost"
    frontend: int | str = 8000
    backend: int | str = 8001
    edge: Literal["http", "join"] = "http"
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    custom_hosts: tuple[str, ...] = ()
    pool_size: Annotated[int, Meta(ge=1, le=limits.MAX_CONCURRENCY)] = limits.DEFAULT_CONCURRENCY
    tcp_ports: str = ""
    legacy: bool | Literal["only"] | None = None
    data_dir: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    reserved_names: tuple[str, ...] = reserved.DEFAULT
    warning_page: bool = False
    grace: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    banner: Annotated[str, Meta(max_length=limits.MAX_BANNER)] = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    quotas: QuotaLimits = QuotaLimits()
