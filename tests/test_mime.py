"""Octets to parsed mail: structure, charsets, transfer encodings, header fields."""

from __future__ import annotations

from email.message import EmailMessage

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.mime import fields
from mailsvc.mime.charsets import codec_of, decoded
from mailsvc.mime.limits import Limits, Notes
from mailsvc.mime.mail import parse
from mailsvc.mime.parts import Tree
from mailsvc.parsed import Mailbox, ParsedMail


def mail(*lines: str | bytes, limits: Limits | None = None) -> ParsedMail:
    octets = b"\r\n".join(
        line if isinstance(line, bytes) else line.encode("utf-8") for line in lines
    )
    return parse(octets, limits or Limits())


class StructureTests(SynchronousTestCase):
    def test_plain(self) -> None:
        got = mail("Subject: Hello", "From: a@example.org", "", "One", "Two", "")
        self.assertEqual(got.subject, "Hello")
        self.assertEqual(got.text, "One\nTwo\n")
        self.assertEqual(got.sender, (Mailbox("", "a@example.org"),))
        self.assertEqual(got.headers, (("Subject", "Hello"), ("From", "a@example.org")))
        self.assertEqual((got.html, got.attachments, got.errors), ("", (), ()))

    def test_nothing_at_all(self) -> None:
        self.assertEqual(parse(b"", Limits()), ParsedMail())

    def test_header_only(self) -> None:
        self.assertEqual(mail("Subject: x").subject, "x")

    def test_body_only(self) -> None:
        got = mail("", "text")
        self.assertEqual((got.headers, got.text), ((), "text"))
        self.assertEqual(parse(b"\ntext", Limits()).text, "text")

    def test_bare_line_feeds(self) -> None:
        got = parse(b"Subject: a\n b\n\none\ntwo\n", Limits())
        self.assertEqual((got.subject, got.text), ("a b", "one\ntwo\n"))

    def test_line_that_is_no_field_starts_the_body(self) -> None:
        got = mail("Subject: x", "this is text", "", "more")
        self.assertEqual((got.subject, got.text), ("x", "this is text\n\nmore"))
        self.assertEqual(
            got.errors, ("header: a line is no field, the body is taken to start there",)
        )

    def test_mbox_line_is_skipped(self) -> None:
        self.assertEqual(mail("From a@b Mon Jan  1", "Subject: x", "", "").subject, "x")

    def test_what_the_standard_library_writes(self) -> None:
        message = EmailMessage()
        message["Subject"] = "Grüße aus Köln, " * 8
        message["From"] = '"Ünal, Zoë" <zoe@example.org>'
        message["To"] = "Team: a@example.org, B <b@example.org>;, c@example.org"
        message["Date"] = "Mon, 01 Jan 2024 10:00:00 +0100"
        message["Message-ID"] = "<1@example.org>"
        message.set_content("Äpfel\n" * 3)
        message.add_alternative('<p>Äpfel <img src="cid:1@x"></p>', subtype="html")
        page = list(message.iter_parts())[1]
        assert isinstance(page, EmailMessage)
        page.add_related(b"png", maintype="image", subtype="png", cid="<1@x>")
        message.add_attachment(
            bytes(range(256)), maintype="application", subtype="pdf", filename="Übersicht €.pdf"
        )
        got = parse(message.as_bytes().replace(b"\n", b"\r\n"), Limits())
        self.assertEqual(got.subject, ("Grüße aus Köln, " * 8).strip())
        self.assertEqual(got.sender, (Mailbox("Ünal, Zoë", "zoe@example.org"),))
        self.assertEqual(
            got.to,
            (
                Mailbox("", "a@example.org"),
                Mailbox("B", "b@example.org"),
                Mailbox("", "c@example.org"),
            ),
        )
        self.assertEqual(got.date, "2024-01-01T10:00:00+01:00")
        self.assertEqual(got.message_id, "1@example.org")
        self.assertEqual(got.text, "Äpfel\n" * 3)
        self.assertIn("Äpfel", got.html)
        inline, attached = got.attachments
        self.assertEqual(
            (inline.content_type, inline.disposition, inline.content_id, inline.content),
            ("image/png", "inline", "1@x", b"png"),
        )
        self.assertEqual(
            (attached.filename, attached.disposition, attached.content),
            ("Übersicht €.pdf", "attachment", bytes(range(256))),
        )
        self.assertEqual(got.errors, ())

    def multipart(self, *lines: str, subtype: str = "mixed") -> ParsedMail:
        return mail(f"Content-Type: multipart/{subtype}; boundary=b", "", *lines)

    def test_texts_of_a_mixed_mail_are_joined(self) -> None:
        got = self.multipart(
            *("preamble", "--b", "", "one", "--b", "Content-Type: image/png", "", "x"),
            *("--b", "", "two", "--b--", "epilogue"),
        )
        self.assertEqual(got.text, "one\ntwo")
        self.assertEqual([a.content for a in got.attachments], [b"x"])

    def test_boundary_that_begins_another(self) -> None:
        got = self.multipart("--b", "", "one", "--bb", "still one", "--b  ", "", "two", "--b--")
        self.assertEqual(got.text, "one\n--bb\nstill one\ntwo")

    def test_unclosed(self) -> None:
        got = self.multipart("--b", "", "one", "--b", "", "two")
        self.assertEqual((got.text, got.errors), ("one\ntwo", ("a multipart is not closed",)))

    def test_opened_at_the_very_end(self) -> None:
        self.assertEqual(self.multipart("--b", "", "one", "--b").text, "one\n")

    def test_closed_before_it_opened(self) -> None:
        got = self.multipart("--b--", "", "text")
        self.assertIn("a multipart without parts is taken as text", got.errors)

    def test_boundary_never_comes(self) -> None:
        got = self.multipart("just text")
        self.assertEqual(got.text, "just text")
        self.assertEqual(got.errors, ("a multipart without parts is taken as text",))

    def test_no_boundary_or_a_giant_one(self) -> None:
        for parameter in ("", "; boundary=" + "b" * 300):
            got = mail(f"Content-Type: multipart/mixed{parameter}", "", "text")
            self.assertEqual(got.text, "text")
            self.assertEqual(got.errors, ("a multipart without parts is taken as text",))

    def test_inner_boundary_ends_with_the_outer_part(self) -> None:
        got = self.multipart(
            *("--b", "Content-Type: multipart/alternative; boundary=c", "", "--c", "", "one"),
            *("--b", "Content-Type: text/html", "", "two", "--c--", "--b--"),
        )
        self.assertEqual((got.text, got.html), ("one", "two\n--c--"))

    def test_part_without_a_header(self) -> None:
        self.assertEqual(self.multipart("--b", "", "--b--").text, "")

    def test_digest(self) -> None:
        got = self.multipart("--b", "", "Subject: inner", "", "x", "--b--", subtype="digest")
        self.assertEqual(got.attachments[0].content_type, "message/rfc822")
        self.assertEqual(got.attachments[0].content, b"Subject: inner\r\n\r\nx")

    def test_too_deep(self) -> None:
        got = mail(
            *("Content-Type: multipart/mixed; boundary=a", "", "--a", ""),
            *("first", "--a", "Content-Type: multipart/mixed; boundary=b", ""),
            *("--b", "", "inner", "--b--", "--a--"),
            limits=Limits(depth=1),
        )
        self.assertEqual(got.text, "first")
        self.assertEqual(got.attachments[0].content_type, "multipart/mixed")
        self.assertIn(b"inner", got.attachments[0].content)
        self.assertEqual(
            got.errors, ("multiparts nested more than 1 deep are given as one attachment",)
        )

    def test_too_many_parts(self) -> None:
        got = mail(
            "Content-Type: multipart/mixed; boundary=a",
            "",
            *(["--a", "", "x"] * 5),
            "--a--",
            limits=Limits(parts=3),
        )
        self.assertEqual(got.text, "x\nx\nx")
        self.assertEqual(got.errors, ("more than 3 parts, the rest is left out",))

    def test_body_that_is_no_text(self) -> None:
        got = mail("Content-Type: application/pdf; name=a.pdf", "", "%PDF")
        self.assertEqual((got.text, got.attachments[0].filename), ("", "a.pdf"))
        self.assertEqual(got.attachments[0].content, b"%PDF")

    def test_body_of_another_kind_of_text(self) -> None:
        self.assertEqual(mail("Content-Type: text/markdown", "", "# x").text, "# x")
        got = self.multipart("--b", "Content-Type: text/calendar", "", "BEGIN", "--b--")
        self.assertEqual((got.text, got.attachments[0].content), ("", b"BEGIN"))

    def test_text_with_a_name_is_an_attachment(self) -> None:
        got = mail("Content-Disposition: inline; filename=notes.txt", "", "x")
        self.assertEqual((got.attachments[0].filename, got.text), ("notes.txt", ""))
        self.assertEqual(got.attachments[0].disposition, "inline")

    def test_type_that_is_none(self) -> None:
        self.assertEqual(mail("Content-Type: text", "", "x").text, "x")
        got = mail("Content-Type: a/b c", "", "x")
        self.assertEqual(got.attachments[0].content_type, "application/octet-stream")

    def test_file_names_have_no_path(self) -> None:
        for given_name, kept in (
            ("../../etc/passwd", "passwd"),
            (r"C:\\Documents\\x.doc", "x.doc"),
            ("..", ""),
            ("a" * 300, "a" * 255),
        ):
            got = mail(f'Content-Disposition: attachment; filename="{given_name}"', "", "x")
            self.assertEqual(got.attachments[0].filename, kept)

    def test_reply_of_a_page_only(self) -> None:
        got = mail(
            "Content-Type: text/html",
            "",
            "<div>Yes.</div><div>On 1 May 2024, Bob wrote:<br></div><blockquote>No?</blockquote>",
        )
        self.assertEqual((got.text, got.reply), ("", "Yes."))


