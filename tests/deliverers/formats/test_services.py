"""The drop-in formats, proved by handing what is sent to the receivers that users have."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from email import message_from_bytes
from email.policy import default
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats import FORMATS, Payload, Stream
from mailsvc.deliverers.webhook.formats.forms import File, form
from mailsvc.deliverers.webhook.formats.streams import Framed
from mailsvc.message import Address
from mailsvc.mime.htmltext import html_without_quotation
from mailsvc.parsed import Attachment, Mailbox, ParsedMail
from tests.deliverers.formats.mails import (
    HTML_ONLY,
    MAIL,
    NOW,
    TEXT_ONLY,
    UNPARSED,
    Content,
    body,
    delivery,
    options,
    parsed,
    payload,
)
from tests.deliverers.formats.receivers import SIGNING_KEY, Foreign, anymail

#: The example in octets that are UTF-8, for the formats that put all of a mail into a text field.
UTF8 = MAIL.replace(b"iso-8859-15", b"utf-8").replace(b"\xa4", "€".encode())
#: A mail whose octets are not UTF-8, with a name that means something in a form.
LATIN = (
    b'From: "Zo\xeb" <zoe@example.org>\r\nTo: support@example.com\r\nSubject: x\r\n'
    b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n"
)
NAMELESS = (
    b"From: zoe@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/csv; charset=utf-8\r\n"
    b"Content-Disposition: attachment\r\n\r\na,b\r\n"
    b'--b\r\nContent-Type: image/png; name="a\\"b.png"\r\n\r\npng\r\n--b--\r\n'
)


class AnymailTests(SynchronousTestCase):
    """django-anymail's views make of a payload the mail that was sent."""

    service: str
    format: str

    def received(self, made: Payload) -> Foreign:
        event, response = anymail(self.service, made)
        self.assertEqual(response.status_code, 200)
        self.assertEqual(event.event_type, "inbound")
        return event

    def message(self, octets: bytes = MAIL, **given: Foreign) -> Foreign:
        return self.received(payload(self.format, octets, **given)).message

    def assert_example(self, message: Foreign) -> None:
        self.assertEqual(message.envelope_sender, "zoe@example.org")
        self.assertEqual(message.envelope_recipient, "support+4711@example.com")
        self.assertEqual(
            (message.from_email.display_name, message.from_email.addr_spec),
            ("Zoë Muster", "zoe@example.org"),
        )
        self.assertEqual(
            [(box.display_name, box.addr_spec) for box in message.to],
            [("Support, Example", "support+4711@example.com"), ("Bob", "bob@example.net")],
        )
        self.assertEqual([box.addr_spec for box in message.cc], ["carol@example.net"])
        self.assertEqual(message["Reply-To"], "desk@example.org")
        self.assertEqual(message.subject, "Re: Grüße")
        self.assertEqual(message.date.isoformat(), "2024-01-01T11:00:00+01:00")
        self.assertEqual(message["Message-ID"], "<20240101.1@example.org>")
        self.assertEqual(message.get_all("X-Tag"), ["one", "two"])
        self.assertIn("Gern, bis morgen! € 5.", message.text)
        self.assertIn("Gern, bis morgen! € 5.", message.html)
        (attachment,) = message.attachments
        self.assertEqual(attachment.get_filename(), "Übersicht.pdf")
        self.assertEqual(attachment.get_content_bytes(), b"%PDF-1.7\n")
        self.assertEqual(
            {cid: part.get_content_bytes() for cid, part in message.content_id_map.items()},
            {"logo@example.org": b"\x89PNG\r\n\x1a\n"},
        )


