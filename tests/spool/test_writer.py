"""The writer's thread: late comers, those who wait, and a log that another process reads."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence

from msgspec.structs import replace
from twisted.internet.threads import deferToThread

from mailsvc.errors import SpoolError
from mailsvc.spool import rows
from mailsvc.spool import writer as writer_module
from mailsvc.spool.files import Files
from mailsvc.spool.rows import Transaction
from tests.spool.house import FaultyFiles, SpoolTestCase


class WriterTests(SpoolTestCase):
    async def test_a_group_is_bounded(self) -> None:
        self.patch(writer_module, "_GROUP", 4)
        spool = await self.opened()
        commits = []
        for _ in range(30):
            incoming = spool.begin(self.envelope(), False)
            incoming.write(b"x")
            commits.append(incoming.commit())
        for commit in commits:
            await commit
        self.assertEqual(len(await self.claimed(spool)), 30)

    async def test_rows_are_the_same_in_groups_of_any_size(self) -> None:
        """The plain twin: a statement for many rows inserts what a statement for each would."""

        async def rows(group: int) -> list[tuple[object, ...]]:
            self.patch(writer_module, "_GROUP", group)
            self.directory = os.path.abspath(self.mktemp())
            self.files = FaultyFiles(self.directory)
            spool = await self.opened()
            commits = []
            for number in range(45):
                names = ("a", "b") if number % 3 else ("a",)
                envelope = replace(
                    self.envelope(*names, recipients=1 + number % 2), id=f"m{number}"
                )
                incoming = spool.begin(envelope, False)
                incoming.write(b"%d\r\n" % number)
                commits.append(incoming.commit())
            for commit in commits:
                await commit
            await self.stopped(spool)
            database = sqlite3.connect(os.path.join(self.directory, "queue.db"))
            self.addCleanup(database.close)
            return database.execute(
                "SELECT messages.id, length, crc, stuffed, size, next_number, envelope, recipient,"
                " state, name, key & 0xfffff, d.octets"
                " FROM messages JOIN deliveries d ON key >> 20 = seq"
                " JOIN destinations ON destination = destinations.id ORDER BY key"
            ).fetchall()

        together = await rows(512)
        self.assertEqual(len(together), 112)
        self.assertEqual(together, await rows(1))

    async def test_contents_are_synced_while_their_rows_are_made_ready(self) -> None:
        """Written before the rows, so that the disk begins; synced before these are committed."""
        spool = await self.opened()
        await self.store(spool)
        self.files.calls.clear()
        await self.store(spool)
        steps = [text for name, text in self.files.calls if name == "sql"]
        self.assertEqual(steps.count("COMMIT"), 1)
        order = [
            name if name != "sql" else text.partition(" (")[0]
            for name, text in self.files.calls
            if name in ("pwritev", "fdatasync") or text.startswith(("INSERT INTO mess", "COMMIT"))
        ]
        self.assertEqual(order, ["pwritev", "INSERT INTO messages", "fdatasync", "COMMIT"])

    async def test_contents_that_cannot_be_synced_spoil_nothing_else(self) -> None:
        spool = await self.opened()
        await self.store(spool)
        self.files.fail("fdatasync", "segments")
        incoming = spool.begin(self.envelope(), False)
        incoming.write(b"x")
        committed, paused = incoming.commit(), spool.pause("a", "for a test")
        await self.refused(committed)
        await paused
        self.assertEqual(spool.paused(), {"a": "for a test"})
        self.assertEqual((await spool.summary()).messages, 1)
        await self.store(spool)

    async def test_nor_are_they_kept_when_a_job_is_at_fault_as_well(self) -> None:
        """Each job has a transaction of its own then; only the first finds contents to sync."""
        spool = await self.opened()
        await self.store(spool)

        def wrong(transaction: Transaction) -> None:
            raise ZeroDivisionError

        committed = []
        self.files.fail("fdatasync", "segments")
        for _ in range(3):
            incoming = spool.begin(self.envelope(), False)
            incoming.write(b"x")
            committed.append(incoming.commit())
        faulty = spool._workshop.change(wrong)
        for each in committed:
            await self.refused(each)
        with self.assertRaises(ZeroDivisionError):
            await faulty
        self.assertEqual((await spool.summary()).messages, 1)
        await self.store(spool)

    async def test_the_log_is_copied_when_a_group_was_answered(self) -> None:
        self.patch(writer_module, "_CHECKPOINT", 3)
        spool = await self.opened()
        copied = "PRAGMA wal_checkpoint(PASSIVE)"
        for _ in range(8):
            await self.store(spool)
        steps = [text for _, text in self.files.calls if text in ("COMMIT", copied)]
        first = steps.index(copied)
        self.assertEqual(steps[first : first + 5], [copied, *["COMMIT"] * 3, copied])
        self.files.fail("sql", copied, sqlite3.OperationalError("disk I/O error"))
        for _ in range(4):
            await self.store(spool)
        self.assertIn("is opened again: disk I/O error", self.logged())
        self.assertEqual((await spool.summary()).messages, 12)

    async def test_who_waits_in_a_thread_is_told(self) -> None:
        spool = await self.opened()
        workshop = spool._workshop
        await deferToThread(workshop.perform, lambda transaction: transaction.seq_of("x"))
        self.files.fail("sql", "COMMIT", sqlite3.OperationalError("broken"))
        await self.refused(deferToThread(workshop.perform, lambda transaction: None))
        go_on = threading.Event()
        held = workshop.change(lambda transaction: go_on.wait(60))
        self.patch(writer_module, "_PATIENCE", 0.0)
        error = await self.refused(deferToThread(workshop.perform, lambda transaction: None))
        self.assertIn("too slow", str(error))
        go_on.set()
        self.assertTrue(await held)

    async def test_after_the_end(self) -> None:
        spool = await self.opened()
        workshop = spool._workshop
        writer = workshop.writer
        assert writer is not None
        await self.stopped(spool)
        late = writer_module.Work(lambda transaction: 1, lambda result: result)
        writer.submit(late)
        self.assertIn("has stopped", str(await self.refused(late.answered)))
        await self.refused(deferToThread(workshop.perform, lambda transaction: None))

    async def test_a_job_that_raises_spoils_no_other(self) -> None:
        """A fault of ours in one question is that question's alone."""
        spool = await self.opened()

        def wrong(transaction: Transaction) -> None:
            raise ZeroDivisionError

        incoming = spool.begin(self.envelope(), False)
        incoming.write(b"x")
        first = incoming.commit()
        answers = [spool._workshop.change(wrong) for _ in range(3)]
        second = spool._workshop.change(lambda transaction: 7)
        await first
        for answer in answers:
            with self.assertRaises(ZeroDivisionError):
                await answer
        self.assertEqual(await second, 7)

    async def test_an_answer_that_raises(self) -> None:
        spool = await self.opened()

        def refuse(_: None) -> None:
            raise SpoolError("not now")

        answer = spool._workshop.change_then(lambda transaction: None, refuse)
        self.assertIn("not now", str(await self.refused(answer)))

    async def test_a_log_that_another_process_reads(self) -> None:
        """Until a failed commit's absence is certain, nothing is taken."""
        spool = await self.opened()
        await self.store(spool)
        reader = sqlite3.connect(os.path.join(self.directory, "queue.db"), isolation_level=None)
        self.addCleanup(reader.close)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        self.files.timeout = 0.05
        self.files.fail("sql", "COMMIT", sqlite3.OperationalError("broken"))
        await self.refused(self.store(spool))
        error = await self.refused(self.store(spool))
        self.assertIn("another process reads", str(error))
        reader.execute("COMMIT")
        await self.store(spool)
        self.assertEqual(len(await self.claimed(spool)), 2)

    async def test_what_a_failed_commit_left_is_deleted(self) -> None:
        """A commit that says it failed may have reached the disk: the sender was told 451."""
        spool = await self.opened()
        self.files.committing = True
        self.files.fail("sql", "COMMIT", sqlite3.OperationalError("disk I/O error"))
        await self.refused(self.store(spool))
        self.files.committing = False
        kept = await self.store(spool)
        self.assertEqual([c.delivery.envelope.id for c in await self.claimed(spool)], [kept])
        self.assertEqual((await spool.summary()).messages, 1)


