from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import scramp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailsvc.certificates import Certificates, CertificateStore, channel_bindings, load
from mailsvc.errors import ConfigError
from mailsvc.smtp.mechanisms import MECHANISMS
from mailsvc.smtp.sasl import Channel, SaltAsked
from mailsvc.smtp.scram import ScramLogin, Verifier
from tests.issuer import NOW, Issued, Issuer, key_pem

NOW_SECONDS = NOW.timestamp()


@dataclass(frozen=True)
class Ends:
    """Both ends of a TLS connection in memory."""

    client: SSL.Connection
    server: SSL.Connection

    def pump(self) -> None:
        """Carry what one end has written to the other."""
        moved = True
        while moved:
            moved = False
            for source, target in ((self.client, self.server), (self.server, self.client)):
                with contextlib.suppress(SSL.WantReadError):
                    target.bio_write(source.bio_read(65536))
                    moved = True

    def shake_hands(self) -> Ends:
        """Complete the handshake, or raise what either end raises."""
        for _ in range(6):
            for end in (self.client, self.server):
                with contextlib.suppress(SSL.WantReadError):
                    end.do_handshake()
                self.pump()
        return self

    @property
    def presented(self) -> x509.Certificate:
        """Return the certificate that the client was shown."""
        shown = self.client.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        return shown


def connect(
    store: CertificateStore,
    name: bytes = b"",
    *,
    version: int = SSL.TLS1_3_VERSION,
    ciphers: bytes = b"",
    identity: Issued | None = None,
    lowest: int = SSL.TLS1_2_VERSION,
) -> Ends:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(lowest)
    context.set_max_proto_version(version)
    if ciphers:
        context.set_cipher_list(ciphers)
    if identity is not None:
        assert not isinstance(identity.key, rsa.RSAPrivateKey)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
    client = SSL.Connection(context)
    client.set_connect_state()
    if name:
        client.set_tlsext_host_name(name)
    server = store.connection()
    server.set_accept_state()
    return Ends(client, server)


#: Of Diffie-Hellman: what is in PEM besides certificates and keys.
PARAMETERS = b"-----BEGIN DH PARAMETERS-----\nMAYCAQcCAQU=\n-----END DH PARAMETERS-----\n"


