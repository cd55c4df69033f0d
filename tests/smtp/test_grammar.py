"""Names, paths, parameters and encoded words, beyond what the dialogues show.

Requirements 9, 11, 13, 22, 30 and 45.
"""

from __future__ import annotations

import base64
import binascii
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Address
from mailsvc.smtp import replies
from mailsvc.smtp.grammar import (
    decode_base64,
    decode_xtext,
    is_host,
    parse_mailbox,
    parse_path,
    parse_postmaster,
)
from mailsvc.smtp.parameters import read_mail, read_recipient
from mailsvc.smtp.policy import Policy

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


class PathTests(SynchronousTestCase):
    """Requirement 13."""

    @settings(deadline=None)
    @given(PRINTABLE, DOMAIN)
    def test_every_local_part_survives_its_quotes(self, local: str, domain: str) -> None:
        address = Address(local, domain)
        path = parse_path(f"<{address}>", 0)
        assert path is not None
        self.assertEqual((path.address, path.routed), (address, False))
        self.assertEqual(parse_mailbox(str(address)), address)

    @settings(deadline=None, max_examples=500)
    @given(st.text('<>@:,.[]"\\ax1-é\x00\r\n\t \u2028', max_size=20))
    def test_what_passes_is_written_back_as_it_was(self, text: str) -> None:
        """Requirement 45: no control character gets through, whatever is tried."""
        address = parse_mailbox(text)
        if address is not None:
            self.assertTrue(str(address).isprintable())
            self.assertEqual(parse_mailbox(str(address)), address)

    @settings(deadline=None, max_examples=500)
    @given(st.text("aB1.-_@+[]\u00e9\u0661", min_size=1, max_size=12), st.text("> @.", max_size=4))
    def test_the_quick_way_for_plain_words_equals_the_grammar(self, text: str, rest: str) -> None:
        path = parse_path(f"FROM:<{text}>{rest}", 5)
        address = parse_mailbox(text)
        self.assertEqual(path and (path.address, path.routed), address and (address, False))
        if path is not None:
            self.assertEqual(path.end, 7 + len(text))

    def test_the_end_is_told(self) -> None:
        path = parse_path("FROM:<a@b> SIZE=1", 5)
        assert path is not None
        self.assertEqual(path.end, 10)
        null = parse_path("FROM:<>", 5)
        assert null is not None
        self.assertEqual((null.address, null.end), (None, 7))

    def test_lengths(self) -> None:
        """Requirement 13: long local parts and domains, up to what the DNS can hold."""
        label = "a" * 63
        domain = ".".join([label, label, label, "a" * 61])
        self.assertEqual(len(domain), 253)
        for text, right in (
            (f"{'l' * 64}@{domain}", True),
            (f"{'l' * 256}@x", True),
            (f"{'l' * 257}@x", False),
            (f"{'ä' * 128}@x", True),
            (f"{'ä' * 129}@x", False),
            (f"a@{domain}.a", True),
            (f"a@{domain}.aa", False),
            (f"a@{domain}aaa", False),
            (f"a@{label}a", False),
            (f"a@{'ä' * 31}", True),
            (f"a@{'ä' * 32}", False),
        ):
            self.assertEqual(parse_mailbox(text) is not None, right, text)

    def test_a_long_hopeless_line_comes_to_an_end(self) -> None:
        """Requirement 6: the grammar is linear; a quadratic one would not end here in minutes."""
        for text in ("<" + "a." * 100_000, "<" + "a-" * 100_000 + "@", '<"' + "\\a" * 100_000):
            self.assertIsNone(parse_path(text, 0))
        self.assertIsNone(parse_path("<" + "@a," * 100_000, 0))
        self.assertIsNone(parse_path("<a@" + "a-" * 100_000, 0))

    def test_postmaster_is_ascii(self) -> None:
        """Requirement 14: letters that only look alike are another name."""
        self.assertIsNotNone(parse_postmaster("<POSTMASTER>", 0))
        self.assertIsNone(parse_postmaster("<po\u017ftmaster>", 0))


