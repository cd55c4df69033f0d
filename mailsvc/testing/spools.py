"""The contract of spools."""

from __future__ import annotations

from mailsvc.errors import SpoolError
from mailsvc.message import Dead, Done, Outcome, Retry
from mailsvc.testing.fakes import MAIL
from mailsvc.testing.incoming import IncomingContract


class SpoolContract(IncomingContract):
    """What :class:`~mailsvc.interfaces.ISpool` and ``IIncoming`` promise.

    A subclass defines :meth:`open_spool`, :meth:`close_spool`, :meth:`advance` and :meth:`seconds`,
    and :meth:`fill` if its spool can be full.
    """

    async def test_each_recipient_at_each_destination_is_a_delivery(self) -> None:
        """One outcome does not touch another, and no two claims name the same delivery."""
        spool = await self.open_spool()
        incoming = spool.begin(self.make_envelope("app", "archive", recipients=3), False)
        incoming.write(MAIL)
        await incoming.commit()
        app = await self.claim_all(spool, "app")
        archive = await self.claim_all(spool, "archive")
        ids = {each.delivery.id for each in (*app, *archive)}
        self.assertEqual((len(app), len(archive), len(ids)), (3, 3, 6))
        await spool.record(app[0], Done())
        await spool.record(app[1], Dead("no"))
        self.advance(301)
        again = {each.delivery.id for each in await self.claim_all(spool, "app")}
        self.assertEqual(again, {app[2].delivery.id})
        await self.close_spool(spool)

    async def test_outcomes(self) -> None:
        """Done ends a delivery; Retry makes it due again, one attempt older; Dead holds it."""
        outcomes: tuple[tuple[Outcome, list[int]], ...] = (
            (Done(), []),
            (Dead("refused"), []),
            (Retry(self.seconds() + 60, "busy"), [2]),
            (Retry(self.seconds() + 60, "paused", spent=False), [1]),
        )
        spool = await self.open_spool()
        for number, (outcome, _) in enumerate(outcomes):
            name = f"app{number}"
            await self.put(spool, name)
            [claim] = await self.claim_all(spool, name)
            await spool.record(claim, outcome)
            self.assertEqual(await self.claim_all(spool, name), [], outcome)
        self.advance(61)
        for number, (outcome, attempts) in enumerate(outcomes):
            claims = await self.claim_all(spool, f"app{number}")
            self.assertEqual([each.delivery.attempt for each in claims], attempts, outcome)
        await self.close_spool(spool)

    async def test_finish_is_done_for_each(self) -> None:
        """It says which claims were stale, and changes nothing of their deliveries."""
        spool = await self.open_spool()
        for stale in (0, 1, 3):
            incoming = spool.begin(self.make_envelope("app", recipients=3), False)
            incoming.write(MAIL)
            several = await incoming.commit()
            single = [await self.put(spool) for _ in range(40)]
            lost = (await self.claim_all(spool, lease=10))[:stale]
            self.advance(11)
            claims = await self.claim_all(spool)
            ids = {each.delivery.id for each in lost}
            kept = [each for each in claims if each.delivery.id in ids]
            done = [each for each in claims if each.delivery.id not in ids]
            self.assertEqual(len(kept) + len(done), 43)
            found = await spool.finish([*done[:20], *lost, *done[20:]])
            self.assertEqual([each.token for each in found], [each.token for each in lost])
            for claim in done:
                await self.assert_lost(spool.record(claim, Done()))
            left = {each.delivery.envelope.id for each in kept}
            for message_id in (several, *single):
                try:
                    await self.read(spool, message_id)
                except SpoolError:
                    self.assertNotIn(message_id, left)
                else:
                    self.assertIn(message_id, left)
            self.assertEqual(list(await spool.finish(kept)), [])
            self.assertEqual(await self.claim_all(spool), [])
            self.advance(1000)
            self.assertEqual(await self.claim_all(spool), [])
        self.assertEqual(list(await spool.finish([])), [])
        await self.close_spool(spool)

    async def test_the_id_stays_over_attempts(self) -> None:
        """A receiver tells a repeat by it."""
        spool = await self.open_spool()
        await self.put(spool)
        seen = set()
        for attempt in range(1, 5):
            [claim] = await self.claim_all(spool)
            seen.add(claim.delivery.id)
            self.assertEqual(claim.delivery.attempt, attempt)
            await spool.record(claim, Retry(self.seconds() + 1, "busy"))
            self.advance(2)
        self.assertEqual(len(seen), 1)
        await self.close_spool(spool)

    async def test_next_due(self) -> None:
        """It says when to ask again."""
        spool = await self.open_spool()
        self.assertIsNone(await spool.next_due("app"))
        await self.put(spool)
        await self.put(spool)
        first, second = await self.claim_all(spool)
        self.assertIsNone(await spool.next_due("app"))
        later = self.seconds() + 1000
        await spool.record(first, Retry(later, "busy"))
        await spool.record(second, Retry(later + 5, "busy"))
        self.assertEqual(await spool.next_due("app"), later)
        await self.close_spool(spool)

    async def test_a_lease_ends(self) -> None:
        """What was claimed is due again, and the old claim changes nothing."""
        spool = await self.open_spool()
        await self.put(spool)
        [old] = await self.claim_all(spool, lease=10)
        self.assertEqual(await self.claim_all(spool), [])
        self.advance(11)
        [new] = await self.claim_all(spool)
        self.assertEqual(new.delivery.id, old.delivery.id)
        self.assertNotEqual(new.token, old.token)
        for outcome in (Done(), Dead("no"), Retry(self.seconds(), "busy")):
            await self.assert_lost(spool.record(old, outcome))
        await self.assert_lost(spool.extend(old, 60))
        extended = await spool.extend(new, 600)
        self.assertEqual(extended.delivery, new.delivery)
        self.advance(400)
        self.assertEqual(await self.claim_all(spool), [])
        await spool.record(extended, Done())
        await self.assert_lost(spool.record(extended, Done()))
        await self.close_spool(spool)

    async def test_new_mail_first_and_old_mail_not_last(self) -> None:
        """After an outage neither end of the queue waits for all of the other."""
        spool = await self.open_spool()
        for _ in range(40):
            await self.put(spool)
        old = await self.claim_all(spool)
        for claim in old:
            await spool.record(claim, Retry(self.seconds() + 1, "down"))
        self.advance(10)
        new = [await self.put(spool) for _ in range(10)]
        order = [each.delivery.envelope.id for each in await self.claim_all(spool)]
        self.assertEqual(len(order), 50)
        self.assertLess(max(order.index(each) for each in new), 40)
        self.assertLess(order.index(old[0].delivery.envelope.id), 40)
        await self.close_spool(spool)

    async def test_at_most_the_limit(self) -> None:
        """Of mail that is new and of mail that was tried."""
        spool = await self.open_spool()
        for _ in range(9):
            await self.put(spool)
        for claim in (await self.claim_all(spool))[:5]:
            await spool.record(claim, Retry(self.seconds(), "busy"))
        self.advance(2)
        await self.put(spool)
        for limit in (0, 0, 0, 0, 2, 3, 0, 1):
            self.assertLessEqual(len(await spool.claim("app", limit, 300.0)), limit)
        await self.close_spool(spool)

    async def test_one_at_a_time(self) -> None:
        """While something is due, a claim brings something."""
        spool = await self.open_spool()
        for _ in range(12):
            await self.put(spool)
        for _ in range(12):
            self.assertEqual(len(await spool.claim("app", 1, 300.0)), 1)
        self.assertEqual(list(await spool.claim("app", 1, 300.0)), [])
        await self.close_spool(spool)

    async def test_a_pause(self) -> None:
        """Nothing is claimed, mail is taken, others go on; it outlives a restart."""
        spool = await self.open_spool()
        await self.put(spool, "app")
        await spool.pause("app", "410")
        await self.put(spool, "app")
        await self.put(spool, "archive")
        self.assertEqual(await self.claim_all(spool, "app"), [])
        self.assertEqual(len(await self.claim_all(spool, "archive")), 1)
        await self.close_spool(spool)
        spool = await self.open_spool()
        self.assertEqual(await self.claim_all(spool, "app"), [])
        self.assertTrue(await spool.resume("app"))
        self.assertFalse(await spool.resume("app"))
        self.assertEqual(len(await self.claim_all(spool, "app")), 2)
        await self.close_spool(spool)

    async def test_what_is_under_way_ends_during_a_pause(self) -> None:
        """A pause takes nothing from who holds a claim, and gives nothing out again."""
        spool = await self.open_spool()
        for _ in range(3):
            await self.put(spool)
        done, again, extended = await self.claim_all(spool, lease=60)
        await spool.pause("app", "410")
        self.assertIsNone(await spool.next_due("app"))
        await spool.record(done, Done())
        await spool.record(again, Retry(self.seconds(), "paused", spent=False))
        extended = await spool.extend(extended, 600)
        self.assertEqual(extended.expires_at, self.seconds() + 600)
        self.advance(100)
        self.assertEqual(await self.claim_all(spool), [])
        await spool.record(extended, Dead("no"))
        await spool.resume("app")
        [claim] = await self.claim_all(spool)
        self.assertEqual(claim.delivery, again.delivery)
        await self.close_spool(spool)

    async def test_resume_makes_due_what_waited(self) -> None:
        """However late it was due."""
        spool = await self.open_spool()
        await self.put(spool)
        [claim] = await self.claim_all(spool)
        await spool.record(claim, Retry(self.seconds() + 9999, "busy"))
        await spool.pause("app", "410")
        await spool.resume("app")
        self.assertEqual(len(await self.claim_all(spool)), 1)
        await self.close_spool(spool)

    async def test_a_restart_keeps_everything(self) -> None:
        """What was claimed is due at once, what waited waits, what ended stays ended."""
        spool = await self.open_spool()
        kept = [await self.put(spool) for _ in range(3)]
        ended, waiting, held = await self.claim_all(spool)
        await spool.record(ended, Done())
        later = self.seconds() + 500
        await spool.record(waiting, Retry(later, "busy"))
        await self.close_spool(spool)
        spool = await self.open_spool()
        found = await self.claim_all(spool)
        self.assertEqual([each.delivery for each in found], [held.delivery])
        self.assertEqual(await spool.next_due("app"), later)
        self.assertEqual(await self.read(spool, held.delivery.envelope.id), MAIL)
        self.assertIn(held.delivery.envelope.id, kept)
        await self.close_spool(spool)

    async def test_a_quarantine(self) -> None:
        """Whoever holds it, the deliveries become dead letters and the others go on."""
        spool = await self.open_spool()
        bad = await self.put(spool)
        good = await self.put(spool)
        claims = {each.delivery.envelope.id: each for each in await self.claim_all(spool)}
        await spool.quarantine(bad, "damaged")
        await self.assert_lost(spool.record(claims[bad], Done()))
        await spool.record(claims[good], Done())
        self.advance(1000)
        self.assertEqual(await self.claim_all(spool), [])
        await self.close_spool(spool)

    async def test_no_content_without_a_delivery(self) -> None:
        """Once the last delivery is done the message is gone."""
        spool = await self.open_spool()
        message_id = await self.put(spool)
        [claim] = await self.claim_all(spool)
        await spool.record(claim, Done())
        for gone in (message_id, "neverwas"):
            self.assertIsNone(spool.at_hand(gone))
            try:
                await self.read(spool, gone)
            except SpoolError:
                continue
            self.fail(f"{gone} was read")
        await self.close_spool(spool)
