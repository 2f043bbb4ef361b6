"""What is wrong with a connection, or with the peer on the other side of it."""

from localtunnel.errors.root import LocaltunnelError


class ProtocolError(LocaltunnelError):
    """The peer did not speak LTP as PROTOCOL.md has it. The connection is finished."""

    code = "protocol_error"


class HeaderError(ProtocolError):
    """The first bytes are not an LTP header."""

    code = "not_ltp"


class VersionError(ProtocolError):
    """The peer speaks LTP in a version that is not spoken here."""

    code = "version_mismatch"


class FrameError(ProtocolError):
    """A frame is too long, or its payload is not a UTF-8 JSON object within the
    limits."""

    code = "bad_frame"


class MessageError(ProtocolError):
    """A well-formed object is not a known message, or its message may not come now."""

    code = "bad_message"


class Flooded(ProtocolError):
    """A peer sent more messages on a control connection than it may, and was cut
    off."""

    code = "flooded"


class TrustError(LocaltunnelError):
    """The server may not be the one that the user named. Nothing of value was sent to
    it."""

    code = "untrusted"


class KeyChanged(TrustError):
    """The server's key is not the one that is known for it."""

    code = "key_changed"


class CertificateUntrusted(TrustError):
    """The server's certificate is not valid for its name at this time."""

    code = "certificate"


class CertificateUnknown(CertificateUntrusted):
    """No authority known to this machine has signed the certificate. It may still be
    pinned."""

    code = "certificate_unknown"


class DowngradeRefused(TrustError):
    """A server with a known key, or known to encrypt, was to be used without
    encryption."""

    code = "downgrade"


class NetworkError(LocaltunnelError):
    """The operating system reports a failure of a connection; ``net`` translates it."""

    code = "network"


class Unreachable(NetworkError):
    """Nothing answers at the address, or its name does not resolve."""

    code = "unreachable"


class ConnectionRefused(Unreachable):
    """The machine answers, but nothing listens on the port."""

    code = "connection_refused"


class ConnectionClosed(NetworkError):
    """The peer closed or reset the connection."""

    code = "closed"


class TlsError(NetworkError):
    """TLS failed: the peer's differs from ours, or data was damaged in flight."""

    code = "tls"


class DeadlineExceeded(NetworkError):
    """The total time allowed has passed."""

    code = "deadline"


class ListenError(NetworkError):
    """The address cannot be listened on."""

    code = "cannot_listen"
