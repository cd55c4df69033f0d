"""Framing, repair and judgement of content, against plain twins that go octet by octet.

Requirements 2, 4, 5, 7, 12, 20, 21, 42 and 43.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.smtp import replies
from mailsvc.smtp.content import Content, DotFraming, Repair

#: Octets that matter, and one that does not.
TRICKY = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"\r",
            b"\n",
            b".",
            b"..",
            b"\r\n.\r\n",
            b"\r\n.",
            b"\0",
            b"x",
            b"\xff",
            "é".encode(),
            "\N{GRINNING FACE}".encode(),
        ]
    ),
    max_size=24,
).map(b"".join)
#: The same without NUL.
TEXT = TRICKY.map(lambda octets: octets.replace(b"\0", b"y"))


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    """Cut at the places that lie within."""
    marks = sorted({0, len(octets), *(place for place in places if place < len(octets))})
    return [octets[start:stop] for start, stop in zip(marks, marks[1:], strict=False)]


PLACES = st.lists(st.integers(1, 60), max_size=12)


def plain_frame(stream: bytes) -> tuple[bytes, bytes]:
    """Content and rest of a stream with an end, as RFC 5321 section 4.1.1.4 has it."""
    before, _, after = (b"\r\n" + stream).partition(b"\r\n.\r\n")
    return (before + b"\r\n")[2:], after


def plain_unstuff(content: bytes) -> bytes:
    """RFC 5321 section 4.5.2, line by line."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def frame(chunks: list[bytes]) -> tuple[bytes, bytes | None, int]:
    """What DotFraming makes of the chunks: content, what is left behind the end, dots."""
    framing = DotFraming()
    content = b""
    for index, chunk in enumerate(chunks):
        octets, end = framing.take(chunk, 0)
        content += octets
        if end >= 0:
            return content, chunk[end:] + b"".join(chunks[index + 1 :]), framing.dots
    return content, None, framing.dots


class DotFramingTests(SynchronousTestCase):
    """Requirements 2 and 4."""

    @settings(max_examples=1500, deadline=None)
    @given(TRICKY, PLACES)
    def test_equals_the_plain_twin(self, octets: bytes, places: list[int]) -> None:
        stream = octets + b"\r\n.\r\nQUIT\r\n"
        before, rest, dots = frame(cut(stream, places))
        plain = plain_frame(stream)
        self.assertEqual((before, rest), plain)
        self.assertEqual(len(before) - dots, len(plain_unstuff(before)))

    @settings(max_examples=500, deadline=None)
    @given(TRICKY, PLACES)
    def test_what_is_held_is_at_most_two_octets(self, octets: bytes, places: list[int]) -> None:
        octets = octets.replace(b"\r\n.\r\n", b"\r\n..\r\n")
        if octets.startswith(b".\r\n"):
            octets = b"x" + octets
        content, rest, _ = frame(cut(octets, places))
        if rest is None:
            self.assertTrue(octets.startswith(content))
            self.assertLessEqual(len(octets) - len(content), 2)

    def test_every_single_cut(self) -> None:
        stream = b"..a\r\n.\r.\r\n..\r\n\r\n.\r\nQUIT\r\n"
        wanted = (b"..a\r\n.\r.\r\n..\r\n\r\n", b"QUIT\r\n", 3)
        for place in range(len(stream) + 1):
            self.assertEqual(frame([stream[:place], stream[place:]]), wanted, place)

    def test_an_empty_chunk_changes_nothing(self) -> None:
        self.assertEqual(frame([b"a\r\n.", b"", b"\r", b"", b"\n"])[:2], (b"a\r\n", b""))

    def test_a_whole_chunk_is_not_copied(self) -> None:
        chunk = b"x" * 1000
        octets, end = DotFraming().take(chunk, 0)
        self.assertIs(octets, chunk)
        self.assertEqual(end, -1)