class Base(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.issuer = Issuer()

    def file(self, name: str, *hosts: str, end: float = 90) -> str:
        return self.issuer.host(*hosts, end=end).write(self.directory / name)

    def shown(self, store: CertificateStore, name: bytes = b"") -> list[str]:
        """Return the host names of the certificate that a client is shown."""
        return hosts(connect(store, name).shake_hands().presented)


def hosts(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


class LayoutTests(Base):
    def load(self, *paths: str) -> list[str]:
        found = load(paths or (str(self.directory),))
        return [os.path.relpath(one.file, self.directory) for one in found.all]

    def pair(self, issued: Issued, chain: str, key: str) -> None:
        target = self.directory / chain
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(issued.chain)
        (self.directory / key).write_bytes(issued.key_pem)

    def test_one_file(self) -> None:
        self.assertEqual(self.load(self.file("a.pem", "a.example")), ["a.pem"])

    def test_key_first(self) -> None:
        issued = self.issuer.host("a.example")
        (self.directory / "a.pem").write_bytes(issued.key_pem + issued.chain)
        self.assertEqual(self.load(), ["a.pem"])

    def test_a_directory_of_files(self) -> None:
        self.file("b.pem", "b.example")
        self.file("a.pem", "a.example")
        (self.directory / "README").write_text("ours")
        (self.directory / ".old.pem").write_text("hidden")
        self.assertEqual(self.load(), ["a.pem", "b.pem"])

    def test_pairs(self) -> None:
        self.pair(self.issuer.host("a.example"), "a.crt", "a.key")
        self.pair(self.issuer.host("b.example"), "b.pem", "b-key.pem")
        self.pair(self.issuer.host("c.example"), "c.cer", "c.key.pem")
        (self.directory / "dh.pem").write_bytes(PARAMETERS)
        self.assertEqual(self.load(), ["a.crt", "b.pem", "c.cer"])

    def test_certbot(self) -> None:
        """``/etc/letsencrypt/live``: a directory for each name, links to the newest of each."""
        for name in ("a.example", "b.example"):
            issued = self.issuer.host(name)
            self.pair(issued, f"{name}/fullchain.pem", f"{name}/privkey.pem")
            (self.directory / name / "cert.pem").write_bytes(issued.pem)
            (self.directory / name / "chain.pem").write_bytes(self.issuer.pem)
        (self.directory / "README").write_text("This directory contains your keys.")
        self.assertEqual(self.load(), ["a.example/fullchain.pem", "b.example/fullchain.pem"])
        self.assertEqual(self.load(str(self.directory / "a.example")), ["a.example/fullchain.pem"])
        file = str(self.directory / "a.example" / "fullchain.pem")
        self.assertEqual(self.load(file), ["a.example/fullchain.pem"])

    def test_no_deeper(self) -> None:
        self.file("a.pem", "a.example")
        self.file("old/older/b.pem", "b.example")
        self.assertEqual(self.load(), ["a.pem"])

    def test_the_chain_is_sent(self) -> None:
        store = CertificateStore(self.file("a.pem", "a.example"))
        chain = connect(store).shake_hands().client.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        self.assertEqual(chain[1], self.issuer.certificate)
        self.assertEqual(len(chain), 2)

    def test_common_name_without_alternatives(self) -> None:
        path = self.issuer.issue("A.example").write(self.directory / "a.pem")
        self.assertEqual(load([path]).all[0].names, ("a.example",))

    def test_rsa(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        path = self.issuer.host("a.example", key=key).write(self.directory / "a.pem")
        self.assertEqual(self.shown(CertificateStore(path)), ["a.example"])


class ProblemTests(Base):
    def problem(self, *paths: str, client_ca: str = "") -> str:
        wrong = self.assertRaises(ConfigError, load, paths or (str(self.directory),), "", client_ca)
        return "\n".join(wrong.problems).replace(f"{self.directory}/", "")

    def put(self, name: str, octets: bytes) -> str:
        (self.directory / name).write_bytes(octets)
        return str(self.directory / name)

    def test_nothing_there(self) -> None:
        self.assertEqual(
            self.problem(str(self.directory / "x.pem")), "x.pem: No such file or directory"
        )
        self.assertEqual(self.problem(), f"{self.directory}: holds no certificate")
        self.assertEqual(str(self.assertRaises(ConfigError, load, [])), "no certificates are named")

    def test_unreadable_directory(self) -> None:
        inner = self.directory / "inner"
        inner.mkdir()

        def denied(path: str) -> list[str]:
            raise PermissionError(13, "Permission denied")

        with mock.patch.object(os, "listdir", denied):
            self.assertEqual(self.problem(str(inner)), "inner: Permission denied")

    def test_unreadable_file(self) -> None:
        os.symlink("loop.pem", self.directory / "loop.pem")
        self.assertIn("loop.pem: Too many levels of symbolic links", self.problem())
        loop = str(self.directory / "loop")
        os.symlink("loop", loop)
        self.assertIn("loop: Too many levels of symbolic links", self.problem(loop))

    def test_half_a_file_in_a_directory(self) -> None:
        """A file that is being written is no file to pass over: its names would be lost."""
        self.file("a.pem", "a.example")
        issued = self.issuer.host("b.example")
        for octets in (b"", b"\n", issued.chain[:20], issued.key_pem[:-9], issued.key_pem):
            self.put("b.pem", octets)
            self.assertEqual(self.problem(), "b.pem: holds no certificate")
        self.put("b.pem", issued.chain[:200])
        self.assertEqual(self.problem(), "b.pem: holds no certificate that can be read")

    def test_no_key(self) -> None:
        self.put("a.pem", self.issuer.host("a.example").chain)
        self.assertEqual(
            self.problem(), "a.pem: holds no private key, and there is no a.key beside it"
        )
        self.put("a.key", b"nonsense")
        self.assertEqual(self.problem(), "a.key: holds no private key")

    def test_no_certificate(self) -> None:
        path = self.put("a.pem", self.issuer.host("a.example").key_pem)
        self.assertEqual(self.problem(path), "a.pem: holds no certificate that can be read")

    def test_key_of_another(self) -> None:
        octets = self.issuer.host("a.example").chain + self.issuer.host("a.example").key_pem
        self.assertIn(
            "a.pem: the private key is for another certificate",
            self.problem(self.put("a.pem", octets)),
        )

    def test_passphrase(self) -> None:
        issued = self.issuer.host("a.example")
        self.put("a.pem", issued.chain + key_pem(issued.key, b"hunter2"))
        self.assertEqual(self.problem(), "a.pem: the private key needs a passphrase")

    def test_broken_key(self) -> None:
        issued = self.issuer.host("a.example")
        lines = issued.key_pem.splitlines()
        self.put("a.pem", issued.chain + b"\n".join([lines[0], b"AAAA", lines[-1]]))
        self.assertEqual(self.problem(), "a.pem: the private key cannot be read")

    def test_kind_of_key(self) -> None:
        key = dsa.generate_private_key(2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.put("a.pem", self.issuer.host("a.example").chain + pem)
        self.assertEqual(self.problem(), "a.pem: the private key is not an RSA, EC or Ed25519 key")

    def test_weak_key(self) -> None:
        key = rsa.generate_private_key(65537, 1024)
        self.issuer.host("a.example", key=key).write(self.directory / "a.pem")
        self.assertEqual(self.problem(), "a.pem: ee key too small")

    def test_a_certificate_with_a_broken_extension(self) -> None:
        broken = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"nonsense")
        self.issuer.issue("a.example", extension=broken).write(self.directory / "a.pem")
        self.assertEqual(self.problem(), "a.pem: the certificate cannot be understood")

    def test_too_long(self) -> None:
        path = self.put("a.pem", b"-" * ((1 << 20) + 1))
        self.assertEqual(self.problem(path), "a.pem: is too long to be a certificate")

    def test_all_problems_at_once(self) -> None:
        self.put("a.pem", self.issuer.host("a.example").chain)
        self.put("b.pem", self.issuer.host("b.example").chain)
        ca = self.put("ca.crl", b"nonsense")
        told = self.problem(client_ca=ca).splitlines()
        self.assertEqual([line.split(":")[0] for line in told], ["ca.crl", "a.pem", "b.pem"])
        told = self.problem(client_ca=str(self.directory / "none")).splitlines()
        self.assertEqual(told[0], "none: No such file or directory")


class ChoiceTests(Base):
    def setUp(self) -> None:
        super().setUp()
        self.file("1.pem", "a.example")
        self.file("2.pem", "*.b.example", "b.example")
        self.file("3.pem", "mx.c.example")
        self.store = CertificateStore(str(self.directory), hostname="mx.c.example")

    def test_by_name(self) -> None:
        self.assertEqual(self.shown(self.store, b"a.example"), ["a.example"])
        self.assertEqual(self.shown(self.store, b"A.Example"), ["a.example"])
        self.assertEqual(self.shown(self.store, b"a.example."), ["a.example"])
        self.assertEqual(self.shown(self.store, b"b.example"), ["*.b.example", "b.example"])

    def test_wildcard_is_one_label(self) -> None:
        self.assertEqual(self.shown(self.store, b"mx.b.example"), ["*.b.example", "b.example"])
        self.assertEqual(self.shown(self.store, b"x.mx.b.example"), ["mx.c.example"])

    def test_the_default_is_the_hostname_s(self) -> None:
        self.assertEqual(self.shown(self.store), ["mx.c.example"])
        self.assertEqual(self.shown(self.store, b"unknown.example"), ["mx.c.example"])

    def test_without_hostname_the_first(self) -> None:
        self.assertEqual(self.shown(CertificateStore(str(self.directory))), ["a.example"])

    def test_the_one_that_lasts_longer(self) -> None:
        self.file("0.pem", "a.example", "old.example", end=5)
        self.file("4.pem", "a.example", "new.example", end=180)
        self.file("5.pem", "a.example", "older.example", end=6)
        store = CertificateStore(str(self.directory))
        self.assertEqual(self.shown(store, b"a.example"), ["a.example", "new.example"])

    def test_both_versions(self) -> None:
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            ends = connect(self.store, b"a.example", version=version).shake_hands()
            self.assertEqual(hosts(ends.presented), ["a.example"])


class ReloadTests(Base):
    def test_new_connections_only(self) -> None:
        path = self.file("a.pem", "old.example")
        store = CertificateStore(path)
        before = connect(store)
        self.file("a.pem", "new.example")
        store.reload()
        self.assertEqual(hosts(before.shake_hands().presented), ["old.example"])
        self.assertEqual(self.shown(store), ["new.example"])

    def test_a_bad_reload_keeps_the_old(self) -> None:
        path = self.file("a.pem", "old.example")
        store = CertificateStore(path)
        Path(path).write_text("nonsense")
        wrong = self.assertRaises(ConfigError, store.reload)
        self.assertEqual(wrong.problems, (f"{path}: holds no certificate that can be read",))
        self.assertEqual(self.shown(store), ["old.example"])

    def test_a_file_that_is_being_written_keeps_the_old(self) -> None:
        self.file("a.pem", "a.example")
        path = self.file("b.pem", "b.example")
        store = CertificateStore(str(self.directory))
        Path(path).write_bytes(b"")
        wrong = self.assertRaises(ConfigError, store.reload)
        self.assertEqual(wrong.problems, (f"{path}: holds no certificate",))
        self.assertEqual(self.shown(store, b"b.example"), ["b.example"])

    def test_from_elsewhere(self) -> None:
        store = CertificateStore(self.file("a.pem", "old.example"))
        store.replace(load([self.file("b.pem", "new.example")]))
        self.assertEqual(self.shown(store), ["new.example"])

    def test_paths_follow_a_renewal(self) -> None:
        """Certbot points a link at the new file."""
        live, old, new = (self.directory / name for name in ("live", "1", "2"))
        for target, name in ((old, "old.example"), (new, "new.example")):
            issued = self.issuer.host(name)
            target.mkdir()
            (target / "fullchain.pem").write_bytes(issued.chain)
            (target / "privkey.pem").write_bytes(issued.key_pem)
        live.symlink_to(old.name)
        store = CertificateStore(str(live))
        self.assertEqual(self.shown(store), ["old.example"])
        live.unlink()
        live.symlink_to(new.name)
        shutil.rmtree(old)
        store.reload()
        self.assertEqual(self.shown(store), ["new.example"])


class WarningTests(Base):
    def warnings(self, *hosts: str, start: float = -1, end: float = 90) -> tuple[str, ...]:
        names = [x509.DNSName(name) for name in hosts]
        issued = self.issuer.issue(hosts[0], names, start=start, end=end)
        path = issued.write(self.directory / "a.pem")
        store = CertificateStore(path, hostname="mx.example.com")
        return tuple(text.replace(f"{path}: ", "") for text in store.warnings(NOW_SECONDS))

    def test_nothing_to_say(self) -> None:
        self.assertEqual(self.warnings("mx.example.com"), ())
        self.assertEqual(self.warnings("*.example.com", end=14.5), ())

    def test_expiry(self) -> None:
        self.assertEqual(
            self.warnings("mx.example.com", end=13.1), ("the certificate expires in 13 days",)
        )
        self.assertEqual(
            self.warnings("mx.example.com", end=0.9), ("the certificate expires within a day",)
        )
        self.assertEqual(
            self.warnings("mx.example.com", end=-0.5), ("the certificate has expired",)
        )

    def test_not_yet(self) -> None:
        self.assertEqual(
            self.warnings("mx.example.com", start=2), ("the certificate is not valid yet",)
        )

    def test_hostname(self) -> None:
        self.assertEqual(
            self.warnings("example.com"), ("no certificate is for mx.example.com, the hostname",)
        )
        path = self.file("b.pem", "example.com")
        self.assertEqual(CertificateStore(path).warnings(NOW_SECONDS), ())

    def test_open_key(self) -> None:
        path = self.file("a.pem", "a.example")
        os.chmod(path, 0o644)
        self.assertEqual(
            CertificateStore(path).warnings(NOW_SECONDS),
            (f"{path}: every user can read the private key",),
        )


class StrengthTests(Base):
    def setUp(self) -> None:
        super().setUp()
        key = rsa.generate_private_key(65537, 2048)
        path = self.issuer.host("a.example", key=key).write(self.directory / "a.pem")
        self.store = CertificateStore(path)

    def test_versions(self) -> None:
        """Requirement 28: TLS 1.2 or later, also where ciphers of the old ones are there."""
        ciphers = b"ALL:@SECLEVEL=0"
        self.store.certificates.default.context.set_cipher_list(ciphers)
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            ends = connect(self.store, version=version, lowest=SSL.TLS1_VERSION, ciphers=ciphers)
            self.assertRaises(SSL.Error, ends.shake_hands)
        for version, name in (
            (SSL.TLS1_2_VERSION, "TLSv1.2"),
            (SSL.TLS1_3_VERSION, "TLSv1.3"),
        ):
            ends = connect(self.store, version=version).shake_hands()
            self.assertEqual(ends.server.get_protocol_version_name(), name)

    def test_ciphers(self) -> None:
        """Requirement 28: forward secrecy, and nothing without authentication or encryption."""
        for bad in (b"AES128-GCM-SHA256", b"AES128-SHA", b"ECDHE-RSA-AES128-SHA"):
            ends = connect(self.store, version=SSL.TLS1_2_VERSION, ciphers=bad)
            self.assertRaises(SSL.Error, ends.shake_hands)
        for good in (b"ECDHE-RSA-AES256-GCM-SHA384", b"ECDHE-RSA-AES128-SHA256"):
            ends = connect(self.store, version=SSL.TLS1_2_VERSION, ciphers=good).shake_hands()
            self.assertEqual(ends.server.get_cipher_name(), good.decode())

    def test_the_server_chooses(self) -> None:
        order = b"ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
        ends = connect(self.store, version=SSL.TLS1_2_VERSION, ciphers=order).shake_hands()
        self.assertEqual(ends.server.get_cipher_name(), "ECDHE-RSA-AES256-GCM-SHA384")

    def test_no_renegotiation(self) -> None:
        ends = connect(self.store, version=SSL.TLS1_2_VERSION).shake_hands()
        with contextlib.suppress(SSL.Error):
            ends.client.renegotiate()
        with contextlib.suppress(SSL.Error):
            ends.shake_hands()
        self.assertEqual(ends.server.total_renegotiations(), 0)

    def test_no_resumption(self) -> None:
        ends = connect(self.store, version=SSL.TLS1_2_VERSION).shake_hands()
        session = ends.client.get_session()
        assert session is not None
        again = Ends(SSL.Connection(ends.client.get_context()), self.store.connection())
        again.client.set_connect_state()
        again.server.set_accept_state()
        again.client.set_session(session)
        again.shake_hands()
        self.assertNotEqual(ends.client.master_key(), again.client.master_key())


class ClientCertificateTests(Base):
    def setUp(self) -> None:
        super().setUp()
        self.clients = Issuer("clients")
        ca = self.directory / "clients.crt"
        ca.write_bytes(self.clients.pem)
        path = self.file("a.pem", "a.example")
        self.file("b.pem", "b.example")
        self.store = CertificateStore(path, str(self.directory / "b.pem"), client_ca=str(ca))

    def presented(self, identity: Issued | None, name: bytes = b"") -> bytes | None:
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            ends = connect(self.store, name, version=version, identity=identity).shake_hands()
            found = self.store.client_certificate(ends.server)
        return found

    def test_verified(self) -> None:
        identity = self.clients.issue("tim")
        der = identity.certificate.public_bytes(Encoding.DER)
        self.assertEqual(self.presented(identity), der)
        self.assertEqual(self.presented(identity, b"b.example"), der)

    def test_none(self) -> None:
        self.assertIsNone(self.presented(None))

    def test_one_that_fails_is_none(self) -> None:
        """Many servers present their certificate to everybody; they are to be let in."""
        self.assertIsNone(self.presented(self.issuer.issue("tim")))
        self.assertIsNone(self.presented(self.clients.issue("tim", end=-0.5)))
        self.assertIsNone(self.presented(Issuer("clients").issue("tim")))

    def test_authorities_are_named(self) -> None:
        ends = connect(self.store).shake_hands()
        names = [name.CN for name in ends.client.get_client_ca_list()]
        self.assertEqual(names, ["clients"])

    def test_nobody_is_asked_without_authorities(self) -> None:
        self.store = CertificateStore(str(self.directory / "a.pem"))
        self.assertIsNone(self.presented(self.clients.issue("tim")))

    def test_a_connection_of_another_store(self) -> None:
        other = CertificateStore(str(self.directory / "a.pem"))
        ends = connect(other).shake_hands()
        self.assertIsNone(self.store.client_certificate(ends.server))

    def test_a_reload_in_the_middle_of_a_handshake(self) -> None:
        """What verifies lives as long as the connection, whatever replaces the certificates."""
        identity = self.clients.issue("tim")
        ends = connect(self.store, b"b.example", identity=identity)
        self.store.reload()
        ends.shake_hands()
        self.assertIsNotNone(self.store.client_certificate(ends.server))


class ChannelBindingTests(Base):
    def bindings(self, version: int) -> Ends:
        store = CertificateStore(self.file("a.pem", "a.example"))
        return connect(store, version=version).shake_hands()

    def test_no_hash_no_end_point(self) -> None:
        """RFC 5929 section 4.1 leaves it undefined for a signature without a hash: Ed25519."""
        self.issuer = Issuer(key=ed25519.Ed25519PrivateKey.generate())
        ends = self.bindings(SSL.TLS1_3_VERSION)
        self.assertEqual(set(channel_bindings(ends.server)), {"tls-exporter"})

    def test_tls_1_2(self) -> None:
        ends = self.bindings(SSL.TLS1_2_VERSION)
        bindings = channel_bindings(ends.server)
        self.assertEqual(set(bindings), {"tls-unique", "tls-server-end-point"})
        self.assertEqual(bindings["tls-unique"], ends.client.get_finished())

    def test_tls_1_3(self) -> None:
        ends = self.bindings(SSL.TLS1_3_VERSION)
        bindings = channel_bindings(ends.server)
        self.assertEqual(set(bindings), {"tls-exporter", "tls-server-end-point"})
        self.assertEqual(
            bindings["tls-exporter"],
            ends.client.export_keying_material(b"EXPORTER-Channel-Binding", 32),
        )

    def test_the_certificate_that_was_shown(self) -> None:
        self.file("b.pem", "b.example")
        self.file("a.pem", "a.example")
        store = CertificateStore(str(self.directory))
        for name in (b"a.example", b"b.example"):
            ends = connect(store, name).shake_hands()
            der = ends.presented.public_bytes(Encoding.DER)
            self.assertEqual(
                channel_bindings(ends.server)["tls-server-end-point"],
                hashlib.sha256(der).digest(),
            )

    def test_both_ends_have_the_same(self) -> None:
        """SCRAM-SHA-256-PLUS over a real handshake, the client by scramp."""
        ends = self.bindings(SSL.TLS1_2_VERSION)
        der = ends.presented.public_bytes(Encoding.DER)
        verifier = Verifier.make("pencil", 4096)
        for name, data in (
            ("tls-unique", ends.client.get_finished()),
            ("tls-server-end-point", hashlib.sha256(der).digest()),
        ):
            client = scramp.ScramClient(
                ["SCRAM-SHA-256-PLUS"], "tim", "pencil", channel_binding=(name, data)
            )
            channel = Channel(bindings=channel_bindings(ends.server))
            exchange = MECHANISMS["SCRAM-SHA-256-PLUS"](channel)
            asked = exchange.respond(client.get_client_first().encode())
            self.assertIsInstance(asked, SaltAsked)
            client.set_server_first(exchange.salted(verifier.salt, 4096).decode())
            login = exchange.respond(client.get_client_final().encode())
            assert isinstance(login, ScramLogin)
            self.assertTrue(login.proves(verifier))


class TwistedTests(Base):
    def test_options_fit_twisted(self) -> None:
        store = CertificateStore(self.file("a.pem", "a.example"))
        options = store.options()
        verifyObject(IOpenSSLServerConnectionCreator, options)
        received: list[bytes] = []

        class Echo(Protocol):
            def dataReceived(self, data: bytes) -> None:
                received.append(data)

        factory = TLSMemoryBIOFactory(options, False, Factory.forProtocol(Echo))
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        client = connect(store).client
        for _ in range(4):
            with contextlib.suppress(SSL.WantReadError):
                client.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                protocol.dataReceived(client.bio_read(65536))
            if transport.value():
                client.bio_write(transport.value())
            transport.clear()
        client.send(b"hello")
        protocol.dataReceived(client.bio_read(65536))
        self.assertEqual(received, [b"hello"])
        self.assertIsInstance(store.certificates, Certificates)
