"""Attempts that go well, alone and in groups: the short ways, beside the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsvc import events
from mailsvc.dispatch import Destination, Dispatcher
from mailsvc.dispatch.outcomes import Outcomes
from mailsvc.errors import DestinationPaused, PermanentFailure, SpoolError, TransientFailure
from mailsvc.interfaces import Claim, IContent, IGroupDeliverer
from mailsvc.message import Dead, Delivery, Done, Outcome, Retry
from tests.dispatch.fakes import Receiver
from tests.dispatch.test_dispatch import LEASE, NEVER, DispatchTestCase

#: What becomes of the deliveries in turn.
FAILURES: tuple[Exception | None, ...] = (
    None,
    PermanentFailure("no such ticket"),
    None,
    TransientFailure("busy"),
    None,
    ValueError("a fault of ours"),
)


def failure_of(delivery: Delivery) -> Exception | None:
    number = int(delivery.envelope.id[1:])
    return FAILURES[number % len(FAILURES)]


class Mixed(Receiver):
    """Takes some deliveries and fails others."""

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        await super().deliver(delivery, content)
        failure = failure_of(delivery)
        if failure is not None:
            raise failure


@implementer(IGroupDeliverer)
class Groups(Mixed):
    """The same for groups.

    :ivar groups: the ids of each.
    :ivar said: what it answers, if not what is true.
    """

    group = 10

    def __init__(self, answer: str | None = None) -> None:
        super().__init__(answer)
        self.groups: list[list[str]] = []
        self.said: Any = None
        self.going: list[Deferred[None]] = []

    async def deliver_group(
        self, deliveries: Sequence[tuple[Delivery, IContent]]
    ) -> Sequence[Exception | None]:
        self.groups.append([delivery.id for delivery, _ in deliveries])
        self.seen += [delivery for delivery, _ in deliveries]
        if self.answer == "wait":
            going: Deferred[None] = Deferred()
            self.going.append(going)
            await going
        if isinstance(self.said, Exception):
            raise self.said
        if self.said is not None:
            said: Sequence[Exception | None] = self.said
            return said
        return [failure_of(delivery) for delivery, _ in deliveries]

    def go(self) -> None:
        """Let what waits go on."""
        going, self.going = self.going, []
        for each in going:
            each.callback(None)


class SameTests(DispatchTestCase):
    """Whatever way an outcome goes, the same is recorded and logged."""

    def outcomes(self, deliverer: Receiver, *, plain: bool) -> object:
        self.setUp()
        if plain:
            self.patch(Outcomes, "went_well", lambda outcomes, attempt: False)
        names = [self.spool.add("app") for _ in range(25)]
        self.spool.add("other")
        self.serve(
            Destination("app", deliverer, concurrency=7, breaker=NEVER),
            Destination("other", Receiver()),
        )
        self.settle()
        self.clock.advance(10)
        self.settle()
        recorded = sorted(
            (name, type(outcome).__name__, getattr(outcome, "reason", ""))
            for name, outcome in self.spool.recorded
        )
        self.assertEqual({name for name, _, _ in recorded} - {*names}, {"m26-1"})
        logged = sorted(str(event) for event in self.events if "Broke" not in str(event))
        broke = [event.id for event in self.events if isinstance(event, events.AttemptBroke)]
        left = {name: row.attempts for name, row in self.spool.rows.items()}
        self.tearDown()
        return recorded, logged, sorted(broke), left

    def test_all_ways(self) -> None:
        plain = self.outcomes(Mixed(), plain=True)
        self.assertEqual(self.outcomes(Mixed(), plain=False), plain)
        self.assertEqual(self.outcomes(Groups(), plain=False), plain)
        self.assertEqual(self.outcomes(Groups(), plain=True), plain)


class WellTests(DispatchTestCase):
    """What only the spool and the log are to know."""

    def test_the_successes_of_a_turn_are_recorded_together(self) -> None:
        receiver = Receiver("wait")
        for _ in range(5):
            self.spool.add("app")
        self.serve(Destination("app", receiver))
        asked: list[int] = []
        real = self.spool.finish

        async def finish(claims: Sequence[Claim]) -> Sequence[Claim]:
            asked.append(len(claims))
            return await real(claims)

        self.patch(self.spool, "finish", finish)
        receiver.finish()
        self.settle()
        self.assertEqual(asked, [5])
        self.assertEqual(self.names(), ["Delivered"] * 5)

    def test_a_stale_claim_is_told_and_the_others_are_done(self) -> None:
        receiver = Receiver("wait")
        names = [self.spool.add("app") for _ in range(3)]
        self.serve(Destination("app", receiver))
        self.spool.rows[names[1]].token += 1  # another worker has it
        receiver.finish()
        self.settle()
        self.assertEqual([name for name, _ in self.spool.recorded], [names[0], names[2]])
        self.assertEqual(sorted(self.names()), ["Alert", "Delivered", "Delivered"])
        [alert] = self.told(events.Alert)
        expected = "(done) is not recorded: another worker has it, or it left the queue"
        self.assertEqual(alert.text(), f"the outcome of {names[1]} {expected}")

    def test_a_record_that_fails_is_made_again_for_each(self) -> None:
        names = [self.spool.add("app") for _ in range(3)]
        self.spool.failing["record"] = SpoolError("disk")
        self.serve(Destination("app", Receiver()))
        del self.spool.failing["record"]
        self.clock.advance(1)
        self.settle()
        self.assertEqual(sorted(self.spool.recorded), sorted((name, Done()) for name in names))
        self.assertEqual(self.names().count("Delivered"), 3)

    def test_a_success_that_the_sender_is_told_of_is_told_before_it_is_recorded(self) -> None:
        told: list[str] = []
        going: Deferred[None] = Deferred()

        async def tell(claim: Claim, outcome: Outcome, reply: object, schedule: object) -> None:
            told.append(claim.delivery.id)
            await going

        self.dispatcher = Dispatcher(
            self.spool, self.clock, self.events.append, Random(1), lease=LEASE, tell=tell
        )
        names = [self.spool.add("app") for _ in range(2)]
        row = self.spool.rows[names[0]]
        recipient = replace(row.delivery.recipient, notify=("SUCCESS", "FAILURE"))
        row.delivery = replace(row.delivery, recipient=recipient)
        self.serve(Destination("app", Receiver()))
        self.settle()
        self.assertEqual(told, [names[0]])
        self.assertEqual(self.spool.recorded, [(names[1], Done())])
        going.callback(None)
        self.settle()
        self.assertEqual(self.spool.recorded[1:], [(names[0], Done())])

    def test_a_stop_records_what_has_ended(self) -> None:
        receiver = Receiver("wait")
        name = self.spool.add("app")
        self.serve(Destination("app", receiver))
        receiver.finish()
        self.assertEqual(self.spool.recorded, [])
        self.assertIsNone(self.successResultOf(self.stop()))
        self.assertEqual(self.spool.recorded, [(name, Done())])
        self.turn()
        self.assertEqual(self.spool.recorded, [(name, Done())])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class GroupTests(DispatchTestCase):
    """Deliverers that take groups."""

    def test_a_claim_is_a_group(self) -> None:
        names = [self.spool.add("app") for _ in range(14)]
        groups = Groups()
        groups.said = [None] * 10
        self.serve(Destination("app", groups, concurrency=10))
        self.assertEqual(len(groups.groups[0]), 10)
        groups.said = [None] * 4
        self.settle()
        self.assertEqual([len(group) for group in groups.groups], [10, 4])
        self.assertEqual({name for name, _ in self.spool.recorded}, {*names})

    def test_concurrency_is_kept(self) -> None:
        for _ in range(30):
            self.spool.add("app")
        groups = Groups("wait")
        self.serve(Destination("app", groups, concurrency=10))
        self.settle()
        self.assertEqual(len(groups.seen), 10)
        self.assertEqual(self.dispatcher.states()["app"].running, 10)

    def test_a_group_that_fails_fails_each(self) -> None:
        for said in (TransientFailure("the disk is gone"), [None, None], [None] * 4):
            self.setUp()
            for _ in range(3):
                self.spool.add("app")
            groups = Groups()
            groups.said = said
            self.serve(Destination("app", groups, breaker=NEVER))
            self.assertEqual(self.names().count("Deferred"), 3)
            self.assertEqual(len(self.spool.rows), 3)

    def test_one_whose_content_cannot_be_opened_is_not_of_the_group(self) -> None:
        names = [self.spool.add("app") for _ in range(3)]
        del self.spool.contents["m2"]
        groups = Groups()
        groups.said = [None, None]
        self.serve(Destination("app", groups))
        self.assertEqual([sorted(group) for group in groups.groups], [[names[0], names[2]]])
        self.assertEqual(sorted(self.names()), ["Deferred", "Delivered", "Delivered"])

    def test_a_group_of_none(self) -> None:
        self.spool.add("app")
        self.spool.failing["open"] = SpoolError("disk")
        groups = Groups()
        self.serve(Destination("app", groups))
        self.assertEqual(groups.groups, [])
        self.assertEqual(self.names(), ["Deferred"])

    def test_each_has_its_time(self) -> None:
        names = [self.spool.add("app") for _ in range(2)]
        groups = Groups("wait")
        self.serve(Destination("app", groups, timeout=30.0, breaker=NEVER))
        self.clock.advance(31)
        self.settle()
        outcomes = dict(self.spool.recorded)
        self.assertEqual({*outcomes}, {*names})
        for outcome in outcomes.values():
            assert isinstance(outcome, Retry)
            self.assertEqual(outcome.reason, "not done within 30 s")
        groups.said = [None, None]
        groups.go()
        self.settle()
        self.assertEqual(len(self.spool.recorded), 2)

    def test_each_has_its_lease(self) -> None:
        names = [self.spool.add("app") for _ in range(2)]
        groups = Groups("wait")
        self.serve(Destination("app", groups, timeout=1000.0))
        self.clock.advance(LEASE / 2 + 1)
        self.settle()
        self.assertEqual(self.spool.count("extend"), 2)
        self.spool.rows[names[0]].token += 1
        self.clock.advance(LEASE / 2 + 1)
        self.settle()
        groups.said = [None, None]
        groups.go()
        self.settle()
        self.assertEqual(self.spool.recorded, [(names[1], Done())])
        [alert] = self.told(events.Alert)
        self.assertIn(f"lost the lease of {names[0]}", alert.text())

    def test_a_stop_releases_a_group_that_goes_on(self) -> None:
        names = [self.spool.add("app") for _ in range(2)]
        groups = Groups("wait")
        self.serve(Destination("app", groups))
        stopped = self.stop(5)
        self.assertNoResult(stopped)
        self.clock.advance(5)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual({name for name, _ in self.spool.recorded}, {*names})
        self.assertEqual([row.attempts for row in self.spool.rows.values()], [0, 0])

    def test_a_pause_in_a_group(self) -> None:
        names = [self.spool.add("app") for _ in range(3)]
        groups = Groups()
        groups.said = [DestinationPaused("410"), None, PermanentFailure("no")]
        self.serve(Destination("app", groups))
        self.settle()
        outcomes = dict(self.spool.recorded)
        kinds = [type(outcomes[name]) for name in groups.groups[0]]
        self.assertEqual(kinds, [Retry, Done, Dead])
        self.assertEqual({*outcomes}, {*names})
        self.assertEqual(self.spool.paused, {"app": "410"})
        self.assertEqual(len(groups.groups), 1)
