"""The first minute: no configuration, one option, a mail that arrives."""

from __future__ import annotations

import json
import re
import smtplib
import stat

import pytest
from standardwebhooks import Webhook

from tests.system import mails
from tests.system.harness import PROGRAMS, Server, SystemTestCase, maildir_files
from tests.system.receiver import Receiver


def send(server: Server, mail: bytes, *recipients: str, sender: str = "ann@sender.example") -> None:
    """Hand ``mail`` in as smtplib does."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
        options = ["BODY=8BITMIME"] if not mail.isascii() else []
        refused = client.sendmail(sender, recipients or ("bob@example.com",), mail, options)
        assert not refused, refused


class MaildirTests(SystemTestCase):
    """``twistd -n mailsvc`` and nothing else."""

    def test_a_mail_is_filed(self) -> None:
        server = self.quick()
        send(server, mails.simple())
        (filed,) = self.in_maildir(1)
        self.assertEqual(mails.without_trace(filed), mails.simple().replace(b"\r\n", b"\n"))

    def test_any_address_is_taken_there(self) -> None:
        server = self.quick()
        send(server, mails.simple(), "anyone@anywhere.example", "Postmaster", "a+tag@b.example")
        self.in_maildir(3)

    def test_it_says_what_it_does(self) -> None:
        server = self.quick()
        self.assertEqual(server.addresses()[0][0], "127.0.0.1")
        server.wait_for("maildir")
        server.wait_for(r"curl .*smtp://127\.0\.0\.1:\d+")

    @pytest.mark.needs("curl")
    def test_the_line_to_try_works(self) -> None:
        server = self.quick()
        (line,) = server.wait_for(r"curl .*smtp://127\.0\.0\.1:\d+")
        command = line[line.index("curl ") :]
        self.run_program("bash", "-c", command)
        self.in_maildir(1)

    def test_by_default_it_listens_on_loopback_port_2525(self) -> None:
        usage = self.run_program(str(PROGRAMS / "twistd"), "mailsvc", "--help")
        self.assertIn("127.0.0.1:2525", "".join(usage.split()))

    def test_what_it_makes_is_for_its_user_only(self) -> None:
        server = self.quick()
        send(server, mails.simple())
        self.in_maildir(1)
        open_to_others = [
            str(path)
            for name in ("mailsvc-data", "maildir")
            for path in (self.directory / name, *(self.directory / name).rglob("*"))
            if stat.S_IMODE(path.stat().st_mode) & 0o077
        ]
        self.assertEqual(open_to_others, [])

    def test_an_own_place_and_pattern(self) -> None:
        server = self.quick("--maildir", "mail/{domain}/{user}", "--to", "*@example.com")
        send(server, mails.simple(), "Bob+x@example.com")
        self.in_maildir(1, self.directory / "mail/example.com/bob")
        with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
            client.ehlo()
            client.mail("ann@sender.example")
            code, text = client.rcpt("bob@elsewhere.example")
        self.assertEqual((code, text[:5]), (550, b"5.7.1"))


class WebhookTests(SystemTestCase):
    """``twistd -n mailsvc --webhook URL``."""

    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)

    def secret(self, server: Server) -> str:
        (line,) = server.wait_for(r"whsec_")
        found = re.search(r"whsec_[A-Za-z0-9+/=]+", line)
        assert found is not None
        return found[0]

    def test_each_mail_is_posted_and_signed(self) -> None:
        server = self.quick("--webhook", self.receiver.url)
        send(server, mails.multipart(), "bob+invoice@example.com")
        (request,) = self.receiver.wait(1)
        payload = Webhook(self.secret(server)).verify(request.body, request.headers)
        self.assertEqual(payload, json.loads(request.body))
        self.assertEqual(request.path, "/inbound")
        self.assertIn("bob+invoice@example.com", json.dumps(payload))
        self.assertEqual(list(maildir_files(self.directory / "maildir")), [])

    def test_the_secret_stays_over_a_restart(self) -> None:
        server = self.quick("--webhook", self.receiver.url)
        secret = self.secret(server)
        server.stop()
        server.start()
        send(server, mails.simple())
        (request,) = self.receiver.wait(1)
        Webhook(secret).verify(request.body, request.headers)

    def test_one_request_for_each_recipient(self) -> None:
        server = self.quick("--webhook", self.receiver.url)
        send(server, mails.simple(), "a@example.com", "b@example.com", "a@example.com")
        requests = self.receiver.wait(2)
        self.assertEqual(len({request.headers["webhook-id"] for request in requests}), 2)
        server.stop()
        self.assertEqual(len(self.receiver.requests), 2)
