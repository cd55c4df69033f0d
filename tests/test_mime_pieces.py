"""Long texts arrive as they are, wherever they were cut."""

from __future__ import annotations

import base64
import json
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats import words
from mailsvc.mime import pieces, worker
from mailsvc.mime.pieces import encoded
from mailsvc.parsed import ParsedMail
from tests.deliverers.formats.mails import UNPARSED, body, options, parsed, payload
from tests.deliverers.formats.receivers import anymail

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


class PieceTests(SynchronousTestCase):
    def setUp(self) -> None:
        for module in (pieces, words):
            patched = mock.patch.object(module, "PIECE", 4)
            patched.start()
            self.addCleanup(patched.stop)

    @given(TEXT)
    def test_encoded(self, text: str) -> None:
        self.assertEqual(encoded(text), text.encode("utf-8"))

    @given(TEXT, TEXT, TEXT)
    def test_from_worker_to_parent(self, text: str, html: str, reply: str) -> None:
        mail = ParsedMail(subject="x", text=text, html=html, reply=reply)
        self.assertEqual(worker.unpacked(worker.packed(mail)), mail)

    @settings(deadline=None, max_examples=50)
    @given(TEXT)
    def test_payloads(self, text: str) -> None:
        octets = (
            b"From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n"
            b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n%s\r\n"
            b"--b\r\nContent-Type: a/b\r\n\r\n%s\r\n--b--\r\n"
        ) % ((text.encode("utf-8"),) * 3)
        mail = parsed(octets)
        for name, names in {
            "mailsvc": ("text", "html", "reply", "content"),
            "cloudmailin": ("plain", "html", "reply_plain", "content"),
            "postmark": ("TextBody", "HtmlBody", "StrippedTextReply", "Content"),
        }.items():
            sent: dict[str, Any] = json.loads(body(payload(name, octets, mail)))
            self.assertEqual(
                [sent[key] for key in names[:3]], [mail.text, mail.html, mail.reply], name
            )
            attachments = sent.get("attachments", sent.get("Attachments"))
            assert isinstance(attachments, list)
            self.assertEqual(
                [base64.b64decode(each[names[3]], validate=True) for each in attachments],
                [each.content for each in mail.attachments],
            )
        sendgrid = anymail("SendGrid", payload("sendgrid", octets, mail))[0].esp_event.POST
        self.assertEqual(sendgrid.get("text", ""), mail.text)

    @settings(deadline=None)
    @given(st.binary())
    def test_whole_mails(self, octets: bytes) -> None:
        sent = json.loads(body(payload("mailsvc", octets, UNPARSED)))
        self.assertEqual(base64.b64decode(sent["raw"]["content"], validate=True), octets)
        given_options = options(raw=True)
        sent = json.loads(body(payload("postmark", octets, UNPARSED, given_options)))
        self.assertIsInstance(sent["RawEmail"], str)
