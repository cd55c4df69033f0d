"""Senders are told what became of their mail, by messages that Python's email package reads."""

from __future__ import annotations

import json
import re
import smtplib
import threading
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import default
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.system import configurations
from tests.system.harness import DEADLINE, Server, SystemTestCase, maildir_files, until
from tests.system.receiver import Receiver

REPLY = "550 5.1.1 Bob left in May"
MAIL = (
    b"From: Ann <ann@sender.example>\r\nTo: bob@example.com\r\nSubject: Lunch\r\n"
    b"Message-ID: <lunch@sender.example>\r\n\r\nToday at noon?\r\n.dot\r\n"
)
TOKEN = re.compile(rb"^Subject: (t\d+)\r?$", re.MULTILINE)


def configuration(directory: Path, url: str, *listeners: str) -> str:
    """Return one that posts mail for example.com to ``url`` and files the notifications."""
    return f"""\
hostname = "mx.example.com"
spool = "{directory}/spool"

{"".join(listeners)}
[destination.app]
kind = "webhook"
url = "{url}"
allow_private = true

[destination.bounces]
kind = "maildir"
path = "{directory}/bounces"

[[route]]
to = "*@example.com"
deliver = "app"

[notifications]
deliver = "bounces"
"""


def parsed(octets: bytes) -> EmailMessage:
    """Return a mail without defects, in its parts neither."""
    mail = message_from_bytes(octets, policy=default)
    assert isinstance(mail, EmailMessage)
    for part in mail.walk():
        assert not part.defects, part.defects
    return mail


def parts(mail: EmailMessage) -> tuple[EmailMessage, dict[str, str], dict[str, str], EmailMessage]:
    """Return the words, the fields of the message and of the recipient, and what came back."""
    words, status, returned = mail.iter_parts()
    blocks = status.get_payload()
    assert isinstance(words, EmailMessage) and isinstance(returned, EmailMessage)
    assert isinstance(blocks, list)
    message, recipient = (fields(each) for each in blocks)
    return words, message, recipient, returned


def fields(block: object) -> dict[str, str]:
    """Return the fields of one block of a delivery status."""
    assert isinstance(block, Message)
    return {name: str(value) for name, value in block.items()}