class WaitingTests(SpoolTestCase):
    """Other processes write to the same database."""

    def another(self) -> sqlite3.Connection:
        """Return the connection of another process, inside a transaction."""
        other = sqlite3.connect(
            os.path.join(self.directory, "queue.db"), isolation_level=None, check_same_thread=False
        )
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        return other

    def done_at_the_seventh_look(self, other: sqlite3.Connection) -> list[float]:
        """Have another process done once we have looked so often; return our waits."""
        looked: list[float] = []

        def sleep(seconds: float) -> None:
            looked.append(seconds)
            if len(looked) == 7:
                other.execute("COMMIT")

        self.patch(rows, "sleep", sleep)
        return looked

    async def test_a_group_is_begun_soon_after_another_process_is_done(self) -> None:
        spool = await self.opened()
        looked = self.done_at_the_seventh_look(self.another())
        await self.store(spool)
        self.assertEqual(len(looked), 7)
        self.assertLess(max(looked), 0.001)

    async def test_not_for_ever(self) -> None:
        """A process that was stopped inside a transaction: the sender is told, and may go."""
        self.files.timeout = 0.05
        self.patch(rows, "_PATIENCE", 0.05)
        spool = await self.opened()
        other = self.another()
        looked: list[float] = []
        self.patch(rows, "sleep", looked.append)
        self.assertIn("locked", str(await self.refused(self.store(spool))))
        self.assertLess(abs(sum(looked) - 0.05), 0.001)
        other.execute("COMMIT")
        await self.store(spool)

    async def test_a_new_segment_waits_as_well(self) -> None:
        spool = await self.opened()
        looked = self.done_at_the_seventh_look(self.another())
        spool._segments.close()
        spool._segments._size *= 2
        self.files.calls.clear()
        await self.store(spool)
        self.assertEqual(len(looked), 7)
        writing = [text for _, text in self.files.calls if text.startswith(("BEGIN", "DELETE"))]
        self.assertEqual(set(writing[:8]), {"BEGIN IMMEDIATE"})
        self.assertIn("FROM segments", writing[8])


