"""What waits for the end of the reactor's turn, and what waits until there is time."""

from __future__ import annotations

from functools import partial

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.turnend import TurnEnd


class TurnEndTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn_end = TurnEnd(self.clock.callLater)
        self.called: list[str] = []

    def add(self, *names: str) -> None:
        for name in names:
            self.turn_end.add(partial(self.called.append, name))

    def put_off(self, *names: str) -> None:
        for name in names:
            self.turn_end.put_off(partial(self.called.append, name))

    def test_in_order_and_by_one_delayed_call(self) -> None:
        self.add("a", "b", "c")
        [delayed] = self.clock.getDelayedCalls()
        self.assertEqual((delayed.getTime(), self.called), (self.clock.seconds(), []))
        self.clock.advance(0)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), (["a", "b", "c"], []))

    def test_what_is_added_meanwhile_has_the_next_turn(self) -> None:
        def first() -> None:
            self.called.append("first")
            self.add("third")

        self.turn_end.add(first)
        self.add("second")
        self.clock.advance(0)
        self.assertEqual(self.called, ["first", "second", "third"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_raises_keeps_nothing_from_its_turn(self) -> None:
        self.turn_end.add(lambda: 1 / 0)
        self.add("next")
        self.clock.advance(0)
        self.assertEqual(self.called, ["next"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_put_off_until_there_is_time(self) -> None:
        self.put_off("a", "b")
        self.add("now")
        self.clock.advance(0)
        self.assertEqual(self.called, ["now"])
        self.turn_end.there_is_time()
        self.assertEqual(self.called, ["now"])
        self.clock.advance(0)
        self.assertEqual(self.called, ["now", "a", "b"])
        self.turn_end.there_is_time()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_put_off_for_a_millisecond_at_most(self) -> None:
        self.put_off("a")
        self.clock.advance(0.0009)
        self.put_off("b")
        self.assertEqual(self.called, [])
        self.clock.advance(0.0001)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), (["a", "b"], []))
