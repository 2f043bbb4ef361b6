"""What is wrong on this machine: the command line, the settings, the disk, the
output."""

from localtunnel.errors.root import LocaltunnelError


class UsageError(LocaltunnelError):
    """The command line was not understood."""

    code = "usage"


class ConfigError(LocaltunnelError):
    """A setting is unknown, of the wrong type or out of range; the message names file,
    table and key."""

    code = "config"


class AddressError(ConfigError):
    """A text is not an address."""

    code = "address"


class TokenInvalid(ConfigError):
    """A text is not a token: mistyped, cut short, or something else. No server has seen
    it."""

    code = "invalid_token"


class StorageError(LocaltunnelError):
    """The server cannot record what it promises: the disk is full, or its file is
    damaged."""

    code = "storage"


class OutputError(LocaltunnelError):
    """Stdout cannot be written: the disk behind it is full."""

    code = "output"
