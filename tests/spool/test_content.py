"""Contents come back as they came, or are set aside: never in part, never another's."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Done, Retry
from mailsvc.spool import claims
from mailsvc.spool.claims import Claims
from mailsvc.spool.extent import (
    HEADER_SIZE,
    Damaged,
    DotCounter,
    UnstuffingReader,
    checked,
    header,
    unstuffed,
)
from mailsvc.spool.ids import delivery_id, is_message_id, new_message_id, split_id
from mailsvc.spool.records import Stored
from tests.spool.house import SpoolTestCase

LARGE = b"x" * 100_000
TEXT = st.binary(max_size=40).map(
    lambda b: b.translate(bytes(b"\r\n.x"[n % 4] for n in range(256)))
)


def stuff(content: bytes) -> bytes:
    """Stuff dots, line by line: the plain way."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


class ExtentTests(SynchronousTestCase):
    def stored(self, content: bytes = b"content") -> tuple[bytes, Stored]:
        crc = crc32(content)
        return header("m1", len(content), crc) + content, Stored(
            "m1", 1, 1, 0, None, len(content), crc, False, len(content)
        )

    def test_every_octet_is_checked(self) -> None:
        """A stale or torn extent is never taken for another's mail."""
        extent, stored = self.stored()
        self.assertEqual(checked(extent, stored), b"content")
        for place in range(len(extent)):
            torn = extent[:place] + bytes([extent[place] ^ 1]) + extent[place + 1 :]
            self.assertRaises(Damaged, checked, torn, stored)
            self.assertRaises(Damaged, checked, extent[:place], stored)
        self.assertRaises(Damaged, checked, extent, structs.replace(stored, message_id="m2"))
        self.assertRaises(Damaged, checked, bytes(HEADER_SIZE + 7), stored)

    @settings(deadline=None, max_examples=200)
    @given(TEXT, st.lists(st.integers(0, 60), max_size=5))
    def test_unstuffing_is_the_reverse_of_stuffing(self, content: bytes, cuts: list[int]) -> None:
        """However the reader asks, and however the chunks came."""
        wire = stuff(content)
        self.assertEqual(unstuffed(wire), content)
        counter = DotCounter()
        start = 0
        for cut in [*sorted(cuts), len(wire)]:
            counter.add(wire[start:cut])
            start = max(start, min(cut, len(wire)))
        self.assertEqual(len(wire) - counter.count, len(content))
        reader = UnstuffingReader(io.FileIO(self.file(wire)))
        self.assertTrue(reader.readable())
        read = b""
        while piece := reader.read((cuts or [3])[0] + 1):
            read += piece
        self.assertEqual(read, content)
        reader.close()
        reader.close()

    def file(self, octets: bytes) -> str:
        path = os.path.abspath("wire")
        Path(path).write_bytes(octets)
        return path


class IdTests(SynchronousTestCase):
    def test_ids(self) -> None:
        self.assertEqual(delivery_id("ab12", 3), "ab12-3")
        for text, parts in (
            ("ab12-3", ("ab12", 3)),
            ("ab12", ("ab12", None)),
            ("ab12-0", None),
            ("ab12-", None),
            ("../x", None),
            ("", None),
            ("a" * 33, None),
            ("a" * 32, ("a" * 32, None)),
            ("\u0661\u00e9", None),
        ):
            self.assertEqual(split_id(text), parts, text)
            self.assertEqual(is_message_id(text), parts == (text, None), text)

    def test_ids_of_later_times_sort_later(self) -> None:
        ids = [new_message_id(now) for now in (0.0, 0.001, 1.5, 1_800_000_000.0, 4_000_000_000.0)]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual({len(each) for each in ids}, {27})
        self.assertTrue(all(is_message_id(each) for each in ids))


class KeptTests(SpoolTestCase):
    """What was just accepted is in memory still, and read from the disk by and by."""

    async def test_the_same_octets_as_from_the_disk(self) -> None:
        """The plain twin: a spool that keeps nothing."""
        wires = [b"", b"x", b"..\r\n.x\r\n...\r\n", b"a\r\n..b\r\n" * 3000, LARGE]
        for stuffed in (False, True):
            for wire in wires:
                read = []
                for kept in (1 << 20, 0):
                    self.patch(claims, "_KEPT", kept)
                    spool = await self.opened()
                    incoming = spool.begin(self.envelope(), stuffed)
                    for start in range(0, len(wire), 7000):
                        incoming.write(memoryview(wire)[start : start + 7000])
                    message_id: str = await incoming.commit()
                    content = await spool.open(message_id)
                    self.files.calls.clear()
                    octets = await self.octets_of(spool, message_id)
                    self.assertEqual(len(octets), content.size)
                    opened = [call for call in self.files.calls if call[0] == "open"]
                    self.assertEqual(bool(opened), not kept or not wire or wire == LARGE)
                    read.append(octets)
                    await spool.drop([message_id])
                    await self.stopped(spool)
                self.assertEqual(read[0], read[1])

    async def test_nothing_stays_when_the_last_delivery_has_ended(self) -> None:
        spool = await self.opened()
        await self.store(spool, "app", "other", octets=b"x" * 1000)
        for name, kept in (("app", 1000), ("other", 0)):
            [claim] = await self.claimed(spool, name)
            self.assertEqual(spool._claims._kept, 1000)
            await spool.record(claim, Done())
            self.assertEqual(spool._claims._kept, kept)

    def test_the_memory_is_bounded(self) -> None:
        self.patch(claims, "_KEPT", 100)
        self.patch(claims, "_KEPT_EACH", 60)
        kept = Claims(lambda: 0.0)
        for number, (length, stays) in enumerate(
            ((61, False), (60, True), (41, False), (40, True))
        ):
            stored = Stored(f"m{number}", number, 1, 0, None, length, 0, False, length)
            kept.know(stored, [b"x" * length])
            known = kept.content(f"m{number}")
            self.assertEqual(known, (stored, [b"x" * length] if stays else None))
        kept.forget("m1")
        self.assertIsNone(kept.content("m1"))
        stored = structs.replace(stored, message_id="m9", length=60)
        kept.know(stored, [b"y" * 60])
        self.assertEqual(kept.content("m9"), (stored, [b"y" * 60]))

    def test_no_view_is_kept(self) -> None:
        kept = Claims(lambda: 0.0)
        stored = Stored("m", 1, 1, 0, None, 4, 0, False, 4)
        kept.know(stored, [b"ab", memoryview(b"abcdef")[2:4]])
        self.assertEqual(kept.content("m"), (stored, [b"abcd"]))