class FilesTests(SpoolTestCase):
    """The few lines above the system calls."""

    def path(self) -> str:
        path: str = os.path.abspath(self.mktemp())
        return path

    async def test_writes_that_come_short(self) -> None:
        class Short(Files):
            def pwritev(
                self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int
            ) -> int:
                return os.pwrite(descriptor, b"".join(buffers)[:7], offset)

        files = Short()
        descriptor = files.create(self.path())
        self.addCleanup(os.close, descriptor)
        data = [b"%d," % number for number in range(1500)]
        files.write_all(descriptor, data, 3)
        size = sum(map(len, data))
        self.assertEqual(files.read_all(descriptor, size, 3), b"".join(data))
        self.assertEqual(files.read_all(descriptor, size + 99, 3), b"".join(data))

    async def test_reads_that_come_short(self) -> None:
        class Short(Files):
            def pread(self, descriptor: int, size: int, offset: int) -> bytes:
                return os.pread(descriptor, min(size, 5), offset)

        files = Short()
        descriptor = files.create(self.path())
        self.addCleanup(os.close, descriptor)
        files.write_all(descriptor, [b"0123456789abc"], 0)
        self.assertEqual(files.read_all(descriptor, 13, 0), b"0123456789abc")
        self.assertEqual(files.read_all(descriptor, 99, 0), b"0123456789abc")

    async def test_zeros_that_are_written(self) -> None:
        """A segment is made in parts, so that no commit waits for all of it."""
        path = self.path()
        files = FaultyFiles(os.path.dirname(path))
        descriptor = files.create(path)
        self.addCleanup(os.close, descriptor)
        files.write_zeros(descriptor, (2 << 20) + 5)
        self.assertEqual(
            [name for name, _ in files.calls],
            ["create", *["pwritev", "fdatasync"] * 2, "pwritev"],
        )
        self.assertEqual(files.size(path), (2 << 20) + 5)
        self.assertGreaterEqual(os.stat(path).st_blocks * 512, 2 << 20)

    async def test_sizes_and_room(self) -> None:
        files = Files()
        self.assertEqual(files.size(self.path()), 0)
        self.assertGreater(files.free("/"), 0)
        files.close(99_999)
        files.remove(self.path())
