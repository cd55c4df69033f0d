"""Logins that other clients seldom make: bound to TLS, and with the token of somebody else's."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import smtplib
import ssl

import pytest
import scramp

from tests.floors import ROOT
from tests.system import configurations, mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.receiver import Receiver
from tests.system.secure import PASSWORD, USER, SecureTestCase
from tests.system.test_clients import curl, msmtp

ENVELOPE = ("ann@sender.example", "bob@example.com")
EXAMPLE = ROOT / "docs" / "examples" / "token_checker.py"


def encoded(message: str) -> str:
    return base64.b64encode(message.encode()).decode()


class LargeTests(SecureTestCase):
    """Large mails under TLS, whose records are joined: octet for octet what was sent."""

    def test_starttls_and_implicit(self) -> None:
        context = ssl.create_default_context(cafile=self.trust)
        content = mails.large()
        with smtplib.SMTP("localhost", self.mx, timeout=DEADLINE) as client:
            client.starttls(context=context)
            client.sendmail(*ENVELOPE, content)
        with smtplib.SMTP_SSL(
            "localhost", self.implicit, timeout=DEADLINE, context=context
        ) as client:
            client.login(USER, PASSWORD)
            client.sendmail(*ENVELOPE, content)
        for filed in self.in_maildir(2):
            self.assertTrue(mails.without_trace(filed) == content.replace(b"\r\n", b"\n"))


class ChannelBindingTests(SecureTestCase):
    """SCRAM-SHA-256-PLUS on a real connection: the client is scramp, TLS is OpenSSL's."""

    auth = 'failures = 2\ndelay = "1 ms"'

    def connect(self, most: ssl.TLSVersion) -> tuple[smtplib.SMTP, ssl.SSLSocket]:
        context = ssl.create_default_context(cafile=self.trust)
        context.maximum_version = most
        client = smtplib.SMTP("localhost", self.submission, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.starttls(context=context)
        client.ehlo()
        assert isinstance(client.sock, ssl.SSLSocket)
        return client, client.sock

    def login(
        self,
        client: smtplib.SMTP,
        name: str = "",
        binding: bytes = b"",
        password: str = PASSWORD,
    ) -> int:
        """Return the code of the reply to the client's last word; without a name bind nothing."""
        mechanism = "SCRAM-SHA-256-PLUS" if name else "SCRAM-SHA-256"
        scram = scramp.ScramClient(
            [mechanism], USER, password, channel_binding=(name, binding) if name else None
        )
        first = encoded(scram.get_client_first())
        code, challenge = client.docmd("AUTH", f"{mechanism} {first}")
        self.assertEqual(code, 334)
        scram.set_server_first(base64.b64decode(challenge).decode())
        code, challenge = client.docmd(encoded(scram.get_client_final()))
        if code == 334:
            scram.set_server_final(base64.b64decode(challenge).decode())
            code, _ = client.docmd("")
        return code

    def test_tls_unique(self) -> None:
        client, sock = self.connect(ssl.TLSVersion.TLSv1_2)
        binding = sock.get_channel_binding("tls-unique")
        assert binding is not None
        self.assertEqual(self.login(client, "tls-unique", binding), 235)
        client.sendmail(*ENVELOPE, mails.simple())
        (filed,) = self.in_maildir(1)
        self.assertIn(b" with ESMTPSA", filed)

    def test_the_certificate(self) -> None:
        client, sock = self.connect(ssl.TLSVersion.TLSv1_3)
        presented = sock.getpeercert(binary_form=True)
        assert presented is not None
        binding = hashlib.sha256(presented).digest()
        self.assertEqual(self.login(client, "tls-server-end-point", binding), 235)

    def test_starttls_forgets_the_login(self) -> None:
        """Requirement 27: who somebody was in clear text says nothing about who is there now."""
        client = smtplib.SMTP("localhost", self.submission, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.ehlo()
        self.assertEqual(self.login(client), 235)
        self.assertEqual(client.mail(ENVELOPE[0])[0], 250)
        client.starttls(context=ssl.create_default_context(cafile=self.trust))
        client.ehlo()
        self.assertIn("SCRAM-SHA-256-PLUS", client.esmtp_features["auth"].split())
        self.assertEqual(client.mail(ENVELOPE[0])[0], 530)

    def test_starttls_forgives_no_failure(self) -> None:
        """Requirement 33: failed logins are the connection's, in clear text and under TLS."""
        client = smtplib.SMTP("localhost", self.submission, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.ehlo()
        self.assertEqual(self.login(client, password="wrong"), 535)
        client.starttls(context=ssl.create_default_context(cafile=self.trust))
        client.ehlo()
        self.assertEqual(self.login(client, password="wrong"), 421)

    def test_somebody_between_is_found_out(self) -> None:
        """Who ends TLS in the middle has another certificate, and with that another binding."""
        client, _ = self.connect(ssl.TLSVersion.TLSv1_3)
        self.assertEqual(self.login(client, "tls-server-end-point", bytes(32)), 535)
        self.assertEqual(client.mail(ENVELOPE[0])[0], 530)


class TokenTests(SystemTestCase):
    """OAUTHBEARER and XOAUTH2 by the checker of the pages, installed as a plugin."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoint = Receiver(lambda request: 200)
        self.addCleanup(self.endpoint.close)
        plugins = self.directory / "site" / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "token_checker.py").write_bytes(EXAMPLE.read_bytes())
        issued = authority(self.directory / "tls")
        self.trust = str(issued.trust)
        others = os.environ.get("PYTHONPATH", "")
        self.running = self.configured(
            configurations.maildir(
                self.directory, configurations.listener("submission", "starttls")
            )
            + f'\n[tls]\ncertificates = "{issued.identity}"\n'
            + f'\n[auth]\ncheckers = ["token:{self.endpoint.url}"]\ndelay = "1 ms"\n',
            PYTHONPATH=os.pathsep.join(filter(None, (str(self.directory / "site"), others))),
        )

    def client(self) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self.running.port, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.starttls(context=ssl.create_default_context(cafile=self.trust))
        client.ehlo()
        return client

    def test_a_good_token(self) -> None:
        self.endpoint.words = json.dumps({"active": True, "email": "tim@example.com"})
        for command in (
            "XOAUTH2 " + encoded("user=tim@example.com\1auth=Bearer abc.def\1\1"),
            "OAUTHBEARER " + encoded("n,a=tim@example.com,\1auth=Bearer abc.def\1\1"),
        ):
            client = self.client()
            self.assertEqual(client.esmtp_features["auth"].split(), ["OAUTHBEARER", "XOAUTH2"])
            self.assertEqual(client.docmd("AUTH", command)[0], 235)
            client.sendmail(*ENVELOPE, mails.simple())
        self.in_maildir(2)
        self.assertEqual([each.body for each in self.endpoint.requests], [b"token=abc.def"] * 2)
        self.assertNotIn("abc.def", self.running.output)

    @pytest.mark.needs("curl", "msmtp")
    def test_clients_that_bring_a_token(self) -> None:
        self.endpoint.words = json.dumps({"active": True, "email": "tim@example.com"})
        mail = str(self.write("mail.eml", mails.simple()))
        secret = self.write("token", "abc.def")
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            self.run_program(
                *curl(f"smtp://localhost:{self.running.port}"),
                *("--ssl-reqd", "--cacert", self.trust, "--upload-file", mail),
                *("--user", "tim@example.com:", "--oauth2-bearer", "abc.def"),
                *("--login-options", f"AUTH={mechanism}"),
            )
            self.run_program(
                *msmtp(self.running.port, "localhost"),
                *("--tls=on", f"--tls-trust-file={self.trust}", f"--auth={mechanism.lower()}"),
                *("--user=tim@example.com", f"--passwordeval=cat {secret}", ENVELOPE[1]),
                stdin=mails.simple().replace(b"\r\n", b"\n"),
            )
        for filed in self.in_maildir(4):
            self.assertIn(b" with ESMTPSA id ", filed)
        self.assertEqual([each.body for each in self.endpoint.requests], [b"token=abc.def"] * 4)

    def test_a_bad_token(self) -> None:
        command = "XOAUTH2 " + encoded("user=tim@example.com\1auth=Bearer abc.def\1\1")
        for words, code in (
            (json.dumps({"active": False}), 535),
            # It is good, but another's.
            (json.dumps({"active": True, "email": "tom@example.com"}), 535),
        ):
            self.endpoint.words = words
            client = self.client()
            # The cause, as JSON; what the client says to that means nothing.
            self.assertEqual(client.docmd("AUTH", command)[0], 334)
            self.assertEqual(client.docmd("")[0], code)
            self.assertEqual(client.mail(ENVELOPE[0])[0], 530)

    def test_an_endpoint_that_is_broken(self) -> None:
        self.endpoint.words = "<html>sorry</html>"
        client = self.client()
        command = "XOAUTH2 " + encoded("user=tim@example.com\1auth=Bearer abc.def\1\1")
        self.assertEqual(client.docmd("AUTH", command)[0], 454)
        self.running.wait_for("JSONDecodeError")
        self.assertNotIn("abc.def", self.running.output)
