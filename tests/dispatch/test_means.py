"""What runs for a destination keeps its errors to itself: nobody waits for it."""

from __future__ import annotations

from random import Random
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.dispatch.means import Means
from mailsvc.events import AttemptBroke, Event
from mailsvc.interfaces import ISpool
from mailsvc.turnend import TurnEnd


class RunTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Event] = []
        clock = Clock()
        self.means = Means(
            cast(ISpool, None),
            clock,
            self.events.append,
            Random(1),
            lease=60,
            turn_end=TurnEnd(clock.callLater),
            watchers={},
        )

    def told(self) -> str:
        [event] = self.events
        assert isinstance(event, AttemptBroke)
        self.assertEqual((event.id, event.destination), ("id-1", "app"))
        return event.traceback

    def test_at_once(self) -> None:
        async def work() -> None:
            raise ZeroDivisionError("at once")

        self.assertIsNone(self.means.run(work(), "id-1", "app"))
        self.assertIn("ZeroDivisionError: at once", self.told())

    def test_later(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def work() -> None:
            await waiting
            raise ZeroDivisionError("later")

        self.assertIsNotNone(self.means.run(work(), "id-1", "app"))
        self.assertEqual(self.events, [])
        waiting.callback(None)
        self.assertIn("ZeroDivisionError: later", self.told())

    def test_what_is_no_exception(self) -> None:
        self.means.broke(KeyboardInterrupt(), "id-1", "app")
        self.assertEqual(self.told(), "KeyboardInterrupt()")
