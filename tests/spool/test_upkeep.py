"""Segments are used again only whole; what is needed for long leaves them."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from mailsvc.message import Done, Retry
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.view import SpoolLimits
from tests.spool.house import SpoolTestCase

SIZE = 1 << 16


class SegmentTests(SpoolTestCase):
    async def small(self) -> EmbeddedSpool:
        """Return a spool whose segments hold four mails of 15 KB each."""
        return await self.opened(segment=SIZE, spill=1 << 14)

    def segments(self) -> list[str]:
        return sorted(os.listdir(os.path.join(self.directory, "segments")))

    def files_of_contents(self) -> list[str]:
        return os.listdir(os.path.join(self.directory, "content"))

    async def fill(self, spool: EmbeddedSpool, count: int) -> list[str]:
        return [await self.store(spool, octets=b"%04d" % n * 3750) for n in range(count)]

    async def test_a_new_segment_is_zeroed_and_synced_before_it_is_used(self) -> None:
        await self.small()
        calls = [
            (name, os.path.dirname(path) or path)
            for name, path in self.files.calls
            if path.startswith(("tmp", "segments"))
        ]
        self.assertEqual(
            calls,
            [
                ("create", "tmp"),
                ("pwritev", "tmp"),
                ("fsync", "tmp"),
                ("rename", "segments"),
                ("open", "segments"),
                ("fsync", "segments"),
                ("open", "segments"),
            ],
        )
        [path] = Path(self.directory, "segments").iterdir()
        self.assertEqual(path.read_bytes(), bytes(SIZE))

    async def test_segments_are_used_again_only_when_nothing_names_them(self) -> None:
        spool = await self.small()
        first = await self.fill(spool, 4)
        await self.fill(spool, 8)
        claims = {each.delivery.envelope.id: each for each in await self.claimed(spool)}
        kept = first[0]
        for id_, claim in claims.items():
            if id_ != kept:
                await spool.record(claim, Done())
        grown = len(self.segments())
        for _ in range(5):
            await self.fill(spool, 8)
            for claim in await self.claimed(spool):
                await spool.record(claim, Done())
        self.assertEqual(await self.octets_of(spool, kept), b"0000" * 3750)
        self.assertLessEqual(len(self.segments()), grown + 1)

    async def test_what_keeps_a_segment_for_long_moves(self) -> None:
        """After ten minutes, or from a segment that is less than a quarter live."""
        spool = await self.small()
        ids = await self.fill(spool, 9)
        late = self.rounds.now() + 9_999
        for claim in await self.claimed(spool):
            if claim.delivery.envelope.id in (ids[0], ids[8]):
                await spool.record(claim, Retry(late, "down"))
            else:
                await spool.record(claim, Done())
        await self.upkeep(spool, 11.0)
        detail = await spool.show(ids[0])
        assert detail is not None
        # Its segment is a quarter live at the most, and is not being filled.
        self.assertTrue(detail.place.startswith("content/"), detail.place)
        detail = await spool.show(ids[8])
        assert detail is not None
        self.assertTrue(detail.place.startswith("segments/"), detail.place)
        self.files.calls.clear()
        await self.upkeep(spool, 601.0)
        detail = await spool.show(ids[8])
        assert detail is not None
        self.assertTrue(detail.place.startswith("content/"), detail.place)
        moved = [
            name
            for name, path in self.files.calls
            if path.startswith(("content", "tmp")) or "SET segment = NULL" in path
        ]
        self.assertEqual(moved, ["create", "pwritev", "fsync", "rename", "open", "fsync", "sql"])
        for id_, octets in ((ids[0], b"0000"), (ids[8], b"0008")):
            self.assertEqual(await self.octets_of(spool, id_), octets * 3750)
        await spool.retry(destination="app")
        for claim in await self.claimed(spool):
            await spool.record(claim, Done())
        for _ in range(1000):
            if not self.files_of_contents():
                break
            await self.breath()
        self.assertEqual(self.files_of_contents(), [])

    async def test_many_move_a_part_at_a_time(self) -> None:
        spool = await self.opened()
        ids = [await self.store(spool, octets=b"%d" % n * 200) for n in range(150)]
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now() + 9_999, "down"))
        for _ in range(5):
            await self.upkeep(spool, 700.0)
        self.assertEqual(len(self.files_of_contents()), 150)
        self.assertEqual(await self.octets_of(spool, ids[77]), b"77" * 200)

    async def test_a_disk_that_does_not_take_them_leaves_them(self) -> None:
        spool = await self.small()
        [id_] = await self.fill(spool, 1)
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now() + 9_999, "down"))
        for name, part in (("pwritev", "tmp"), ("fsync", "tmp"), ("fsync", "content")):
            self.files.fail(name, part, OSError(errno.ENOSPC, "no space"))
            await self.upkeep(spool, 700.0)
            self.assertEqual(self.files_of_contents(), [], name)
            self.assertEqual(len(await self.octets_of(spool, id_)), 15_000)
        self.assertIn("stay in their segments", self.logged())
        await self.upkeep(spool, 20.0)
        self.assertEqual(len(self.files_of_contents()), 1)

    async def test_a_damaged_one_is_set_aside(self) -> None:
        spool = await self.small()
        [id_] = await self.fill(spool, 1)
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now() + 9_999, "down"))
        [path] = Path(self.directory, "segments").iterdir()
        path.write_bytes(bytes(SIZE))
        await self.upkeep(spool, 700.0)
        [entry] = await spool.entries(state="dead")
        self.assertEqual(entry.message_id, id_)
        self.assertIn("is set aside", self.logged())

    async def test_a_segment_of_another_size_is_removed(self) -> None:
        spool = await self.small()
        await self.stopped(spool)
        [path] = Path(self.directory, "segments").iterdir()
        os.truncate(path, 100)
        spool = await self.small()
        await self.fill(spool, 1)
        self.assertFalse(path.exists())

    async def test_a_segment_that_cannot_be_opened_is_removed(self) -> None:
        spool = await self.small()
        await self.stopped(spool)
        self.files.fail("open", "segments/0", OSError(errno.EIO, "broken"))
        spool = await self.small()
        await self.fill(spool, 1)
        self.assertIn("is removed", self.logged())

    async def test_free_segments_are_removed_but_for_a_few(self) -> None:
        spool = await self.small()
        await self.fill(spool, 40)
        self.assertGreaterEqual(len(self.segments()), 10)
        for claim in await self.claimed(spool):
            await spool.record(claim, Done())
        await self.upkeep(spool, 11.0)
        await self.upkeep(spool, 11.0)
        # The one that is being filled, the next, and two.
        self.assertLessEqual(len(self.segments()), 4)
        await self.fill(spool, 40)
        self.assertEqual(len(await self.claimed(spool)), 40)

    async def test_an_abandoned_segment_empties_and_goes(self) -> None:
        """What it holds is moved; then it is removed, and it was never written again."""
        spool = await self.small()
        [kept] = await self.fill(spool, 1)
        [bad] = self.segments()
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now() + 9_999, "down"))
        self.files.fail("fdatasync", "segments")
        await self.refused(self.store(spool))
        self.files.calls.clear()
        await self.fill(spool, 4)
        for _ in range(3):
            await self.upkeep(spool, 11.0)
        self.assertEqual(await self.octets_of(spool, kept), b"0000" * 3750)
        self.assertNotIn(bad, self.segments())
        written = {path for name, path in self.files.calls if name in ("pwritev", "fdatasync")}
        self.assertNotIn(f"segments/{bad}", written)

    async def test_an_abandoned_segment_stays_so_after_a_restart(self) -> None:
        """Also where the row could not say so at once."""
        for statement in ("", "SET abandoned"):
            spool = await self.small()
            self.files.calls.clear()
            await self.store(spool)
            [bad] = [path for name, path in self.files.calls if name == "fdatasync"]
            for claim in await self.claimed(spool):
                await spool.record(claim, Done())
            self.files.fail("fdatasync", "segments")
            if statement:
                self.files.fail("sql", statement, sqlite3.OperationalError("broken"))
            await self.refused(self.store(spool))
            if statement:
                await self.upkeep(spool, 11.0)
            await self.stopped(spool)
            self.files.calls.clear()
            spool = await self.small()
            await self.fill(spool, 12)
            written = {path for name, path in self.files.calls if name in ("pwritev", "fdatasync")}
            self.assertNotIn(bad, written)
            await self.stopped(spool)

    async def test_the_next_segment_is_made_while_this_one_fills(self) -> None:
        spool = await self.small()
        await self.fill(spool, 3)
        for _ in range(1000):
            if len(self.segments()) == 2:
                break
            await self.breath()
        self.assertEqual(len(self.segments()), 2)
        await self.fill(spool, 4)
        self.assertEqual(len(await self.claimed(spool)), 7)

    async def test_a_next_segment_that_could_not_be_made(self) -> None:
        spool = await self.small()
        self.files.fail("fsync", "-segment-")
        await self.fill(spool, 3)
        for _ in range(1000):
            if not os.listdir(os.path.join(self.directory, "tmp")) and len(
                [path for _, path in self.files.calls if "-segment-2" in path]
            ):
                break
            await self.breath()
        await self.fill(spool, 4)
        self.assertIn("no new segment", self.logged())
        self.assertEqual(len(await self.claimed(spool)), 7)

    async def test_a_full_spool_makes_none(self) -> None:
        spool = await self.opened(
            SpoolLimits(low_water=0, octets=8 * SIZE), segment=SIZE, spill=1 << 14
        )
        self.files.room = 10
        await self.upkeep(spool)
        await self.fill(spool, 1)
        self.assertEqual(len(self.segments()), 1)


class RoundTests(SpoolTestCase):
    async def test_a_round_that_fails_is_told_and_the_next_one_works(self) -> None:
        spool = await self.opened()
        self.files.fail("sql", "FROM segments", sqlite3.OperationalError("broken"))
        await self.upkeep(spool)
        self.assertIn("upkeep failed", self.logged())
        self.files.room = 12345
        await self.upkeep(spool)
        with self.assertRaisesRegex(Exception, "the disk has 12345"):
            spool.change_limits(SpoolLimits())
            spool.check(["app"])

    async def test_a_stop_without_a_last_commit(self) -> None:
        """The next process that starts does what this one could not."""
        spool = await self.opened()
        message_id = await self.store(spool)
        await self.claimed(spool)
        self.files.fail("sql", "COMMIT", sqlite3.OperationalError("broken"))
        await self.stopped(spool)
        self.assertIn("without a last commit", self.logged())
        spool = await self.opened()
        self.assertEqual([c.delivery.envelope.id for c in await self.claimed(spool)], [message_id])

    async def test_a_lease_that_ended_is_released_by_a_round(self) -> None:
        spool, other = await self.opened(), await self.opened()
        message_id = await self.store(spool)
        await spool.claim("app", 1, 5.0)
        await self.upkeep(spool, 6.0)
        await self.upkeep(spool, 2.0)
        self.assertEqual([c.delivery.envelope.id for c in await self.claimed(other)], [message_id])

    async def test_stale_files_stay_while_the_database_cannot_be_read(self) -> None:
        spool = await self.opened()
        await self.stopped(spool)
        Path(self.directory, "content", "0000000000ff-gone").touch()
        self.files.fail("sql", "SELECT file", sqlite3.OperationalError("broken"))
        spool = await self.opened()
        for _ in range(1000):
            if "stay for now" in self.logged():
                break
            await self.breath()
        self.assertIn("stay for now", self.logged())
