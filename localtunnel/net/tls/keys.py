"""X.509 certificates as bytes: making one, and identifying its owner."""

import base64
import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from localtunnel.errors import ConfigError, TlsError
from localtunnel.protocol.login.token import FINGERPRINT_PREFIX

_FINGERPRINT_LENGTH = len(FINGERPRINT_PREFIX) + 43

_NEVER = datetime.datetime(9999, 12, 31, 23, 59, 59)
"""The time that means "no end" (RFC 5280 4.1.2.5): a pinned key is trusted for as long
as it is pinned."""

_CLOCK_SKEW = datetime.timedelta(days=2)
"""How far the clock of a client may be behind ours, since some check the start of the
validity."""


def make_self_signed(name: str) -> bytes:
    """Return a new EC P-256 key and a certificate for ``name`` that it signs for
    itself, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.now(datetime.timezone.utc) - _CLOCK_SKEW)
        .not_valid_after(_NEVER)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: bytes) -> str:
    """Return ``SHA256:`` and the digest of the public key of a DER certificate, in
    base64 as ssh shows it.

    The key (SubjectPublicKeyInfo, as in RFC 7469 2.4) outlives the certificate: a
    renewal may keep it. Raises TlsError for a certificate that cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    with _reading():
        key = x509.load_der_x509_certificate(certificate).public_key()
        public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(public).digest()
    return FINGERPRINT_PREFIX + base64.b64encode(digest).decode().rstrip("=")


def end_point(certificate: bytes) -> bytes:
    """Return the channel binding ``tls-server-end-point`` of a DER certificate (RFC
    5929 4.1).

    The digest is that of the certificate's signature; SHA-256 instead of MD5, SHA-1 or
    none. Raises TlsError for a certificate that cannot be read.
    """
    from cryptography import x509

    with _reading():
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
        name = "sha256" if algorithm is None or algorithm.name in ("md5", "sha1") else algorithm.name
        return hashlib.new(name.replace("-", "_"), certificate).digest()


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what a peer's certificate can raise into TlsError: OpenSSL shakes hands with
    some that cryptography does not take."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import InvalidVersion

    try:
        yield
    except (ValueError, UnsupportedAlgorithm, InvalidVersion) as error:
        raise TlsError(f"The certificate cannot be read: {error}.") from error


def parse_fingerprint(text: str) -> str:
    """Return ``text`` as ``fingerprint`` writes one. Raises ConfigError."""
    if text.startswith(FINGERPRINT_PREFIX) and len(text.rstrip("=")) == _FINGERPRINT_LENGTH:
        encoded = text.removeprefix(FINGERPRINT_PREFIX).rstrip("=")
        try:
            base64.b64decode(encoded + "=", validate=True)
        except ValueError:
            pass
        else:
            return FINGERPRINT_PREFIX + encoded
    raise ConfigError(
        f"{text!r} is not a fingerprint; write SHA256: and 43 letters and digits, as lt-server fingerprint prints them."
    )
