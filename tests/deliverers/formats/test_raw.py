"""The ``raw`` format: the octets as they are, the envelope in header fields."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats.raw import header_value
from mailsvc.deliverers.webhook.payload import Stream
from mailsvc.message import Address, Client, Delivery
from tests.deliverers.formats.mails import MAIL, body, delivery, payload


class RawTests(SynchronousTestCase):
    def fields(self, given_delivery: Delivery) -> dict[str, str]:
        headers = payload("raw", given_delivery=given_delivery).headers
        self.assertEqual(len(dict(headers)), len(headers))
        return dict(headers)

    def test_octets(self) -> None:
        made = payload("raw")
        self.assertIsInstance(made.body, Stream)
        self.assertEqual((made.content_type, body(made)), ("message/rfc822", MAIL))

    def test_envelope(self) -> None:
        self.assertEqual(
            self.fields(delivery()),
            {
                "Mailsvc-Message-Id": "01HK1XGZ7KQ2",
                "Mailsvc-Reverse-Path": "zoe@example.org",
                "Mailsvc-Recipient": "support+4711@example.com",
                "Mailsvc-Route": "support+*@example.com",
                "Mailsvc-Tag": "4711",
                "Mailsvc-Received-At": "1704103200.250",
                "Mailsvc-Attempt": "2",
                "Mailsvc-Client": "203.0.113.7",
                "Mailsvc-Helo": "mail.example.org",
                "Mailsvc-Protocol": "ESMTPS",
                "Mailsvc-User": "",
                "Mailsvc-Tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
                "Mailsvc-Body": "8BITMIME",
                "Mailsvc-Dsn-Notify": "FAILURE,DELAY",
                "Mailsvc-Dsn-Original-Recipient": "rfc822;support+4711@example.com",
                "Mailsvc-Dsn-Ret": "HDRS",
                "Mailsvc-Dsn-Envid": "QQ314159",
            },
        )

    def test_null_reverse_path_and_a_user(self) -> None:
        fields = self.fields(delivery(None, client=Client("", "h", "LMTPA", user="zoë")))
        self.assertEqual(fields["Mailsvc-Reverse-Path"], "")
        self.assertEqual(fields["Mailsvc-User"], "zo%C3%AB")
        self.assertNotIn("Mailsvc-Tls", fields)

    def test_international(self) -> None:
        made = delivery(recipient=Address("jörg", "bücher.example"))
        envelope = replace(made.envelope, smtputf8=True, require_tls=True)
        fields = self.fields(replace(made, envelope=envelope))
        self.assertEqual(fields["Mailsvc-Recipient"], "j%C3%B6rg@b%C3%BCcher.example")
        self.assertEqual(unquote(fields["Mailsvc-Recipient"]), "jörg@bücher.example")
        self.assertEqual(fields["Mailsvc-Smtputf8"], "true")
        self.assertEqual(fields["Mailsvc-Require-Tls"], "true")

    @given(st.text())
    def test_any_value_is_one_line_and_comes_back(self, text: str) -> None:
        value = header_value(text)
        self.assertTrue(value.isascii() and (not value or value.isprintable()))
        self.assertEqual(unquote(value, errors="surrogatepass"), text)