class PostmarkTests(AnymailTests):
    service, format = "Postmark", "postmark"

    def fields(self, octets: bytes = MAIL, **given: Foreign) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(body(payload("postmark", octets, **given)))
        return fields

    def test_example(self) -> None:
        message = self.message()
        self.assert_example(message)
        self.assertEqual(message.stripped_text, "Gern, bis morgen! € 5.")

    def test_raw_example(self) -> None:
        self.assert_example(self.message(given_options=options(raw=True)))

    def test_null_reverse_path(self) -> None:
        self.assertEqual(self.message(given_delivery=delivery(None)).envelope_sender, "")

    def test_fields(self) -> None:
        fields = self.fields()
        self.assertEqual(fields["From"], "zoe@example.org")
        self.assertEqual(fields["FromName"], "Zoë Muster")
        self.assertEqual(
            fields["FromFull"],
            {"Email": "zoe@example.org", "Name": "Zoë Muster", "MailboxHash": ""},
        )
        self.assertEqual(
            fields["To"], '"Support, Example" <support+4711@example.com>, Bob <bob@example.net>'
        )
        self.assertEqual(fields["ToFull"][0]["MailboxHash"], "4711")
        self.assertEqual((fields["Bcc"], fields["BccFull"]), ("", []))
        self.assertEqual(fields["MailboxHash"], "4711")
        self.assertEqual(fields["OriginalRecipient"], "support+4711@example.com")
        self.assertEqual(fields["Date"], "Mon, 01 Jan 2024 11:00:00 +0100")
        self.assertEqual((fields["Tag"], fields["MessageStream"]), ("", "inbound"))
        self.assertEqual(
            fields["Headers"][0], {"Name": "Return-Path", "Value": "<zoe@example.org>"}
        )
        self.assertEqual(
            fields["Attachments"][1],
            {
                "Name": "Übersicht.pdf",
                "Content": "JVBERi0xLjcK",
                "ContentType": "application/pdf",
                "ContentLength": 9,
                "ContentID": None,
            },
        )
        self.assertEqual(fields["Attachments"][0]["ContentID"], "logo@example.org")
        self.assertNotIn("RawEmail", fields)

    def test_id_is_the_same_on_every_attempt(self) -> None:
        first, second = self.fields()["MessageID"], self.fields()["MessageID"]
        self.assertEqual(first, second)
        self.assertRegex(first, "^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")

    def test_blind_copy(self) -> None:
        given_delivery = delivery(recipient=Address("hidden", "example.com"))
        fields = self.fields(given_delivery=given_delivery)
        self.assertEqual(fields["Bcc"], "hidden@example.com")
        message = self.message(given_delivery=given_delivery)
        self.assertEqual([box.addr_spec for box in message.bcc], ["hidden@example.com"])

    def test_senders_own_return_path_is_not_the_envelopes(self) -> None:
        headers = self.fields(b"Return-Path: <forged@x>\r\n" + TEXT_ONLY)["Headers"]
        self.assertNotIn("forged", json.dumps(headers))

    def test_unparsed(self) -> None:
        message = self.message(TEXT_ONLY, mail=UNPARSED)
        self.assertEqual((message.subject, message.text), ("Hi", "Hi there.\n"))
        self.assertEqual(self.fields(TEXT_ONLY, mail=UNPARSED)["From"], "zoe@example.org")

    def test_rails_takes_the_raw_mail(self) -> None:
        """Action Mailbox's Postmark ingress: ``RawEmail`` with ``OriginalRecipient`` in front."""
        fields = self.fields(TEXT_ONLY, given_options=options(raw=True))
        whole = f"X-Original-To: {fields['OriginalRecipient']}\n{fields['RawEmail']}"
        message = message_from_bytes(whole.encode(), policy=default)
        self.assertEqual(message["X-Original-To"], "support+4711@example.com")
        self.assertEqual(message["Subject"], "Hi")