class HostTests(SynchronousTestCase):
    """Requirement 9."""

    @settings(deadline=None, max_examples=500)
    @given(st.text("ab1.-_[]:IPv6 <>()\r\n\té", max_size=20))
    def test_what_passes_is_harmless(self, text: str) -> None:
        if is_host(text):
            self.assertLessEqual(set(text), set(string.ascii_letters + string.digits + ".-_[]:"))

    def test_brackets_need_an_address(self) -> None:
        for text in ("[]", "[", "[1.2.3.4", "[1.2.3]", "[IPv6:]", "[::1]", "[1.2.3.4]x"):
            self.assertFalse(is_host(text), text)
        self.assertTrue(is_host("[ipv6:::1]"))


class EncodingTests(SynchronousTestCase):
    """Requirements 11 and 30."""

    @settings(deadline=None)
    @given(PRINTABLE)
    def test_xtext(self, text: str) -> None:
        encoded = "".join(c if c.isalnum() else f"+{ord(c):02X}" for c in text)
        self.assertEqual(decode_xtext(encoded), text)

    def test_bad_xtext(self) -> None:
        for text in ("+", "+2", "+2b", "a b", "a=b", "é", "+00", "+7F", "+FF", "+0D+0A"):
            self.assertIsNone(decode_xtext(text), text)

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_base64(self, octets: bytes) -> None:
        encoded = base64.b64encode(octets)
        self.assertEqual(decode_base64(encoded), octets)
        if encoded.endswith(b"="):
            self.assertIsNone(decode_base64(encoded[:-1]))

    @settings(deadline=None, max_examples=500)
    @given(st.text("AQ+/=-_ \n", max_size=12))
    def test_base64_is_strict(self, text: str) -> None:
        """Requirement 30: nothing passes that the strict decoder of the library refuses."""
        octets = text.encode()
        if decode_base64(octets) is not None:
            self.assertEqual(decode_base64(octets), binascii.a2b_base64(octets, strict_mode=True))
            self.assertEqual(len(octets) % 4, 0)


class ParameterTests(SynchronousTestCase):
    """Requirement 11; the dialogue ``parameters.txt`` has the plain cases."""

    POLICY = Policy("mx.example.com", notifications=True, mechanisms=("PLAIN",))

    def test_keywords_are_ascii(self) -> None:
        """Letters that become ASCII in upper case are not taken for it."""
        for word in ("BODY=8B\u0131TMIME", "RET=HDR\u017f"):
            self.assertEqual(
                read_mail(f" SMTPUTF8 {word}", self.POLICY, secure=False), replies.BAD_PARAMETER
            )

    def test_bounds(self) -> None:
        """RFC 3461 sections 4.2 and 4.4."""
        for length, right in ((100, True), (101, False)):
            found = read_mail(" ENVID=" + "e" * length, self.POLICY, secure=False)
            self.assertEqual(not isinstance(found, bytes), right)
        for length, right in ((500, True), (501, False)):
            text = " ORCPT=" + ("rfc822;" + "e" * 600)[:length]
            self.assertEqual(not isinstance(read_recipient(text, self.POLICY), bytes), right)

    def test_orcpt(self) -> None:
        """RFC 3461 section 4.2, RFC 6533 section 3."""
        for text, wanted in (
            ("rfc822;a+2Bb@x", "rfc822;a+b@x"),
            ("utf-8;\\x{20AC}@x", "utf-8;€@x"),
            ("utf-8;€@x", "utf-8;€@x"),
            ("utf-8;a\\x{2B}b@x", "utf-8;a+b@x"),
            ("X-any;y", "X-any;y"),
        ):
            found = read_recipient(f" ORCPT={text}", self.POLICY)
            assert not isinstance(found, bytes), text
            self.assertEqual(found.orcpt, wanted)
        for text in (
            "rfc822;",
            ";x",
            "rfc822",
            "ré;x",
            "utf-8;\\x{FFFFFF}",
            "utf-8;a+2Bb",
            "utf-8;+x",
        ):
            self.assertEqual(
                read_recipient(f" ORCPT={text}", self.POLICY), replies.BAD_PARAMETER, text
            )

    @settings(deadline=None, max_examples=500)
    @given(st.text(" =;+,\\{}xSIZEORCPTNOTIFY1€", max_size=25))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        """Requirement 45: no exception, and nothing unprintable."""
        found = read_mail(text, self.POLICY, secure=True)
        other = read_recipient(text, self.POLICY)
        if not isinstance(other, bytes):
            self.assertTrue(other.orcpt.isprintable())
        self.assertTrue(isinstance(found, bytes) or found.envid.isprintable())
