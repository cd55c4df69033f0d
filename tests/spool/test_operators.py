"""What operators ask and change, with a server and without: the same answers."""

from __future__ import annotations

import os
import sqlite3

from mailsvc.errors import SpoolError
from mailsvc.message import Dead, Done, Envelope, Retry
from mailsvc.spool import operators, oversight
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.offline import OfflineSpool, SpoolInUse
from mailsvc.spool.records import decode_envelope
from mailsvc.spool.schema import Layout
from mailsvc.spool.view import Answer, AnswerKey, State
from tests.spool.house import MAIL, SpoolTestCase


class OversightTests(SpoolTestCase):
    async def some(self) -> tuple[EmbeddedSpool, str, str, str]:
        """Return a spool with a delivery that waits, a dead letter, and one that is attempted."""
        spool = await self.opened()
        waiting, dead, held = [await self.store(spool) for _ in range(3)]
        claims = {each.delivery.envelope.id: each for each in await self.claimed(spool)}
        await spool.record(claims[waiting], Retry(self.rounds.now() + 600, "busy"))
        await spool.record(claims[dead], Dead("refused"))
        return spool, waiting, dead, held

    async def test_one_that_ends_while_it_is_looked_at(self) -> None:
        """``send-test`` looked between two statements, and took the end for damage."""
        spool = await self.opened()
        message_id = await self.store(spool)
        read = operators._envelope

        def meanwhile(connection: sqlite3.Connection, wanted: str | None) -> Envelope | None:
            with sqlite3.connect(Layout(self.directory).database) as other:
                other.execute("DELETE FROM deliveries")
                other.execute("DELETE FROM messages")
            return read(connection, wanted)

        self.patch(operators, "_envelope", meanwhile)
        detail = await spool.show(message_id)
        assert detail is not None
        (entry,) = detail.entries
        self.assertEqual((entry.recipient, entry.reason), ("u0@example.com", ""))
        self.assertIsNone(await spool.show(message_id))

    async def test_a_summary(self) -> None:
        spool, *_ = await self.some()
        fresh = await self.store(spool, "other")
        await spool.pause("idle", "by hand")
        summary = await spool.summary()
        app, idle, other = summary.destinations
        self.assertEqual((app.waiting, app.delivering, app.dead), (1, 1, 1))
        self.assertEqual(app.next_due, self.rounds.now() + 600)
        self.assertEqual((app.paused, idle.paused), (None, "by hand"))
        self.assertEqual((other.waiting, other.delivering), (1, 0))
        self.assertEqual(app.octets, 3 * len(MAIL))
        self.assertEqual(summary.messages, 4)
        self.assertGreaterEqual(summary.octets, 1 << 18)
        [entry] = await spool.entries("other")
        self.assertEqual((entry.message_id, entry.state), (fresh, "waiting"))

    async def test_entries_by_destination_state_and_page(self) -> None:
        spool, waiting, dead, held = await self.some()
        other = await self.store(spool, "other")

        async def ids(
            destination: str | None = None,
            state: State | None = None,
            limit: int = 100,
            after: str | None = None,
        ) -> list[str]:
            entries = await spool.entries(destination, state, limit, after)
            return [each.message_id for each in entries]

        self.assertEqual(await ids(), [waiting, dead, held, other])
        self.assertEqual(await ids(destination="app"), [waiting, dead, held])
        self.assertEqual(await ids(destination="nobody"), [])
        self.assertEqual(await ids(state="waiting"), [waiting, other])
        self.assertEqual(await ids(state="dead"), [dead])
        self.assertEqual(await ids(state="delivering"), [held])
        self.assertEqual(await ids(limit=2), [waiting, dead])
        self.assertEqual(await ids(limit=2, after=f"{dead}-1"), [held, other])
        self.assertEqual(await ids(after="no id at all"), [waiting, dead, held, other])

    async def test_show(self) -> None:
        spool, _, dead, _ = await self.some()
        for id_ in (dead, f"{dead}-1"):
            detail = await spool.show(id_)
            assert detail is not None
            self.assertEqual((detail.envelope.id, detail.size), (dead, len(MAIL)))
            self.assertIn("segments/", detail.place)
            self.assertEqual([each.reason for each in detail.entries], ["refused"])
        self.assertIsNone(await spool.show("0123"))
        self.assertIsNone(await spool.show("../0123"))

    async def test_retry_by_id(self) -> None:
        spool, waiting, dead, held = await self.some()
        self.assertEqual(await spool.retry([waiting, f"{dead}-1", held, "none", "?"]), 2)
        claims = await self.claimed(spool)
        found = {each.delivery.envelope.id: each.delivery.attempt for each in claims}
        # A dead letter begins anew; what waited goes on.
        self.assertEqual(found, {waiting: 2, dead: 1})

    async def test_retry_under_a_fresh_id(self) -> None:
        spool, _, dead, _ = await self.some()
        self.assertEqual(await spool.retry([dead], fresh_id=True), 1)
        [claim] = await self.claimed(spool)
        self.assertEqual(claim.delivery.id, f"{dead}-2")
        await spool.record(claim, Dead("again"))
        self.assertEqual(await spool.retry([dead], fresh_id=True), 1)
        [claim] = await self.claimed(spool)
        self.assertEqual(claim.delivery.id, f"{dead}-3")

    async def test_a_fresh_id_is_for_all_that_were_named(self) -> None:
        spool, waiting, dead, _ = await self.some()
        self.assertEqual(await spool.retry([waiting, dead], fresh_id=True), 2)
        found = {each.delivery.id: each.delivery.attempt for each in await self.claimed(spool)}
        self.assertEqual(found, {f"{waiting}-2": 1, f"{dead}-2": 1})

    async def test_retry_all_dead_letters_or_all_of_a_destination(self) -> None:
        spool, waiting, dead, _ = await self.some()
        self.assertEqual(await spool.retry(), 1)
        [claim] = await self.claimed(spool)
        self.assertEqual(claim.delivery.envelope.id, dead)
        await spool.record(claim, Dead("again"))
        self.assertEqual(await spool.retry(destination="other"), 0)
        self.assertEqual(await spool.retry(destination="app"), 2)
        found = {each.delivery.envelope.id for each in await self.claimed(spool)}
        self.assertEqual(found, {waiting, dead})

    async def test_many_are_changed_in_batches(self) -> None:
        self.patch(oversight, "BATCH", 3)
        self.patch(operators, "BATCH", 3)
        spool = await self.opened()
        for _ in range(10):
            await self.store(spool)
        for claim in await self.claimed(spool):
            await spool.record(claim, Dead("no"))
        self.assertEqual(await spool.retry(), 10)
        self.assertEqual(len(await self.claimed(spool)), 10)

    async def test_drop(self) -> None:
        """What waits in memory goes, too; what is being attempted stays."""
        spool, waiting, dead, held = await self.some()
        fresh = await self.store(spool)
        self.assertEqual(await spool.drop([waiting, dead, held, fresh, "none"]), 3)
        self.assertEqual([each.message_id for each in await spool.entries()], [held])
        self.assertEqual((await spool.summary()).messages, 1)
        self.assertEqual(await self.claimed(spool), [])

    async def test_what_is_retained_stays_until_its_time(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool)
        other = await self.store(spool)
        until = self.rounds.now() + 100
        self.assertTrue(await spool.retain(message_id, until))
        self.assertTrue(await spool.retain(message_id, until - 50))
        self.assertTrue(await spool.retain(other, until))
        self.assertFalse(await spool.retain("gone", until))
        claims = {each.delivery.envelope.id: each for each in await self.claimed(spool)}
        await spool.record(claims[message_id], Done())
        self.assertEqual(await self.octets_of(spool, message_id), MAIL)
        self.rounds.clock.advance(60)
        await self.upkeep(spool, 20.0)
        self.assertEqual(await self.octets_of(spool, message_id), MAIL)
        await spool.extend(claims[other], 1000.0)
        await self.upkeep(spool, 50.0)
        await self.upkeep(spool, 20.0)
        await self.refused(self.octets_of(spool, message_id))
        # The other one has a delivery still: it is not retained, but needed.
        self.assertEqual(await self.octets_of(spool, other), MAIL)

    async def test_an_envelope_is_read_once_for_all_its_deliveries(self) -> None:
        """That of a thousand recipients is long: reading it a thousand times took minutes."""
        spool = await self.opened()
        for _ in range(2):
            incoming = spool.begin(self.envelope(recipients=50), False)
            await incoming.commit()
        decoded: list[object] = []

        def decode(text: str | bytes) -> Envelope:
            decoded.append(text)
            return decode_envelope(text)

        self.patch(operators, "decode_envelope", decode)
        entries = await spool.entries(limit=1000)
        self.assertEqual(len({each.recipient for each in entries}), 50)
        self.assertEqual((len(entries), len(decoded)), (100, 2))

    async def test_answers_are_kept(self) -> None:
        spool = await self.opened()
        key = AnswerKey("a@b.example", "c@d.example", b"\x00" * 32)
        until = self.rounds.now() + 100
        self.assertIsNone(await spool.answer_for(key))
        await spool.remember_answer(key, "", 0, until, "m-1")
        await spool.remember_answer(key, "no such user", 550, until, "m-1")
        await self.stopped(spool)
        spool = await self.opened()
        answer = await spool.answer_for(key)
        assert answer is not None
        self.assertEqual((answer.code, answer.text), (550, "no such user"))
        self.rounds.clock.advance(101)
        self.assertIsNone(await spool.answer_for(key))
        await self.upkeep(spool, 30.0)
        self.assertEqual(await self.count("answers"), 0)

    async def test_a_repeat_goes_by_the_first_id(self) -> None:
        """Requirement 38: whoever delivers it, and for as long as it waits."""
        spool = await self.opened()
        key = AnswerKey("a@b.example", "c@d.example", b"\x00" * 32)
        first, repeat = self.envelope(sync=True), self.envelope(sync=True)
        for envelope in (first, repeat):
            await spool.name_deliveries({f"{envelope.id}-1": key}, self.rounds.now() + 100)
        answer = await spool.answer_for(key)
        assert answer is not None
        self.assertEqual(answer.delivery_id, f"{first.id}-1")
        incoming = spool.begin(repeat, False)
        incoming.write(MAIL)
        await incoming.commit()
        # Nobody takes it in time, as after a kill; it is delivered later than its answer is kept.
        for _ in range(2):
            await self.upkeep(spool, 101.0)
            [claim] = await self.claimed(spool)
            self.assertEqual(claim.delivery.id, f"{first.id}-1")
            await spool.record(claim, Retry(self.rounds.now(), "busy"))
        self.assertIsNone(await spool.answer_for(key))
        # A new id is one that nothing went by.
        self.assertEqual(await spool.retry([f"{repeat.id}-1"], fresh_id=True), 1)
        [claim] = await self.claimed(spool)
        self.assertEqual(claim.delivery.id, f"{repeat.id}-2")
        await spool.record(claim, Done())
        await self.upkeep(spool, 101.0)
        self.assertEqual(await self.count("answers"), 0)

    async def test_a_repeat_of_what_was_answered_keeps_the_answer(self) -> None:
        spool = await self.opened()
        key = AnswerKey("a@b.example", "c@d.example", b"\x00" * 32)
        until = self.rounds.now() + 100
        await spool.name_deliveries({"m-1": key}, until)
        await spool.remember_answer(key, "no such user", 550, until, "m-1")
        await spool.name_deliveries({"n-1": key}, until + 50)
        self.assertEqual(await spool.answer_for(key), Answer(550, "no such user", "m-1", until))
        # What is over is no repeat.
        self.rounds.clock.advance(101)
        await spool.name_deliveries({"o-1": key}, until + 500)
        self.assertEqual(await spool.answer_for(key), Answer(0, "", "o-1", until + 500))

    async def count(self, table: str) -> int:
        connection = sqlite3.connect(os.path.join(self.directory, "queue.db"))
        self.addCleanup(connection.close)
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found

    async def test_synchronous_deliveries_are_claimed_by_message(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool, "app", "other", sync=True)
        dropped = await self.store(spool, "app", "other", sync=True)
        self.assertEqual(await self.claimed(spool), [])
        self.assertEqual(len(await spool.entries(state="waiting")), 4)
        self.assertEqual(await spool.drop([f"{dropped}-1"]), 1)
        claims = spool.claim_message(message_id, 30.0)
        self.assertEqual([each.delivery.destination for each in claims], ["app", "other"])
        self.assertEqual(spool.claim_message(message_id, 30.0), [])
        [left] = spool.claim_message(dropped, 30.0)
        self.assertEqual(left.delivery.destination, "other")

    async def test_a_pause_does_not_queue_synchronous_deliveries(self) -> None:
        """Who waits has them, and says what becomes of them: the mail is the sender's still."""
        spool = await self.opened()
        await spool.pause("app", "410")
        message_id = await self.store(spool, "app", sync=True)
        [claim] = spool.claim_message(message_id, 30.0)
        await spool.record(claim, Done())
        self.assertEqual(await spool.entries(), ())

    async def test_a_synchronous_delivery_that_nobody_takes_is_queued(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool, sync=True)
        await self.upkeep(spool, 31.0)
        [claim] = await self.claimed(spool)
        self.assertEqual(claim.delivery.envelope.id, message_id)

    async def test_rows_that_cannot_be_read_are_seen(self) -> None:
        """An unreadable entry is set aside, never dropped, and harms no other."""
        spool = await self.opened()
        ids = [await self.store(spool) for _ in range(4)]
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now(), "busy"))
        await self.stopped(spool)
        connection = sqlite3.connect(os.path.join(self.directory, "queue.db"))
        connection.execute("UPDATE messages SET envelope = '{' WHERE id = ?", (ids[0],))
        connection.execute(
            "UPDATE deliveries SET recipient = 7 WHERE key >> 20 ="
            " (SELECT seq FROM messages WHERE id = ?)",
            (ids[1],),
        )
        connection.execute("DELETE FROM messages WHERE id = ?", (ids[2],))
        connection.commit()
        connection.close()
        spool = await self.opened()
        claims = await self.claimed(spool)
        self.assertEqual([each.delivery.envelope.id for each in claims], [ids[3]])
        entries = await spool.entries(state="dead")
        self.assertEqual(len(entries), 3)
        for entry in entries:
            self.assertIn("cannot be read", entry.reason)

    async def test_a_database_that_cannot_be_read_now(self) -> None:
        spool = await self.opened()
        await self.store(spool)
        await spool.entries()
        fault = sqlite3.OperationalError("disk I/O error")
        self.files.fail("sql", "SELECT d.key", fault)
        self.assertIn("cannot be read", str(await self.refused(spool.entries())))
        self.assertEqual(len(await spool.entries()), 1)


