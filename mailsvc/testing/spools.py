"""The contract of spools."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from mailsvc.errors import LeaseLost, SpoolError
from mailsvc.interfaces import Claim, IIncoming, ISpool
from mailsvc.message import Address, Dead, Done, Envelope, Outcome, Recipient, Retry, Route
from mailsvc.testing.fakes import MAIL, REVERSE_PATH, started

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object


class SpoolContract(TestCase):
    """What :class:`~mailsvc.interfaces.ISpool` and ``IIncoming`` promise.

    A subclass defines :meth:`open_spool`, :meth:`close_spool` and :meth:`advance`.
    """

    async def open_spool(self) -> ISpool:
        """Return the spool of this test, started; after ``close_spool`` the same one again."""
        raise NotImplementedError

    async def close_spool(self, spool: ISpool) -> None:
        """End what ``open_spool`` returned."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let time pass for the spool."""
        raise NotImplementedError

    def seconds(self) -> float:
        """Return the spool's time, since the epoch."""
        raise NotImplementedError

    def make_envelope(self, *destinations: str, recipients: int = 1) -> Envelope:
        """Return an envelope of a message of its own for some recipients."""
        self._ids: int = getattr(self, "_ids", 0) + 1
        route = Route("*", destinations or ("app",))
        to = [Recipient(Address(f"user{each}", "example.com"), route) for each in range(recipients)]
        return Envelope(f"contract{self._ids:06d}", self.seconds(), REVERSE_PATH, tuple(to))

    async def put(self, spool: ISpool, *destinations: str, octets: bytes = MAIL) -> str:
        """Store a message and return its id."""
        incoming = spool.begin(self.make_envelope(*destinations), False)
        incoming.write(octets)
        return await incoming.commit()

    async def claim_all(
        self, spool: ISpool, destination: str = "app", lease: float = 300
    ) -> list[Claim]:
        """Claim until nothing more is due."""
        claims: list[Claim] = []
        for _ in range(1000):
            more = await spool.claim(destination, 8, lease)
            claims += more
            if not more:
                due = await spool.next_due(destination)
                if due is not None and due <= self.seconds():
                    self.fail("a delivery is due and nothing was claimed")
                return claims
        self.fail("there is no end of claims")

    async def read(self, spool: ISpool, message_id: str) -> bytes:
        """Return the content of a message."""
        content = await spool.open(message_id)

        def octets() -> bytes:
            with content.open() as reader:
                return reader.read()

        found = await deferToThread(octets)
        self.assertEqual(content.size, len(found))
        return found

    async def assert_lost(self, awaitable: Awaitable[object]) -> None:
        """Check that a claim is stale."""
        try:
            await awaitable
        except LeaseLost:
            return
        self.fail("a stale claim changed something")

    async def test_it_provides_the_interfaces(self) -> None:
        """The objects are an ISpool and an IIncoming."""
        spool = await self.open_spool()
        self.assertTrue(verifyObject(ISpool, spool))
        incoming = spool.begin(self.make_envelope(), False)
        self.assertTrue(verifyObject(IIncoming, incoming))
        incoming.abort()
        await self.close_spool(spool)

    async def test_what_was_committed_is_claimed_and_read(self) -> None:
        """Envelope and content come out as they went in."""
        spool = await self.open_spool()
        envelope = self.make_envelope("app", recipients=2)
        incoming = spool.begin(envelope, False)
        for piece in (MAIL[:7], memoryview(MAIL)[7:9], MAIL[9:]):
            incoming.write(piece)
        self.assertEqual(await incoming.commit(), envelope.id)
        claims = await self.claim_all(spool)
        self.assertEqual([each.delivery.recipient for each in claims], [*envelope.recipients])
        for claim in claims:
            delivery = claim.delivery
            self.assertEqual(delivery.envelope, envelope)
            self.assertEqual((delivery.attempt, delivery.size), (1, len(MAIL)))
            self.assertEqual(delivery.destination, "app")
            self.assertGreater(claim.expires_at, self.seconds())
        self.assertEqual(len({each.delivery.id for each in claims}), 2)
        self.assertEqual(await self.read(spool, envelope.id), MAIL)
        await self.close_spool(spool)

    async def test_stuffed_content_comes_out_without_its_dots(self) -> None:
        """RFC 5321 section 4.5.2, wherever the pieces are cut."""
        spool = await self.open_spool()
        stuffed = b"..first\r\n...\r\nno .dot\r\n..\r\n"
        for cut in range(len(stuffed)):
            envelope = self.make_envelope()
            incoming = spool.begin(envelope, True)
            incoming.write(stuffed[:cut])
            incoming.write(stuffed[cut:])
            await incoming.commit()
            found = await self.read(spool, envelope.id)
            self.assertEqual(found, b".first\r\n..\r\nno .dot\r\n.\r\n")
        await self.close_spool(spool)

    async def test_nothing_is_claimed_before_the_commit_or_after_an_abort(self) -> None:
        """A message exists from its commit on; an abort after it changes nothing."""
        spool = await self.open_spool()
        incoming = spool.begin(self.make_envelope(), False)
        incoming.write(MAIL)
        self.assertEqual(await self.claim_all(spool), [])
        incoming.abort()
        self.assertEqual(await self.claim_all(spool), [])
        kept = spool.begin(self.make_envelope(), False)
        kept.write(MAIL)
        await kept.commit()
        kept.abort()
        self.assertEqual(len(await self.claim_all(spool)), 1)
        await self.close_spool(spool)

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
            try:
                await self.read(spool, gone)
            except SpoolError:
                continue
            self.fail(f"{gone} was read")
        await self.close_spool(spool)

    async def test_large_and_empty_contents(self) -> None:
        """Any size comes back whole."""
        spool = await self.open_spool()
        for size in (0, 1, 1023, 65_536, 400_000, 3_000_000):
            octets = bytes(range(251)) * (size // 251 + 1)
            message_id = await self.put(spool, octets=octets[:size])
            self.assertEqual(await self.read(spool, message_id), octets[:size])
        await self.close_spool(spool)

    async def test_many_at_once(self) -> None:
        """Commits do not wait for one another, and none is lost or doubled."""
        spool = await self.open_spool()
        commits: list[Deferred[str]] = []
        for number in range(200):
            incoming = spool.begin(self.make_envelope(), False)
            incoming.write(b"%d\r\n" % number)
            commits.append(started(incoming.commit()))
        ids: Sequence[str] = await gatherResults(commits)
        claims = await self.claim_all(spool)
        self.assertEqual({each.delivery.envelope.id for each in claims}, set(ids))
        self.assertEqual(len(claims), 200)
        self.assertEqual(await self.read(spool, ids[123]), b"123\r\n")
        await self.close_spool(spool)
