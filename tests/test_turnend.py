"""One delayed call for all that waits for the end of the reactor's turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.turnend import TurnEnd


class TurnEndTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.delayed: list[tuple[float, Callable[[], None]]] = []
        self.turn_end = TurnEnd(lambda delay, call: self.delayed.append((delay, call)))
        self.called: list[str] = []

    def turn(self) -> list[str]:
        """End the turn, whose delayed call must be the only one; return what was called."""
        [(delay, call)] = self.delayed
        self.assertEqual(delay, 0)
        self.delayed.clear()
        call()
        called, self.called = self.called, []
        return called

    def test_in_order_and_by_one_call(self) -> None:
        for name in "abc":
            self.turn_end.add(partial(self.called.append, name))
        self.assertEqual(self.turn(), ["a", "b", "c"])
        self.assertEqual(self.delayed, [])

    def test_what_is_added_meanwhile_has_the_next_turn(self) -> None:
        def first() -> None:
            self.called.append("first")
            self.turn_end.add(lambda: self.called.append("second"))
            self.turn_end.add(lambda: self.called.append("third"))

        self.turn_end.add(first)
        self.assertEqual(self.turn(), ["first"])
        self.assertEqual(self.turn(), ["second", "third"])
        self.assertEqual(self.delayed, [])

    def test_what_raises_keeps_nothing_from_its_turn(self) -> None:
        self.turn_end.add(lambda: 1 / 0)
        self.turn_end.add(lambda: self.called.append("next"))
        self.assertEqual(self.turn(), ["next"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
