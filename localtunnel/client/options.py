"""The options of the tunnel that this client asks for, from its settings."""

from localtunnel.client.config import ClientConfig
from localtunnel.http.options.values import PRESERVE, REWRITE
from localtunnel.net.address import parse_target
from localtunnel.protocol.options import Options


def from_config(config: ClientConfig) -> Options:
    """Return the options to ask for. ``rewrite`` becomes the target's address, which
    only the client knows."""
    host: str | None = config.host_header
    if host == PRESERVE:
        host = None
    elif host == REWRITE:
        host = parse_target(config.target).text.removesuffix(":80")
    return Options(
        protect=config.protect,
        host_header=host,
        request_header_add=config.request_header_add,
        request_header_remove=config.request_header_remove,
        response_header_add=config.response_header_add,
        allow_ip=config.allow_ip,
        cors=config.cors,
        server_timing=config.server_timing,
    )