class OfflineTests(SpoolTestCase):
    """The same questions and changes while no server runs."""

    def offline(self) -> OfflineSpool:
        spool = OfflineSpool(self.directory, self.rounds.now)
        spool.__enter__()
        self.addCleanup(spool.__exit__)
        return spool

    async def test_it_says_what_the_server_says(self) -> None:
        spool = await self.opened()
        for _ in range(3):
            await self.store(spool, "app", "other")
        first, second, _ = await self.claimed(spool)
        await spool.record(first, Dead("refused"))
        await spool.record(second, Retry(self.rounds.now() + 60, "busy"))
        for claim in await self.claimed(spool, "other"):
            await spool.record(claim, Done())
        await spool.pause("app", "by hand")
        await self.stopped(spool)
        offline = self.offline()
        entries = offline.entries()
        summary = offline.summary()
        detail = offline.show(first.delivery.id)
        self.assertEqual(len(offline.entries("app", "dead", 1)), 1)
        offline.__exit__()
        spool = await self.opened()
        self.assertEqual(await spool.entries(), entries)
        self.assertEqual((await spool.summary()).destinations, summary.destinations)
        self.assertEqual((await spool.summary()).messages, summary.messages)
        self.assertEqual(await spool.show(first.delivery.id), detail)

    async def test_changes(self) -> None:
        spool = await self.opened()
        dead, gone, waiting = [await self.store(spool) for _ in range(3)]
        claims = {each.delivery.envelope.id: each for each in await self.claimed(spool)}
        for id_ in (dead, gone):
            await spool.record(claims[id_], Dead("refused"))
        await spool.record(claims[waiting], Retry(self.rounds.now() + 600, "busy"))
        await spool.pause("app", "410")
        await self.stopped(spool)
        offline = self.offline()
        self.assertEqual(offline.drop([gone]), 1)
        self.assertEqual(offline.retry([dead, waiting, gone]), 2)
        self.assertTrue(offline.resume("app"))
        self.assertFalse(offline.resume("app"))
        offline.pause("other", "by hand")
        offline.__exit__()
        spool = await self.opened()
        found = {each.delivery.envelope.id for each in await self.claimed(spool)}
        self.assertEqual(found, {dead, waiting})
        self.assertEqual(spool.paused(), {"other": "by hand"})

    async def test_a_fresh_id(self) -> None:
        spool = await self.opened()
        dead = await self.store(spool)
        [claim] = await self.claimed(spool)
        await spool.record(claim, Dead("refused"))
        await self.stopped(spool)
        self.assertEqual(self.offline().retry([dead], fresh_id=True), 1)

    async def test_a_server_that_runs_is_to_be_asked(self) -> None:
        await self.opened()
        self.assertRaises(SpoolInUse, OfflineSpool(self.directory).__enter__)

    async def test_no_spool_and_a_broken_one(self) -> None:
        offline = OfflineSpool(self.directory)
        self.assertRaises(SpoolError, offline.__enter__)
        with self.assertRaises(SpoolError):
            offline.entries()
        os.mkdir(self.directory)
        with open(os.path.join(self.directory, "queue.db"), "w") as file:
            file.write("this is no database, but it is long enough to be taken for one" * 9)
        error = self.assertRaises(SpoolError, OfflineSpool(self.directory).__enter__)
        self.assertIn("not a database", str(error))

    async def test_a_change_that_the_disk_refuses(self) -> None:
        spool = await self.opened()
        await self.stopped(spool)
        offline = self.offline()
        offline._rows.execute("DROP TABLE deliveries")
        with self.assertRaises(SpoolError):
            offline.drop([])
        # Nothing is left half done, and the next change finds no transaction open.
        offline.pause("app", "by hand")
        self.assertTrue(offline.resume("app"))