class NotificationTests(SystemTestCase):
    """Requirement 39: DSN is honoured, and notifications are ordinary messages."""

    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver(lambda request: 422, REPLY)
        self.addCleanup(self.receiver.close)
        self.bounces = self.directory / "bounces"

    def run_server(self) -> Server:
        return self.configured(
            configuration(
                self.directory,
                self.receiver.url,
                configurations.listener(),
                configurations.listener("lmtp"),
            ),
            listeners=2,
        )

    def client(self, server: Server, *, lmtp: bool = False) -> smtplib.SMTP:
        kind = smtplib.LMTP if lmtp else smtplib.SMTP
        client = kind("127.0.0.1", server.ports()[lmtp])
        self.addCleanup(client.close)
        client.ehlo("client.example")
        self.assertTrue(client.has_extn("dsn"))
        return client

    def notification(self) -> EmailMessage:
        """Return the one that comes next to the maildir, which is empty then."""
        (octets,) = self.in_maildir(1, self.bounces)
        for path in maildir_files(self.bounces):
            path.unlink()
        return parsed(octets)

    def test_a_failure(self) -> None:
        for lmtp in (False, True):
            server = self.run_server()
            client = self.client(server, lmtp=lmtp)
            client.sendmail(
                "ann@sender.example",
                "bob@example.com",
                MAIL,
                ["RET=HDRS", "ENVID=order+2B7"],
                ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Robert+2Bx@example.org"],
            )
            mail = self.notification()
            self.check_opening(mail)
            words, message, recipient, returned = parts(mail)
            text = words.get_content()
            self.assertIn("<bob@example.com>", text)
            self.assertIn(REPLY, text)
            self.assertNotIn("422", text)
            parsedate_to_datetime(message.pop("Arrival-Date"))
            self.assertEqual(
                message,
                {"Original-Envelope-Id": "order+7", "Reporting-MTA": "dns; mx.example.com"},
            )
            parsedate_to_datetime(recipient.pop("Last-Attempt-Date"))
            self.assertEqual(
                recipient,
                {
                    "Original-Recipient": "rfc822; Robert+x@example.org",
                    "Final-Recipient": "rfc822; bob@example.com",
                    "Action": "failed",
                    "Status": "5.1.1",
                    "Diagnostic-Code": f"smtp; {REPLY}",
                },
            )
            self.assertEqual(returned.get_content_type(), "text/rfc822-headers")
            header = message_from_bytes(returned.get_content().encode(), policy=default)
            self.assertEqual(header["Subject"], "Lunch")
            self.assertIn("client.example", header["Received"])
            self.assertEqual(header.get_content(), "")
            # The log says who was told of what, before it says that the delivery is dead.
            server.wait_for(" dead ")
            told, died = server.wait_for("notified <ann@sender.example> of | dead ", 2)
            self.assertIn("notified", told)
            self.assertIn("dead", died)
            server.stop()

    def check_opening(self, mail: EmailMessage) -> None:
        self.assertEqual(mail["Return-Path"], "<>")
        self.assertEqual(mail["To"], "ann@sender.example")
        self.assertEqual(mail["From"].addresses[0].addr_spec, "postmaster@mx.example.com")
        self.assertEqual(mail["Auto-Submitted"], "auto-replied")
        self.assertEqual(mail["In-Reply-To"], "<lunch@sender.example>")
        self.assertEqual(mail["References"], "<lunch@sender.example>")
        self.assertRegex(mail["Message-ID"], r"^<\w+@mx\.example\.com>$")
        parsedate_to_datetime(mail["Date"])
        self.assertEqual(mail.get_content_type(), "multipart/report")
        self.assertEqual(mail.get_param("report-type"), "delivery-status")
        kinds = [part.get_content_type() for part in mail.iter_parts()]
        self.assertEqual(kinds[:2], ["text/plain", "message/delivery-status"])

    def test_the_whole_message_comes_back(self) -> None:
        server = self.run_server()
        client = self.client(server)
        client.sendmail("ann@sender.example", "bob@example.com", MAIL, ["RET=FULL"])
        _, message, recipient, returned = parts(self.notification())
        self.assertNotIn("Original-Envelope-Id", message)
        self.assertNotIn("Original-Recipient", recipient)
        self.assertEqual(returned.get_content_type(), "message/rfc822")
        original = returned.get_content()
        self.assertEqual(original["Subject"], "Lunch")
        self.assertEqual(original.get_content(), "Today at noon?\n.dot\n")

    def test_an_international_sender(self) -> None:
        client = self.client(self.run_server())
        mail = "Subject: Grüße\r\n\r\nGuten Tag\r\n".encode()
        client.sendmail(
            "jürgen@sender.example",
            "bob@example.com",
            mail,
            ["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS"],
            ["ORCPT=utf-8;bärbel@example.com"],
        )
        octets = self.in_maildir(1, self.bounces)[0]
        for expected in (
            "To: <jürgen@sender.example>",
            "Content-Type: message/global-delivery-status",
            "Original-Recipient: utf-8; bärbel@example.com",
            "Content-Type: message/global-headers",
            "Subject: Grüße",
        ):
            self.assertIn(expected.encode(), octets)

    def test_success_only_where_it_is_asked_for(self) -> None:
        self.receiver.answer = lambda request: 204
        client = self.client(self.run_server())
        for options in ([], ["NOTIFY=FAILURE"], ["NOTIFY=DELAY"], ["NOTIFY=NEVER"]):
            client.sendmail("ann@sender.example", "bob@example.com", MAIL, [], options)
        self.receiver.wait(4)
        # Of one address, so the notifications would come in order.
        client.sendmail(
            "ann@sender.example", "bob@example.com", MAIL, ["RET=FULL"], ["NOTIFY=SUCCESS"]
        )
        words, _, recipient, returned = parts(self.notification())
        self.assertIn("was delivered", words.get_content())
        self.assertEqual((recipient["Action"], recipient["Status"]), ("delivered", "2.0.0"))
        # RFC 3461 section 4.3: RET is about failures.
        self.assertEqual(returned.get_content_type(), "text/rfc822-headers")

    def test_nobody_is_told(self) -> None:
        server = self.run_server()
        client = self.client(server)
        client.sendmail("ann@sender.example", "bob@example.com", MAIL, [], ["NOTIFY=NEVER"])
        client.sendmail("ann@sender.example", "bob@example.com", MAIL, [], ["NOTIFY=SUCCESS"])
        client.sendmail("ann@sender.example", "bob@example.com", MAIL, [], ["NOTIFY=DELAY"])
        client.sendmail("", "bob@example.com", MAIL, [], ["NOTIFY=SUCCESS,FAILURE,DELAY"])
        server.wait_for(" dead ", 4)
        client.sendmail("ann@sender.example", "bob@example.com", MAIL)
        server.wait_for(" dead ", 5)
        self.assertEqual(self.notification()["Return-Path"], "<>")
        self.assertEqual(len(server.wait_for("notified ")), 1)

    def test_no_notification_is_about_a_notification(self) -> None:
        """The webhook that refuses the mail refuses the notification, too."""
        text = configuration(self.directory, self.receiver.url, configurations.listener())
        server = self.configured(text.replace('deliver = "bounces"', 'deliver = "app"'))
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            client.sendmail("ann@sender.example", "bob@example.com", MAIL)
        server.wait_for(" dead ", 2)
        server.stop()
        self.assertEqual(len(self.receiver.requests), 2)
        self.assertEqual(len(server.wait_for("notified ")), 1)

    def test_a_reload_turns_it_on_and_off(self) -> None:
        text = configuration(self.directory, self.receiver.url, configurations.listener())
        off = text.replace('deliver = "bounces"\n', "")
        server = self.configured(off)
        for now, announced in ((off, False), (text, True), (off, False)):
            self.write("mailsvc.toml", now)
            self.mailsvc("reload", "--config", str(self.directory / "mailsvc.toml"))
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                client.ehlo()
                self.assertEqual(client.has_extn("dsn"), announced)
                client.sendmail("ann@sender.example", "bob@example.com", MAIL)
        server.wait_for(" dead ", 3)
        self.assertEqual(len(server.wait_for("notified ")), 1)


