"""Certificates for TLS: found in files and directories, chosen by SNI, replaced while running."""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mailsvc.errors import ConfigError

#: For TLS 1.2: forward secrecy always; the last four only for peers that have no AEAD cipher and
#: would otherwise send in the clear.  TLS 1.3 has its own, which are all good.
_CIPHERS = (
    b"ECDHE+AESGCM:ECDHE+CHACHA20:"
    b"ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:"
    b"ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"
)
_OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_NO_RENEGOTIATION
    # No resumption: nothing to keep secret between connections, and a client certificate is
    # presented every time.
    | SSL.OP_NO_TICKET
)
#: A chain and its key are a few KiB.
_LARGEST = 1 << 20
_DAY = 86400.0

_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.*?-----END [A-Z ]*-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate with its chain and key, ready for use.

    :ivar file: where it was read.
    :ivar names: the host names that it is good for, lower case, some with a ``*.`` in front.
    :ivar key_exposed: whether users other than owner and group may read the key.
    """

    file: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    key_exposed: bool
    context: SSL.Context


@dataclass(frozen=True, slots=True)
class Certificates:
    """All certificates of one moment; never changes.

    :ivar default: for clients without SNI or with a name that is not here.
    :ivar clients: whether clients are asked for a certificate.
    :ivar unverified: the connections whose client's certificate did not stand the test.
    """

    all: tuple[Certificate, ...]
    default: Certificate
    by_name: Mapping[str, Certificate]
    hostname: str
    clients: bool
    unverified: weakref.WeakSet[SSL.Connection]

    def warnings(self, now: float, days: float = 14) -> tuple[str, ...]:
        """Return what an operator should look at: expiry within ``days``, open keys, no name."""
        found = []
        for certificate in self.all:
            left = (certificate.not_after - now) / _DAY
            if left <= 0:
                found.append(f"{certificate.file}: the certificate has expired")
            elif left < 1:
                found.append(f"{certificate.file}: the certificate expires within a day")
            elif left < days:
                found.append(f"{certificate.file}: the certificate expires in {left:.0f} days")
            if certificate.not_before > now:
                found.append(f"{certificate.file}: the certificate is not valid yet")
            if certificate.key_exposed:
                found.append(f"{certificate.file}: every user can read the private key")
        if self.hostname and _find(self.by_name, self.hostname) is None:
            found.append(f"no certificate is for {self.hostname}, the hostname")
        return tuple(found)


def load(paths: Sequence[str], hostname: str = "", client_ca: str = "") -> Certificates:
    """Read certificates; blocking.

    :param paths: PEM files, and directories of them; see ``docs/tls.md`` for the layouts.
    :param hostname: whose certificate is the default one; the first is if none is for it.
    :param client_ca: a PEM file with the authorities of clients that may log in by certificate.
    :raises ConfigError: with file and cause of each thing that is wrong.
    """
    problems: list[str] = []
    authorities: list[x509.Certificate] = []
    if client_ca:
        try:
            authorities = x509.load_pem_x509_certificates(_read(client_ca))
        except ConfigError as wrong:
            problems += wrong.problems
        except ValueError:
            problems.append(f"{client_ca}: holds no certificate that can be read")
    loaded: list[Certificate] = []
    by_name: dict[str, Certificate] = {}
    unverified: weakref.WeakSet[SSL.Connection] = weakref.WeakSet()

    def context() -> SSL.Context:
        made = _context(by_name)
        if authorities:
            made.load_verify_locations(client_ca)
            for authority in authorities:
                made.add_client_ca(authority)
            # A certificate that fails is as good as none: many servers present theirs to everybody.
            made.set_verify(SSL.VERIFY_PEER, partial(_noted, unverified))
        return made

    for path in paths:
        try:
            files = list(_files(path))
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
            continue
        except ConfigError as wrong:
            problems += wrong.problems
            continue
        if not files:
            problems.append(f"{path}: holds no certificate")
        for file in files:
            try:
                loaded.append(_certificate(file, context()))
            except ConfigError as wrong:
                problems += wrong.problems
    if problems:
        raise ConfigError(*problems)
    if not loaded:
        raise ConfigError("no certificates are named")
    for certificate in loaded:
        for name in certificate.names:
            # A renewed copy beside the old one: the one that lasts longer.
            if name not in by_name or by_name[name].not_after < certificate.not_after:
                by_name[name] = certificate
    default = _find(by_name, hostname) or loaded[0]
    return Certificates(tuple(loaded), default, by_name, hostname, bool(authorities), unverified)


def _find(by_name: Mapping[str, Certificate], name: str) -> Certificate | None:
    """Return the certificate for a host name (RFC 6125 section 6.4.3: ``*`` is one label)."""
    name = name.lower().rstrip(".")
    return by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")


def _noted(
    unverified: weakref.WeakSet[SSL.Connection],
    connection: SSL.Connection,
    certificate: object,
    error: int,
    depth: int,
    right: int,
) -> bool:
    """Note that a client's certificate is not what it should be, and let the client in."""
    if not right:
        unverified.add(connection)
    return True


def _files(path: str, *, deeper: bool = True) -> Iterator[str]:
    """Yield the files with a certificate that ``path`` stands for, sorted."""
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
                yield from _files(file, deeper=False)
        elif name.endswith((".pem", ".crt", ".cer")) and _CERTIFICATE.search(_read(file)):
            yield file


