"""Decoding by chunks gives what the parser gives for the whole part."""

from __future__ import annotations

import base64
import binascii
import quopri

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.mime.decoding import decoder, quoted_printable
from mailsvc.mime.fields import base64_octets
from mailsvc.mime.limits import Limits, Notes
from mailsvc.mime.mail import parse


def _decoded(encoding: str, chunks: list[bytes]) -> bytes:
    undo = decoder(encoding)
    return b"".join([*map(undo.feed, chunks), undo.end()])


def _chunks(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def plainly(text: bytes) -> bytes:
    """Decode quoted-printable in the plainest way."""
    lines = text.split(b"\n")
    ends = [b"\r\n" if line.endswith(b"\r") else b"\n" for line in lines[:-1]]
    lines = [
        line.removesuffix(b"\r").rstrip(b" \t") + end
        for line, end in zip(lines, ends, strict=False)
    ] + [lines[-1].rstrip(b" \t")]
    return binascii.a2b_qp(b"".join(lines))


_SCRAPS = [b"=", b"=4", b"A", b"\r", b"\n", b"\r\n", b"=C3", b" ", b"\t", b"x", b"=  \r\n"]
_CUTS = st.lists(st.integers(0, 1000), max_size=12)


class DecodingTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(st.sampled_from([b"QUJD", b"QQ", b"=", b"\r\n", b"!", b"Z", b"==", b"YWI"])), _CUTS
    )
    def test_base64_broken_or_not(self, words: list[bytes], cuts: list[int]) -> None:
        text = b"".join(words)
        expected = base64_octets(text, "x", Notes())
        self.assertEqual(_decoded("base64", _chunks(text, cuts)), expected)

    @settings(deadline=None, max_examples=300)
    @given(st.lists(st.sampled_from(_SCRAPS)), _CUTS)
    def test_quoted_printable_broken_or_not(self, words: list[bytes], cuts: list[int]) -> None:
        text = b"".join(words)
        expected = plainly(text)
        self.assertEqual(quoted_printable(text), expected)
        self.assertEqual(_decoded("quoted-printable", _chunks(text, cuts)), expected)

    def test_blanks_at_the_end_of_a_line_do_not_count(self) -> None:
        """RFC 2045 section 6.7, rule 3."""
        for text, wanted in (
            (b"a \r\nb\t \nc  ", b"a\r\nb\nc"),
            (b"soft=  \r\nbreak", b"softbreak"),
            (b"meant=20\r\n=09\r\n", b"meant \r\n\t\r\n"),
            (b"a  b\tc", b"a  b\tc"),
            (b"a \rb", b"a \rb"),
            (b"a" + b" " * 1001 + b"\r\n", b"a \r\n"),
        ):
            self.assertEqual(quoted_printable(text), wanted)
            for size in (1, 2, 3, 500):
                chunks = [text[at : at + size] for at in range(0, len(text), size)]
                self.assertEqual(_decoded("quoted-printable", chunks), wanted)

    def test_many_lines_with_blanks(self) -> None:
        text = (b"a \r\n" * 9 + b"b" * 50_000 + b"\t \n" + b" " * 500) * 9
        self.assertEqual(quoted_printable(text), plainly(text))

    def test_what_is_held_back_is_bounded(self) -> None:
        undo = decoder("quoted-printable")
        given = decoded = 0
        for _ in range(50):
            given += 1000
            decoded += len(undo.feed(b" " * 1000))
            self.assertLess(given - decoded, 2002)

    def test_whole_files(self) -> None:
        octets = bytes(range(256)) * 300
        for encoding, text in (
            ("base64", base64.encodebytes(octets)),
            ("quoted-printable", quopri.encodestring(octets)),
            ("7bit", octets),
        ):
            chunks = [text[at : at + 997] for at in range(0, len(text), 997)]
            self.assertEqual(_decoded(encoding, chunks), octets)

    def test_a_line_without_an_end_is_not_kept(self) -> None:
        undo = decoder("quoted-printable")
        self.assertEqual(len(undo.feed(b"x" * 100_000)), 100_000)
        self.assertEqual(undo.feed(b"a=\r" + b"y" * 100_000), b"a")
        self.assertEqual(undo.feed(b"z" * 100_000), b"")
        self.assertEqual(undo.feed(b"\nb"), b"b")

    def test_every_attachment_of_a_mail_can_be_had_from_its_place(self) -> None:
        octets = (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\nContent-Type: text/plain\r\n\r\nHi.\r\n"
            b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
            b"iVBO\r\nRw0K!\r\nGgo=\r\n"
            b"--b\r\nContent-Type: application/x\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\na=3D=\r\nb\r\n"
            b"--b\r\nContent-Type: application/y\r\nContent-Transfer-Encoding: x-odd\r\n\r\nq\r\n"
            b"--b--\r\n"
        )
        attachments = parse(octets, Limits()).attachments
        self.assertEqual(len(attachments), 3)
        for each in attachments:
            self.assertEqual(_decoded(each.encoding, [octets[each.start : each.end]]), each.content)
