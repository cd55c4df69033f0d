"""The ``mailsvc`` format and its schema."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.payload import FormatOptions
from mailsvc.message import Address, Client, Delivery
from mailsvc.parsed import ParsedMail
from tests.corpus import GENERATORS
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

#: The schema as it is published.
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(examples.SCHEMA.read_text("utf-8")), format_checker=jsonschema.FormatChecker()
)

_WORDS = st.text(st.characters(exclude_characters="\r\n\0"), max_size=12)
_TYPES = st.sampled_from(["text/plain", "text/html", "image/png", "message/rfc822", "x", "a/b;c=d"])


@st.composite
def _part(draw: st.DrawFn) -> bytes:
    """Return a part with its header, each field there or not, its content of any octets."""
    fields = {
        "Content-Type": draw(_TYPES) + "; charset=" + draw(st.sampled_from(["utf-8", "x", ""])),
        "Content-Disposition": draw(st.sampled_from(["inline", "attachment; filename=", ""]))
        + draw(_WORDS),
        "Content-ID": f"<{draw(_WORDS)}>",
        "Content-Transfer-Encoding": draw(st.sampled_from(["base64", "quoted-printable", "8bit"])),
    }
    kept = draw(st.sets(st.sampled_from(sorted(fields))))
    header = "".join(f"{name}: {fields[name]}\r\n" for name in sorted(kept))
    return header.encode("utf-8", "replace") + b"\r\n" + draw(st.binary(max_size=20))


@st.composite
def mails(draw: st.DrawFn) -> bytes:
    """Return a mail of any number of parts, whose header says anything at all."""
    names = st.sampled_from(["From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date", "X-A"])
    lines = draw(st.lists(st.tuples(names, _WORDS), max_size=6))
    header = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("utf-8", "replace")
    parts = draw(st.lists(_part(), max_size=3))
    if not parts:
        return header + draw(_part())
    inner = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return header + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inner + b"--b--\r\n"


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
        VALIDATOR.validate(sent)
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

    @settings(deadline=None, max_examples=150)
    @given(
        mails(),
        st.builds(
            delivery,
            st.none() | st.builds(Address, _WORDS, _WORDS),
            st.builds(Address, _WORDS, _WORDS),
            st.builds(
                Client,
                st.just("") | st.ip_addresses().map(str),
                _WORDS,
                st.sampled_from(["SMTP", "UTF8LMTPSA"]),
                st.sampled_from(["", "TLSv1.2"]),
                st.sampled_from(["", "TLS_AES_256_GCM_SHA384"]),
                st.none() | _WORDS,
            ),
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_any_mail_is_as_the_schema_says(
        self, octets: bytes, given_delivery: Delivery, raw: bool, links: bool
    ) -> None:
        given_options = options(raw=raw, links=links, inline_limit=5)
        sent = self.sent(octets, given_options=given_options, given_delivery=given_delivery)
        for attachment in (*sent["attachments"], *([sent["raw"]] if raw else [])):
            self.assertEqual(attachment["url"] is None, attachment["content"] is not None)
            self.assertEqual(attachment["url"] is not None, links and attachment["size"] > 5)
            if attachment["url"] is None:
                content = base64.b64decode(attachment["content"], validate=True)
                self.assertEqual(len(content), attachment["size"])
                self.assertEqual(hashlib.sha256(content).hexdigest(), attachment["sha256"])

    def test_hostile_mail_is_as_the_schema_says(self) -> None:
        for generator in GENERATORS:
            self.sent(generator(3000))

    def test_schema_refuses_what_is_not_the_format(self) -> None:
        sent = self.sent()
        changes: tuple[dict[str, Any], ...] = (
            *({"version": 2}, {"attempt": 0}, {"headers": [{}]}, {"raw": 1}),
        )
        for change in changes:
            self.assertRaises(
                jsonschema.ValidationError, jsonschema.validate, sent | change, examples.schema()
            )