class TransferEncodingTests(SynchronousTestCase):
    def decoded(self, encoding: str, *lines: str) -> tuple[bytes, tuple[str, ...]]:
        got = mail("Content-Type: x/y", f"Content-Transfer-Encoding: {encoding}", "", *lines)
        return got.attachments[0].content, got.errors

    def test_base64(self) -> None:
        self.assertEqual(self.decoded("BASE64", "SGVsbG8g", "V29ybGQ="), (b"Hello World", ()))

    def test_base64_without_padding(self) -> None:
        self.assertEqual(self.decoded("base64", "SGVsbG8gV29ybGQ"), (b"Hello World", ()))

    def test_broken_base64(self) -> None:
        broken = ("attachment 1: broken base64",)
        self.assertEqual(self.decoded("base64", "SGVs!bG8*"), (b"Hello", broken))
        self.assertEqual(self.decoded("base64", "SGVsb"), (b"Hel", broken))
        self.assertEqual(self.decoded("base64", "SGVsbG8=", "V29ybGQ="), (b"Hello", broken))
        self.assertEqual(self.decoded("base64", "!!"), (b"", broken))

    def test_quoted_printable(self) -> None:
        self.assertEqual(self.decoded("quoted-printable", "a=3Db=", "c=zz"), (b"a=bc=zz", ()))

    def test_more_than_a_word(self) -> None:
        for encoding in ("base64;", "BASE64 ; x=y", "(so) base64 (it is)", " base64\t"):
            got = mail(f"Content-Transfer-Encoding: {encoding}", "", "SGkh")
            self.assertEqual((got.text, got.errors), ("Hi!", ()), encoding)

    def test_unknown(self) -> None:
        self.assertEqual(
            self.decoded("x-foo", "abc"),
            (b"abc", ("attachment 1: unknown transfer encoding, given as it came",)),
        )