def plain_repair(content: bytes) -> bytes:
    """Each bare CR or LF becomes CRLF."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", content)


def repair(chunks: list[bytes], *, stuffed: bool) -> bytes:
    whole = Repair(stuffed=stuffed)
    return b"".join([*(whole.take(chunk) for chunk in chunks), whole.end()])


class RepairTests(SynchronousTestCase):
    """Requirement 4: repaired, never passed on."""

    @settings(max_examples=1500, deadline=None)
    @given(TEXT, PLACES)
    def test_unstuffed_it_equals_the_plain_twin(self, octets: bytes, places: list[int]) -> None:
        content = plain_frame(octets + b"\r\n.\r\n")[0]
        framing = DotFraming()
        pieces = []
        for chunk in cut(content + b".\r\n", places):
            piece, end = framing.take(chunk, 0)
            pieces.append(piece)
        self.assertGreater(end, 0)
        repaired = repair(pieces, stuffed=True)
        self.assertEqual(plain_unstuff(repaired), plain_repair(plain_unstuff(content)))
        self.assertNotIn(b"\r\n.\r\n", b"\r\n" + repaired)
        self.assertEqual(plain_repair(repaired), repaired)

    @settings(max_examples=500, deadline=None)
    @given(TEXT, PLACES)
    def test_unstuffed_content_equals_the_plain_twin(
        self, octets: bytes, places: list[int]
    ) -> None:
        self.assertEqual(repair(cut(octets, places), stuffed=False), plain_repair(octets))


def content(
    *,
    stuffed: bool = False,
    binary: bool = False,
    repair: bool = False,
    limits: tuple[int, int] = (10_000, 10_000),
    header_limit: int = 1000,
    hop_limit: int = 3,
) -> Content:
    return Content(
        stuffed=stuffed,
        binary=binary,
        repair=repair,
        limits=limits,
        header_limit=header_limit,
        hop_limit=hop_limit,
    )


def judge(subject: Content, chunks: list[bytes]) -> bytes | None:
    for chunk in chunks:
        subject.add(chunk)
        subject.fault()
    subject.end()
    return subject.fault()


def plain_judge(octets: bytes, limit: int, header_limit: int, hop_limit: int) -> bytes | None:
    """The first reason in the order of Content.fault."""
    if b"\0" in octets:
        return replies.NUL_IN_CONTENT
    if plain_repair(octets) != octets:
        return replies.BARE_NEWLINE_IN_CONTENT
    if len(octets) > limit:
        return replies.TOO_LARGE
    lines = octets.split(b"\r\n")
    blank = lines.index(b"") if b"" in lines[:-1] else None
    header = lines if blank is None else lines[:blank]
    size = len(octets) if blank is None else len(b"\r\n".join([*header, b"", b""]))
    if not header:
        size = 2 if blank is not None else len(octets)
    if size > header_limit:
        return replies.HEADER_TOO_LARGE
    if sum(line.lower().startswith(b"received:") for line in header) > hop_limit:
        return replies.TOO_MANY_HOPS
    return None


MAIL = st.lists(
    st.sampled_from(
        [b"Received: x\r\n", b"received:\r\n", b"Subject: y\r\n", b" z\r\n", b"\r\n", b"\r", b"\n"]
        + [b"Received", b"x" * 40, b"\0"]
    ),
    max_size=20,
).map(b"".join)


class ContentTests(SynchronousTestCase):
    """Requirements 2, 4, 12, 20, 42: what is refused, and that the cut does not matter."""

    @settings(max_examples=2000, deadline=None)
    @given(MAIL, PLACES)
    def test_equals_the_plain_twin(self, octets: bytes, places: list[int]) -> None:
        subject = content(limits=(180, 180), header_limit=100)
        self.assertEqual(judge(subject, cut(octets, places)), plain_judge(octets, 180, 100, 3))

    def test_twenty_five_hops_pass(self) -> None:
        """Requirement 20."""
        subject = content(hop_limit=100, header_limit=100_000)
        self.assertIsNone(judge(subject, [b"Received: from a by b\r\n" * 25, b"\r\nbody"]))

    def test_more_than_a_hundred_hops_do_not(self) -> None:
        """Requirement 20."""
        for hops, wanted in ((100, None), (101, replies.TOO_MANY_HOPS)):
            subject = content(hop_limit=100, header_limit=100_000)
            header = b"Received: from a by b\r\n" * hops
            self.assertEqual(judge(subject, cut(header + b"\r\nbody", [7, 30, 999])), wanted)

    def test_binary_content_is_free(self) -> None:
        """Requirement 4: BODY=BINARYMIME."""
        self.assertIsNone(judge(content(binary=True), [b"\0\r", b"\n\n\r\r"]))
        self.assertIsNone(judge(content(binary=True, repair=True), [b"\0\r", b"\n\n\r\r"]))

    def test_repair_judges_what_is_stored(self) -> None:
        subject = content(repair=True, hop_limit=0)
        self.assertEqual(
            subject.add(b"Subject: x\nReceived: y\n\n"), b"Subject: x\r\nReceived: y\r\n\r\n"
        )
        self.assertEqual(subject.fault(), replies.TOO_MANY_HOPS)
        self.assertEqual(subject.size, 27)

    def test_repair_does_not_mend_nul(self) -> None:
        self.assertEqual(judge(content(repair=True), [b"a\0b"]), replies.NUL_IN_CONTENT)

    def test_the_lower_limit_has_its_own_reply(self) -> None:
        """Requirement 12."""
        self.assertEqual(
            judge(content(limits=(20, 10)), [b"x" * 11]), replies.TOO_LARGE_FOR_RECIPIENT
        )
        self.assertEqual(judge(content(limits=(20, 10)), [b"x" * 21]), replies.TOO_LARGE)

    def test_an_announced_chunk_is_judged_at_once(self) -> None:
        """Requirement 23."""
        subject = content(limits=(20, 20))
        subject.add(b"x" * 10)
        subject.announce(10)
        self.assertIsNone(subject.fault())
        subject.announce(11)
        self.assertEqual(subject.fault(), replies.TOO_LARGE)

    def test_memory_does_not_grow_with_the_header(self) -> None:
        """Requirement 43: what is kept across chunks is a few octets."""
        subject = content(limits=(1 << 30, 1 << 30), header_limit=1 << 30)
        for _ in range(100):
            subject.add(b"X-Long: " + b"y" * 10_000)
        self.assertLessEqual(len(subject._edge), 10)

    def test_long_lines_arrive(self) -> None:
        """Requirement 7: lines of any length are taken as they are."""
        line = b"\r\n" + b"x" * 5_000 + b"\r\n"
        subject = content()
        self.assertEqual(subject.add(line), line)
        self.assertIsNone(subject.fault())
