"""Content on its way in: memory is bounded, the largest makes room, and peers are paused."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred

from mailsvc.errors import SpoolError, SpoolFull
from mailsvc.message import Done, Envelope
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.reception import Incoming
from mailsvc.spool.view import SpoolLimits
from tests.spool.house import SpoolTestCase

MEMORY = 200_000
SMALL_MEMORY = SpoolLimits(low_water=0, content_memory=MEMORY)


class ReceptionTests(SpoolTestCase):
    def begin(self, spool: EmbeddedSpool, octets: bytes = b"") -> Incoming:
        incoming = spool.begin(self.envelope(), False)
        if octets:
            incoming.write(octets)
        return incoming

    def spilled(self) -> int:
        """Return how many contents have files that are being written."""
        return len(os.listdir(os.path.join(self.directory, "tmp")))

    async def test_any_pieces_make_the_same_content(self) -> None:
        """Requirement 2, to the disk: small pieces, views of larger buffers, and all sizes."""
        spool = await self.opened()
        whole = bytes(range(256)) * 300
        for size in (1, 100, 1023, 1024, 20_000, 70_000):
            incoming = self.begin(spool)
            for start in range(0, len(whole), size):
                piece: bytes | memoryview = whole[start : start + size]
                if size > 100:
                    piece = memoryview(whole)[start : start + size]
                waiting = incoming.write(piece)
                if waiting is not None:
                    await waiting
            message_id = await incoming.commit()
            self.assertEqual(await self.octets_of(spool, message_id), whole)

    async def test_a_view_of_a_whole_buffer_is_not_copied(self) -> None:
        spool = await self.opened()
        incoming = self.begin(spool)
        incoming.write(memoryview(b"w" * 20_000))
        self.assertEqual(await self.octets_of(spool, await incoming.commit()), b"w" * 20_000)

    async def test_the_largest_makes_room(self) -> None:
        """Requirement 43: what waits in memory is bounded over all connections."""
        spool = await self.opened(SMALL_MEMORY, spill=1 << 16)
        small = [self.begin(spool, b"s" * 5_000) for _ in range(20)]
        large = self.begin(spool, b"l" * 60_000)
        self.assertEqual(self.spilled(), 0)
        waits = [self.begin(spool).write(b"m" * 45_000)]
        await self.breath()
        self.assertEqual(self.spilled(), 1)
        for waiting in waits:
            if waiting is not None:
                await waiting
        self.assertEqual(await self.octets_of(spool, await large.commit()), b"l" * 60_000)
        for each in small:
            self.assertEqual(await self.octets_of(spool, await each.commit()), b"s" * 5_000)

    async def test_many_that_are_small_are_spilled_one_by_one_and_wait(self) -> None:
        spool = await self.opened(SMALL_MEMORY)
        incoming = [self.begin(spool) for _ in range(60)]
        waited = 0
        for each in incoming:
            waiting = each.write(b"m" * 10_000)
            if waiting is not None:
                waited += 1
                await waiting
        self.assertGreater(waited, 0)
        for each in incoming:
            self.assertEqual(await self.octets_of(spool, await each.commit()), b"m" * 10_000)

    async def test_another_bound_from_now_on(self) -> None:
        """A reload changes it."""
        spool = await self.opened()
        self.assertIsNone(self.begin(spool).write(b"m" * 30_000))
        spool.change_limits(SpoolLimits(low_water=0, content_memory=10_000))
        waiting = self.begin(spool).write(b"m" * 30_000)
        assert waiting is not None
        await waiting
        self.assertEqual(self.spilled(), 2)

    async def test_a_disk_that_is_slow_pauses_the_peer(self) -> None:
        """``write`` pushes back once a megabyte waits for the disk."""
        spool = await self.opened()
        incoming = self.begin(spool)
        waiting: Deferred[None] | None = None
        pieces = 0
        while waiting is None and pieces < 100:
            waiting = incoming.write(b"p" * 65_536)
            pieces += 1
        assert waiting is not None
        await waiting
        message_id = await incoming.commit()
        self.assertEqual(len(await self.octets_of(spool, message_id)), pieces * 65_536)

    async def test_a_long_file_is_synced_on_its_way(self) -> None:
        spool = await self.opened()
        incoming = self.begin(spool)
        for _ in range(200):
            waiting = incoming.write(b"p" * 65_536)
            if waiting is not None:
                await waiting
        await incoming.commit()
        synced = [path for name, path in self.files.calls if name == "fdatasync"]
        self.assertTrue(any("tmp" in path for path in synced))

    async def test_an_abort_leaves_nothing(self) -> None:
        """Requirement 37: however far the content had come."""
        spool = await self.opened(SMALL_MEMORY)
        for size in (0, 10, 30_000, 400_000):
            incoming = self.begin(spool, b"a" * size)
            incoming.abort()
            incoming.abort()
            self.assertIsNone(incoming.write(b"late"))
            self.assertIn("ended", str(await self.refused(incoming.commit())))
        for _ in range(1000):
            if not self.spilled() and not spool._reception.memory.total:
                break
            await self.breath()
        self.assertEqual(self.spilled(), 0)
        self.assertEqual((await spool.summary()).messages, 0)
        # All of the memory is there again.
        self.assertIsNone(self.begin(spool).write(b"x" * 30_000))

    async def test_an_envelope_that_is_no_text(self) -> None:
        spool = await self.opened()
        envelope = self.envelope()
        broken = Envelope(
            envelope.id, envelope.received_at, None, envelope.recipients, envid="\udc80"
        )
        incoming = spool.begin(broken, False)
        error = await self.refused(incoming.commit())
        self.assertIn("envelope", str(error))

    async def test_what_cannot_begin(self) -> None:
        spool = await self.opened()
        envelope = self.envelope()
        for wrong in (
            Envelope("../etc", 0.0, None, envelope.recipients),
            Envelope("ab-1", 0.0, None, envelope.recipients),
            Envelope(envelope.id, 0.0, None, ()),
        ):
            self.assertRaises(SpoolError, spool.begin, wrong, False)

    async def test_a_recipient_given_twice_counts_once(self) -> None:
        spool = await self.opened()
        envelope = self.envelope()
        twice = Envelope(envelope.id, 0.0, None, envelope.recipients * 2)
        await spool.begin(twice, False).commit()
        self.assertEqual(len(await self.claimed(spool)), 1)

    async def test_a_share_that_fills_meanwhile(self) -> None:
        limits = SpoolLimits(octets=1 << 22, low_water=0, share={"app": 0.01})
        spool = await self.opened(limits)
        incoming = self.begin(spool, b"x" * 60_000)
        self.assertIsInstance(await self.refused(incoming.commit()), SpoolFull)

    async def test_before_the_start_and_after_the_stop(self) -> None:
        spool = await self.opened()
        kept = self.begin(spool, b"kept")
        await self.stopped(spool)
        self.assertIn("does not run", str(await self.refused(kept.commit())))
        self.assertIn("does not run", str(await self.refused(spool.claim("app", 1, 1.0))))
        self.assertIn("stopped", str(await self.refused(spool.entries())))


class FreshTests(SpoolTestCase):
    """A mail that nobody takes from memory is queued, where another process finds it."""

    async def test_after_half_a_minute(self) -> None:
        spool = await self.opened()
        message_id = await self.store(spool)
        await self.upkeep(spool, 31.0)
        self.assertEqual([c.delivery.envelope.id for c in await self.claimed(spool)], [message_id])

    async def test_more_than_memory_keeps(self) -> None:
        spool = await self.opened()
        incoming = spool.begin(self.envelope(recipients=1500), False)
        await incoming.commit()
        self.assertEqual(await spool.next_due("app"), self.rounds.now())
        claims = await self.claimed(spool)
        self.assertEqual(len({each.delivery.id for each in claims}), 1500)
        for claim in claims:
            await spool.record(claim, Done())
        self.assertEqual((await spool.summary()).messages, 0)
        self.assertIsNone(await spool.next_due("app"))
