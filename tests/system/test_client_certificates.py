"""Clients that present a certificate log in by it, and by nothing less."""

from __future__ import annotations

import smtplib
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuer import Issuer
from tests.system import configurations, mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.test_clients import curl, msmtp


class ClientCertificateTests(SystemTestCase):
    """AUTH EXTERNAL on a real connection, behind STARTTLS and under implicit TLS."""

    def setUp(self) -> None:
        super().setUp()
        issued = authority(self.directory / "tls")
        self.trust = str(issued.trust)
        clients = Issuer("the clients' authority")
        ca = self.write("clients.pem", clients.certificate.public_bytes(Encoding.PEM))
        self.known = clients.issue("carol").write(self.directory / "carol.pem")
        self.forged = Issuer("another").issue("carol").write(self.directory / "forged.pem")
        self.running = self.configured(
            configurations.maildir(
                self.directory,
                configurations.listener("submission", "starttls"),
                configurations.listener("submission", "implicit"),
            )
            + f'\n[tls]\ncertificates = "{issued.identity}"\nclient_ca = "{ca}"\n'
            + f'\n[auth]\nusers = "{self.write("users", "")}"\n',
            listeners=2,
        )

    def client(self, certificate: str, *, implicit: bool) -> smtplib.SMTP:
        """Return a client under TLS that presents a certificate; empty: none."""
        context = ssl.create_default_context(cafile=self.trust)
        if certificate:
            context.load_cert_chain(certificate)
        starttls, secure = self.running.ports()
        if implicit:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                "localhost", secure, timeout=DEADLINE, context=context
            )
        else:
            client = smtplib.SMTP("localhost", starttls, timeout=DEADLINE)
        self.addCleanup(client.close)
        if not implicit:
            client.starttls(context=context)
        client.ehlo()
        return client

    def test_known(self) -> None:
        for implicit in (False, True):
            client = self.client(self.known, implicit=implicit)
            self.assertIn("EXTERNAL", client.esmtp_features["auth"].split())
            self.assertEqual(client.docmd("AUTH", "EXTERNAL =")[0], 235)
            client.sendmail("carol@example.org", "bob@example.com", mails.simple())
        for mail in self.in_maildir(2):
            self.assertIn(b" with ESMTPSA ", mail)

    @pytest.mark.needs("curl")
    def test_curl(self) -> None:
        mail = str(self.write("mail.eml", mails.simple()))
        starttls, secure = self.running.ports()
        for url in (f"smtp://localhost:{starttls}", f"smtps://localhost:{secure}"):
            self.run_program(
                *curl(url),
                *("--ssl-reqd", "--cacert", self.trust, "--cert", self.known),
                *("--user", "carol:", "--login-options", "AUTH=EXTERNAL", "--upload-file", mail),
            )
        for filed in self.in_maildir(2):
            self.assertIn(b" with ESMTPSA ", filed)

    @pytest.mark.needs("msmtp")
    def test_msmtp(self) -> None:
        self.run_program(
            *msmtp(self.running.port, "localhost"),
            *("--tls=on", f"--tls-trust-file={self.trust}", f"--tls-cert-file={self.known}"),
            *(f"--tls-key-file={self.known}", "--auth=external", "--user=carol"),
            "bob@example.com",
            stdin=mails.simple().replace(b"\r\n", b"\n"),
        )
        (filed,) = self.in_maildir(1)
        self.assertIn(b" with ESMTPSA ", filed)

    def test_unknown(self) -> None:
        """Without a certificate that stood the test, EXTERNAL is neither announced nor done."""
        for certificate in ("", self.forged):
            for implicit in (False, True):
                client = self.client(certificate, implicit=implicit)
                self.assertNotIn("EXTERNAL", client.esmtp_features.get("auth", "").split())
                self.assertEqual(client.docmd("AUTH", "EXTERNAL =")[0], 504)
                self.assertEqual(client.mail("carol@example.org")[0], 530)