class DamageTests(SpoolTestCase):
    """What cannot be read as it was written becomes a dead letter that says so."""

    def setUp(self) -> None:
        super().setUp()
        # What stays in memory is not read.
        self.patch(claims, "_KEPT", 0)

    def spoil(self, folder: str) -> None:
        """Change an octet in the last third of each file of a folder."""
        for path in Path(self.directory, folder).iterdir():
            octets = bytearray(path.read_bytes())
            for place in (60, len(octets) * 3 // 4):
                octets[place] ^= 0xFF
            path.write_bytes(octets)

    async def test_damage_is_found_before_the_first_octet_leaves(self) -> None:
        for octets, folder in ((b"small" * 9, "segments"), (LARGE, "content")):
            spool = await self.opened()
            message_id = await self.store(spool, octets=octets)
            other = await self.store(spool, "other", octets=b"y" * 40_000)
            [claim] = await self.claimed(spool)
            self.spoil(folder)
            error = await self.refused(self.octets_of(spool, message_id))
            self.assertIn("damaged", str(error))
            detail = await spool.show(message_id)
            assert detail is not None
            self.assertEqual([each.state for each in detail.entries], ["dead"])
            self.assertIn("damaged", detail.entries[0].reason)
            self.assertIn(message_id, self.logged())
            await self.refused(spool.record(claim, Done()))
            if folder == "segments":
                self.assertEqual(len(await self.octets_of(spool, other)), 40_000)
            await spool.drop([message_id, other])
            await self.stopped(spool)

    async def test_missing_and_short_files(self) -> None:
        spool = await self.opened()
        for change in (os.unlink, lambda path: os.truncate(path, 5)):
            message_id = await self.store(spool, octets=LARGE)
            [path] = Path(self.directory, "content").iterdir()
            change(path)
            error = await self.refused(self.octets_of(spool, message_id))
            self.assertIn("damaged", str(error))
            await spool.drop([message_id])
            await self.breath()
            for left in Path(self.directory, "content").iterdir():
                left.unlink()
        message_id = await self.store(spool)
        for path in Path(self.directory, "segments").iterdir():
            path.unlink()
        error = await self.refused(self.octets_of(spool, message_id))
        self.assertIn("segment is missing", str(error))

    async def test_what_cannot_be_read_now_is_not_damaged(self) -> None:
        """EMFILE and EIO pass: the delivery is tried again."""
        spool = await self.opened()
        for octets, part in ((b"small", "segments"), (LARGE, "content")):
            message_id = await self.store(spool, octets=octets)
            self.files.fail("open", part, OSError(errno.EMFILE, "too many open files"))
            error = await self.refused(self.octets_of(spool, message_id))
            self.assertIn("EMFILE", str(error))
            self.assertEqual(await self.octets_of(spool, message_id), octets)
            detail = await spool.show(message_id)
            assert detail is not None
            self.assertEqual(detail.entries[0].state, "waiting")

    async def test_a_reader_finds_what_moved_meanwhile(self) -> None:
        """Content moves to a file of its own while a delivery waits to read it."""
        spool = await self.opened()
        message_id = await self.store(spool, octets=b"moving")
        [claim] = await self.claimed(spool)
        content = await spool.open(message_id)
        await spool.record(claim, Retry(self.rounds.now() + 9999, "busy"))
        await self.store(spool, "other", octets=b"z" * 20_000)
        await self.upkeep(spool, 700.0)
        await self.upkeep(spool, 20.0)
        detail = await spool.show(message_id)
        assert detail is not None
        self.assertTrue(detail.place.startswith("content/"), detail.place)
        for path in Path(self.directory, "segments").iterdir():
            path.write_bytes(bytes(path.stat().st_size))
        with content.open() as reader:
            self.assertEqual(reader.read(), b"moving")

    async def test_a_reader_of_what_is_gone(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool, octets=LARGE)
        content = await spool.open(message_id)
        await spool.drop([message_id])
        for _ in range(1000):
            if not list(Path(self.directory, "content").iterdir()):
                break
            await self.breath()
        error = await self.refused(deferToThread(content.open))
        self.assertIn("gone", str(error))
