"""Certificates on real connections: chosen by the name that is asked for, replaced in service."""

from __future__ import annotations

import smtplib
import ssl
import warnings
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuer import Issuer
from tests.system import configurations, mails
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.test_wire import Wire

ENVELOPE = ("ann@sender.example", "bob@example.com")


class ServerNameTests(SystemTestCase):
    """Requirement 28: TLS on STARTTLS and from the first octet, for several names."""

    def setUp(self) -> None:
        super().setUp()
        self.issuer = Issuer()
        self.trust = self.authority(self.issuer)
        self.certificates = self.directory / "tls"
        for file, names in (
            ("1.pem", ("first.example",)),
            ("mx.pem", ("mx.example.com",)),
            ("other.pem", ("other.example", "*.other.example")),
        ):
            self.issuer.host(*names).write(self.certificates / file)
        self.running = self.configured(
            configurations.maildir(
                self.directory,
                configurations.listener("mx", "starttls"),
                configurations.listener("mx", "implicit"),
            )
            + f'\n[tls]\ncertificates = "{self.certificates}"\n',
            listeners=2,
        )
        self.mx, self.implicit = self.running.ports()

    def authority(self, issuer: Issuer) -> str:
        return str(self.write("trust.pem", issuer.certificate.public_bytes(Encoding.PEM)))

    def context(self) -> ssl.SSLContext:
        """Return what checks a server's certificate, but not whose name it has."""
        context = ssl.create_default_context(cafile=self.trust)
        context.check_hostname = False
        return context

    def secure(
        self, name: str | None, *, implicit: bool, context: ssl.SSLContext | None = None
    ) -> ssl.SSLSocket:
        """Return a connection after its handshake, in which it asked for ``name``."""
        wire = Wire(self.implicit if implicit else self.mx)
        self.addCleanup(wire.socket.close)
        if not implicit:
            wire.until(b"\r\n")
            wire.send(b"STARTTLS\r\n")
            wire.until(b"\r\n")
        made = (context or self.context()).wrap_socket(wire.socket, server_hostname=name)
        self.addCleanup(made.close)
        return made

    def shown(self, name: str | None, *, implicit: bool = True) -> tuple[str, ...]:
        """Return the names in the certificate that is shown to who asks for ``name``."""
        octets = self.secure(name, implicit=implicit).getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(octets or b"")
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(found.value.get_values_for_type(x509.DNSName))

    def reload(self, answer: str) -> None:
        lines = len(self.running.lines)
        self.mailsvc("reload", "--config", str(self.directory / "mailsvc.toml"), status=None)
        self.running.wait_for(answer, since=lines)

    def test_by_name(self) -> None:
        """A name without a certificate, and none, gets that of ``hostname``, not the first."""
        mx, other = ("mx.example.com",), ("other.example", "*.other.example")
        for name, names in (
            ("mx.example.com", mx),
            ("other.example", other),
            ("OTHER.example", other),
            ("a.other.example", other),
            ("a.b.other.example", mx),
            ("first.example", ("first.example",)),
            ("unknown.example", mx),
            (None, mx),
        ):
            for implicit in (False, True):
                self.assertEqual(self.shown(name, implicit=implicit), names, name)

    def test_old_versions(self) -> None:
        """Requirement 28: TLS 1.0 and 1.1 are refused, 1.2 and 1.3 spoken."""
        for version, spoken in (
            (ssl.TLSVersion.TLSv1, None),
            (ssl.TLSVersion.TLSv1_1, None),
            (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
            (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ):
            context = self.context()
            # OpenSSL's own client would not offer the old ones.
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            for implicit in (False, True):
                if spoken is None:
                    error = self.assertRaises(
                        ssl.SSLError, self.secure, None, implicit=implicit, context=context
                    )
                    self.assertIn("PROTOCOL_VERSION", str(error))
                else:
                    made = self.secure(None, implicit=implicit, context=context)
                    self.assertEqual(made.version(), spoken)

    def test_replaced_in_service(self) -> None:
        """SIGHUP's reload: new connections get the new one, open ones go on."""
        client = smtplib.SMTP("localhost", self.mx, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.starttls(context=self.context())
        before = self.secure("other.example", implicit=True).getpeercert(binary_form=True)
        self.issuer.host("other.example").write(self.certificates / "other.pem")
        self.reload(r"\breloaded\b")
        after = self.secure("other.example", implicit=True).getpeercert(binary_form=True)
        self.assertNotEqual(before, after)
        client.sendmail(*ENVELOPE, mails.simple())
        self.in_maildir(1)

    def test_a_listener_changes(self) -> None:
        """With a reload it speaks TLS from the first octet, on the port that it has."""
        path = self.directory / "mailsvc.toml"
        path.write_text(path.read_text().replace('"starttls"', '"implicit"'))
        self.reload(r"(?<!not )reloaded\b")
        self.implicit = self.mx
        self.assertEqual(self.shown("mx.example.com"), ("mx.example.com",))

    def test_what_cannot_be_used_changes_nothing(self) -> None:
        """Not even a file that is empty for a moment, as one is while it is copied."""
        path: Path = self.certificates / "other.pem"
        whole = path.read_bytes()
        for octets in (b"", b"nonsense", whole[: len(whole) // 3], whole[:-200]):
            path.write_bytes(octets)
            self.reload(r"not reloaded: .*other\.pem")
            for implicit in (False, True):
                self.assertIn("other.example", self.shown("other.example", implicit=implicit))
        path.write_bytes(whole)
        self.reload(r"(?<!not )reloaded\b")
