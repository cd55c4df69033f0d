"""What a process holds is handed out, recorded or given back: nothing is held by nobody."""

from __future__ import annotations

import contextlib
import sqlite3

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.errors import SpoolError
from mailsvc.interfaces import Claim
from mailsvc.message import Address, Delivery, Done, Envelope, Recipient, Retry, Route
from mailsvc.spool.claims import Claims
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.held import Held
from mailsvc.spool.process import BEAT_SECONDS, SILENT_SECONDS, Presence
from mailsvc.spool.schema import Layout
from tests.spool.house import FaultyFiles, SpoolTestCase

RECIPIENT = Recipient(Address("x", "example.com"), Route("app", ("app",)))
DISK = sqlite3.OperationalError("disk I/O error")


class LeaseTests(SynchronousTestCase):
    def test_each_ends_when_its_time_is_over(self) -> None:
        """Whatever their order, and whichever were extended or have ended."""
        clock = Clock()
        claims = Claims(clock.seconds)
        envelope = Envelope("m", 0.0, None, ())
        for token, seconds in enumerate((40.0, 10.0, 20.0, 10.0, 30.0, 90.0)):
            held = Held(token, token, "app", 1)
            delivery = Delivery("m-1", envelope, RECIPIENT, "app", 1, 1)
            claims.claimed(held, delivery, seconds)
        extended = claims.lease(1)
        assert extended is not None
        claims.extend(extended, 35.0)
        claims.end(4)
        shortened = claims.lease(5)
        assert shortened is not None
        found = []
        for second in range(0, 60, 5):
            found.append((second, [held.token for held in claims.expired()]))
            if second == 40:
                claims.extend(shortened, 10.0)
            clock.advance(5)
        ended = [(second, tokens) for second, tokens in found if tokens]
        self.assertEqual(ended, [(10, [3]), (20, [2]), (35, [1]), (40, [0]), (50, [5])])
        claims.claimed(held, delivery, 1.0)
        self.assertEqual(claims.expired(), [])
        clock.advance(1)
        self.assertEqual(claims.expired(), [held])
        self.assertIsNone(claims.lease(held.token))


class GivingBackTests(SpoolTestCase):
    """The rows say who holds a delivery; when that ends in memory, it has to end there, too."""

    async def queued(self, spool: EmbeddedSpool, count: int) -> list[str]:
        """Store messages, and queue them in the rows as due; return their ids."""
        ids = [await self.store(spool) for _ in range(count)]
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now(), "busy"))
        self.rounds.clock.advance(2)
        return ids

    def found(self, claims: list[Claim]) -> list[str]:
        return [each.delivery.envelope.id for each in claims]

    async def test_after_a_round_that_failed(self) -> None:
        spool = await self.opened()
        held, fresh = await self.store(spool), await self.store(spool, "other")
        await spool.claim("app", 1, 40.0)
        self.files.fail("sql", "COMMIT", DISK)
        await self.upkeep(spool, 45.0)
        self.assertIn("upkeep failed", self.logged())
        await self.upkeep(spool)
        self.assertEqual(self.found(await self.claimed(spool)), [held])
        self.assertEqual(self.found(await self.claimed(spool, "other")), [fresh])

    async def test_after_a_claim_that_could_not_give_back_what_had_expired(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool)
        await spool.claim("app", 1, 0.5)
        self.rounds.clock.advance(0.75)
        self.files.fail("sql", "COMMIT", DISK)
        # Both may be in the group that fails.
        with contextlib.suppress(SpoolError):
            await spool.claim("other", 1, 1.0)
        await self.upkeep(spool)
        self.assertEqual(self.found(await self.claimed(spool)), [message_id])

    async def test_after_a_claim_that_was_made_although_it_failed(self) -> None:
        """The commit is on the disk, but said that it is not."""
        spool = await self.opened()
        ids = await self.queued(spool, 2)
        self.files.committing = True
        self.files.fail("sql", "COMMIT", DISK)
        await self.refused(spool.claim("app", 2, 300.0))
        self.files.committing = False
        self.assertEqual(await self.claimed(spool), [])
        await self.upkeep(spool)
        self.assertCountEqual(self.found(await self.claimed(spool)), ids)

    async def test_the_same_beside_one_from_memory(self) -> None:
        spool = await self.opened()
        ids = await self.queued(spool, 2)
        fresh = await self.store(spool)
        self.files.committing = True
        self.files.fail("sql", "COMMIT", DISK)
        self.assertEqual(self.found(list(await spool.claim("app", 3, 300.0))), [fresh])
        self.files.committing = False
        await self.upkeep(spool)
        self.assertCountEqual(self.found(await self.claimed(spool)), ids)

    async def test_after_a_drop_that_failed(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool)
        self.files.fail("sql", "COMMIT", DISK)
        await self.refused(spool.drop([message_id]))
        await self.upkeep(spool)
        self.assertEqual(self.found(await self.claimed(spool)), [message_id])

    async def test_what_came_in_after_others_had_taken_the_rest(self) -> None:
        """A process that was silent forgets all that it held, also what it took in since."""
        silent = await self.opened()
        silent._rounds.stop()
        before = await self.store(silent)
        awake = await self.opened()
        self.rounds.clock.advance(SILENT_SECONDS + BEAT_SECONDS)
        await self.upkeep(awake)
        since = await self.store(silent)
        self.assertEqual(self.found(await self.claimed(awake)), [before])
        self.assertEqual(self.found(await self.claimed(silent)), [since])
        self.assertIn("silent for long", self.logged())


