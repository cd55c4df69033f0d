"""Mails that make a receiver's library fail: it would answer 500 until they are dead letters."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats import Payload
from tests.deliverers.formats.mails import body, delivery, options, payload
from tests.deliverers.formats.receivers import Foreign, anymail

FORMATS = {"Postmark": "postmark", "SendGrid": "sendgrid", "Mailgun": "mailgun"}
FROM = b"From: zoe@example.org\r\n"
LATIN = FROM + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n"


def parts(*given: bytes, headers: bytes = FROM) -> bytes:
    """Return a mail of these parts, each with its header."""
    inner = b"".join(b"--b\r\n" + part + b"\r\n" for part in given)
    return headers + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inner + b"--b--\r\n"


TEXT = b"Content-Type: text/plain\r\n\r\nsee below"


class AwkwardTests(SynchronousTestCase):
    def messages(self, octets: bytes, **given: Foreign) -> dict[str, Foreign]:
        """Return what the view of each service gives the application."""
        made = {
            service: self.answered(service, payload(format, octets, **given))
            for service, format in FORMATS.items()
        }
        self.assertEqual(len(made), 3)
        return made

    def raw_messages(self, octets: bytes) -> dict[str, Foreign]:
        given = options("https://app.example.com/inbound/mime", raw=True)
        return self.messages(octets, given_options=given)

    def answered(self, service: str, made: Payload) -> Foreign:
        event, response = anymail(service, made)
        self.assertEqual(response.status_code, 200)
        return event.message

    def test_attachment_without_content(self) -> None:
        octets = parts(TEXT, b"Content-Type: text/csv\r\nContent-Disposition: attachment\r\n\r\n")
        for service, message in self.messages(octets).items():
            (attachment,) = message.attachments
            self.assertEqual(attachment.get_content_bytes(), b"", service)

    def test_mail_within_a_mail_in_another_charset(self) -> None:
        octets = parts(TEXT, b"Content-Type: message/rfc822\r\n\r\n" + LATIN)
        for service, message in self.messages(octets).items():
            (attachment,) = message.attachments
            self.assertEqual(attachment.get_content_type(), "message/rfc822", service)
            (inner,) = attachment.get_payload()
            self.assertEqual(inner.text.strip(), "Grüße", service)

    def test_bounce(self) -> None:
        status = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; Gr\xfc\xdfe\r\n"
        octets = parts(TEXT, status, b"Content-Type: text/rfc822-headers\r\n\r\n" + FROM)
        for service, message in self.messages(octets, given_delivery=delivery(None)).items():
            self.assertEqual(message.envelope_sender, "", service)
            self.assertEqual(
                [part.get_content_type() for part in message.attachments],
                ["message/delivery-status", "text/rfc822-headers"],
                service,
            )

    def test_fields_that_come_twice(self) -> None:
        octets = (
            b"To: a@example.net\r\nTo: B <b@example.net>\r\nCc: c@example.net\r\nCc:\r\n"
            b"Reply-To: r@example.net\r\nReply-To: s@example.net\r\n"
            b"Subject: one\r\nSubject: two\r\nMessage-ID: <1@x>\r\nMessage-ID: <2@x>\r\n"
            b"MIME-Version: 1.0\r\nMIME-Version: 1.0\r\nSender: d@example.net\r\n"
            b"Sender: e@example.net\r\nDate: Mon, 01 Jan 2024 11:00:00 +0100\r\n"
            b"Date: Tue, 02 Jan 2024 11:00:00 +0100\r\nX-A: 1\r\nX-A: 2\r\n"
            + FROM
            + FROM
            + b"\r\nx"
        )
        for service, message in self.messages(octets).items():
            if service == "SendGrid":
                continue  # its view takes the header as it came
            self.assertEqual(
                [box.addr_spec for box in message.to], ["a@example.net", "b@example.net"], service
            )
            self.assertEqual([box.addr_spec for box in message.cc], ["c@example.net"], service)
            self.assertEqual(message["Reply-To"], "r@example.net, s@example.net", service)
            self.assertEqual((message.subject, message["Message-ID"]), ("one", "<1@x>"), service)
            self.assertEqual(message.date.day, 1, service)
            self.assertEqual(message.get_all("X-A"), ["1", "2"], service)
            self.assertEqual(message.from_email.addr_spec, "zoe@example.org", service)

    def test_name_with_a_comma_in_an_encoded_word(self) -> None:
        octets = (
            b"From: =?utf-8?q?M=C3=BCller=2C_Zo=C3=AB?= <zoe@example.org>\r\n"
            b'To: "=?utf-8?q?a=22b=2C_c?=" <a@example.net>, =?utf-8?q?D?= <d@example.net>\r\n'
            b"Resent-From: =?utf-8?q?M=C3=BCller=2C_Zo=C3=AB?= <zoe@example.org>\r\n\r\nx"
        )
        for service, message in self.messages(octets).items():
            self.assertEqual(message.from_email.display_name, "Müller, Zoë", service)
            self.assertEqual(message.from_email.addr_spec, "zoe@example.org", service)
            self.assertEqual(
                [box.addr_spec for box in message.to], ["a@example.net", "d@example.net"], service
            )
            (resent,) = message["Resent-From"].addresses
            self.assertEqual(resent.display_name, "Müller, Zoë", service)

    def test_names_that_are_no_addresses(self) -> None:
        octets = (
            b"From: Zo\xc3\xab\r\nTo: friends, <>, a@example.net, j..d@example.net, @\r\n"
            b"Cc: undisclosed-recipients:;\r\n\r\nx"
        )
        fields = self.postmark(octets)
        full = {"Email": "zoe@example.org", "Name": "Zoë", "MailboxHash": ""}
        self.assertEqual((fields["From"], fields["FromFull"]), ("zoe@example.org", full))
        self.assertEqual([box["Email"] for box in fields["ToFull"]], ["a@example.net"])
        self.assertIn("j..d@example.net", fields["To"])
        self.messages(octets)

    def test_fields_that_are_hardly_any(self) -> None:
        for value in ("<", "a <", "a@", "x:;y", "a@[", '"', "\\", "<a@b", "=?utf-8?q?=0A?=@x", ""):
            octets = "".join(
                f"{name}: {value}\r\n"
                for name in ("From", "To", "Cc", "Sender", "Reply-To", "Resent-From", "Message-ID")
            )
            self.messages(octets.encode() + b"\r\nx")
        wanted = {"<>": None, "<:,": None, "<@>": None, "x": None, "<a@[>": None} | {
            value: value for value in ("<a@b.example>", "<a>", "<a.b@[192.0.2.1]>")
        }
        for value, kept in wanted.items():
            messages = self.messages(FROM + f"Message-ID: {value}\r\n\r\nx".encode())
            for service in ("Postmark", "Mailgun"):
                self.assertEqual(messages[service]["Message-ID"], kept)
        for fields in self.fields_of(FROM + b"To: undisclosed-recipients:;\r\n\r\nx"):
            self.assertIn(["To", "undisclosed-recipients:;"], fields)
        for fields in self.fields_of(b"From: <\r\nSender: Zo, <z@example.net>\r\n\r\nx"):
            self.assertEqual(fields, [["From", ""], ["Sender", "z@example.net"]])

    def fields_of(self, octets: bytes) -> list[list[list[str]]]:
        """Return the header as the application of Mailgun gets it."""
        event, _ = anymail("Mailgun", payload("mailgun", octets))
        return [json.loads(event.esp_event.POST["message-headers"])]

    def test_no_sender_at_all(self) -> None:
        messages = self.messages(b"Subject: x\r\n\r\nx", given_delivery=delivery(None))
        sender = messages["Postmark"].from_email
        self.assertEqual(sender.addr_spec, "MAILER-DAEMON@mx.example.com")

    def test_content_ids_of_what_is_no_picture(self) -> None:
        """Gmail gives every attachment a content id, and it is an attachment all the same."""
        page = b'Content-Type: text/html\r\n\r\n<img src="cid:a%40x"><img src=cid:b@x>'
        octets = parts(
            page,
            b"Content-Type: image/png; name=a.png\r\nContent-Disposition: attachment\r\n"
            b"Content-ID: <a@x>\r\n\r\na",
            b"Content-Type: image/png; name=b.png\r\nContent-Disposition: attachment\r\n"
            b"Content-ID: <b@x>\r\n\r\nb",
            b"Content-Type: application/pdf; name=c.pdf\r\nContent-Disposition: attachment\r\n"
            b"Content-ID: <f_lq1x9zh0>\r\n\r\nc",
            b"Content-Type: image/png; name=d.png\r\nContent-Disposition: inline\r\n"
            b"Content-ID: <d@x>\r\n\r\nd",
        )
        for service, message in self.messages(octets).items():
            self.assertEqual(
                [part.get_filename() for part in message.attachments], ["c.pdf"], service
            )
            self.assertEqual(set(message.content_id_map), {"a@x", "b@x", "d@x"}, service)

    def test_whole_mails_in_another_charset(self) -> None:
        for service, message in self.raw_messages(LATIN).items():
            self.assertEqual(message.text, "Grüße\n", service)

    def test_file_names(self) -> None:
        names = {
            b'filename="=?utf-8?q?=C3=9Cber=2C_a?="': "Über, a",
            b"filename*=iso-8859-1'de'%DCber": "Über",
            b"filename*0*=utf-8''%C3%9C; filename*1=ber; filename*2*=%20a": "Über a",
            b"filename=\"a.txt\"; filename*=utf-8''%C3%9C.txt": "Ü.txt",
            b'filename="\xdcber"': "Über",
            b'filename="\xc3\x9cber"': "Über",
            b'filename="..\\\\..\\\\a.txt"': "a.txt",
            b'filename="C:\\Users\\a.txt"': "a.txt",
        }
        for written, name in names.items():
            octets = parts(
                b"Content-Type: text/csv\r\nContent-Disposition: attachment; "
                + written
                + b"\r\n\r\n1"
            )
            for service, message in self.messages(octets).items():
                (attachment,) = message.attachments
                self.assertEqual(attachment.get_filename(), name, f"{service} {written!r}")

    def test_only_html(self) -> None:
        for service, message in self.messages(
            FROM + b"Content-Type: text/html\r\n\r\n<p>x</p>"
        ).items():
            self.assertEqual(message.html, "<p>x</p>", service)
        self.assertIsNone(self.messages(FROM + b"\r\nx")["SendGrid"].html)

    def postmark(self, octets: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(body(payload("postmark", octets)))
        return fields
