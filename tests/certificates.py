"""Certificates and revocation lists of the private authority in a folder, for tests of TLS."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine import tls

DAY = datetime.timedelta(days=1)


def issue(folder: Path, name: str, *, days: int = 10, ended: bool = False) -> tuple[Path, Path]:
    """A certificate for ``name`` and its key, ``name.pem`` and ``name.key``; those that are there are replaced."""
    authority = tls.load_authority(folder)
    assert authority is not None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = (
        datetime.datetime.now(datetime.UTC) - (days + 1) * DAY if ended else datetime.datetime.now(datetime.UTC) - DAY
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + days * DAY + (datetime.timedelta(0) if ended else DAY))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(authority[1], hashes.SHA256())
    )
    tls.write_pair(folder, name, signed, key)
    return folder / f"{name}.pem", folder / f"{name}.key"


def revoke(folder: Path, *certificates: Path, ended: bool = False) -> Path:
    """The authority's list, ``crl.pem``, that names these certificates."""
    authority = tls.load_authority(folder)
    assert authority is not None
    now = datetime.datetime.now(datetime.UTC)
    begin = now - 10 * DAY if ended else now - DAY
    found = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority[0].subject)
        .last_update(begin)
        .next_update(begin + 8 * DAY)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key()), critical=False)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for path in certificates:
        number = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        found = found.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(number).revocation_date(begin).build()
        )
    list_ = found.sign(authority[1], hashes.SHA256())
    tls.replace(folder / "crl.pem", list_.public_bytes(serialization.Encoding.PEM), 0o644)
    return folder / "crl.pem"