def _read(path: str) -> bytes:
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
            found = _KEY.search(_read(candidate))
            if not found:
                raise ConfigError(f"{candidate}: holds no private key")
            return candidate, found[0]
    raise ConfigError(f"{path}: holds no private key, and there is no {beside[0]} beside it")


def _certificate(path: str, context: SSL.Context) -> Certificate:
    octets = _read(path)
    try:
        chain = x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise ConfigError(f"{path}: holds no certificate that can be read") from None
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
    leaf = next((one for one in chain if _public(one) == public), None)
    if leaf is None:
        raise ConfigError(f"{key_path}: the private key is for another certificate than {path}")
    try:
        context.use_certificate(leaf)
        context.use_privatekey(key)
        for other in chain:
            if other is not leaf:
                context.add_extra_chain_cert(other)
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise ConfigError(f"{path}: {_reason(error)}") from None
    return Certificate(
        path,
        _names(leaf),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        bool(os.stat(key_path).st_mode & stat.S_IROTH),
        context,
    )


def _public(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _reason(error: Exception) -> str:
    """Return OpenSSL's own words, such as ``ee key too small``."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in queue) or str(error)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        subject = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = subject.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(attribute.value) for attribute in common]
    return tuple(name.lower().rstrip(".") for name in names)


def _context(by_name: Mapping[str, Certificate]) -> SSL.Context:
    """Return a context that has everything but a certificate."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    # An idle connection gives its buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"mailsvc")
    context.set_cipher_list(_CIPHERS)

    def choose(connection: SSL.Connection) -> None:
        name = connection.get_servername() or b""
        certificate = _find(by_name, name.decode("ascii", "replace"))
        if certificate is not None:
            connection.set_context(certificate.context)

    context.set_tlsext_servername_callback(choose)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class ServerOptions:
    """Makes the server's side of TLS connections with the store's certificates of that moment.

    It goes wherever Twisted takes a context factory: ``transport.startTLS(options)`` and
    ``wrapServerTLS(options, endpoint)``.
    """

    def __init__(self, store: CertificateStore) -> None:
        self._store = store

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return a new connection."""
        return self._store.connection()


class CertificateStore:
    """The certificates in use.  Replacing them changes no connection that is open.

    :param paths: as :func:`load` takes them.
    :raises ConfigError: they cannot be used.
    """

    def __init__(self, *paths: str, hostname: str = "", client_ca: str = "") -> None:
        self._paths = paths
        self._client_ca = client_ca
        self.certificates = load(paths, hostname, client_ca)
        #: Keeps a connection's certificates, and the callbacks in them, as long as it lives.
        self._used: weakref.WeakKeyDictionary[SSL.Connection, Certificates] = (
            weakref.WeakKeyDictionary()
        )

    def reload(self) -> None:
        """Read the same paths again; blocking, may be called in a thread.

        :raises ConfigError: they cannot be used; the certificates stay as they were.
        """
        self.replace(load(self._paths, self.certificates.hostname, self._client_ca))

    def replace(self, certificates: Certificates) -> None:
        """Use what :func:`load` returned for connections from now on."""
        self.certificates = certificates

    def options(self) -> ServerOptions:
        """Return what makes TLS connections; it follows every reload."""
        return ServerOptions(self)

    def connection(self) -> SSL.Connection:
        """Return the server's side of a new TLS connection."""
        certificates = self.certificates
        connection = SSL.Connection(certificates.default.context)
        self._used[connection] = certificates
        return connection

    def warnings(self, now: float, days: float = 14) -> tuple[str, ...]:
        """Return :meth:`Certificates.warnings` of those in use."""
        return self.certificates.warnings(now, days)

    def client_certificate(self, connection: SSL.Connection) -> bytes | None:
        """Return the certificate that the client presented, as DER, if it stood the test."""
        certificates = self._used.get(connection)
        if certificates is None or not certificates.clients:
            return None
        if connection in certificates.unverified:
            return None
        presented = connection.get_peer_certificate(as_cryptography=True)
        return None if presented is None else presented.public_bytes(Encoding.DER)


def channel_bindings(connection: SSL.Connection) -> dict[str, bytes]:
    """Return the channel bindings of the server's side of a connection, by registered name.

    ``tls-exporter`` for TLS 1.3 (RFC 9266), ``tls-unique`` for TLS 1.2 (RFC 5929 section 3; there
    is no resumption and no renegotiation here, so the client's Finished is the first one), and
    ``tls-server-end-point`` (RFC 5929 section 4) for both.
    """
    bindings: dict[str, bytes] = {}
    if connection.get_protocol_version_name() == "TLSv1.2":
        finished = connection.get_peer_finished()
        if finished:
            bindings["tls-unique"] = finished
    else:
        bindings["tls-exporter"] = connection.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )
    certificate = connection.get_certificate(as_cryptography=True)
    algorithm = None if certificate is None else certificate.signature_hash_algorithm
    if certificate is not None and algorithm is not None:
        weak = isinstance(algorithm, (hashes.MD5, hashes.SHA1))
        bindings["tls-server-end-point"] = certificate.fingerprint(
            hashes.SHA256() if weak else algorithm
        )
    return bindings
