"""TLS contexts for connectors and simulators, and the private CA that a first run creates.

What it does not do: it never turns verification off by itself, and it does not replace a hospital's PKI; the private CA
exists so that the simulated partners can speak TLS on the loopback interface. Contexts demand TLS 1.2 or later and
take Python's own defaults for the rest (from 3.13 these include VERIFY_X509_STRICT, which the certificates satisfy).
"""

import datetime
import errno
import fcntl
import ipaddress
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
# 825 days is the longest life that common TLS clients accept for a server certificate.
SERVER_DAYS = 825
RENEW_DAYS = 30
CLOCK_SKEW = datetime.timedelta(hours=1)


def ensure_certificates(folder: Path) -> None:
    """Make sure `folder` holds `ca.pem`, `ca.key`, `server.pem` and `server.key` for the loopback interface.

    Idempotent and safe when several processes call it at once. The folder gets mode 0700, the keys 0600. A server
    certificate that ends within 30 days is replaced; a CA that is there is kept. Raises OSError and, for a file that
    is no certificate or key, ValueError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with locked(folder / ".lock"):
        if is_complete(folder):
            return
        authority = load_authority(folder) or create_authority(folder)
        create_server(folder, *authority)


def server_context(cert: Path, key: Path, client_ca: Path | None = None, crl: Path | None = None) -> ssl.SSLContext:
    """A listener's context. With `client_ca` every client must show a certificate of that authority (mutual TLS).

    `crl` is that authority's list of what it has revoked; a list that has ended lets nobody in.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client of TLS 1.2 could make the engine compute one handshake after the other on one connection.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(existing(cert), existing(key))
    if client_ca is not None:
        context.load_verify_locations(existing(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    look_into(context, crl)
    return context


def look_into(context: ssl.SSLContext, crl: Path | None) -> None:
    """Refuse what a list names as revoked. Only the peer's own certificate is looked up, not its authorities."""
    if crl is not None:
        if not crl_in(crl):
            raise ValueError(f"{crl.name} holds no revocation list")
        context.load_verify_locations(existing(crl))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def crl_in(path: Path) -> bool:
    """Whether a file holds a revocation list in PEM."""
    return b"-----BEGIN X509 CRL-----" in Path(existing(path)).read_bytes()


def client_context(
    ca: Path | None,
    cert: Path | None = None,
    key: Path | None = None,
    verify: bool = True,
    *,
    crl: Path | None = None,
) -> ssl.SSLContext:
    """A client's context: trusts `ca` alone, or the system's authorities when it is None.

    `cert` and `key` are the client's own, for mutual TLS. `verify=False` checks neither name nor chain.
    """
    context = ssl.create_default_context(cafile=None if ca is None else existing(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(existing(cert), None if key is None else existing(key))
    look_into(context, crl)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def file_end(path: Path, key: str) -> datetime.datetime:
    """When a PEM file ends, in UTC. Raises OSError or ValueError.

    A ``cert`` ends with the first of its chain, authorities with the last of them, a ``crl`` when its next one is due.
    """
    if key == "crl":
        due = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
        return due or datetime.datetime.max.replace(tzinfo=datetime.UTC)
    ends = [certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(path.read_bytes())]
    return min(ends) if key == "cert" else max(ends)


def existing(path: Path) -> str:
    # ssl's own FileNotFoundError does not say which file is missing.
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return str(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_complete(folder: Path) -> bool:
    # ca.key may be missing on purpose: whoever takes the CA's key away keeps a working pair.
    if not all((folder / name).is_file() for name in ("ca.pem", "server.pem", "server.key")):
        return False
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    left = server.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > datetime.timedelta(days=RENEW_DAYS)


def load_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    if not ((folder / "ca.pem").is_file() and (folder / "ca.key").is_file()):
        return None
    certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError(f"{folder / 'ca.key'} is not the key of {folder / 'ca.pem'}")
    return certificate, key


def create_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hl7engine private CA")])
    certificate = (
        builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_pair(folder, "ca", certificate, key)
    return certificate, key


def create_server(folder: Path, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    certificate = (
        builder(name, authority.subject, key.public_key(), SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_pair(folder, "server", certificate, key)


def builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    begin = datetime.datetime.now(datetime.UTC) - CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def write_pair(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Write key and certificate, the certificate last: a crash in between leaves no certificate without its key."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    replace(folder / f"{name}.key", pem, 0o600)
    replace(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def replace(path: Path, content: bytes, mode: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
