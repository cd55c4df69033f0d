"""The contract of what takes mail into a spool."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from mailsvc.errors import LeaseLost, SpoolError, SpoolFull
from mailsvc.interfaces import Claim, IContent, IIncoming, ISpool
from mailsvc.message import Address, Done, Envelope, Recipient, Route
from mailsvc.testing.fakes import MAIL, REVERSE_PATH, started

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object


class IncomingContract(TestCase):
    """What :class:`~mailsvc.interfaces.IIncoming` and ``begin`` promise; a part of SpoolContract.

    The methods that a subclass defines are said there.
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

    def fill(self, spool: ISpool) -> bool:
        """Leave no room for more; say whether that was possible."""
        return False

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
        found = await deferToThread(_octets, content)
        self.assertEqual(content.size, len(found))
        at_hand = spool.at_hand(message_id)
        if at_hand is not None:
            self.assertEqual(await deferToThread(_octets, at_hand), found)
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

    async def test_a_message_ends_once(self) -> None:
        """What comes after its end changes nothing."""
        spool = await self.open_spool()
        for committed in (True, False):
            incoming = spool.begin(self.make_envelope(), False)
            incoming.write(MAIL)
            if committed:
                await incoming.commit()
            else:
                incoming.abort()
            incoming.write(b"late")
            try:
                await incoming.commit()
            except SpoolError:
                continue
            self.fail("a message ended twice")
        [claim] = await self.claim_all(spool)
        self.assertEqual(await self.read(spool, claim.delivery.envelope.id), MAIL)
        await self.close_spool(spool)

    async def test_who_does_not_await_is_told(self) -> None:
        """``store`` is ``commit`` with a callback, and with the error where there is one."""
        spool = await self.open_spool()
        incoming = spool.begin(self.make_envelope(), False)
        incoming.write(MAIL)
        for error in (type(None), SpoolError):
            told: Deferred[Exception | None] = Deferred()
            incoming.store(told.callback)
            self.assertIsInstance(await told, error)
        [claim] = await self.claim_all(spool)
        self.assertEqual(await self.read(spool, claim.delivery.envelope.id), MAIL)
        await self.close_spool(spool)

    async def test_a_recipient_given_twice_counts_once(self) -> None:
        """The others keep their places in the envelope."""
        spool = await self.open_spool()
        envelope = self.make_envelope("app", "archive", recipients=2)
        first, second = envelope.recipients
        envelope = replace(envelope, recipients=(first, first, second, first))
        incoming = spool.begin(envelope, False)
        incoming.write(MAIL)
        await incoming.commit()
        for name in ("app", "archive"):
            claims = await self.claim_all(spool, name)
            self.assertEqual([each.delivery.recipient for each in claims], [first, second])
        await self.close_spool(spool)

    async def test_mail_for_nowhere_is_refused(self) -> None:
        """Nobody would ever answer for it."""
        spool = await self.open_spool()
        envelope = self.make_envelope()
        nowhere = Recipient(Address("user", "example.com"), Route("*", ()))
        for recipients in ((), (nowhere,)):
            try:
                spool.begin(replace(envelope, recipients=recipients), False)
            except SpoolError:
                continue
            self.fail("mail without a destination was taken")
        await self.close_spool(spool)

    async def test_a_full_spool_keeps_nothing_of_what_it_refuses(self) -> None:
        """It says so when a message begins, or when it is committed; what it has goes on."""
        spool = await self.open_spool()
        kept = await self.put(spool)
        begun = spool.begin(self.make_envelope(), False)
        begun.write(MAIL)
        if self.fill(spool):
            try:
                await begun.commit()
            except SpoolFull:
                pass
            else:
                self.fail("a full spool took a message")
            try:
                spool.begin(self.make_envelope(), False)
            except SpoolFull:
                pass
            else:
                self.fail("a full spool began to take a message")
        else:
            begun.abort()
        [claim] = await self.claim_all(spool)
        self.assertEqual(claim.delivery.envelope.id, kept)
        await spool.record(claim, Done())
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


def _octets(content: IContent) -> bytes:
    with content.open() as reader:
        return reader.read()
