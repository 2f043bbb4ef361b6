"""localtunnel.net.tls.keys: what is made can be used, and what identifies a key is that of OpenSSL."""

import base64
import datetime
import hashlib
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from harness.installed import installed
from harness.tls import write_unreadable_certificate

from localtunnel.errors import ConfigError, TlsError
from localtunnel.net.tls import keys
from localtunnel.net.tls.context import server_context

GOOD = "SHA256:" + base64.b64encode(bytes(range(32))).decode().rstrip("=")


def der_of(pem: bytes) -> bytes:
    text = pem.decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])


def signed(algorithm, key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def test_the_fingerprint_is_that_of_the_public_key_as_openssl_prints_it(tmp_path):
    pem = keys.make_self_signed("example.com")
    path = tmp_path / "tls.pem"
    path.write_bytes(pem)
    public = subprocess.run(
        [installed("openssl"), "x509", "-in", path, "-noout", "-pubkey"], check=True, capture_output=True
    ).stdout
    der = subprocess.run(
        [installed("openssl"), "pkey", "-pubin", "-outform", "DER"], check=True, input=public, capture_output=True
    )
    digest = base64.b64encode(hashlib.sha256(der.stdout).digest()).decode().rstrip("=")
    assert keys.fingerprint(der_of(pem)) == f"SHA256:{digest}"


def test_two_keys_differ_and_two_certificates_of_one_key_do_not():
    key = ec.generate_private_key(ec.SECP256R1())
    one, two = signed(hashes.SHA256(), key), signed(hashes.SHA512(), key)
    assert one != two
    assert keys.fingerprint(one) == keys.fingerprint(two)
    assert keys.fingerprint(signed(hashes.SHA256())) != keys.fingerprint(one)


@pytest.mark.parametrize(
    ("algorithm", "key", "digest"),
    [
        (hashes.SHA256(), None, hashlib.sha256),
        (hashes.SHA384(), None, hashlib.sha384),
        (hashes.SHA512(), None, hashlib.sha512),
        (None, ed25519.Ed25519PrivateKey.generate(), hashlib.sha256),
    ],
    ids=["SHA-256", "SHA-384", "SHA-512", "none"],
)
def test_the_end_point_has_the_digest_of_the_signature(algorithm, key, digest):
    certificate = signed(algorithm, key)
    assert keys.end_point(certificate) == digest(certificate).digest()


@pytest.mark.parametrize("identify", [keys.fingerprint, keys.end_point])
@pytest.mark.parametrize("what", ["no certificate", "another version"])
def test_what_cannot_be_read_is_an_error_of_tls(identify, what, tmp_path):
    certificate = b"x" if what == "no certificate" else der_of(write_unreadable_certificate(tmp_path).read_bytes())
    with pytest.raises(TlsError, match="cannot be read"):
        identify(certificate)


def test_a_server_does_not_start_with_a_certificate_that_cannot_be_read(tmp_path):
    path = write_unreadable_certificate(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        server_context(path, path)


@pytest.mark.parametrize("text", [GOOD, GOOD + "="])
def test_a_fingerprint_is_taken_with_and_without_padding(text):
    assert keys.parse_fingerprint(text) == GOOD


@pytest.mark.parametrize("text", ["", "SHA256:", GOOD[:-1], GOOD + "A", GOOD.lower(), GOOD[7:], "SHA256:" + "?" * 43])
def test_what_is_no_fingerprint_is_refused_with_the_form(text):
    with pytest.raises(ConfigError, match="lt-server fingerprint"):
        keys.parse_fingerprint(text)
