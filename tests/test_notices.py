"""Who is told of what, and the notification in the spool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.dispatch import Destination, Dispatcher
from mailsvc.errors import PermanentFailure, SpoolError, SpoolFull
from mailsvc.events import Alert, Died, Event, Notified
from mailsvc.message import (
    Address,
    Dead,
    Delivery,
    Done,
    Envelope,
    Outcome,
    Recipient,
    Retry,
    Route,
)
from mailsvc.notices import LATE, Notices, notice_id, report_of
from tests.dispatch.fakes import HeldSpool, Receiver

SCHEDULE = (60.0, LATE, 3600.0)
DEAD, DONE = Dead("no"), Done()
LATER, MUCH_LATER = Retry(1_000_060.0, "503"), Retry(1_000_000.0 + LATE, "503")


def delivery(*notify: str, null: bool = False, destination: str = "app") -> Delivery:
    """Return a delivery at its first attempt."""
    recipient = Recipient(Address("bob", "example.com"), Route("*", ("app", "archive")), notify)
    sender = None if null else Address("ann", "sender.example")
    envelope = Envelope("m1", 1_000_000.0, sender, (recipient,))
    return Delivery("m1-1", envelope, recipient, destination, 1, 20)


def action(of: Delivery, outcome: Outcome, now: float = 1_000_001.0) -> str | None:
    """Return what is told."""
    report = report_of(of, outcome, None, SCHEDULE, now)
    return None if report is None else report.action


class DecisionTests(SynchronousTestCase):
    """Requirement 39: NOTIFY is honoured, and no notification causes another."""

    def test_table(self) -> None:
        table: list[tuple[tuple[str, ...], list[str | None]]] = [
            ((), ["failed", None, None, None]),
            (("NEVER",), [None, None, None, None]),
            (("FAILURE",), ["failed", None, None, None]),
            (("SUCCESS",), [None, "delivered", None, None]),
            (("DELAY",), [None, None, None, "delayed"]),
            (("SUCCESS", "FAILURE", "DELAY"), ["failed", "delivered", None, "delayed"]),
        ]
        for notify, expected in table:
            outcomes = (DEAD, DONE, LATER, MUCH_LATER)
            self.assertEqual([action(delivery(*notify), each) for each in outcomes], expected)
            for each in outcomes:
                self.assertIsNone(action(delivery(*notify, null=True), each))

    def test_one_destination_speaks_for_a_success(self) -> None:
        self.assertIsNone(action(delivery("SUCCESS", destination="archive"), DONE))
        self.assertEqual(action(delivery(destination="archive"), DEAD), "failed")

    def test_a_delay_is_told_once(self) -> None:
        late = 1_000_000.0 + LATE
        again = structs.replace(delivery("DELAY"), attempt=3)
        self.assertIsNone(action(again, Retry(late + 60, "503"), late))
        self.assertEqual(action(delivery("DELAY"), Retry(late + 60, "503"), late), "delayed")
        self.assertIsNone(action(delivery("DELAY"), Retry(late, "left alone", spent=False)))

    def test_what_a_report_says(self) -> None:
        given_up = report_of(structs.replace(delivery(), attempt=4), DEAD, None, SCHEDULE, 1.0)
        refused = report_of(structs.replace(delivery(), attempt=4), DEAD, "550 no", SCHEDULE, 1.0)
        late = report_of(delivery("DELAY"), MUCH_LATER, "", SCHEDULE, 1_000_001.0)
        assert given_up is not None and refused is not None and late is not None
        self.assertEqual((given_up.status, refused.status), ("5.4.7", "5.0.0"))
        self.assertEqual(refused.reply, "550 no")
        self.assertEqual(late.retry_until, MUCH_LATER.at + LATE + 3600.0)


async def here(function: Callable[..., bytes], *arguments: object) -> bytes:
    """Run what would run in a thread."""
    return function(*arguments)


class NoticesTestCase(SynchronousTestCase):
    """A message in the spool, and what tells its sender."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.spool = HeldSpool(self.clock)
        self.woken: list[str] = []
        self.events: list[Event] = []
        self.notices = Notices(
            "mx.example.com",
            ("bounces",),
            self.spool,
            self.clock,
            self.events.append,
            here,
            self.woken.extend,
        )
        original = delivery()
        self.spool.keep(original.envelope, b"Subject: x\r\n\r\nbody\r\n")
        report = report_of(original, DEAD, "", SCHEDULE, 1_000_001.0)
        assert report is not None
        self.report = report


