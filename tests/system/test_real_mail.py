"""What arrives is what was sent, octet for octet, behind the trace fields."""

from __future__ import annotations

import smtplib

from tests.system import configurations, mails
from tests.system.harness import Server, SystemTestCase
from tests.system.receiver import Receiver


class ByteForByteTests(SystemTestCase):
    """Requirements 7, 19 and 21, through the whole service."""

    def send(self, server: Server, *contents: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
            for content in contents:
                client.sendmail("ann@sender.example", "bob@example.com", content, ["BODY=8BITMIME"])

    def raw_webhook(self) -> tuple[Server, Receiver]:
        receiver = Receiver()
        self.addCleanup(receiver.close)
        text = configurations.webhook(self.directory, receiver.url, 'format = "raw"')
        return self.configured(text), receiver

    def test_raw_webhook(self) -> None:
        server, receiver = self.raw_webhook()
        for number, (name, content) in enumerate(mails.REAL.items()):
            self.send(server, content)
            request = receiver.wait(number + 1)[number]
            self.assertEqual(request.headers["content-type"], "message/rfc822")
            self.assertEqual(mails.without_trace(request.body, return_path=False), content, name)

    def test_maildir(self) -> None:
        server = self.quick()
        self.send(server, *mails.REAL.values())
        filed = self.in_maildir(len(mails.REAL))
        self.assertEqual(
            sorted(mails.without_trace(content) for content in filed),
            sorted(content.replace(b"\r\n", b"\n") for content in mails.REAL.values()),
        )

    def test_25_mb_to_a_maildir(self) -> None:
        server = self.quick()
        content = mails.large()
        self.send(server, content)
        (filed,) = self.in_maildir(1)
        self.assertTrue(mails.without_trace(filed) == content.replace(b"\r\n", b"\n"))

    def test_25_mb_to_a_webhook(self) -> None:
        server, receiver = self.raw_webhook()
        content = mails.large()
        self.send(server, content)
        (request,) = receiver.wait(1)
        self.assertTrue(mails.without_trace(request.body, return_path=False) == content)

    def test_parsed_webhook_takes_every_mail(self) -> None:
        receiver = Receiver()
        self.addCleanup(receiver.close)
        server = self.configured(configurations.webhook(self.directory, receiver.url))
        self.send(server, *mails.REAL.values(), mails.large())
        receiver.wait(len(mails.REAL) + 1)

    def test_trace_fields(self) -> None:
        """Requirement 19: one Received field, and Return-Path at final delivery."""
        server = self.quick()
        with smtplib.SMTP(
            "127.0.0.1", server.port, local_hostname="client.example", timeout=60
        ) as client:
            client.sendmail("ann@sender.example", "bob@example.com", mails.simple("one"))
            client.sendmail("", "bob@example.com", mails.simple("two"))
        one, two = sorted(self.in_maildir(2), key=lambda filed: b"Subject: two" in filed)
        self.assertTrue(one.startswith(b"Return-Path: <ann@sender.example>\n"), one[:80])
        self.assertTrue(two.startswith(b"Return-Path: <>\n"), two[:80])
        received = one.split(b"\n", 1)[1].split(b"\nFrom: ", 1)[0]
        self.assertEqual(received.count(b"Received: "), 1)
        for part in (b"from client.example (", b"[127.0.0.1]", b" with ESMTP", b" id "):
            self.assertIn(part, received)