class SendGridTests(AnymailTests):
    service, format = "SendGrid", "sendgrid"

    def request(self, octets: bytes = MAIL, **given: Foreign) -> Foreign:
        return self.received(payload("sendgrid", octets, **given)).esp_event

    def test_example(self) -> None:
        self.assert_example(self.message())

    def test_raw_example(self) -> None:
        self.assert_example(self.message(given_options=options(raw=True)))
        self.assert_example(self.message(UTF8, given_options=options(raw=True)))

    def test_fields(self) -> None:
        form = self.request().POST
        self.assertEqual(
            json.loads(form["envelope"]),
            {"to": ["support+4711@example.com"], "from": "zoe@example.org"},
        )
        self.assertEqual(form["from"], "Zoë Muster <zoe@example.org>")
        self.assertEqual(form["cc"], "carol@example.net")
        self.assertEqual(form["subject"], "Re: Grüße")
        self.assertEqual(form["sender_ip"], "203.0.113.7")
        self.assertEqual((form["SPF"], form["dkim"]), ("none", "none"))
        self.assertEqual((form["spam_score"], form["spam_report"]), ("0", ""))
        self.assertEqual(set(json.loads(form["charsets"]).values()), {"UTF-8"})
        self.assertEqual(form["attachments"], "2")
        info = json.loads(form["attachment-info"])
        self.assertEqual(
            info["attachment1"],
            {
                "filename": "logo.png",
                "name": "logo.png",
                "charset": "",
                "type": "image/png",
                "content-id": "logo@example.org",
            },
        )
        self.assertNotIn("content-id", info["attachment2"])
        self.assertEqual(json.loads(form["content-ids"]), {"logo@example.org": "attachment1"})
        self.assertTrue(form["headers"].startswith("Received: from mail.example.org"))

    def test_text_only(self) -> None:
        form = self.request(TEXT_ONLY).POST
        self.assertEqual(
            (form["text"], form["attachments"], json.loads(form["charsets"])["text"]),
            ("Hi there.\n", "0", "UTF-8"),
        )
        self.assertNotIn("html", form)
        self.assertNotIn("attachment-info", form)
        self.assertNotIn("content-ids", form)

    def test_other_charsets(self) -> None:
        message = self.message(LATIN)
        self.assertEqual(message.text, "Grüße\n")

    def test_files_without_names(self) -> None:
        files = self.request(NAMELESS).FILES
        self.assertEqual(files["attachment1"].name, "attachment1")
        self.assertEqual(files["attachment1"].content_type, "text/csv")
        self.assertEqual(files["attachment1"].charset, b"utf-8")
        self.assertEqual(files["attachment2"].name, "a%22b.png")

    def test_unparsed(self) -> None:
        self.assertEqual(self.message(TEXT_ONLY, mail=UNPARSED).subject, "Hi")

    def test_headers_alone(self) -> None:
        self.assertEqual(self.request(b"Subject: x").POST["headers"], "Subject: x\n")


class MailgunTests(AnymailTests):
    service, format = "Mailgun", "mailgun"

    def form(self, octets: bytes = MAIL, **given: Foreign) -> Foreign:
        return self.received(payload("mailgun", octets, **given)).esp_event.POST

    def test_example(self) -> None:
        message = self.message()
        self.assert_example(message)
        self.assertEqual(message.stripped_text, "Gern, bis morgen! € 5.")
        self.assertNotIn("Passt", message.stripped_html)

    def test_mime_example(self) -> None:
        given_options = options("https://x.example/in/mime?a=b")
        self.assert_example(self.message(given_options=given_options))
        self.assert_example(self.message(UTF8, given_options=given_options))

    def test_large_mail_is_streamed(self) -> None:
        octets = TEXT_ONLY + b"x" * 2**20
        for name, given_options in (
            ("mailgun", options("https://x.example/mime")),
            ("sendgrid", options(raw=True)),
        ):
            made = payload(name, octets, given_options=given_options)
            self.assertIsInstance(made.body, Stream)
            self.assertIn(octets, body(made))

    def test_fields(self) -> None:
        form = self.form()
        self.assertEqual(form["recipient"], "support+4711@example.com")
        self.assertEqual((form["sender"], form["subject"]), ("zoe@example.org", "Re: Grüße"))
        self.assertEqual(form["from"], "Zoë Muster <zoe@example.org>")
        headers = json.loads(form["message-headers"])
        self.assertEqual(headers[1], ["Message-ID", "<20240101.1@example.org>"])
        self.assertEqual(form["stripped-signature"], "Zoë")
        self.assertEqual(form["attachment-count"], "2")
        self.assertEqual(json.loads(form["content-id-map"]), {"<logo@example.org>": "attachment-1"})
        self.assertNotIn("attachments", form)
        self.assertNotIn("body-mime", form)

    def test_signature(self) -> None:
        event = self.received(payload("mailgun"))
        form = event.esp_event.POST
        self.assertEqual((form["timestamp"], len(form["token"])), (str(int(NOW)), 50))
        signed = (form["timestamp"] + form["token"]).encode()
        self.assertEqual(
            form["signature"], hmac.new(SIGNING_KEY.encode(), signed, hashlib.sha256).hexdigest()
        )
        self.assertEqual(event.timestamp.timestamp(), int(NOW))
        self.assertNotEqual(form["token"], self.form()["token"])

    def test_wrong_key_is_refused(self) -> None:
        made = payload("mailgun", given_options=options(secrets=["another"]))
        refusal = import_module("anymail.exceptions").AnymailWebhookValidationFailure
        self.assertRaises(refusal, anymail, "Mailgun", made)
        unsigned = payload("mailgun", TEXT_ONLY, given_options=options(secrets=[]))
        self.assertNotIn("signature", parse_qs(body(unsigned).decode()))

    def test_text_only_is_urlencoded(self) -> None:
        made = payload("mailgun", TEXT_ONLY)
        self.assertEqual(made.content_type, "application/x-www-form-urlencoded")
        form = self.received(made).esp_event.POST
        self.assertEqual(form["body-plain"], "Hi there.\n")
        for absent in ("body-html", "stripped-html", "attachment-count", "content-id-map"):
            self.assertNotIn(absent, form)

    def test_much_text_is_not(self) -> None:
        made = payload("mailgun", TEXT_ONLY + b"x" * 70_000)
        self.assertTrue(made.content_type.startswith("multipart/form-data"))
        self.assertEqual(len(self.received(made).message.text), 70_010)

    def test_plain_text_always(self) -> None:
        self.assertEqual(self.form(HTML_ONLY)["body-plain"], "Hi there")

    def test_unparsed(self) -> None:
        message = self.message(TEXT_ONLY, mail=UNPARSED)
        self.assertEqual((message.subject, message.envelope_sender), ("Hi", "zoe@example.org"))

    def test_page_without_quotation(self) -> None:
        for html, wanted in (
            ("<p>a</p><div class='x gmail_quote'>b</div>", "<p>a</p>"),
            ("<p>a</p><DIV id=divRplyFwdMsg>b</div>", "<p>a</p>"),
            ("<blockquote>b</blockquote>a", "<blockquote>b</blockquote>a"),
            ("<p>gmail_quote</p>", "<p>gmail_quote</p>"),
        ):
            self.assertEqual(html_without_quotation(html), wanted)