class StoreTests(NoticesTestCase):
    """Requirement 39: a notification is an ordinary message with the null reverse-path."""

    def store(self) -> Deferred[str]:
        return Deferred.fromCoroutine(self.notices.store(self.report))

    def test_it_is_stored(self) -> None:
        name = self.successResultOf(self.store())
        self.assertEqual(name, notice_id(self.report))
        self.assertEqual(self.woken, ["bounces"])
        stored = self.spool.rows[f"{name}-1"].delivery
        self.assertIsNone(stored.envelope.reverse_path)
        self.assertEqual(stored.recipient.address, Address("ann", "sender.example"))
        self.assertEqual(stored.destination, "bounces")
        self.assertIn(b"Action: failed\r\n", self.spool.contents[name])
        self.assertIn(b"Subject: x\r\n", self.spool.contents[name])
        for outcome in (DEAD, DONE, MUCH_LATER):
            self.assertIsNone(report_of(stored, outcome, "", SCHEDULE, 1_000_001.0))

    def test_a_full_spool_stores_nothing(self) -> None:
        self.spool.full = True
        self.failureResultOf(self.store(), SpoolFull)
        self.assertEqual(self.woken, [])

    def test_nobody_is_told_of_mail_from_nobody(self) -> None:
        self.report = replace(self.report, delivery=delivery(null=True))
        self.failureResultOf(self.store(), SpoolError)

    def test_a_repeat_is_stored_once(self) -> None:
        name = self.successResultOf(self.store())
        first = self.spool.contents[name]
        self.assertEqual(self.successResultOf(self.store()), name)
        # A second one would have another boundary.
        self.assertEqual(self.spool.contents[name], first)


class DispatchTests(NoticesTestCase):
    """Requirement 39: what dispatch records was told before."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def start(self) -> None:
        self.dispatcher = Dispatcher(
            self.spool, self.clock, self.events.append, Random(1), tell=self.notices.tell
        )
        refusing = Receiver(PermanentFailure("secret", reply="550 5.1.1 Unknown"))
        self.dispatcher.replace({"app": Destination("app", refusing)})
        self.dispatcher.start()

    def told(self) -> list[str]:
        kinds = (Alert, Died, Notified)
        return [type(each).__name__ for each in self.events if isinstance(each, kinds)]

    def test_the_notification_is_stored_before_the_outcome(self) -> None:
        self.spool.held.add("record")
        for _ in range(3):
            self.clock.advance(0)
        name = notice_id(self.report)
        self.assertIn(name, self.spool.contents)
        self.assertNotIn(b"secret", self.spool.contents[name])
        self.assertIn(b"Diagnostic-Code: smtp; 550 5.1.1 Unknown", self.spool.contents[name])
        self.assertEqual(self.spool.recorded, [])
        self.spool.release()
        self.assertEqual(self.told(), ["Notified", "Died"])
        # As after a crash between the two: the same is told again, and stored once.
        self.spool.rows["m1-1"].dead = ""
        self.spool.held.clear()
        self.start()
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(self.told(), ["Notified", "Died"] * 2)
        self.assertEqual(len(self.spool.contents), 2)

    def test_a_full_spool_holds_the_record_up_only_for_a_time(self) -> None:
        self.spool.full = True
        for seconds in (0, 0, 0, 1, 2, 3):
            self.clock.advance(seconds)
        self.assertEqual(self.spool.recorded, [])
        self.clock.advance(1)
        self.assertEqual(self.spool.recorded, [("m1-1", Dead("secret"))])
        self.assertEqual(self.told(), ["Alert", "Died"])

    def test_a_spool_that_stays_full_holds_up_no_more(self) -> None:
        self.test_a_full_spool_holds_the_record_up_only_for_a_time()
        self.spool.rows["m1-1"].dead = ""
        self.start()
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(self.told(), ["Alert", "Died"] * 2)
        self.spool.full = False
        self.spool.rows["m1-1"].dead = ""
        self.start()
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(self.told()[4:], ["Notified", "Died"])
        # There was hope again, so there is patience again.
        self.spool.rows["m1-1"].dead = ""
        del self.spool.contents[notice_id(self.report)]
        self.spool.full = True
        self.start()
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(self.told()[6:], [])

    def test_a_spool_that_recovers_gets_it(self) -> None:
        self.spool.full = True
        for _ in range(3):
            self.clock.advance(0)
        self.spool.full = False
        self.clock.advance(1)
        self.assertEqual(self.told(), ["Notified", "Died"])

    def test_without_destinations_nobody_is_told(self) -> None:
        self.notices.change("mx.example.com", ())
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(self.told(), ["Died"])