class KillTests(SystemTestCase):
    """Requirement 39: a kill between a notification and the outcome loses neither."""

    def rounds(self, count: int) -> None:
        """Load, kill, start again; then compare who was told with whose mail was accepted."""
        receiver = Receiver(lambda request: 422, REPLY)
        self.addCleanup(receiver.close)
        text = configuration(self.directory, receiver.url, configurations.listener())
        server = self.server("--config", str(self.write("mailsvc.toml", text)))
        accepted: set[bytes] = set()
        for turn in range(count):
            server.start()
            accepted |= self.load(server, turn)
        server.start()
        until(lambda: accepted <= self.told(), "every sender of an accepted mail to be told")
        until(lambda: self.states() == {"dead"}, "the queue to hold nothing but dead letters")
        server.stop()
        self.assertTrue(accepted)

    def load(self, server: Server, turn: int) -> set[bytes]:
        """Send until the server is killed, once some were notified; return what got a 250."""
        accepted: set[bytes] = set()

        def send() -> None:
            try:
                with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
                    for number in range(100_000):
                        token = f"t{turn * 100_000 + number}".encode()
                        mail = b"Subject: %b\r\n\r\nbody\r\n" % token
                        client.sendmail("ann@sender.example", "bob@example.com", mail)
                        accepted.add(token)
            except (OSError, smtplib.SMTPException):
                pass

        thread = threading.Thread(target=send)
        thread.start()
        try:
            server.wait_for("notified ", 10 + 7 * turn)
        finally:
            server.kill()
            thread.join()
        return accepted

    def told(self) -> set[bytes]:
        """Return the subjects of the mails that whole notifications are about."""
        tokens = set()
        for path in maildir_files(self.directory / "bounces"):
            octets = path.read_bytes()
            found = TOKEN.search(octets)
            assert found and octets.rstrip().endswith(b"--"), path
            tokens.add(found[1])
        return tokens

    def states(self) -> set[str]:
        """Return the states of the deliveries that are in the queue."""
        printed = self.mailsvc("queue", "--config", "mailsvc.toml", "--json", "--limit", "100000")
        return {entry["state"] for entry in json.loads(printed)["entries"]}

    def test_two_rounds(self) -> None:
        self.rounds(2)

    @pytest.mark.proof
    def test_twenty_rounds(self) -> None:
        self.rounds(20)
