from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsvc import events
from mailsvc.breaker import BreakerPolicy
from mailsvc.dispatch import Destination, Dispatcher, Verdict
from mailsvc.errors import (
    DestinationPaused,
    LeaseLost,
    PermanentFailure,
    SpoolError,
    TransientFailure,
)
from mailsvc.interfaces import Claim, IContent, IDeliverer
from mailsvc.message import Dead, Delivery, Done, Retry
from tests.dispatch.fakes import HeldSpool, Receiver

#: The breaker stays out of the way of what is not about it.
NEVER = BreakerPolicy(failures=0)
LEASE = 100.0


class DispatchTestCase(SynchronousTestCase):
    """One dispatcher over a spool that the test holds, on a clock that the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.spool = HeldSpool(self.clock)
        self.events: list[events.Event] = []
        self.dispatcher = Dispatcher(
            self.spool, self.clock, self.events.append, Random(1), lease=LEASE
        )

    def tearDown(self) -> None:
        """End what the test left under way."""
        self.spool.held.clear()
        self.spool.failing.clear()
        self.spool.release()
        self.stop(0)
        self.clock.advance(0)

    def serve(self, *destinations: Destination) -> None:
        self.dispatcher.replace({each.name: each for each in destinations})
        self.dispatcher.start()
        self.turn()

    def turn(self, turns: int = 3) -> None:
        """Let the reactor turn without letting time pass."""
        for _ in range(turns):
            self.clock.advance(0)

    def settle(self) -> None:
        """Let the reactor turn until nothing is asked of the spool any more."""
        while True:
            before = len(self.spool.calls)
            self.turn()
            if len(self.spool.calls) == before:
                return

    def told(self, kind: type[events.Event]) -> list[events.Event]:
        return [event for event in self.events if type(event) is kind]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def stop(self, timeout: float = 10) -> Deferred[None]:
        return Deferred.fromCoroutine(self.dispatcher.stop(timeout))


class DeliveryTests(DispatchTestCase):
    def test_what_is_due_at_the_start_is_delivered(self) -> None:
        receiver = Receiver()
        names = [self.spool.add("app") for _ in range(3)]
        self.serve(Destination("app", receiver))
        self.assertEqual([delivery.id for delivery in receiver.seen], names)
        self.assertEqual(self.spool.recorded, [(name, Done()) for name in names])
        self.assertEqual(self.names(), ["Delivered"] * 3)

    def test_nothing_is_claimed_before_the_start(self) -> None:
        self.spool.add("app")
        self.dispatcher.replace({"app": Destination("app", Receiver())})
        self.dispatcher.wake(["app"])
        self.turn()
        self.assertEqual(self.spool.calls, [])

    def test_wake_makes_one_claim_for_all_messages_of_a_turn(self) -> None:
        receiver = Receiver()
        self.serve(Destination("app", receiver))
        self.settle()
        self.spool.calls.clear()
        for _ in range(5):
            self.spool.add("app")
            self.dispatcher.wake(["app", "nowhere"])
        self.settle()
        self.assertEqual(len(receiver.seen), 5)
        self.assertEqual(self.spool.count("claim"), 1)

    def test_a_spool_that_holds_back_a_part_is_asked_again_at_once(self) -> None:
        receiver = Receiver()
        for _ in range(9):
            self.spool.add("app")
        self.spool.most = 2
        self.serve(Destination("app", receiver, concurrency=10))
        self.settle()
        self.assertEqual(len(receiver.seen), 9)

    def test_a_spool_that_finds_nothing_once_is_asked_again_at_once(self) -> None:
        receiver = Receiver()
        self.spool.add("app")
        self.spool.most = 0
        self.spool.held.add("claim")
        self.serve(Destination("app", receiver))
        self.spool.release()
        self.spool.most = 10
        self.turn(1)
        self.spool.release()
        self.assertEqual(len(receiver.seen), 1)

    def test_a_spool_that_keeps_finding_nothing_is_not_asked_without_a_pause(self) -> None:
        self.spool.add("app")
        self.spool.most = 0
        self.serve(Destination("app", Receiver()))
        self.settle()
        self.assertEqual(self.spool.count("claim"), 2)
        self.clock.advance(1)
        self.settle()
        self.assertEqual(self.spool.count("claim"), 3)

    def test_a_backlog_is_claimed_in_batches_and_concurrency_is_kept(self) -> None:
        receiver = Receiver("wait")
        for _ in range(25):
            self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=10))
        self.assertEqual(len(receiver.open), 10)
        receiver.finish()
        self.settle()
        self.assertEqual(len(receiver.open), 10)
        self.assertEqual(len(receiver.seen), 20)
        receiver.finish()
        self.settle()
        receiver.finish()
        self.settle()
        self.assertEqual(len(self.spool.recorded), 25)
        self.assertLessEqual(self.spool.count("claim"), 4)

    def test_a_message_that_comes_during_a_claim_is_not_forgotten(self) -> None:
        receiver = Receiver()
        self.spool.held.add("claim")
        self.serve(Destination("app", receiver))
        self.spool.release()
        self.settle()
        self.spool.calls.clear()
        self.dispatcher.wake(["app"])
        self.settle()  # the claim is on its way
        self.dispatcher.wake(["app"])
        self.settle()
        self.spool.release()  # it found nothing
        self.spool.add("app")
        self.settle()
        self.spool.release()
        self.settle()
        self.assertEqual(len(receiver.seen), 1)

    def test_records_of_several_deliveries_wait_together(self) -> None:
        """They share one group commit; the next claim does not wait for it."""
        receiver = Receiver()
        for _ in range(20):
            self.spool.add("app")
        self.spool.held.add("record")
        self.serve(Destination("app", receiver, concurrency=10))
        self.settle()
        self.assertEqual(self.spool.count("record"), 20)
        self.assertEqual(len(receiver.seen), 20)

    def test_a_spool_that_is_slow_to_record_gets_no_more_claims(self) -> None:
        receiver = Receiver()
        for _ in range(1000):
            self.spool.add("app")
        self.spool.held.add("record")
        self.serve(Destination("app", receiver, concurrency=10))
        self.settle()
        self.assertEqual(len(receiver.seen), 56)
        self.spool.held.clear()
        self.spool.release()
        self.settle()
        self.assertEqual(len(self.spool.recorded), 1000)

    def test_a_permanent_failure_is_a_dead_letter_at_once(self) -> None:
        name = self.spool.add("app")
        self.serve(Destination("app", Receiver(PermanentFailure("no such ticket"))))
        self.assertEqual(self.spool.recorded, [(name, Dead("no such ticket"))])
        self.assertEqual(self.names(), ["Died"])

    def test_content_that_cannot_be_opened_is_tried_again_and_no_fault_of_the_destination(
        self,
    ) -> None:
        self.spool.add("app")
        self.spool.failing["open"] = SpoolError("disk")
        policy = BreakerPolicy(failures=1)
        self.serve(Destination("app", Receiver(), breaker=policy))
        self.assertEqual(self.names(), ["Deferred"])
        del self.spool.failing["open"]
        self.clock.advance(6.1)
        self.settle()
        self.assertEqual(self.names(), ["Deferred", "Delivered"])


class RetryTests(DispatchTestCase):
    """Requirement 53."""

    def test_a_transient_failure_follows_the_schedule_to_a_dead_letter(self) -> None:
        receiver = Receiver(TransientFailure("503 from the proxy"))
        self.spool.add("app")
        self.serve(Destination("app", receiver, schedule=(5.0, 300.0), breaker=NEVER))
        started = self.clock.seconds()
        waits = []
        while len(self.spool.recorded) < 3:
            count = len(receiver.seen)
            self.clock.advance(1)
            self.settle()
            if len(receiver.seen) > count:
                waits.append(self.clock.seconds() - started)
                started = self.clock.seconds()
        self.assertEqual([delivery.attempt for delivery in receiver.seen], [1, 2, 3])
        self.assertTrue(5 <= waits[0] <= 7 and 300 <= waits[1] <= 361, waits)
        self.assertEqual(
            self.spool.recorded[-1][1], Dead("given up after 3 attempts: 503 from the proxy")
        )
        self.assertEqual(self.names(), ["Deferred", "Deferred", "Died"])

    def test_what_fails_together_does_not_come_back_together(self) -> None:
        for _ in range(10):
            self.spool.add("app")
        self.serve(Destination("app", Receiver(TransientFailure("x")), breaker=NEVER))
        times = {outcome.at for _, outcome in self.spool.recorded if isinstance(outcome, Retry)}
        self.assertEqual(len(times), 10)

    def test_retry_after_is_never_sooner_and_slows_the_destination_down(self) -> None:
        receiver = Receiver(TransientFailure("429", retry_after=60))
        for _ in range(4):
            self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=2))
        # The first answer holds the other claim of the batch, which has spent nothing.
        self.assertEqual(len(receiver.seen), 1)
        outcomes = dict(self.spool.recorded)
        self.assertTrue(60 <= self.spool.rows["m1-1"].due - self.clock.seconds() <= 72)
        released = outcomes["m2-1"]
        assert isinstance(released, Retry)
        self.assertFalse(released.spent)
        receiver.answer = None
        self.clock.advance(59)
        self.settle()
        self.assertEqual(len(receiver.seen), 1)
        self.clock.advance(1)
        self.settle()
        self.assertEqual(len(receiver.seen), 4)
        self.assertEqual(receiver.seen[1].attempt, 1)
        self.clock.advance(12)
        self.settle()
        self.assertEqual(len(receiver.seen), 5)

    def test_retry_after_is_bounded_by_a_day(self) -> None:
        self.spool.add("app")
        failure = TransientFailure("503", retry_after=10_000_000)
        self.serve(Destination("app", Receiver(failure)))
        self.assertEqual(self.spool.rows["m1-1"].due - self.clock.seconds(), 86400)

    def test_an_unexpected_exception_is_transient_and_told_with_its_traceback(self) -> None:
        receiver = Receiver(ZeroDivisionError("by\nzero " + "x" * 10_000))
        self.spool.add("app")
        self.serve(Destination("app", receiver))
        self.assertEqual(self.names(), ["AttemptBroke", "Deferred"])
        broke, deferred = self.events
        assert isinstance(broke, events.AttemptBroke) and isinstance(deferred, events.Deferred)
        self.assertEqual(broke.id, "m1-1")
        self.assertLessEqual(len(broke.traceback), 4000)
        self.assertNotIn("\n", broke.text())
        self.assertTrue(deferred.reason.startswith("ZeroDivisionError: by\nzero"))
        self.assertLessEqual(len(deferred.reason), 500)
        receiver.answer = ValueError("short")
        self.clock.advance(7)
        self.settle()
        broke = self.events[2]
        assert isinstance(broke, events.AttemptBroke)
        self.assertIn("in deliver", broke.traceback)
        self.assertIn("ValueError: short", broke.traceback)

    def test_an_exception_without_text_is_named(self) -> None:
        self.spool.add("app")
        self.serve(Destination("app", Receiver(KeyError())))
        self.assertEqual(self.spool.rows["m1-1"].reason, "KeyError")

    def test_a_time_that_another_process_set_is_found_by_the_poll(self) -> None:
        receiver = Receiver()
        self.serve(Destination("app", receiver))
        self.spool.add("app")
        self.clock.advance(61)
        self.settle()
        self.assertEqual(len(receiver.seen), 1)

    def test_times_left_by_an_earlier_run_are_kept(self) -> None:
        receiver = Receiver()
        for wait in (40, 20, 50):
            self.spool.rows[self.spool.add("app")].due += wait
        self.serve(Destination("app", receiver))
        for seconds, seen in ((19, 0), (1, 1), (19, 1), (1, 2), (10, 3)):
            self.clock.advance(seconds)
            self.settle()
            self.assertEqual(len(receiver.seen), seen)
        self.assertLess(self.spool.count("claim"), 12)


class PauseTests(DispatchTestCase):
    def test_a_pause_keeps_the_queue_and_spends_nothing(self) -> None:
        receiver = Receiver(DestinationPaused("410 Gone"))
        for _ in range(5):
            self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=2))
        self.settle()
        self.assertEqual(self.spool.paused, {"app": "410 Gone"})
        self.assertEqual([row.attempts for row in self.spool.rows.values()], [0] * 5)
        self.assertEqual(self.names(), ["Paused"])
        self.clock.advance(1000)
        self.settle()
        seen = len(receiver.seen)
        self.assertLessEqual(seen, 2)
        receiver.answer = None
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(self.spool.resume("app"))))
        self.dispatcher.resume("app")
        self.settle()
        self.assertEqual(len(receiver.seen), seen + 5)
        self.assertEqual(self.spool.rows, {})

    def test_while_the_pause_is_being_stored_nothing_more_begins(self) -> None:
        receiver = Receiver(DestinationPaused("410 Gone"))
        self.spool.held.add("pause")
        self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=3))
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.settle()
        self.assertEqual(len(receiver.seen), 1)
        self.spool.release()
        self.settle()
        self.assertEqual(len(receiver.seen), 1)
        self.assertEqual(self.spool.count("pause"), 1)

    def test_two_answers_of_one_kind_are_one_pause(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.add("app")
        self.serve(Destination("app", receiver))
        receiver.fail(DestinationPaused("410 Gone"))
        self.settle()
        self.assertEqual(self.names(), ["Paused"])
        self.assertEqual(len(receiver.seen), 2)

    def test_a_pause_ended_by_another_process_is_noticed(self) -> None:
        receiver = Receiver(DestinationPaused("410 Gone"))
        self.spool.add("app")
        self.serve(Destination("app", receiver))
        for count in (1, 2):
            self.assertEqual(self.names(), ["Paused"] * count)
            self.spool.paused.clear()
            self.clock.advance(61)
            self.settle()
        receiver.answer = None
        self.spool.paused.clear()
        self.clock.advance(61)
        self.settle()
        self.assertEqual(self.spool.rows, {})

    def test_claims_on_their_way_are_given_back_unspent(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=3))
        self.spool.held.update(("claim", "pause"))
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.settle()
        receiver.fail(DestinationPaused("410"))
        (claim, pause), self.spool.waiting = self.spool.waiting, []
        claim()
        pause()
        self.settle()
        self.assertEqual(len(receiver.seen), 1)
        self.assertEqual([row.attempts for row in self.spool.rows.values()], [0, 0])

    def test_a_pause_that_cannot_be_stored_does_not_spin(self) -> None:
        receiver = Receiver(DestinationPaused("410 Gone"))
        self.spool.failing["pause"] = SpoolError("disk")
        self.spool.add("app")
        self.serve(Destination("app", receiver))
        self.clock.pump([1.0] * 50)
        self.assertEqual(len(receiver.seen), 1)
        self.clock.pump([1.0] * 20)
        self.assertEqual(len(receiver.seen), 2)
        self.assertEqual(self.spool.rows["m1-1"].attempts, 0)


class BreakerTests(DispatchTestCase):
    """Requirement 53: a circuit breaker per destination."""

    policy = BreakerPolicy(failures=5, first=30, longest=300)

    def test_an_open_breaker_spends_no_attempt_and_probes_with_one(self) -> None:
        receiver = Receiver(TransientFailure("refused"))
        for _ in range(50):
            self.spool.add("app")
        self.serve(Destination("app", receiver, breaker=self.policy, schedule=(3600.0,)))
        self.settle()
        self.assertEqual(len(receiver.seen), 5)
        self.assertEqual(sum(row.attempts for row in self.spool.rows.values()), 5)
        self.assertEqual(self.names().count("BreakerOpened"), 1)
        state = self.dispatcher.states()["app"]
        self.assertEqual(state.open_until, self.clock.seconds() + 30)
        for wait, seen in ((29, 5), (1, 6), (59, 6), (1, 7)):
            self.clock.advance(wait)
            self.settle()
            self.assertEqual(len(receiver.seen), seen)
        receiver.answer = None
        self.clock.advance(120)
        self.settle()
        self.assertEqual(len(receiver.seen), 50)
        self.assertEqual(len(self.told(events.BreakerClosed)), 1)
        self.assertEqual(len(self.spool.rows), 7)

    def test_a_refusal_is_an_answer(self) -> None:
        receiver = Receiver(TransientFailure("x"))
        for _ in range(4):
            self.spool.add("app")
        self.serve(Destination("app", receiver, breaker=self.policy, schedule=(3600.0,)))
        receiver.answer = PermanentFailure("no")
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.settle()
        receiver.answer = TransientFailure("x")
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.settle()
        self.assertEqual(self.told(events.BreakerOpened), [])

    def test_resume_closes_it_at_once(self) -> None:
        receiver = Receiver(TransientFailure("refused"))
        for _ in range(9):
            self.spool.add("app")
        self.serve(Destination("app", receiver, breaker=self.policy, schedule=(3600.0,)))
        receiver.answer = None
        self.dispatcher.resume("nowhere")
        self.dispatcher.resume("app")
        self.settle()
        self.assertEqual(len(receiver.seen), 9)

    def test_a_dead_destination_leaves_another_alone(self) -> None:
        """100,000 messages wait for a destination that answers nothing.

        The other's mail is delivered in the turn in which it comes.
        """
        dead = Receiver("wait")
        alive = Receiver()
        for _ in range(100_000):
            self.spool.add("dead")
        self.serve(
            Destination("dead", dead, timeout=30, schedule=(5.0, 300.0)),
            Destination("app", alive),
        )
        for number in range(100):
            name = self.spool.add("app")
            self.dispatcher.wake(["app"])
            began = self.clock.seconds()
            self.turn(1)
            self.assertEqual(alive.seen[-1].id, name)
            self.assertEqual(len(alive.seen), number + 1)
            self.assertEqual(self.clock.seconds(), began)
            self.assertLessEqual(len(dead.open), 10)
            self.clock.advance(7)
        self.assertLess(len(dead.seen), 60)


class TimeLimitTests(DispatchTestCase):
    def test_an_attempt_is_cancelled_at_its_time_limit(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver, timeout=30))
        self.clock.advance(29)
        self.assertEqual(receiver.cancelled, [])
        self.clock.advance(1)
        self.settle()
        self.assertEqual(receiver.cancelled, ["m1-1"])
        self.assertEqual(self.spool.rows["m1-1"].reason, "not done within 30 s")
        self.assertEqual(self.spool.rows["m1-1"].attempts, 1)

    def test_a_deliverer_that_ignores_the_cancelling_is_left_behind(self) -> None:
        never: Deferred[None] = Deferred()

        @implementer(IDeliverer)
        class Stubborn:
            ended = False

            async def deliver(self, delivery: Delivery, content: IContent) -> None:
                try:
                    await Deferred()
                except CancelledError:
                    await never
                    self.ended = True

        stubborn = Stubborn()
        self.spool.add("app")
        self.serve(Destination("app", stubborn, timeout=30))
        self.clock.advance(30)
        self.settle()
        self.assertEqual(len(self.spool.recorded), 1)
        never.callback(None)
        self.settle()
        self.assertTrue(stubborn.ended)
        self.assertEqual(len(self.spool.recorded), 1)
        self.assertEqual(self.names(), ["Deferred"])

    def test_attempts_that_began_later_have_their_whole_time(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver, timeout=30, schedule=(1000.0,)))
        self.clock.advance(20)
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.settle()
        self.clock.advance(10)
        self.assertEqual(receiver.cancelled, ["m1-1"])
        self.clock.advance(19)
        self.assertEqual(receiver.cancelled, ["m1-1"])
        self.clock.advance(1)
        self.assertEqual(receiver.cancelled, ["m1-1", "m2-1"])

    def test_the_lease_of_a_long_attempt_is_extended(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver, timeout=1000))
        for _ in range(99):
            self.clock.advance(10)
            self.assertGreater(self.spool.rows["m1-1"].leased_until, self.clock.seconds())
        self.assertEqual(self.spool.count("extend"), 19)
        receiver.finish()
        self.settle()
        self.assertEqual(self.spool.recorded, [("m1-1", Done())])

    def test_an_attempt_whose_lease_cannot_be_extended_ends_before_it(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.failing["extend"] = SpoolError("disk")
        self.serve(Destination("app", receiver, timeout=1000))
        self.clock.pump([1.0] * 94)
        self.assertEqual(receiver.cancelled, [])
        self.assertGreater(self.spool.count("extend"), 3)
        self.clock.pump([1.0] * 2)
        self.assertEqual(receiver.cancelled, ["m1-1"])
        outcome = self.spool.recorded[0][1]
        assert isinstance(outcome, Retry)
        self.assertEqual(outcome.reason, "its lease could not be extended")

    def test_a_lost_lease_ends_the_attempt_and_records_nothing(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver, timeout=1000))
        self.spool.rows["m1-1"].token += 1
        self.clock.advance(50)
        self.settle()
        self.assertEqual(receiver.cancelled, ["m1-1"])
        self.assertEqual(self.spool.recorded, [])
        self.assertEqual(self.names(), ["Alert"])
        self.assertFalse(self.dispatcher.states()["app"].running)

    def test_an_outcome_waits_for_the_extension_under_way(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.held.add("extend")
        self.serve(Destination("app", receiver, timeout=1000))
        self.clock.advance(50)
        receiver.finish()
        self.settle()
        self.assertEqual(self.spool.count("record"), 0)
        self.spool.release()
        self.settle()
        self.assertEqual(self.spool.recorded, [("m1-1", Done())])

    def test_a_lease_lost_while_the_outcome_waits_is_told(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.held.add("extend")
        self.serve(Destination("app", receiver, timeout=1000))
        self.clock.advance(50)
        receiver.finish()
        self.spool.rows["m1-1"].token += 1
        self.spool.release()
        self.settle()
        self.assertEqual(self.names(), ["Alert"])
        self.assertIn("(done) is not recorded", self.events[0].text())


class LogTroubleTests(DispatchTestCase):
    """What is wrong here is told, and neither stops the queue nor goes unheard."""

    def setUp(self) -> None:
        super().setUp()
        self.dispatcher = Dispatcher(self.spool, self.clock, self.emit, Random(1), lease=LEASE)

    def emit(self, event: events.Event) -> None:
        if isinstance(event, events.Delivered):
            raise RuntimeError("this log is full")
        self.events.append(event)

    def test_at_once(self) -> None:
        self.spool.add("app")
        self.spool.add("app")
        self.serve(Destination("app", Receiver()))
        self.assertEqual(self.names(), ["AttemptBroke"] * 2)
        self.assertIn("this log is full", self.events[0].text())
        self.assertEqual(self.spool.rows, {})

    def test_later(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver))
        receiver.finish()
        self.settle()
        self.assertEqual(self.names(), ["AttemptBroke"])
        self.assertEqual(self.spool.rows, {})


class SpoolTroubleTests(DispatchTestCase):
    def test_a_claim_that_fails_is_tried_again_after_a_moment(self) -> None:
        receiver = Receiver()
        self.spool.add("app")
        self.spool.failing["claim"] = SpoolError("disk")
        self.serve(Destination("app", receiver))
        self.dispatcher.wake(["app"])
        self.settle()
        self.assertEqual(self.spool.count("claim"), 1)
        del self.spool.failing["claim"]
        self.clock.advance(1)
        self.settle()
        self.assertEqual(len(receiver.seen), 1)
        self.assertEqual(self.names(), ["Alert", "Delivered"])

    def test_a_record_that_fails_is_tried_again_while_the_lease_lasts(self) -> None:
        self.spool.add("app")
        self.spool.failing["record"] = SpoolError("disk")
        self.serve(Destination("app", Receiver()))
        self.clock.advance(1)
        self.clock.advance(2)
        del self.spool.failing["record"]
        self.clock.advance(4)
        self.settle()
        self.assertEqual(self.spool.recorded, [("m1-1", Done())])
        self.assertEqual(self.names(), ["Alert"] * 3 + ["Delivered"])

    def test_a_record_that_never_succeeds_is_given_up_with_the_lease(self) -> None:
        receiver = Receiver()
        self.spool.add("app")
        self.spool.failing["record"] = SpoolError("disk")
        self.serve(Destination("app", receiver))
        self.clock.pump([1.0] * 70)
        self.assertIn("(done) is not recorded: disk", self.events[-1].text())
        self.assertEqual(len(receiver.seen), 1)
        del self.spool.failing["record"]
        self.clock.pump([1.0] * 100)
        # At least once: what is not recorded is done again.
        self.assertEqual(len(receiver.seen), 2)
        self.assertEqual(self.spool.rows, {})

    def test_a_spool_that_breaks_its_contract_is_trouble_too(self) -> None:
        self.spool.add("app")
        self.spool.failing["claim"] = RuntimeError("bug")
        self.serve(Destination("app", Receiver()))
        self.assertIn("RuntimeError: bug", self.events[0].text())
        self.spool.failing.clear()
        self.spool.failing["record"] = RuntimeError("bug")
        self.clock.advance(1)
        self.spool.failing.clear()
        self.clock.advance(1)
        self.settle()
        self.assertEqual(self.spool.rows, {})


class ReplaceTests(DispatchTestCase):
    def test_running_attempts_end_as_they_began(self) -> None:
        old, new = Receiver("wait"), Receiver()
        self.spool.add("app")
        self.serve(Destination("app", old))
        self.dispatcher.replace({"app": Destination("app", new)})
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.settle()
        self.assertEqual([delivery.id for delivery in new.seen], ["m2-1"])
        old.finish()
        self.settle()
        self.assertEqual(self.spool.rows, {})

    def test_a_destination_that_is_gone_claims_nothing_until_it_is_back(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=5))
        self.dispatcher.replace({})
        self.assertEqual(self.dispatcher.states(), {})
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        receiver.finish()
        self.clock.pump([30.0] * 10)
        self.assertEqual(list(self.spool.rows), ["m2-1"])
        self.assertEqual(len(receiver.seen), 1)
        self.dispatcher.replace({"app": Destination("app", receiver)})
        self.settle()
        self.assertEqual(len(receiver.seen), 2)

    def test_a_claim_on_its_way_for_a_destination_that_is_gone_is_given_back(self) -> None:
        receiver = Receiver()
        self.spool.held.add("claim")
        self.spool.add("app")
        self.serve(Destination("app", receiver))
        self.dispatcher.replace({})
        self.spool.release()
        self.settle()
        self.assertEqual(receiver.seen, [])
        self.assertEqual(self.spool.rows["m1-1"].attempts, 0)
        self.assertEqual(self.spool.rows["m1-1"].leased_until, 0)

    def test_new_settings_begin_at_full_pace(self) -> None:
        receiver = Receiver(TransientFailure("refused"))
        for _ in range(5):
            self.spool.add("app")
        policy = BreakerPolicy(failures=1, first=1000)
        self.serve(Destination("app", receiver, breaker=policy))
        self.assertEqual(len(receiver.seen), 1)
        fixed = Receiver()
        self.dispatcher.replace({"app": Destination("app", fixed, breaker=policy)})
        self.settle()
        self.assertEqual(len(fixed.seen), 4)


class RateTests(DispatchTestCase):
    def test_attempts_begin_at_the_rate(self) -> None:
        receiver = Receiver()
        for _ in range(20):
            self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=100, rate=5.0))
        self.settle()
        seen = [len(receiver.seen)]
        for _ in range(3):
            for _ in range(10):
                self.clock.advance(0.1)
                self.settle()
            seen.append(len(receiver.seen))
        self.assertEqual(seen, [5, 10, 15, 20])


class StopTests(DispatchTestCase):
    def test_with_nothing_under_way_it_is_done_at_once(self) -> None:
        self.serve(Destination("app", Receiver()))
        self.settle()
        self.assertIsNone(self.successResultOf(self.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.spool.add("app")
        self.dispatcher.wake(["app"])
        self.clock.advance(1000)
        self.assertEqual(len(self.spool.rows), 1)

    def test_before_the_first_turn(self) -> None:
        receiver = Receiver()
        self.spool.add("app")
        self.dispatcher.replace({"app": Destination("app", receiver)})
        self.dispatcher.start()
        self.assertIsNone(self.successResultOf(self.stop()))
        self.turn()
        self.assertEqual((receiver.seen, self.clock.getDelayedCalls()), ([], []))

    def test_attempts_may_end_within_the_limit(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=1))
        stopped = self.stop(10)
        self.clock.advance(9)
        self.assertNoResult(stopped)
        receiver.finish()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.spool.recorded, [("m1-1", Done())])
        self.assertEqual(len(receiver.seen), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after_the_limit_they_are_released_unspent(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.add("other")
        self.serve(Destination("app", receiver), Destination("other", Receiver("wait")))
        stopped = self.stop(10)
        self.clock.advance(10)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(receiver.cancelled, ["m1-1"])
        self.assertEqual([row.attempts for row in self.spool.rows.values()], [0, 0])
        self.assertEqual([row.leased_until for row in self.spool.rows.values()], [0, 0])
        self.assertEqual(self.events, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_claim_on_its_way_is_given_back(self) -> None:
        receiver = Receiver()
        self.spool.add("app")
        self.spool.held.add("claim")
        self.serve(Destination("app", receiver))
        stopped = self.stop(10)
        self.assertNoResult(stopped)
        self.spool.release()
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(receiver.seen, [])
        self.assertEqual(self.spool.rows["m1-1"].leased_until, 0)

    def test_it_waits_for_records_but_not_for_a_spool_that_fails(self) -> None:
        self.spool.add("app")
        self.spool.held.add("record")
        self.serve(Destination("app", Receiver()))
        stopped = self.stop(10)
        self.assertNoResult(stopped)
        self.spool.failing["record"] = SpoolError("disk")
        self.spool.release()  # together
        self.spool.release()  # each for itself
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIn("(done) is not recorded: disk", self.events[-1].text())

    def test_a_record_that_waits_to_be_tried_again_is_given_up(self) -> None:
        self.spool.add("app")
        self.spool.failing["record"] = SpoolError("disk")
        self.serve(Destination("app", Receiver()))
        self.assertIsNone(self.successResultOf(self.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AttemptTests(DispatchTestCase):
    """What a synchronous route waits for."""

    def attempt(self, receiver: Receiver) -> Deferred[list[Verdict]]:
        """Attempt a delivery that the dispatcher did not claim itself."""
        self.serve(Destination("app", receiver, concurrency=2))
        self.settle()
        self.spool.add("app")
        return self.dispatcher.attempt(self.claims())

    def claims(self) -> Sequence[Claim]:
        return self.successResultOf(
            Deferred.fromCoroutine(self.spool.claim("app", 10, self.dispatcher.lease))
        )

    def verdict(self, answer: Exception | None) -> Verdict:
        (verdict,) = self.successResultOf(self.attempt(Receiver(answer)))
        # Whatever it is, who waits is told, and nothing is owed any more.
        self.assertEqual(self.spool.recorded, [("m1-1", Done())])
        self.assertEqual(self.spool.rows, {})
        self.successResultOf(self.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return verdict

    def test_success(self) -> None:
        self.assertEqual(self.verdict(None), Verdict(Done()))

    def test_refusal_with_its_words(self) -> None:
        refusal = PermanentFailure("422", reply="Go away")
        self.assertEqual(self.verdict(refusal), Verdict(Dead("422"), "Go away", 550))

    def test_failure(self) -> None:
        outcome = self.verdict(TransientFailure("500")).outcome
        assert isinstance(outcome, Retry)
        self.assertEqual(outcome.reason, "500")

    def test_a_long_attempt(self) -> None:
        """It is waited for to its end, which its own time limit brings about."""
        attempted = self.attempt(Receiver("wait"))
        for _ in range(299):
            self.clock.advance(1)
        self.assertNoResult(attempted)
        self.clock.advance(1)
        (verdict,) = self.successResultOf(attempted)
        assert isinstance(verdict.outcome, Retry)
        self.assertEqual(verdict.outcome.reason, "not done within 300 s")
        self.assertEqual(self.spool.rows, {})

    def test_a_record_that_fails(self) -> None:
        """Who waits is told the truth all the same."""
        self.spool.failing["record"] = SpoolError("disk")
        attempted = self.attempt(Receiver())
        for _ in range(120):
            self.clock.advance(1)
        self.assertEqual(self.successResultOf(attempted), [Verdict(Done())])

    def test_a_lease_that_is_lost(self) -> None:
        attempted = self.attempt(Receiver("wait"))
        self.spool.failing["extend"] = LeaseLost("gone")
        self.clock.advance(60)
        (verdict,) = self.successResultOf(attempted)
        self.assertEqual(verdict.outcome, Retry(self.clock.seconds(), "its lease was lost", False))

    def test_the_verdict_comes_after_the_record(self) -> None:
        self.spool.held.add("record")
        attempted = self.attempt(Receiver())
        self.assertNoResult(attempted)
        self.spool.release()
        self.assertEqual(self.successResultOf(attempted), [Verdict(Done())])

    def test_who_waits_does_not_wait_for_the_queue_but_is_bounded(self) -> None:
        receiver = Receiver("wait")
        self.spool.add("app")
        self.spool.add("app")
        self.serve(Destination("app", receiver, concurrency=2))
        self.assertEqual(len(receiver.open), 2)
        for _ in range(3):
            self.spool.add("app")
        attempted = self.dispatcher.attempt(self.claims())
        self.assertEqual(len(receiver.open), 4)
        receiver.finish()
        first, second, third = self.successResultOf(attempted)
        self.assertEqual((first.outcome, second.outcome), (Done(), Done()))
        assert isinstance(third.outcome, Retry)
        self.assertFalse(third.outcome.spent)
        self.settle()
        self.assertEqual(len(receiver.seen), 4)

    def test_an_open_breaker_answers_at_once(self) -> None:
        receiver = Receiver(TransientFailure("refused"))
        policy = BreakerPolicy(failures=1, first=1000)
        self.spool.add("app")
        self.serve(Destination("app", receiver, breaker=policy))
        self.spool.add("app")
        (verdict,) = self.successResultOf(self.dispatcher.attempt(self.claims()))
        assert isinstance(verdict.outcome, Retry)
        self.assertFalse(verdict.outcome.spent)
        self.assertEqual(len(receiver.seen), 1)

    def test_half_open_it_is_probed_by_one(self) -> None:
        """Requirement 53: whoever waits, and however many."""
        receiver = Receiver(TransientFailure("refused"))
        policy = BreakerPolicy(failures=1, first=30)
        self.spool.add("app")
        self.serve(Destination("app", receiver, breaker=policy, schedule=(3600.0,)))
        self.clock.advance(31)
        receiver.answer = "wait"
        for _ in range(3):
            self.spool.add("app")
        attempted = self.dispatcher.attempt(self.claims())
        self.assertEqual(len(receiver.open), 1)
        receiver.finish()
        outcomes = [each.outcome for each in self.successResultOf(attempted)]
        self.assertEqual(outcomes[0], Done())
        self.assertEqual(len(receiver.seen), 2)
        self.assertEqual([each.spent for each in outcomes if isinstance(each, Retry)], [False] * 2)

    def test_the_rate_holds_for_who_waits_too(self) -> None:
        receiver = Receiver()
        self.serve(Destination("app", receiver, rate=2.0))
        for begun in (2, 4):
            for _ in range(3):
                self.spool.add("app")
            outcomes = [
                each.outcome
                for each in self.successResultOf(self.dispatcher.attempt(self.claims()))
            ]
            self.assertEqual(outcomes[:2], [Done()] * 2)
            self.assertIsInstance(outcomes[2], Retry)
            self.assertEqual(len(receiver.seen), begun)
            self.clock.advance(1)

    def test_a_pause_ended_by_another_process(self) -> None:
        """Who waits has looked whether there is a pause; that there was one here is over."""
        receiver = Receiver(DestinationPaused("410 Gone"))
        self.serve(Destination("app", receiver))
        self.spool.add("app")
        (verdict,) = self.successResultOf(self.dispatcher.attempt(self.claims()))
        self.assertIsInstance(verdict.outcome, Retry)
        self.spool.paused.clear()
        receiver.answer = None
        self.spool.add("app")
        (verdict,) = self.successResultOf(self.dispatcher.attempt(self.claims()))
        self.assertEqual(verdict.outcome, Done())
        receiver.answer = DestinationPaused("410 Gone")
        self.spool.add("app")
        self.successResultOf(self.dispatcher.attempt(self.claims()))
        self.assertEqual(self.names().count("Paused"), 2)

    def test_a_destination_that_went_with_a_reload(self) -> None:
        self.serve()
        self.spool.add("app")
        (verdict,) = self.successResultOf(self.dispatcher.attempt(self.claims()))
        assert isinstance(verdict.outcome, Retry)
        self.assertEqual(self.spool.rows, {})
        self.assertEqual(self.dispatcher.states(), {})
