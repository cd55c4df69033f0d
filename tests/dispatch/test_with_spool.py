"""Dispatch over the spool that it is made for, with its threads and its disk."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mailsvc.dispatch import Destination, Dispatcher
from mailsvc.errors import PermanentFailure, TransientFailure
from mailsvc.events import Event
from mailsvc.interfaces import IContent, IDeliverer
from mailsvc.message import Address, Delivery, Envelope, Recipient, Route
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import AnswerKey, SpoolLimits
from mailsvc.synchronous import Synchronous

reactor: Any = installed_reactor


@implementer(IDeliverer)
class Counting:
    """Takes every delivery; fires ``done`` at the given number of them."""

    def __init__(self, number: int) -> None:
        self.seen: list[Delivery] = []
        self.number = number
        self.done: Deferred[None] = Deferred()

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        self.seen.append(delivery)
        if len(self.seen) == self.number:
            self.done.callback(None)


@implementer(IDeliverer)
class Failing:
    """Fails every delivery."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        raise self.error


class EmbeddedSpoolTests(TestCase):
    #: Shorter than the dispatcher's look at an idle queue: what is delivered here was not found
    #: by that.
    timeout = 30

    async def open(self) -> None:
        self.events: list[Event] = []
        emit = self.events.append
        self.spool = EmbeddedSpool(self.mktemp(), reactor, limits=SpoolLimits(), emit=emit)
        await self.spool.start()
        self.dispatcher = Dispatcher(self.spool, reactor, emit, Random(1))

    async def close(self) -> None:
        await self.dispatcher.stop(1)
        await self.spool.stop()

    async def put(self, *destinations: str, sync: bool = False) -> str:
        recipient = Recipient(Address("a", "example.com"), Route("*", destinations, sync=sync))
        now = reactor.seconds()
        incoming = self.spool.begin(Envelope(new_message_id(now), now, None, (recipient,)), False)
        incoming.write(b"Subject: x\r\n\r\nx\r\n")
        message_id: str = await incoming.commit()
        self.dispatcher.wake(destinations)
        return message_id

    async def drained(self) -> None:
        """Wait until the spool is empty."""
        while (await self.spool.summary()).messages:
            await self.spool.entries()

    async def deliver(self, concurrency: int, number: int, before: int) -> None:
        """Deliver messages, some of which wait already when the dispatcher starts."""
        await self.open()
        receiver = Counting(number)
        for _ in range(before):
            await self.put("app")
        self.dispatcher.replace({"app": Destination("app", receiver, concurrency)})
        self.dispatcher.start()
        for _ in range(number - before):
            await self.put("app")
        await receiver.done
        await self.drained()
        self.assertEqual(len({delivery.id for delivery in receiver.seen}), number)
        await self.close()

    async def test_one_at_a_time(self) -> None:
        await self.deliver(1, 60, 30)

    async def test_several_at_a_time(self) -> None:
        await self.deliver(7, 100, 50)

    async def test_more_than_the_spool_keeps_in_memory(self) -> None:
        await self.deliver(20, 1200, 1150)

    async def test_outcomes_are_seen_by_operators(self) -> None:
        await self.open()
        self.dispatcher.replace(
            {
                "app": Destination("app", Failing(TransientFailure("503")), schedule=(3600.0,)),
                "strict": Destination("strict", Failing(PermanentFailure("no"))),
            }
        )
        self.dispatcher.start()
        await self.put("app", "strict", "elsewhere")
        entries = {each.destination: each for each in await self.spool.entries()}
        while not entries["app"].reason or entries["strict"].state != "dead":
            entries = {each.destination: each for each in await self.spool.entries()}
        self.assertEqual((entries["app"].state, entries["app"].attempts), ("waiting", 1))
        self.assertEqual(entries["strict"].reason, "no")
        self.assertEqual(entries["elsewhere"].attempts, 0)
        receiver = Counting(1)
        self.dispatcher.replace({"app": Destination("app", receiver)})
        self.assertEqual(await self.spool.retry([entries["app"].id]), 1)
        self.dispatcher.wake(["app"])
        await receiver.done
        self.assertEqual(receiver.seen[0].attempt, 2)
        await self.close()

    async def test_ids_are_known_before_the_commit(self) -> None:
        """Requirement 38: those of synchronous routes, among recipients of every kind."""
        await self.open()
        routes = {True: Route("s", ("app",), sync=True), False: Route("q", ("app", "other"))}
        to = tuple(
            Recipient(Address(f"u{number}", "example.com"), routes[sync])
            for number, sync in enumerate((False, True, False, True, True))
        )
        now = reactor.seconds()
        envelope = Envelope(new_message_id(now), now, None, to)
        synchronous = Synchronous(self.spool, self.dispatcher.attempt, reactor, 120)
        await synchronous.commit(self.spool.begin(envelope, False), envelope, b"sha256")
        claims = self.spool.claim_message(envelope.id, 120)
        self.assertEqual(len(claims), 3)
        for claim in claims:
            key = AnswerKey("", str(claim.delivery.recipient.address), b"sha256")
            answer = await self.spool.answer_for(key)
            assert answer is not None
            self.assertEqual(answer.delivery_id, claim.delivery.id)
        await self.close()

    async def test_a_synchronous_route_waits_for_its_verdict(self) -> None:
        await self.open()
        refusal = PermanentFailure("422", reply="no such ticket")
        self.dispatcher.replace({"app": Destination("app", Failing(refusal))})
        self.dispatcher.start()
        message_id = await self.put("app", sync=True)
        claims = self.spool.claim_message(message_id, self.dispatcher.lease)
        (verdict,) = await self.dispatcher.attempt(claims)
        self.assertEqual(verdict.reply, "no such ticket")
        await self.close()