class CharsetTests(SynchronousTestCase):
    def text(self, octets: bytes, charset: str) -> tuple[str, tuple[str, ...]]:
        notes = Notes()
        return decoded(octets, charset, "x", notes), notes.all()

    def test_known(self) -> None:
        for charset, octets, text in (
            ("utf-8", "€".encode(), "€"),
            ("iso-8859-1", b"\xe4\x80", "ä€"),
            ("windows-1251", b"\xcf", "П"),
            ("koi8-u", b"\xa4", "є"),
            ("gb2312", "汉字".encode("gb18030"), "汉字"),
            ("iso-2022-jp", b"\x1b$B4A\x1b(B", "漢"),
            ("KS_C_5601-1987", "한".encode("cp949"), "한"),
            ("utf-16le", "x€".encode("utf-16le"), "x€"),
            ("us-ascii", b"plain", "plain"),
        ):
            self.assertEqual(self.text(octets, charset), (text, ()), charset)

    def test_undeclared(self) -> None:
        self.assertEqual(self.text("ä".encode(), ""), ("ä", ()))
        self.assertEqual(
            self.text(b"\xe4", ""),
            ("ä", ("x: octets above 127 without a charset that explains them",)),
        )

    def test_lying(self) -> None:
        note = ("x: not valid in its charset",)
        self.assertEqual(self.text(b"a\xff", "utf-8"), ("a\ufffd", note))
        self.assertEqual(self.text("ä".encode(), "us-ascii"), ("ä", note))
        self.assertEqual(self.text(b"\x81", "windows-1252"), ("\ufffd", note))

    def test_unknown_and_what_is_no_charset(self) -> None:
        for charset in ("x-nothing", "base64", "zlib", "rot13", "unicode_escape", "idna"):
            self.assertEqual(self.text(b"abc", charset), ("abc", ("x: unknown charset",)), charset)
        self.assertIsNone(codec_of("punycode"))
        self.assertIsNone(codec_of("\0"))
        self.assertIsNone(codec_of("ü"))
        self.assertIsNone(codec_of("u" * 100))

    def test_no_lone_surrogate(self) -> None:
        self.assertEqual(self.text(b"a+2AA-b", "utf-7")[0], "a\ufffdb")

    def test_nul_and_byte_order_mark(self) -> None:
        got = mail(
            *("Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: base64"),
            *("", "77u/YQBi"),
        )
        self.assertEqual(got.text, "a\ufffdb")
        self.assertEqual(got.errors, ("text: NUL characters are replaced",))

    def test_bare_carriage_returns(self) -> None:
        self.assertEqual(mail("", "a\rb").text, "a\nb")

    def test_charset_of_a_page(self) -> None:
        got = mail("Content-Type: text/html; charset=iso-8859-15", "", b"\xa4")
        self.assertEqual(got.html, "€")


class FieldTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.notes = Notes()

    def words(self, text: str) -> str:
        return fields.decoded_words(text, self.notes)

    def test_encoded_words(self) -> None:
        for text, wanted in (
            ("=?iso-8859-1?q?Andr=E9?=", "André"),
            ("=?UTF-8?B?4oKs?= 5", "€ 5"),
            ("a =?utf-8?q?b?= c =?utf-8?q?d?=", "a b c d"),
            ("=?utf-8?q?a?=  =?utf-8?q?b_c?=", "ab c"),
            ("=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),
            ("=?utf-8?q?=e2=82=ac?= =?iso-8859-1?q?=e4?=", "€ä"),
            ("=?utf-8*de?q?x?=", "x"),
            ("=?utf-8?q?with space?=", "with space"),
            ("=?utf-8?x?y?=", "=?utf-8?x?y?="),
            ("=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
            ("=?nowhere?q?x?=", "x"),
        ):
            self.assertEqual(self.words(text), wanted)

    def test_encoded_word_makes_no_line(self) -> None:
        self.assertEqual(self.words("=?utf-8?q?a=0D=0ABcc:_x=00?="), "a  Bcc: x ")

    def test_raw_octets(self) -> None:
        self.assertEqual(mail("Subject: Ä", "").subject, "Ä")
        self.assertEqual(mail(b"Subject: \xc4", "").subject, "Ä")

    def test_folding_and_case(self) -> None:
        got = mail("SUBJECT : a", "\tb", " ", "X-Empty:", "")
        self.assertEqual(got.headers, (("SUBJECT", "a\tb".replace("\t", " ")), ("X-Empty", "")))

    def test_too_many_fields(self) -> None:
        got = mail(*["A: b"] * 5, "", "text", limits=Limits(fields=3))
        self.assertEqual((len(got.headers), got.text), (3, "text"))
        self.assertEqual(got.errors, ("header: more than 3 fields, the rest is left out",))

    def test_too_long_a_header(self) -> None:
        got = mail("A: b", "C: " + "d" * 100, "", "text", limits=Limits(header=50))
        self.assertEqual((got.headers, got.text), ((("A", "b"),), "text"))
        self.assertEqual(got.errors, ("header: longer than 50 octets, the rest is left out",))
        got = mail("C: " + "d" * 100, "", "text", limits=Limits(header=50))
        self.assertEqual(got.headers, (("C", "d" * 47),))

    def parameters(self, text: str) -> dict[str, str]:
        return fields.parameters(text, self.notes)[1]

    def test_parameters(self) -> None:
        for text, wanted in (
            ('a/b; Name="x;y\\"z"; q = 1', {"name": 'x;y"z', "q": "1"}),
            ("a/b; name=one name.txt; x=", {"name": "one name.txt", "x": ""}),
            ("a; n*=utf-8'en'%e2%82%ac%20x", {"n": "€ x"}),
            ("a; n*1*=%ac; n*0*=utf-8''%e2%82; n*2=y", {"n": "€y"}),
            ("a; n=plain; n*=utf-8''better", {"n": "better"}),
            ("a; n*=nothing", {"n": "nothing"}),
            ('a; n="=?utf-8?q?=c3=a4?="', {"n": "ä"}),
            ("a; n=1; n=2", {"n": "1"}),
            ('a; n="open', {"n": "open"}),
        ):
            self.assertEqual(self.parameters(text), wanted, text)

    def test_too_many_parameters(self) -> None:
        self.assertEqual(len(self.parameters("a;" + ";".join(f"p{n}=x" for n in range(300)))), 200)
        self.assertEqual(
            self.notes.all(), ("header: more than 200 parameters, the rest is left out",)
        )

    def boxes(self, text: str, limit: int = 100) -> list[tuple[str, str]]:
        found = fields.addresses(text, Limits(addresses=limit), self.notes)
        return [(box.name, box.address) for box in found]

    def test_addresses(self) -> None:
        for text, wanted in (
            ("a@x.org", [("", "a@x.org")]),
            ("A B <a@x.org>,, b@x.org", [("A B", "a@x.org"), ("", "b@x.org")]),
            ('"B, A" <a@x.org>', [("B, A", "a@x.org")]),
            ('"B \\"C\\"" <a@x.org>', [('B "C"', "a@x.org")]),
            ("a@x.org (A (really) B)", [("A (really) B", "a@x.org")]),
            ("a@x.org (open", [("open", "a@x.org")]),
            ('"a b"@x.org', [("", '"a b"@x.org')]),
            ('X <"a>b"@x.org>', [("X", '"a>b"@x.org')]),
            ("<@a:b@x.org>", [("", "b@x.org")]),
            ("undisclosed-recipients:;", []),
            ("G: a@x.org, b@x.org;", [("", "a@x.org"), ("", "b@x.org")]),
            ("=?utf-8?q?=c3=84, B?= <a@x.org>", [("Ä, B", "a@x.org")]),
            ("=?utf-8?q?a=40evil?=@x.org", [("", "=?utf-8?q?a=40evil?=@x.org")]),
            ("Jörg <jörg@bücher.example>", [("Jörg", "jörg@bücher.example")]),
            ("A B", [("A B", "")]),
            ("A B a@x.org", [("A B", "a@x.org")]),
            ("postmaster", [("", "postmaster")]),
            ("<>", []),
            ("A <a@x.org", [("A", "a@x.org")]),
            ("A <a@[IPv6:::1]>", [("A", "a@[IPv6:::1]")]),
            ("", []),
            ('"open', [("", "open")]),
            ("\\", [("", "\\")]),
        ):
            self.assertEqual(self.boxes(text), wanted, text)

    def test_too_many_addresses(self) -> None:
        self.assertEqual(len(self.boxes("a@x," * 5, limit=3)), 3)
        self.assertEqual(self.notes.all(), ("header: more than 3 addresses, the rest is left out",))

    def test_dates(self) -> None:
        for text, wanted in (
            ("Mon, 1 Jan 2024 10:00:00 -0500", "2024-01-01T10:00:00-05:00"),
            ("1 Jan 24 10:00 GMT", "2024-01-01T10:00:00+00:00"),
            ("Mon, 1 Jan 2024 10:00:00 -0000", "2024-01-01T10:00:00+00:00"),
            ("yesterday", ""),
            ("Mon, 99 Jan 2024 99:00:00 +0000", ""),
            ("Mon, 1 Jan 99999999999 10:00:00 +0000", ""),
            ("1 Jan 2024 10:00:00 +99999999999999999999", ""),
            ("", ""),
        ):
            self.assertEqual(fields.date(text, self.notes), wanted, text)
        self.assertEqual(self.notes.all(), ("Date: not a date",))

    def test_identifiers(self) -> None:
        for text, wanted in (
            ("<a@b>", "a@b"),
            ("a@b", "a@b"),
            (" (x) <a@b> <c@d>", "a@b"),
            ("<a@b", "a@b"),
            ("", ""),
        ):
            self.assertEqual(fields.identifier(text), wanted)

    def test_notes_are_bounded(self) -> None:
        for number in range(1000):
            self.notes.add(str(number))
        self.assertEqual(len(self.notes.all()), 50)


#: What a hostile or broken mail is made of.
_SCRAPS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"--b", b"--b--", b"--", b":", b";", b'"', b"\\"),
        *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: text/html\r\n"),
        *(b"Content-Disposition: attachment; filename*0*=utf-7''%2b2AA-\r\n", b"From: ", b"To: "),
        *(b"Content-Transfer-Encoding: base64\r\n", b"charset=utf-16", b"=?utf-8?b?", b"?=", b"<"),
        *(
            b"Date: 1 Jan 2024\r\n",
            b"\x00",
            b"\xff\xfe",
            b"\xd8\x00",
            b"(",
            b")",
            b",",
            b"=",
            b"&#",
        ),
        *(b"On 1 May, Bob <b@x> wrote:\r\n", b"> ", b"-- \r\n", b"From: x\r\nSent: y\r\nTo: z\r\n"),
        *(b"+2AA-", b"<blockquote>", b"<script", b"<!--", b"SGVsbG8=", "é€𝄞".encode()),
    ]
)


