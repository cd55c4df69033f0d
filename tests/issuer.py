"""Issues certificates for tests: of any name, age and key, with the chain and as files."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

#: The moment that the tests' clocks show.
NOW = datetime.datetime.now(datetime.UTC)


def name_of(text: str) -> x509.Name:
    """Return a distinguished name of one common name, or of nothing."""
    if not text:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_pem(key: Key, passphrase: bytes = b"") -> bytes:
    """Return a key as PKCS #8 in PEM."""
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True)
class Issued:
    """A certificate, its key and its issuer's certificate."""

    certificate: x509.Certificate
    key: Key
    issuer: x509.Certificate

    @property
    def pem(self) -> bytes:
        """Return the certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> bytes:
        """Return the certificate and its issuer's."""
        return self.pem + self.issuer.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Return the key."""
        return key_pem(self.key)

    def write(self, path: Path) -> str:
        """Write chain and key into one file; return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.chain + self.key_pem)
        path.chmod(0o600)
        return str(path)


class Issuer:
    """A certificate authority."""

    def __init__(self, name: str = "test authority", key: Key | None = None) -> None:
        self._key = key or ec.generate_private_key(ec.SECP256R1())
        self._hash = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        self.certificate = (
            self._builder(name_of(name), name_of(name), self._key, -1, 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, self._hash)
        )

    @property
    def pem(self) -> bytes:
        """Return the authority's certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @staticmethod
    def _builder(
        subject: x509.Name, issuer: x509.Name, key: Key, start: float, end: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=start))
            .not_valid_after(NOW + datetime.timedelta(days=end))
        )

    def issue(
        self,
        common: str,
        names: Sequence[x509.GeneralName] = (),
        *,
        start: float = -1,
        end: float = 90,
        key: Key | None = None,
        extension: x509.ExtensionType | None = None,
    ) -> Issued:
        """Issue a certificate that is valid from ``start`` to ``end``, in days from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name_of(common), self.certificate.subject, key, start, end)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        return Issued(builder.sign(self._key, self._hash), key, self.certificate)

    def host(self, *names: str, end: float = 90, key: Key | None = None) -> Issued:
        """Issue a certificate for host names."""
        return self.issue(names[0], [x509.DNSName(name) for name in names], end=end, key=key)
