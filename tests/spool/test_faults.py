"""Each system call of an acceptance fails once: nothing is half kept, and mail goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3

from mailsvc.errors import SpoolError, SpoolFull
from mailsvc.message import Done
from mailsvc.spool.view import SpoolLimits
from tests.spool.house import SpoolTestCase

SMALL, LARGE = b"small" * 100, b"large" * 20_000

FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorcode = sqlite3.SQLITE_FULL
BROKEN = sqlite3.OperationalError("disk I/O error")
BROKEN.sqlite_errorcode = sqlite3.SQLITE_IOERR


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


#: The call that fails, the path or statement, the content, how, and whether that means "full".
FAULTS = (
    ("pwritev", "segments", SMALL, error(errno.ENOSPC), True),
    ("pwritev", "segments", SMALL, error(errno.EIO), False),
    ("fdatasync", "segments", SMALL, error(errno.EIO), False),
    ("fdatasync", "segments", SMALL, error(errno.EDQUOT), True),
    ("create", "tmp", LARGE, error(errno.EMFILE), False),
    ("create", "tmp", LARGE, error(errno.ENOSPC), True),
    ("pwritev", "tmp", LARGE, error(errno.ENOSPC), True),
    ("fsync", "tmp", LARGE, error(errno.EIO), False),
    ("rename", "content", LARGE, error(errno.EIO), False),
    ("fsync", "content", LARGE, error(errno.EIO), False),
    ("sql", "BEGIN IMMEDIATE", SMALL, BROKEN, False),
    ("sql", "COMMIT", SMALL, BROKEN, False),
    ("sql", "COMMIT", SMALL, FULL, True),
    ("sql", "COMMIT", LARGE, BROKEN, False),
    ("sql", "UPDATE segments", SMALL, BROKEN, False),
)


class FaultTests(SpoolTestCase):
    """Requirement 35: temporary failures of ours are temporary for the sender, and total."""

    async def test_each_call(self) -> None:
        for name, part, octets, fault, full in FAULTS:
            what = f"{name} {part} {fault}"
            spool = await self.opened()
            before = await self.store(spool, octets=octets)
            self.files.fail(name, part, fault)
            refused = await self.refused(self.store(spool, octets=octets))
            self.assertEqual(isinstance(refused, SpoolFull), full, what)
            after = await self.store(spool, octets=octets)
            await self.stopped(spool)

            spool = await self.opened()
            claims = await self.claimed(spool)
            ids = [each.delivery.envelope.id for each in claims]
            self.assertCountEqual(ids, [before, after], what)
            for claim in claims:
                self.assertEqual(await self.octets_of(spool, claim.delivery.envelope.id), octets)
                await spool.record(claim, Done())
            self.assertEqual((await spool.summary()).messages, 0, what)
            await self.stopped(spool)
            for folder in ("content", "tmp"):
                self.assertEqual(os.listdir(os.path.join(self.directory, folder)), [], what)

    async def test_a_file_that_could_not_be_synced_is_never_written_again(self) -> None:
        spool = await self.opened()
        await self.store(spool)
        [used] = {path for name, path in self.files.calls if name == "fdatasync"}
        self.files.fail("fdatasync", "segments")
        await self.refused(self.store(spool))
        self.files.calls.clear()
        for _ in range(3):
            await self.store(spool)
        await self.upkeep(spool, 30.0)
        await self.store(spool)
        touched = {path for name, path in self.files.calls if name in ("pwritev", "fdatasync")}
        self.assertNotIn(used, touched)
        self.assertIn("is abandoned", self.logged())

    async def test_a_group_fails_as_a_whole_and_its_rows_are_absent(self) -> None:
        spool = await self.opened()
        incoming = [spool.begin(self.envelope(), False) for _ in range(20)]
        self.files.fail("sql", "COMMIT", BROKEN)
        answers = []
        for each in incoming:
            each.write(SMALL)
            answers.append(each.commit())
        accepted = []
        for answer in answers:
            with contextlib.suppress(SpoolError):
                accepted.append(await answer)
        self.assertLess(len(accepted), 20)
        found = [each.delivery.envelope.id for each in await self.claimed(spool)]
        self.assertCountEqual(found, accepted)

    async def test_a_database_that_cannot_be_opened_again_for_a_while(self) -> None:
        spool = await self.opened()
        self.files.fail("sql", "COMMIT", BROKEN)
        self.files.fail("connect", "queue.db", BROKEN)
        await self.refused(self.store(spool))
        self.assertIn("cannot be opened", self.logged())
        for name, part in (("sql", "wal_checkpoint"), ("connect", "queue.db")):
            self.files.fail(name, part, BROKEN)
            refused = await self.refused(self.store(spool))
            self.assertIn("cannot be used", str(refused))
        stored = await self.store(spool)
        self.assertEqual([c.delivery.envelope.id for c in await self.claimed(spool)], [stored])

    async def test_a_rollback_that_fails(self) -> None:
        spool = await self.opened()
        self.files.fail("sql", "COMMIT", BROKEN)

        def rollback() -> None:
            raise BROKEN

        writer = spool._workshop.writer
        assert writer is not None
        connection = writer._connection
        assert connection is not None
        self.patch(type(connection), "rollback", lambda _: rollback())
        await self.refused(self.store(spool))
        self.assertIn("closing the failed database", self.logged())
        await self.store(spool)

    async def test_one_job_at_fault_does_not_harm_the_others(self) -> None:
        """An id that exists already refuses its own message only."""
        spool = await self.opened()
        envelope = self.envelope()
        answers = []
        for each in (envelope, self.envelope(), envelope, self.envelope()):
            incoming = spool.begin(each, False)
            incoming.write(SMALL)
            answers.append(incoming.commit())
        outcomes = []
        for answer in answers:
            try:
                await answer
                outcomes.append(True)
            except Exception as refused:
                self.assertIn("refuses a row", str(refused))
                outcomes.append(False)
        self.assertEqual(outcomes, [True, True, False, True])
        await self.store(spool)

    async def test_segments_that_cannot_be_made(self) -> None:
        """Each way in which the next segment fails is told to who needed it."""
        for name, part, fault in (
            ("create", "-segment-", error(errno.EMFILE)),
            ("pwritev", "-segment-", error(errno.ENOSPC)),
            ("fsync", "-segment-", error(errno.EIO)),
            ("rename", "segments", error(errno.EIO)),
            ("open", "segments", error(errno.EMFILE)),
            ("sql", "INSERT INTO segments", BROKEN),
        ):
            spool = await self.opened(segment=1 << 16, spill=1 << 14)
            self.files.fail(name, part, fault)
            commits = []
            for _ in range(30):
                incoming = spool.begin(self.envelope(), False)
                incoming.write(b"s" * 15_000)
                commits.append(incoming.commit())
            stored = []
            for commit in commits:
                with contextlib.suppress(SpoolError):
                    stored.append(await commit)
            self.files.heal()
            # What was made in advance may be what failed.
            with contextlib.suppress(SpoolError):
                stored.append(await self.store(spool, octets=b"s" * 15_000))
            stored.append(await self.store(spool, octets=b"s" * 15_000))
            for claim in await self.claimed(spool):
                self.assertIn(claim.delivery.envelope.id, stored)
                stored.remove(claim.delivery.envelope.id)
                await spool.record(claim, Done())
            self.assertEqual(stored, [])
            await self.stopped(spool)

    async def test_a_start_that_fails_says_why_and_can_be_repeated(self) -> None:
        for name, part, fault in (
            ("create", "lock", error(errno.EACCES)),
            ("fsync", "", error(errno.EIO)),
            ("connect", "queue.db", BROKEN),
            ("sql", "PRAGMA synchronous", BROKEN),
            ("sql", "BEGIN IMMEDIATE", BROKEN),
        ):
            self.files.fail(name, part, fault)
            refused = await self.refused(self.opened())
            self.assertIn(self.directory, str(refused))
        spool = await self.opened()
        await self.store(spool)

    async def test_another_format_is_refused(self) -> None:
        spool = await self.opened()
        await self.stopped(spool)
        connection = sqlite3.connect(os.path.join(self.directory, "queue.db"))
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        self.assertIn("format 99", str(await self.refused(self.opened())))


class LimitTests(SpoolTestCase):
    """Requirement 42: the spool's disk is bounded, with a low-water mark."""

    async def test_the_disk_is_low(self) -> None:
        spool = await self.opened(SpoolLimits(low_water=1 << 20))
        kept = await self.store(spool)
        self.files.room = 1000
        await self.upkeep(spool)
        error = self.assertRaises(SpoolFull, spool.begin, self.envelope(), False)
        self.assertIn("the disk has", str(error))
        self.assertEqual([c.delivery.envelope.id for c in await self.claimed(spool)], [kept])
        self.files.room = None
        await self.upkeep(spool)
        await self.store(spool)

    async def test_the_spool_is_full(self) -> None:
        limits = SpoolLimits(octets=12 << 20, low_water=0, default_share=1.0)
        spool = await self.opened(limits, segment=1 << 16, spill=1 << 13)
        stored = 0
        with self.assertRaises(SpoolFull):
            for _ in range(200):
                await self.store(spool, octets=b"f" * 100_000)
                stored += 1
        self.assertGreater(stored, 20)
        incoming = spool.begin(self.envelope(), False)
        incoming.write(b"g" * 20_000_000)
        incoming.write(b"more")
        self.assertIsInstance(await self.refused(incoming.commit()), SpoolFull)
        for claim in await self.claimed(spool):
            await spool.record(claim, Done())
        for _ in range(100):
            if not os.listdir(os.path.join(self.directory, "content")):
                break
            await self.breath()
        await self.upkeep(spool, 20.0)
        await self.store(spool, octets=b"f" * 100_000)

    async def test_a_share(self) -> None:
        limits = SpoolLimits(octets=1 << 22, low_water=0, share={"app": 0.01})
        spool = await self.opened(limits)
        with self.assertRaises(SpoolFull) as caught:
            for _ in range(20):
                await self.store(spool, octets=b"s" * 10_000)
        self.assertIn("its share is", str(caught.exception))
        await self.store(spool, "other", octets=b"s" * 10_000)
        spool.change_limits(SpoolLimits(octets=1 << 22, low_water=0))
        await self.store(spool)