#: What a multipart is taken apart by.
_MARKS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b"\n--b\n", b"\r\n--b\r\n", b"--b", b"--b--", b"--c\n", b"--c--"),
        *(b"Content-Type: multipart/mixed; boundary=b\n\n", b"Content-Type: message/rfc822\n"),
        b"Content-Type: multipart/digest; boundary=c\n\n",
    ]
)


class AnyOctetsTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(_SCRAPS, st.binary(max_size=8)), max_size=40))
    def test_whatever_comes_is_parsed_into_valid_unicode(self, scraps: list[bytes]) -> None:
        got = parse(b"".join(scraps), Limits(parts=5, depth=3, fields=10, addresses=5))
        self.assertLessEqual(len(got.errors), 50)
        for text in (
            *(got.text, got.html, got.reply, got.signature, got.subject, got.date),
            *(piece for header in got.headers for piece in header),
            *(piece for box in got.sender + got.to for piece in (box.name, box.address)),
            *(piece for a in got.attachments for piece in (a.filename, a.charset, a.content_id)),
        ):
            text.encode("utf-8")
            self.assertNotIn("\0", text)
        for _, value in got.headers:
            self.assertNotIn("\n", value)
            self.assertNotIn("\r", value)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(_SCRAPS, _MARKS), max_size=60))
    def test_parts_follow_each_other(self, scraps: list[bytes]) -> None:
        """No part begins behind its end, or before the end of the last: they are cut out by that.

        Compiled, a slice of octets whose end lies before its start raises SystemError.
        """
        octets = b"".join((b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", *scraps))
        position = 0
        for part in Tree(octets, Limits(), Notes()).leaves:
            self.assertEqual(
                [position, part.head, part.start, part.end, len(octets)],
                sorted([position, part.head, part.start, part.end, len(octets)]),
            )
            position = part.end
