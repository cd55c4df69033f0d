"""A whole mail as UTF-8: nothing that a part held is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.mime.limits import Limits
from mailsvc.mime.mail import parse
from mailsvc.mime.utf8 import in_utf8
from mailsvc.parsed import ParsedMail
from tests.corpus import GENERATORS

HEAD = b"From: zoe@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
_PIECES = [
    *(b"\xe9", b"\xc3\xa9", b"e", b"=E9", b"\r\n", b"\r", b"\n", b"\0", b"--b\r\n", b"--b--\r\n"),
    b"Content-Type: text/plain; charset=iso-8859-1\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Transfer-Encoding: 8bit\r\n",
    b"Content-Transfer-Encoding:\r\n quoted-printable\r\n",
]


def in_part(headers: bytes, body: bytes) -> bytes:
    mixed = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    return HEAD + mixed + headers + b"\r\n" + body + b"\r\n--b--\r\n"


class Utf8Tests(SynchronousTestCase):
    def mail(self, octets: bytes) -> ParsedMail:
        made = in_utf8(octets)
        made.decode("utf-8")
        return parse(made, Limits())

    def test_a_mail_that_is_utf8_stays_as_it_is(self) -> None:
        octets = HEAD + b"\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        self.assertEqual(in_utf8(octets), octets)

    def test_body(self) -> None:
        headers = HEAD + b"Content-Type: text/plain; charset=iso-8859-1\r\n"
        for encoding in (
            b"",
            b"Content-Transfer-Encoding: 8bit\r\n",
            b"CONTENT-transfer-encoding:\r\n 8bit\r\nX-After: y\r\n",
        ):
            octets = headers + encoding + b"\r\nGr\xfc\xdfe\r\n"
            self.assertEqual(self.mail(octets).text, "Grüße\n")
            self.assertEqual(in_utf8(octets).lower().count(b"content-transfer-encoding"), 1)
            self.assertEqual(b"X-After" in octets, b"X-After" in in_utf8(octets))

    def test_only_the_parts_that_need_it(self) -> None:
        text = in_part(b"Content-Type: text/plain; charset=utf-8\r\n", b"\xc3\xa9")
        octets = text.removesuffix(b"--b--\r\n") + (
            b"--b\r\nContent-Type: application/octet-stream\r\n\r\n\x80\xff\0\r\r\n--b--\r\n"
        )
        mail = self.mail(octets)
        self.assertEqual(mail.text, "é")
        self.assertEqual(mail.attachments[0].content, b"\x80\xff\0\r")
        self.assertIn(b"\r\n\r\n\xc3\xa9\r\n", in_utf8(octets))

    def test_a_broken_transfer_encoding(self) -> None:
        octets = in_part(b"Content-Transfer-Encoding: quoted-printable\r\n", b"a=20\xe9")
        self.assertEqual(self.mail(octets).text, "a é")

    def test_mail_within_a_mail(self) -> None:
        inner = HEAD + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n"
        octets = in_part(b"Content-Type: message/rfc822\r\n", inner)
        (attached,) = self.mail(octets).attachments
        self.assertEqual(attached.content_type, "message/rfc822")
        self.assertEqual(parse(attached.content, Limits()).text.strip(), "Grüße")

    def test_header(self) -> None:
        octets = b"Subject: Gr\xfc\xdfe\r\nX-A: \xc3\xa9\r\n\r\nbody\r\n"
        mail = self.mail(octets)
        self.assertEqual(mail.headers, (("Subject", "Grüße"), ("X-A", "é")))

    def test_mails_without_end(self) -> None:
        octets = HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 2000 + b"\xe9"
        self.assertTrue(self.mail(octets).headers)

    def test_hostile_mail(self) -> None:
        for generator in GENERATORS:
            in_utf8(generator(8_000)).decode("utf-8")

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from(_PIECES), max_size=20))
    def test_any_mail(self, pieces: list[bytes]) -> None:
        octets = HEAD + b"".join(pieces)
        made = in_utf8(octets)
        made.decode("utf-8")
        if made != octets:
            self.assertEqual(in_utf8(made), made)
