"""The ``mailsvc`` format and its schema."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jsonschema
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.payload import FormatOptions
from mailsvc.message import Address, Client, Delivery
from mailsvc.parsed import ParsedMail
from tests.deliverers.formats import examples
from tests.deliverers.formats.mails import (
    HTML_ONLY,
    MAIL,
    NOW,
    TEXT_ONLY,
    UNPARSED,
    body,
    delivery,
    options,
    payload,
)


class MailsvcTests(SynchronousTestCase):
    maxDiff = None

    def sent(
        self,
        octets: bytes = MAIL,
        mail: ParsedMail | None = None,
        given_options: FormatOptions | None = None,
        given_delivery: Delivery | None = None,
    ) -> dict[str, Any]:
        made = payload("mailsvc", octets, mail, given_options, given_delivery)
        self.assertEqual(made.content_type, "application/json")
        sent: dict[str, Any] = json.loads(body(made))
        jsonschema.validate(sent, examples.schema(), format_checker=jsonschema.FormatChecker())
        return sent

    def test_ids_and_times(self) -> None:
        sent = self.sent()
        self.assertEqual((sent["type"], sent["version"]), ("mail.received", 1))
        self.assertEqual((sent["id"], sent["attempt"]), ("01HK1XGZ7KQ2-1", 2))
        self.assertEqual((sent["destination"], sent["size"]), ("app", len(MAIL)))
        self.assertEqual(sent["received_at"], "2024-01-01T10:00:00.250000Z")
        self.assertEqual(sent["sent_at"], "2024-01-01T10:00:01.500000Z")
        self.assertEqual(NOW, 1_704_103_201.5)

    def test_envelope(self) -> None:
        self.assertEqual(
            self.sent()["envelope"],
            {
                "id": "01HK1XGZ7KQ2",
                "sender": "zoe@example.org",
                "recipient": "support+4711@example.com",
                "route": "support+*@example.com",
                "tag": "4711",
                "client": {
                    "address": "203.0.113.7",
                    "helo": "mail.example.org",
                    "protocol": "ESMTPS",
                    "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"},
                    "user": None,
                },
                "body": "8BITMIME",
                "smtputf8": False,
                "require_tls": False,
                "dsn": {
                    "notify": ["FAILURE", "DELAY"],
                    "original_recipient": "rfc822;support+4711@example.com",
                    "ret": "HDRS",
                    "envid": "QQ314159",
                },
            },
        )

    def test_other_recipients_stay_secret(self) -> None:
        self.assertNotIn(b"bob@example.net", body(payload("mailsvc", TEXT_ONLY)))

    def test_envelope_without_tls_with_a_user(self) -> None:
        given = delivery(None, client=Client("", "h\udc80", "LMTPA", user="ann"))
        envelope = self.sent(given_delivery=given)["envelope"]
        self.assertEqual(envelope["sender"], "")
        self.assertEqual(
            envelope["client"],
            {"address": "", "helo": "h?", "protocol": "LMTPA", "tls": None, "user": "ann"},
        )

    def test_international_addresses(self) -> None:
        given = delivery(recipient=Address("jörg", "bücher.example"))
        envelope = self.sent(given_delivery=given)["envelope"]
        self.assertEqual(envelope["recipient"], "jörg@bücher.example")

    def test_mail(self) -> None:
        sent = self.sent()
        self.assertEqual(
            sent["headers"][1], {"name": "Message-ID", "value": "<20240101.1@example.org>"}
        )
        self.assertEqual(
            [header["value"] for header in sent["headers"] if header["name"] == "X-Tag"],
            ["one", "two"],
        )
        self.assertEqual(sent["from"], [{"name": "Zoë Muster", "address": "zoe@example.org"}])
        self.assertEqual(
            sent["to"],
            [
                {"name": "Support, Example", "address": "support+4711@example.com"},
                {"name": "Bob", "address": "bob@example.net"},
            ],
        )
        self.assertEqual(sent["cc"], [{"name": "", "address": "carol@example.net"}])
        self.assertEqual((sent["bcc"], sent["reply_to"][0]["address"]), ([], "desk@example.org"))
        self.assertEqual(sent["subject"], "Re: Grüße")
        self.assertEqual(sent["date"], "2024-01-01T11:00:00+01:00")
        self.assertEqual(sent["message_id"], "20240101.1@example.org")
        self.assertIn("> Passt morgen?", sent["text"])
        self.assertIn("€ 5.", sent["html"])
        self.assertEqual((sent["reply"], sent["signature"]), ("Gern, bis morgen! € 5.", "Zoë"))
        self.assertEqual((sent["raw"], sent["parse_errors"]), (None, []))

    def test_attachments(self) -> None:
        logo, overview = self.sent()["attachments"]
        self.assertEqual(
            logo,
            {
                "name": "logo.png",
                "type": "image/png",
                "charset": "",
                "disposition": "inline",
                "content_id": "logo@example.org",
                "size": 8,
                "sha256": hashlib.sha256(b"\x89PNG\r\n\x1a\n").hexdigest(),
                "content": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(),
                "url": None,
            },
        )
        self.assertEqual(
            (overview["name"], overview["disposition"]), ("Übersicht.pdf", "attachment")
        )
        self.assertEqual(base64.b64decode(overview["content"]), b"%PDF-1.7\n")

    def test_large_attachments_behind_urls(self) -> None:
        logo, overview = self.sent(given_options=options(inline_limit=8, links=True))["attachments"]
        self.assertEqual((logo["url"], logo["size"]), (None, 8))
        self.assertEqual((overview["content"], overview["size"]), (None, 9))
        self.assertEqual(
            overview["url"], "https://mx.example.com/attachments/01HK1XGZ7KQ2/Übersicht.pdf"
        )

    def test_all_is_inline_without_urls(self) -> None:
        for attachment in self.sent(given_options=options(inline_limit=0))["attachments"]:
            self.assertTrue(attachment["content"])

    def test_raw_mail(self) -> None:
        raw = self.sent(given_options=options(raw=True))["raw"]
        self.assertEqual(base64.b64decode(raw["content"]), MAIL)
        self.assertEqual((raw["size"], raw["url"]), (len(MAIL), None))
        raw = self.sent(given_options=options(raw=True, links=True, inline_limit=1))["raw"]
        self.assertEqual(raw["content"], None)
        self.assertTrue(raw["url"].endswith("/message.eml"))
        self.assertEqual(raw["sha256"], hashlib.sha256(MAIL).hexdigest())

    def test_mail_that_could_not_be_parsed(self) -> None:
        sent = self.sent(TEXT_ONLY, UNPARSED)
        self.assertEqual((sent["text"], sent["headers"], sent["date"]), ("", [], ""))
        self.assertEqual(sent["parse_errors"], ["not parsed: it took longer than 60 seconds"])
        self.assertEqual(base64.b64decode(sent["raw"]["content"]), TEXT_ONLY)

    def test_simple_mails(self) -> None:
        self.assertEqual(self.sent(TEXT_ONLY)["text"], "Hi there.\n")
        self.assertEqual(self.sent(HTML_ONLY)["reply"], "Hi there")
        self.assertEqual(self.sent(b"")["headers"], [])

    def test_schema_refuses_what_is_not_the_format(self) -> None:
        sent = self.sent()
        changes: tuple[dict[str, Any], ...] = (
            *({"version": 2}, {"attempt": 0}, {"headers": [{}]}, {"raw": 1}),
        )
        for change in changes:
            self.assertRaises(
                jsonschema.ValidationError, jsonschema.validate, sent | change, examples.schema()
            )