class CloudMailinTests(SynchronousTestCase):
    maxDiff = None

    def fields(self, octets: bytes = MAIL, **given: Foreign) -> dict[str, Any]:
        made = payload("cloudmailin", octets, **given)
        self.assertEqual(made.content_type, "application/json")
        fields: dict[str, Any] = json.loads(body(made))
        self.assertEqual(
            set(fields), {"headers", "envelope", "plain", "html", "reply_plain", "attachments"}
        )
        return fields

    def test_example(self) -> None:
        fields = self.fields()
        self.assertEqual(
            fields["envelope"],
            {
                "to": "support+4711@example.com",
                "recipients": ["support+4711@example.com"],
                "from": "zoe@example.org",
                "helo_domain": "mail.example.org",
                "remote_ip": "203.0.113.7",
                "spf": {"result": "none", "domain": "example.org"},
                "tls": True,
            },
        )
        headers = fields["headers"]
        self.assertEqual(headers["message_id"], "<20240101.1@example.org>")
        self.assertEqual(headers["x_tag"], ["one", "two"])
        self.assertEqual(headers["subject"], "Re: Grüße")
        self.assertIn("> Passt morgen?", fields["plain"])
        self.assertIn("€ 5.", fields["html"])
        self.assertEqual(fields["reply_plain"], "Gern, bis morgen! € 5.")
        self.assertEqual(
            fields["attachments"],
            [
                {
                    "file_name": "logo.png",
                    "content_type": "image/png",
                    "size": 8,
                    "disposition": "inline",
                    "content_id": "logo@example.org",
                    "content": "iVBORw0KGgo=",
                },
                {
                    "file_name": "Übersicht.pdf",
                    "content_type": "application/pdf",
                    "size": 9,
                    "disposition": "attachment",
                    "content_id": "",
                    "content": "JVBERi0xLjcK",
                },
            ],
        )

    def test_no_attachments(self) -> None:
        self.assertEqual(self.fields(TEXT_ONLY)["attachments"], [])

    def test_url_in_place_of_the_content(self) -> None:
        given_options = options(inline_limit=8, links=True)
        logo, overview = self.fields(given_options=given_options)["attachments"]
        self.assertNotIn("url", logo)
        self.assertNotIn("content", overview)
        self.assertIn("/attachments/01HK1XGZ7KQ2/Übersicht.pdf", overview["url"])

    def test_unparsed(self) -> None:
        (whole,) = self.fields(TEXT_ONLY, mail=UNPARSED)["attachments"]
        self.assertEqual(whole["content_type"], "message/rfc822")
        self.assertEqual(base64.b64decode(whole["content"]), TEXT_ONLY)


