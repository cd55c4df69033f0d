"""The values: addresses as text, replies as octets.  Requirements 13 and 25."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Address, Reply

TEXT = st.text(max_size=700)


class AddressTests(SynchronousTestCase):
    """Requirement 13: an address is written so that it can be read again."""

    def test_plain(self) -> None:
        self.assertEqual(str(Address("Bob.Smith+tag", "Example.com")), "Bob.Smith+tag@Example.com")
        self.assertEqual(str(Address("jörg", "exämple.com")), "jörg@exämple.com")
        self.assertEqual(str(Address("x", "[192.0.2.1]")), "x@[192.0.2.1]")

    def test_postmaster(self) -> None:
        self.assertEqual(str(Address("Postmaster", "")), "Postmaster")

    def test_quotes_where_they_are_needed(self) -> None:
        for local, wanted in (
            ("", '""'),
            ("a b", '"a b"'),
            ("a@b", '"a@b"'),
            (".a", '".a"'),
            ("a..b", '"a..b"'),
            ('a"b', '"a\\"b"'),
            ("a\\b", '"a\\\\b"'),
        ):
            self.assertEqual(str(Address(local, "example.com")), f"{wanted}@example.com")


class ReplyTests(SynchronousTestCase):
    """Requirement 25."""

    def test_one_line(self) -> None:
        self.assertEqual(Reply(250, "Ok", "2.0.0").encode(), b"250 2.0.0 Ok\r\n")
        self.assertEqual(Reply(354, "Go").encode(), b"354 Go\r\n")
        self.assertEqual(str(Reply(250, "Ok", "2.0.0")), "250 2.0.0 Ok")
        self.assertEqual(str(Reply(354, "Go")), "354 Go")

    def test_several_lines(self) -> None:
        self.assertEqual(
            Reply(214, "one\ntwo", "2.0.0").encode(), b"214-2.0.0 one\r\n214 2.0.0 two\r\n"
        )

    def test_an_empty_line_gets_a_text(self) -> None:
        self.assertEqual(Reply(250, "").encode(), b"250 -\r\n")
        self.assertEqual(Reply(250, "a\n\nb").encode(), b"250-a\r\n250--\r\n250 b\r\n")

    def test_utf8_only_where_it_is_understood(self) -> None:
        reply = Reply(550, "No jörg\r\t\x85", "5.1.1")
        self.assertEqual(reply.encode(), b"550 5.1.1 No j?rg?\t?\r\n")
        self.assertEqual(reply.encode(utf8=True), "550 5.1.1 No jörg?\t?\r\n".encode())

    def test_a_long_line_is_cut_between_characters(self) -> None:
        encoded = Reply(550, "ä" * 300, "5.1.1").encode(utf8=True)
        self.assertEqual(encoded.decode(), "550 5.1.1 " + "ä" * 237 + "\r\n")
        self.assertEqual(len(Reply(550, "a" * 600).encode()), 486)

    @settings(deadline=None)
    @given(
        st.text(st.characters(min_codepoint=9, max_codepoint=127), max_size=40),
        st.integers(1, 12),
        st.sampled_from(["", "2.0.0"]),
    )
    def test_short_and_long_texts_are_written_alike(
        self, text: str, times: int, status: str
    ) -> None:
        """Each line for itself, whatever its length."""
        text *= times
        lines = []
        for line in text.split("\n"):
            clean = re.sub(r"[^\t -~]", "?", line) or "-"
            lines.append((f"{status} " if status else "") + clean)
        wanted = [f"250-{line[:480]}\r\n" for line in lines]
        wanted[-1] = wanted[-1].replace("-", " ", 1)
        self.assertEqual(Reply(250, text, status).encode().decode(), "".join(wanted))

    @settings(deadline=None, max_examples=500)
    @given(TEXT, st.sampled_from(["", "2.0.0", "5.123.456"]), st.booleans())
    def test_any_text(self, text: str, status: str, utf8: bool) -> None:
        encoded = Reply(250, text, status).encode(utf8=utf8)
        lines = encoded.split(b"\r\n")
        self.assertEqual(lines.pop(), b"")
        prefix = f" {status}".rstrip().encode()
        for number, line in enumerate(lines, 1):
            self.assertLessEqual(len(line) + 2, 512)
            self.assertEqual(line[:4], b"250 " if number == len(lines) else b"250-")
            self.assertTrue(line[4:].startswith(prefix.lstrip()))
            self.assertGreater(len(line), 4 + len(prefix))
            if utf8:
                self.assertNotRegex(line.decode(), "[\x00-\x08\x0a-\x1f\x7f-\x9f]")
            else:
                self.assertIsNotNone(re.fullmatch(rb"[\t\x20-\x7e]+", line))
