"""Certificates for TLS: found in files and directories, chosen by SNI, replaced while running."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mailsvc.errors import ConfigError
from mailsvc.keypairs import KeyPair, find, read_certificates, read_pair, read_pem

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
_DAY = 86400.0


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
        if self.hostname and _named(self.by_name, self.hostname) is None:
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
            authorities = read_certificates(client_ca, read_pem(client_ca))
        except ConfigError as wrong:
            problems += wrong.problems
    loaded: list[Certificate] = []
    by_name: dict[str, Certificate] = {}
    unverified: weakref.WeakSet[SSL.Connection] = weakref.WeakSet()

    def context() -> SSL.Context:
        made = _context(by_name)
        if authorities:
            store = made.get_cert_store()
            assert store is not None, "every new context has one"
            for authority in authorities:
                store.add_cert(crypto.X509.from_cryptography(authority))
                made.add_client_ca(authority)
            # A certificate that fails is as good as none: many servers present theirs to everybody.
            made.set_verify(SSL.VERIFY_PEER, partial(_noted, unverified))
        return made

    for path in paths:
        try:
            files = list(find(path))
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
                loaded.append(_certificate(read_pair(file), context()))
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
    default = _named(by_name, hostname) or loaded[0]
    return Certificates(tuple(loaded), default, by_name, hostname, bool(authorities), unverified)


def _named(by_name: Mapping[str, Certificate], name: str) -> Certificate | None:
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


def _certificate(pair: KeyPair, context: SSL.Context) -> Certificate:
    try:
        context.use_certificate(pair.certificate)
        context.use_privatekey(pair.key)
        for other in pair.chain:
            context.add_extra_chain_cert(other)
        context.check_privatekey()
    except SSL.Error as error:
        raise ConfigError(f"{pair.file}: {_reason(error)}") from None
    return Certificate(
        pair.file,
        pair.names,
        pair.certificate.not_valid_before_utc.timestamp(),
        pair.certificate.not_valid_after_utc.timestamp(),
        pair.key_exposed,
        context,
    )


def _reason(error: SSL.Error) -> str:
    """Return OpenSSL's own words, such as ``ee key too small``."""
    return "; ".join(str(entry[-1]) for entry in error.args[0])


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
        certificate = _named(by_name, name.decode("ascii", "replace"))
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