class RailsTests(SynchronousTestCase):
    def test_relay_ingress(self) -> None:
        """``POST /rails/action_mailbox/relay/inbound_emails`` takes ``message/rfc822`` only."""
        made = payload("rails")
        self.assertEqual((made.content_type, made.headers), ("message/rfc822", ()))
        self.assertIsInstance(made.body, Stream)
        self.assertEqual(body(made), b"X-Original-To: support+4711@example.com\r\n" + MAIL)


class PostalTests(SynchronousTestCase):
    def test_raw_message(self) -> None:
        made = payload("postal")
        self.assertIsInstance(made.body, Stream)
        fields = json.loads(body(made))
        self.assertEqual(base64.b64decode(fields.pop("message"), validate=True), MAIL)
        number = fields.pop("id")
        self.assertEqual(
            fields,
            {
                "rcpt_to": "support+4711@example.com",
                "mail_from": "zoe@example.org",
                "base64": True,
                "size": len(MAIL),
            },
        )
        self.assertEqual(number, json.loads(body(payload("postal")))["id"])
        self.assertLess(number, 2**53)


class StreamTests(SynchronousTestCase):
    def test_any_size_read_in_any_pieces(self) -> None:
        for size in (0, 1, 2, 3, 4, 100, 65_536, 70_001):
            octets = bytes(range(256)) * (size // 256 + 1)
            octets = octets[:size]
            for encoded in (False, True):
                framed = Framed(Content(octets), b"--end", encoded=encoded)
                inner = base64.b64encode(octets) if encoded else octets
                with framed.open() as reader:
                    got = b"".join(iter(partial(reader.read, 1000), b""))
                self.assertEqual(got, inner + b"--end")
                self.assertEqual(framed.size, len(got))


class FormTests(SynchronousTestCase):
    def test_no_name_ends_a_header(self) -> None:
        made = form([("a\r\nb", "c")], [File('x"y', 'z"\r\n', "text/plain", b"")])
        self.assertIn(b'name="a%0D%0Ab"', body(made))
        self.assertIn(b'name="x%22y"; filename="z%22%0D%0A"', body(made))

    def test_charset_that_is_none(self) -> None:
        odd = Attachment("n", "text/plain", "x\r\ny", "attachment", "", b"")
        made = body(payload("sendgrid", TEXT_ONLY, ParsedMail(attachments=(odd,))))
        self.assertIn(b"\r\nContent-Type: text/plain\r\n", made)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class AnyMailTests(SynchronousTestCase):
    @settings(max_examples=100, deadline=None)
    @given(st.data())
    def test_no_format_fails(self, data: st.DataObject) -> None:
        box = st.builds(Mailbox, _TEXT, _TEXT)
        attachment = st.builds(
            Attachment,
            _TEXT,
            st.just("a/b"),
            _TEXT,
            st.sampled_from(["inline", "attachment"]),
            _TEXT,
            st.binary(max_size=9),
        )
        mail = ParsedMail(
            headers=tuple(data.draw(st.lists(st.tuples(_TEXT, _TEXT), max_size=3))),
            sender=tuple(data.draw(st.lists(box, max_size=2))),
            to=tuple(data.draw(st.lists(box, max_size=2))),
            text=data.draw(_TEXT),
            html=data.draw(_TEXT),
            attachments=tuple(data.draw(st.lists(attachment, max_size=3))),
        )
        for name in FORMATS:
            made = payload(name, data.draw(st.binary(max_size=99)), mail)
            made.content_type.encode("ascii")
            if made.content_type.startswith("application/json"):
                json.loads(body(made))

    def test_every_format_with_the_parsed_example(self) -> None:
        for name, format in FORMATS.items():
            self.assertEqual(format.name, name)
            made = format.payload(delivery(), Content(MAIL), parsed(MAIL), options())
            self.assertTrue(body(made))
