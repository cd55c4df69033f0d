"""Certificate chains and their private keys, found in files and directories and read together."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from mailsvc.errors import ConfigError

#: A chain and its key are a few KiB.
_LARGEST = 1 << 20
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
#: What may hold no certificate: keys, by their names, and whole blocks such as parameters.
_KEY_NAME = re.compile(r"privkey.*\.pem|.+[.-]key\.pem")
_OTHER = re.compile(
    rb"-----BEGIN (?![A-Z ]*PRIVATE KEY)([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL
)
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.*?-----END [A-Z ]*-----", re.DOTALL)

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, its chain and its key.

    :ivar file: where the certificate was read.
    :ivar chain: the other certificates of the file, in their order.
    :ivar names: the host names that it is good for, lower case, some with a ``*.`` in front.
    :ivar key_exposed: whether users other than owner and group may read the key.
    """

    file: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey
    names: tuple[str, ...]
    key_exposed: bool


def find(path: str, *, deeper: bool = True) -> Iterator[str]:
    """Yield the files with a certificate that ``path`` stands for, sorted; blocking.

    :raises ConfigError: a file cannot be read, or holds neither a certificate nor anything else.
    :raises OSError: a directory cannot be.
    """
    if not os.path.isdir(path):
        yield path
        return
    whole = os.path.join(path, "fullchain.pem")
    if os.path.exists(whole):
        # certbot's live/NAME: cert.pem and chain.pem are parts of it.
        yield whole
        return
    for name in sorted(os.listdir(path)):
        file = os.path.join(path, name)
        if name.startswith("."):
            continue
        if os.path.isdir(file):
            if deeper:
                yield from find(file, deeper=False)
        elif name.endswith((".pem", ".crt", ".cer")):
            octets = read_pem(file)
            if _CERTIFICATE.search(octets):
                yield file
            elif not (_KEY_NAME.fullmatch(name) or _OTHER.search(octets)):
                # Nothing, or half a file: one that is being written.  Without it, clients that ask
                # for its names would be shown the certificate of others.
                raise ConfigError(f"{file}: holds no certificate")


def read_pem(path: str) -> bytes:
    """Return the content of a file that is about as long as a certificate; blocking.

    :raises ConfigError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            octets = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    if len(octets) > _LARGEST:
        raise ConfigError(f"{path}: is too long to be a certificate")
    return octets


def _key_of(path: str, octets: bytes) -> tuple[str, bytes]:
    """Return the file and the PEM of the key that belongs to a certificate's file."""
    found = _KEY.search(octets)
    if found:
        return path, found[0]
    directory, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    beside = [f"{stem}.key", f"{stem}-key.pem", f"{stem}.key.pem"]
    if name.startswith("fullchain"):
        beside.insert(0, name.replace("fullchain", "privkey", 1))
    for candidate in (os.path.join(directory, other) for other in beside):
        if os.path.exists(candidate):
            found = _KEY.search(read_pem(candidate))
            if not found:
                raise ConfigError(f"{candidate}: holds no private key")
            return candidate, found[0]
    raise ConfigError(f"{path}: holds no private key, and there is no {beside[0]} beside it")


def read_pair(path: str) -> KeyPair:
    """Return what a file holds, with the key that is in it or beside it; blocking.

    :raises ConfigError: with file and cause.
    """
    octets = read_pem(path)
    certificates = read_certificates(path, octets)
    key_path, pem = _key_of(path, octets)
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise ConfigError(f"{key_path}: the private key needs a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{key_path}: the private key cannot be read") from None
    if not isinstance(key, (RSAPrivateKey, EllipticCurvePrivateKey, Ed25519PrivateKey)):
        raise ConfigError(f"{key_path}: the private key is not an RSA, EC or Ed25519 key")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        leaf = next((one for one in certificates if _public(one) == public), None)
        names = () if leaf is None else _names(leaf)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path}: the certificate cannot be understood") from None
    if leaf is None:
        raise ConfigError(f"{key_path}: the private key is for another certificate than {path}")
    chain = tuple(one for one in certificates if one is not leaf)
    exposed = bool(os.stat(key_path).st_mode & stat.S_IROTH)
    return KeyPair(path, leaf, chain, key, names, exposed)


def read_certificates(path: str, octets: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file's content.

    :raises ConfigError: there is none, or one is broken.
    """
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise ConfigError(f"{path}: holds no certificate that can be read") from None


def _public(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        subject = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = subject.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(attribute.value) for attribute in common]
    return tuple(name.lower().rstrip(".") for name in names)