class HandingOutTests(SpoolTestCase):
    async def test_at_most_the_limit(self) -> None:
        spool = await self.opened()
        for _ in range(3):
            await self.store(spool)
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now(), "busy"))
        for limit in (0, -1) * 5:
            self.assertEqual(list(await spool.claim("app", limit, 60.0)), [])
        self.assertEqual(len(await spool.claim("app", 2, 60.0)), 2)

    async def test_what_cannot_be_read_does_not_hide_what_can(self) -> None:
        """While any is due, at least one is returned."""
        spool = await self.opened()
        ids = [await self.store(spool) for _ in range(8)]
        for claim in await self.claimed(spool):
            await spool.record(claim, Retry(self.rounds.now(), "busy"))
        await spool._workshop.change(
            lambda transaction: transaction.connection.execute(
                "UPDATE messages SET envelope = '{' WHERE id != ?", (ids[3],)
            )
        )
        await self.stopped(spool)
        spool = await self.opened()
        [claim] = await spool.claim("app", 1, 60.0)
        self.assertEqual(claim.delivery.envelope.id, ids[3])
        self.assertEqual(await self.claimed(spool), [])
        self.assertEqual(len(await spool.entries(state="dead")), 7)

    async def test_a_pause_that_was_just_made(self) -> None:
        """It holds for what is asked after it, here and in other processes."""
        one, two = await self.opened(), await self.opened()
        await self.store(one)
        [claim] = await self.claimed(one)
        await one.record(claim, Retry(self.rounds.now(), "busy"))
        self.rounds.clock.advance(0.5)
        pause = one.pause("app", "410")
        claim_after = one.claim("app", 1, 60.0)
        await pause
        self.assertEqual(list(await claim_after), [])
        self.assertEqual(list(await two.claim("app", 1, 60.0)), [])
        self.assertIsNone(await two.next_due("app"))
        await one.resume("app")
        self.assertEqual(len(await one.claim("app", 1, 60.0)), 1)

    async def test_a_row_that_another_process_uses_again(self) -> None:
        """Under load rows are numbered ahead of the clock; one whose mail is gone is free."""
        one, two = await self.opened(), await self.opened()
        await self.store(one)
        for outcome in (Retry(self.rounds.now(), "busy"), Done()):
            [claim] = await self.claimed(one)
            await one.record(claim, outcome)
        message_id = await self.store(two, octets=b"another")
        [claim] = await self.claimed(two)
        await two.record(claim, Retry(self.rounds.now(), "busy"))
        self.rounds.clock.advance(2)
        [claim] = await self.claimed(one)
        self.assertEqual(claim.delivery.envelope.id, message_id)
        self.assertEqual(await self.octets_of(one, claim.delivery.envelope.id), b"another")


class LookingFiles(FaultyFiles):
    """Lets another process look around before each lock is taken."""

    look: Presence | None = None
    dead: set[int]

    def lock(self, descriptor: int, *, exclusive: bool, wait: bool) -> bool:
        """See :class:`mailsvc.spool.files.Files`."""
        if self.look is not None and wait:
            self.dead |= self.look.others()[1]
        return super().lock(descriptor, exclusive=exclusive, wait=wait)


class PresenceTests(SpoolTestCase):
    def test_a_process_is_never_seen_without_its_lock(self) -> None:
        """Who sees it so takes it for dead, and takes its segments to write to them."""
        layout = Layout(self.directory)
        files = LookingFiles(self.directory)
        files.dead = set()
        layout.make(files)
        one, two = Presence(layout, files), Presence(layout, files)
        one.enter()
        self.addCleanup(one.leave)
        files.look = one
        two.enter()
        self.addCleanup(two.leave)
        self.assertEqual(files.dead, set())
        self.assertEqual(one.others(), ({two.number}, set()))
