"""Turns: a few of each address and each user at a time, in order; nothing is kept of the rest."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.turns import Turns


class TurnsTests(SynchronousTestCase):
    """Requirement 33: logins of one address or user wait for each other, and for nobody else."""

    def setUp(self) -> None:
        self.turns = Turns(2)
        self.calls: list[Deferred[str]] = []
        self.called: list[str] = []
        self.addCleanup(self.finish)

    def finish(self) -> None:
        """Let all calls end, those that are in line, too."""
        for call in self.calls:
            if not call.called:
                call.callback("done")
        self.assertEqual(len(self.turns), 0)

    def take(self, address: str, user: str) -> Deferred[str]:
        async def call() -> str:
            self.called.append(f"{address}/{user}")
            self.calls.append(Deferred())
            return await self.calls[-1]

        return Deferred.fromCoroutine(self.turns.take(address, user, call))

    def test_of_an_address(self) -> None:
        first, _, third, fourth = (self.take("one", user) for user in "abcd")
        self.assertEqual(self.called, ["one/a", "one/b"])
        other = self.take("two", "a")
        self.assertEqual(self.called[2:], ["two/a"])
        self.calls[0].callback("done")
        self.assertEqual(self.successResultOf(first), "done")
        self.assertEqual(self.called[3:], ["one/c"])
        for answer in (third, fourth, other):
            self.assertNoResult(answer)

    def test_of_a_user(self) -> None:
        """Whatever the addresses; and an address waits there with a few of its own at the most."""
        for address in ("one", "two", "three"):
            self.take(address, "a")
        self.assertEqual(self.called, ["one/a", "two/a"])
        for _ in range(9):
            self.take("three", "a")
        self.take("four", "a")
        self.assertEqual(self.called[2:], [])
        for call in (0, 1, 2):
            self.calls[call].callback("done")
        # Of the third address two were in the line, and the fourth one came next.
        self.assertEqual(self.called[2:], ["three/a", "three/a", "four/a"])

    def test_nobody_s(self) -> None:
        for _ in range(5):
            self.take("", "")
        self.assertEqual(len(self.called), 5)
        self.assertEqual(len(self.turns), 0)

    def test_a_failure_gives_the_turn_back(self) -> None:
        answers = [self.take("one", "a") for _ in range(3)]
        self.calls[0].errback(ValueError("no"))
        self.failureResultOf(answers[0], ValueError)
        self.assertEqual(len(self.called), 3)

    def test_who_does_not_wait_any_more(self) -> None:
        answers = [self.take("one", "a") for _ in range(4)]
        answers[2].cancel()
        self.failureResultOf(answers[2], CancelledError)
        self.calls[0].callback("done")
        self.assertEqual(len(self.called), 3)
        for call in self.calls[1:]:
            call.callback("done")
        self.assertEqual(self.successResultOf(answers[3]), "done")

    def test_a_long_line_of_short_calls(self) -> None:
        """Clients that have gone end at once, hundreds in a row: that is no recursion."""
        ended: list[int] = []

        async def end(number: int) -> None:
            ended.append(number)

        for address in ("one", "two"):
            self.take(address, "a")
        for number in range(3000):
            address = "three" if number < 1500 else f"address {number}"
            taken = self.turns.take(address, "a", partial(end, number))
            Deferred.fromCoroutine(taken)
        self.assertEqual(ended, [])
        self.calls[0].callback("done")
        self.assertEqual(len(ended), 3000)

    def test_a_line_that_waits_is_kept(self) -> None:
        """One turn that is given back from within does not end the line of those behind it."""
        self.turns = Turns(1)
        self.take("one", "a")

        async def end() -> None:
            return

        Deferred.fromCoroutine(self.turns.take("one", "a", end))
        third, fourth = self.take("one", "a"), self.take("one", "a")
        self.calls[0].callback("done")
        self.assertEqual(len(self.called), 2)
        self.calls[1].callback("done")
        self.assertEqual(self.successResultOf(third), "done")
        self.assertNoResult(fourth)
        self.assertEqual(len(self.called), 3)

    def test_nothing_is_kept(self) -> None:
        for address in ("one", "two", "three"):
            self.take(address, "a")
        self.assertEqual(len(self.turns), 4)
        for _ in range(3):
            self.calls.pop(0).callback("done")
        self.assertEqual(len(self.turns), 0)
