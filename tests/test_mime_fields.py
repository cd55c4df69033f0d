"""Header blocks are split as the plainest way to do it would."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.mime.fields import addresses, body_start, decoded_words, split_fields
from mailsvc.mime.limits import Limits, Notes
from mailsvc.parsed import Mailbox

_SCRAPS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"A", b"Subject: x", b"From ", b">From ", b"\xff"),
    *(b"To:a\r\n", b"B : b\r\n c\r\n", b"\r\n\r\n", b"\n\n"),
]
_BLOCKS = st.lists(st.sampled_from(_SCRAPS), max_size=12).map(b"".join)
_EMPTY_LINE = re.compile(rb"\r?\n\r?\n")


def plain_body_start(octets: bytes, start: int, end: int) -> tuple[int, int]:
    for opening in (b"\r\n", b"\n"):
        if octets[start:end].startswith(opening):
            return start, start + len(opening)
    found = _EMPTY_LINE.search(octets, start, end)
    return (found.start(), found.end()) if found else (end, end)


def plain_split(block: bytes) -> tuple[list[tuple[str, bytes]], int | None]:
    fields: list[tuple[str, list[bytes]]] = []
    offset = 0
    stray = None
    open_field = False
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        if line[:1] in (b" ", b"\t") and open_field:
            fields[-1][1].append(line)
        elif colon and re.fullmatch(rb"[!-~]+", name):
            fields.append((name.decode("ascii"), [value]))
            open_field = True
        elif line.strip() and not (offset == 0 and line.startswith((b"From ", b">From "))):
            stray = offset
            break
        else:
            open_field = False
        offset += len(line) + 1
    joined = [(name, b"".join(lines).replace(b"\r", b"").strip()) for name, lines in fields]
    return joined, stray


class HeaderBlockTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=500)
    @given(_BLOCKS, st.integers(0, 9), st.integers(0, 9))
    def test_where_the_body_starts(self, octets: bytes, before: int, after: int) -> None:
        start = min(before, len(octets))
        end = max(start, len(octets) - after)
        self.assertEqual(body_start(octets, start, end), plain_body_start(octets, start, end))

    @settings(deadline=None, max_examples=500)
    @given(_BLOCKS)
    def test_fields(self, octets: bytes) -> None:
        block = octets[: body_start(octets, 0, len(octets))[0]]
        fields, stray = split_fields(block, Limits(), Notes())
        given_fields = [(name, value.encode("ascii", "surrogateescape")) for name, value in fields]
        self.assertEqual((given_fields, stray), plain_split(block))


class PhraseTests(SynchronousTestCase):
    """Encoded words in an address field stand for words, and never for delimiters."""

    def test_specials_are_quoted(self) -> None:
        for written, shown in (
            ("=?utf-8?q?A=2C_B?= <a@x>", '"A, B" <a@x>'),
            ('"=?utf-8?q?A=2C_B?=" <a@x>', '"A, B" <a@x>'),
            ('"=?utf-8?q?A=22_B?=" <a@x>', '"A\\" B" <a@x>'),
            ("=?utf-8?q?A=22=5C_B?= <a@x>", '"A\\"\\\\ B" <a@x>'),
            ("=?utf-8?q?A_B?= <a@x>, =?utf-8?q?C=40D?= <c@x>", 'A B <a@x>, "C@D" <c@x>'),
            ('"A" =?utf-8?q?B=3B?= <a@x>', '"A" "B;" <a@x>'),
        ):
            self.assertEqual(decoded_words(written, Notes(), phrases=True), shown)

    @settings(deadline=None)
    @given(st.text(st.sampled_from('aö ,;:<>@"\\()[].'), max_size=8))
    def test_it_stays_the_same_list(self, name: str) -> None:
        octets = "".join(f"={octet:02X}" for octet in name.encode())
        written = f"=?utf-8?q?{octets}?= <a@example.org>, b@example.org"
        shown = decoded_words(written, Notes(), phrases=True)
        found = addresses(shown, Limits(), Notes())
        wanted = (Mailbox(name.strip(), "a@example.org"), Mailbox("", "b@example.org"))
        self.assertEqual(
            [(box.name.strip(), box.address) for box in found],
            [(box.name, box.address) for box in wanted],
        )
