"""Clients that the project did not write hand mail in: plain, over TLS, and as a known user."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import tempfile

import pytest

from tests.system import configurations, mails
from tests.system.harness import SystemTestCase
from tests.system.secure import PASSWORD, USER, SecureTestCase

#: Its last line is not a dot: swaks would take that for the end.
MAIL = mails.dots_and_blanks() + b"end\r\n"
FILED = MAIL.replace(b"\r\n", b"\n")
ENVELOPE = ("ann@sender.example", "bob@example.com")


class PlainTests(SystemTestCase):
    """Without TLS, to the MX listener."""

    def setUp(self) -> None:
        super().setUp()
        self.running = self.quick()

    def arrived(self) -> None:
        (filed,) = self.in_maildir(1)
        self.assertEqual(mails.without_trace(filed).rstrip(b"\n"), FILED.rstrip(b"\n"))

    def test_smtplib(self) -> None:
        with smtplib.SMTP("127.0.0.1", self.running.port, timeout=60) as client:
            client.sendmail(*ENVELOPE, MAIL)
        self.arrived()

    def test_smtplib_many_on_one_connection(self) -> None:
        with smtplib.SMTP("127.0.0.1", self.running.port, timeout=60) as client:
            for number in range(25):
                client.sendmail(*ENVELOPE, mails.simple(f"number {number}"))
        filed = b"".join(self.in_maildir(25))
        for number in range(25):
            self.assertIn(b"Subject: number %d\n" % number, filed)

    def test_lf_is_refused_and_the_connection_stays_in_step(self) -> None:
        """Requirement 4: content with a bare LF is read to its real end and refused."""
        with smtplib.SMTP("127.0.0.1", self.running.port, timeout=60) as client:
            client.ehlo()
            client.mail(ENVELOPE[0])
            client.rcpt(ENVELOPE[1])
            client.docmd("DATA")
            client.send(b"Subject: x\r\n\r\none\n.\ntwo\r\n.\r\n")
            code, _ = client.getreply()
            self.assertEqual(code // 100, 5)
            client.sendmail(*ENVELOPE, MAIL)
        self.arrived()

    @pytest.mark.needs("curl")
    def test_curl(self) -> None:
        mail = self.write("mail.eml", MAIL)
        self.run_program(*curl(f"smtp://127.0.0.1:{self.running.port}"), "--upload-file", str(mail))
        self.arrived()

    @pytest.mark.needs("curl")
    def test_curl_with_lf_lines(self) -> None:
        mail = self.write("mail.eml", FILED)
        url = f"smtp://127.0.0.1:{self.running.port}"
        self.run_program(*curl(url), "--crlf", "--upload-file", str(mail))
        self.arrived()

    @pytest.mark.needs("swaks")
    def test_swaks(self) -> None:
        mail = self.write("mail.eml", FILED)
        self.run_program(*swaks(self.running.port), "--data", f"@{mail}")
        self.arrived()

    @pytest.mark.needs("msmtp")
    def test_msmtp(self) -> None:
        self.run_program(*msmtp(self.running.port), ENVELOPE[1], stdin=FILED)
        self.arrived()


class LMTPTests(SystemTestCase):
    """LMTP on a Unix socket, as a mail server on the same machine hands mail over."""

    def test_a_reply_for_each_recipient(self) -> None:
        # A Unix socket's path must be short.
        folder = tempfile.mkdtemp(prefix="mailsvc-")
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/lmtp"
        server = self.server(
            "--config",
            str(
                self.write(
                    "mailsvc.toml",
                    configurations.maildir(
                        self.directory,
                        f'[[listener]]\nendpoint = "unix:{path}:mode=600"\nrole = "lmtp"\n',
                    ),
                )
            ),
        ).start(listeners=0)
        server.wait_for(f"listening on {path}")
        client = smtplib.LMTP(path)
        self.addCleanup(client.close)
        client.ehlo()
        client.mail(ENVELOPE[0])
        recipients = (ENVELOPE[1], "x@elsewhere.example", "eve@example.com")
        self.assertEqual([client.rcpt(name)[0] for name in recipients], [250, 550, 250])
        # smtplib reads one reply to the content; LMTP has one for each recipient that was taken.
        self.assertEqual(client.data(MAIL)[0], 250)
        self.assertEqual(client.getreply()[0], 250)
        self.assertEqual(client.quit()[0], 221)
        for filed in self.in_maildir(2):
            self.assertEqual(mails.without_trace(filed), FILED)
            self.assertIn(b" with LMTP id ", filed)


class SecureTests(SecureTestCase):
    """STARTTLS and implicit TLS, checked against an authority, and AUTH behind them."""

    def arrived(self, keyword: bytes) -> None:
        """Check the mail, and how it was handed in (RFC 3848)."""
        (filed,) = self.in_maildir(1)
        self.assertEqual(mails.without_trace(filed).rstrip(b"\n"), FILED.rstrip(b"\n"))
        self.assertIn(b" with %s" % keyword, filed)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.trust)

    def test_smtplib_starttls(self) -> None:
        with smtplib.SMTP("localhost", self.mx, timeout=60) as client:
            client.starttls(context=self.context())
            client.sendmail(*ENVELOPE, MAIL)
        self.arrived(b"ESMTPS")

    def test_smtplib_login_behind_starttls(self) -> None:
        with smtplib.SMTP("localhost", self.submission, timeout=60) as client:
            client.starttls(context=self.context())
            client.login(USER, PASSWORD)
            client.sendmail(*ENVELOPE, MAIL)
        self.arrived(b"ESMTPSA")

    def test_smtplib_login_implicit(self) -> None:
        with smtplib.SMTP_SSL(
            "localhost", self.implicit, timeout=60, context=self.context()
        ) as client:
            client.login(USER, PASSWORD)
            client.sendmail(*ENVELOPE, MAIL)
        self.arrived(b"ESMTPSA")

    def test_the_wrong_password(self) -> None:
        with smtplib.SMTP("localhost", self.submission, timeout=60) as client:
            client.starttls(context=self.context())
            error = self.assertRaises(smtplib.SMTPAuthenticationError, client.login, USER, "wrong")
        self.assertEqual(error.smtp_code, 535)

    def test_no_password_without_tls(self) -> None:
        """Requirement 29."""
        with smtplib.SMTP("localhost", self.submission, timeout=60) as client:
            client.ehlo()
            offered = client.esmtp_features.get("auth", "").split()
            self.assertFalse({"PLAIN", "LOGIN"} & set(offered), offered)
            code, _ = client.docmd("AUTH", "PLAIN AGFsaWNlAGNvcnJlY3QgaG9yc2UgNys=")
            self.assertIn(code, (530, 538))

    def test_submission_demands_a_login(self) -> None:
        with smtplib.SMTP("localhost", self.submission, timeout=60) as client:
            client.starttls(context=self.context())
            client.ehlo()
            self.assertEqual(client.mail(ENVELOPE[0])[0], 530)

    @pytest.mark.needs("curl")
    def test_curl_starttls(self) -> None:
        mail = str(self.write("mail.eml", MAIL))
        self.run_program(
            *curl(f"smtp://localhost:{self.mx}"),
            *("--ssl-reqd", "--cacert", self.trust, "--upload-file", mail),
        )
        self.arrived(b"ESMTPS")

    @pytest.mark.needs("curl")
    def test_curl_plain_and_login(self) -> None:
        mail = str(self.write("mail.eml", MAIL))
        for mechanism in ("PLAIN", "LOGIN"):
            self.run_program(
                *curl(f"smtp://localhost:{self.submission}"),
                *("--ssl-reqd", "--cacert", self.trust, "--upload-file", mail),
                *("--user", f"{USER}:{PASSWORD}", "--login-options", f"AUTH={mechanism}"),
            )
        for filed in self.in_maildir(2):
            self.assertIn(b" with ESMTPSA", filed)

    @pytest.mark.needs("curl")
    def test_curl_implicit(self) -> None:
        mail = str(self.write("mail.eml", MAIL))
        self.run_program(
            *curl(f"smtps://localhost:{self.implicit}"),
            *("--cacert", self.trust, "--upload-file", mail, "--user", f"{USER}:{PASSWORD}"),
        )
        self.arrived(b"ESMTPSA")

    @pytest.mark.needs("swaks")
    def test_swaks_starttls_and_login(self) -> None:
        mail = self.write("mail.eml", FILED)
        for mechanism in ("PLAIN", "LOGIN"):
            self.run_program(
                *swaks(self.submission, "localhost"),
                *("--tls", "--tls-verify", "--tls-ca-path", self.trust, "--data", f"@{mail}"),
                *("--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD),
            )
        self.in_maildir(2)

    @pytest.mark.needs("swaks")
    def test_swaks_implicit(self) -> None:
        mail = self.write("mail.eml", FILED)
        self.run_program(
            *swaks(self.implicit, "localhost"),
            *("--tlsc", "--tls-verify", "--tls-ca-path", self.trust, "--data", f"@{mail}"),
            *("--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD),
        )
        self.arrived(b"ESMTPSA")

    @pytest.mark.needs("msmtp")
    def test_msmtp_starttls(self) -> None:
        self.run_program(
            *msmtp(self.mx, "localhost"),
            *("--tls=on", f"--tls-trust-file={self.trust}", ENVELOPE[1]),
            stdin=FILED,
        )
        self.arrived(b"ESMTPS")

    @pytest.mark.needs("msmtp")
    def test_msmtp_plain_login_and_scram(self) -> None:
        secret = self.write("password", PASSWORD)
        for method in ("plain", "login", "scram-sha-256"):
            self.run_program(
                *msmtp(self.submission, "localhost"),
                *("--tls=on", f"--tls-trust-file={self.trust}"),
                *(f"--auth={method}", f"--user={USER}", f"--passwordeval=cat {secret}"),
                ENVELOPE[1],
                stdin=FILED,
            )
        self.in_maildir(3)

    @pytest.mark.needs("msmtp")
    def test_msmtp_implicit(self) -> None:
        secret = self.write("password", PASSWORD)
        self.run_program(
            *msmtp(self.implicit, "localhost"),
            *("--tls=on", "--tls-starttls=off", f"--tls-trust-file={self.trust}"),
            *("--auth=plain", f"--user={USER}", f"--passwordeval=cat {secret}", ENVELOPE[1]),
            stdin=FILED,
        )
        self.arrived(b"ESMTPSA")


class ProxyTests(SystemTestCase):
    """swaks sends the header of a load balancer, in both versions."""

    @pytest.mark.needs("swaks")
    def test_swaks(self) -> None:
        listener = configurations.listener(more='proxy = ["127.0.0.0/8"]')
        port = self.configured(configurations.maildir(self.directory, listener)).port
        mail = self.write("mail.eml", FILED)
        for version, family in (("1", "TCP4"), ("2", "AF_INET")):
            self.run_program(
                *swaks(port),
                *("--proxy-version", version, "--proxy-family", family),
                *("--proxy-source", "198.51.100.9", "--proxy-source-port", "12345"),
                *("--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25"),
                *("--proxy-protocol", "STREAM", "--data", f"@{mail}"),
            )
        for filed in self.in_maildir(2):
            self.assertIn(b" ([198.51.100.9])\n\tby mx.example.com with ESMTP id ", filed)


class CramMd5Tests(SystemTestCase):
    """Requirement 34: CRAM-MD5 where a checker can serve it, and only if it is switched on."""

    def listen(self, *keys: str) -> int:
        """Run a submission listener without TLS, for a user whose password is in the file."""
        text = configurations.maildir(self.directory, configurations.listener("submission"))
        auth = "\n".join(("[auth]", f'checkers = ["memory:{USER}:{PASSWORD}"]', *keys))
        return self.configured(f"{text}\n{auth}\n").port

    def test_off(self) -> None:
        with smtplib.SMTP("localhost", self.listen("cleartext = true"), timeout=60) as client:
            client.ehlo()
            self.assertEqual(client.esmtp_features["auth"].split(), ["PLAIN", "LOGIN"])
            self.assertEqual(client.docmd("AUTH", "CRAM-MD5")[0], 504)

    def test_smtplib(self) -> None:
        with smtplib.SMTP("localhost", self.listen("cram_md5 = true"), timeout=60) as client:
            client.ehlo()
            self.assertEqual(client.esmtp_features["auth"].split(), ["CRAM-MD5"])
            with self.assertRaises(smtplib.SMTPAuthenticationError):
                client.login(USER, "wrong")
            client.login(USER, PASSWORD)
            client.sendmail(*ENVELOPE, MAIL)
        (filed,) = self.in_maildir(1)
        self.assertIn(b" with ESMTPA id ", filed)

    @pytest.mark.needs("curl", "msmtp", "swaks")
    def test_others(self) -> None:
        port = self.listen("cram_md5 = true")
        mail = str(self.write("mail.eml", MAIL))
        secret = self.write("password", PASSWORD)
        self.run_program(
            *curl(f"smtp://localhost:{port}"),
            *("--user", f"{USER}:{PASSWORD}", "--upload-file", mail),
        )
        self.run_program(
            *swaks(port, "localhost"),
            *("--auth", "CRAM-MD5", "--auth-user", USER, "--auth-password", PASSWORD),
            *("--data", f"@{self.write('lf.eml', FILED)}"),
        )
        self.run_program(
            *msmtp(port, "localhost"),
            *("--auth=cram-md5", f"--user={USER}", f"--passwordeval=cat {secret}", ENVELOPE[1]),
            stdin=FILED,
        )
        for filed in self.in_maildir(3):
            self.assertIn(b" with ESMTPA id ", filed)


def curl(url: str) -> list[str]:
    """Return a curl command that sends from and to the test's envelope."""
    envelope = ["--mail-from", ENVELOPE[0], "--mail-rcpt", ENVELOPE[1]]
    return ["curl", "--silent", "--show-error", "--max-time", "60", url, *envelope]


def swaks(port: int, host: str = "127.0.0.1") -> list[str]:
    """Return a swaks command that sends from and to the test's envelope."""
    envelope = ["--from", ENVELOPE[0], "--to", ENVELOPE[1]]
    return ["swaks", "--server", host, "--port", str(port), *envelope]


def msmtp(port: int, host: str = "127.0.0.1") -> list[str]:
    """Return an msmtp command that sends from the test's envelope."""
    return ["msmtp", f"--host={host}", f"--port={port}", f"--from={ENVELOPE[0]}"]
