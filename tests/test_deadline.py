"""Deadlines of many, on one delayed call."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deadline import Deadlines


class One:
    """Something with a deadline.

    :ivar passed: when it passed.
    :ivar then: what is done each time.
    """

    def __init__(self, clock: Clock, then: Callable[[], None] = lambda: None) -> None:
        self.clock = clock
        self.passed: list[float] = []
        self.then = then

    def overdue(self) -> None:
        self.passed.append(self.clock.seconds())
        self.then()


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines: Deadlines[One] = Deadlines(self.clock)

    def one(self, at: float, then: Callable[[], None] = lambda: None) -> One:
        one = One(self.clock, then)
        self.deadlines.set(one, at)
        return one

    def test_each_at_its_time(self) -> None:
        late, early, never = self.one(20), self.one(10), One(self.clock)
        self.deadlines.set(never)
        self.clock.advance(9.9)
        self.assertEqual(early.passed, [])
        self.clock.pump([0.1, 9.9, 0.1, 1000])
        self.assertEqual((early.passed, late.passed, never.passed), ([10], [20], []))
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (3, []))

    def test_put_off_and_brought_nearer(self) -> None:
        one, other = self.one(10), self.one(300)
        self.clock.advance(9)
        self.deadlines.set(one, 15)
        self.deadlines.set(other, 12)
        self.clock.pump([1, 2])
        self.assertEqual((one.passed, other.passed), ([], [12]))
        self.clock.advance(3)
        self.assertEqual((one.passed, other.passed), ([15], [12]))

    def test_one_call_for_all(self) -> None:
        for at in range(1000, 0, -1):
            self.one(at)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [1])

    def test_nothing_is_left_behind(self) -> None:
        one, other = self.one(10), self.one(20)
        self.deadlines.remove(one)
        self.deadlines.remove(one)
        self.clock.advance(10)
        self.deadlines.remove(other)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
        self.clock.advance(100)
        self.assertEqual((one.passed, other.passed), ([], []))

    def test_another_one_may_be_set(self) -> None:
        one = self.one(10)
        one.then = lambda: self.deadlines.set(one, self.clock.seconds() + 5)
        self.clock.pump([10, 5, 5])
        self.assertEqual(one.passed, [10, 15, 20])

    def test_one_may_end_another_that_is_due_as_well(self) -> None:
        other = One(self.clock)
        self.one(10, lambda: self.deadlines.remove(other))
        self.deadlines.set(other, 10)
        self.clock.advance(10)
        self.assertEqual((other.passed, len(self.deadlines)), ([], 1))

    def test_one_that_fails_does_not_keep_the_others(self) -> None:
        def fail() -> None:
            raise ValueError("broken")

        self.one(10, fail)
        other = self.one(10)
        with self.assertRaises(ValueError):
            self.clock.advance(10)
        self.clock.advance(0.001)
        self.assertEqual(other.passed, [10.001])

    def test_looking_is_not_all_that_is_done(self) -> None:
        """Many that pass one right after the other are looked at together."""
        many = [self.one(10 + number / 1_000_000) for number in range(1000)]
        looks = 0
        for _ in range(1000):
            calls = self.clock.getDelayedCalls()
            if not calls:
                break
            self.clock.advance(calls[0].getTime() - self.clock.seconds())
            looks += 1
        self.assertEqual(looks, 2)
        self.assertEqual({len(each.passed) for each in many}, {1})
        self.assertLess(max(each.passed[0] for each in many), 10.1)

    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(1, 40))), max_size=30
        )
    )
    def test_the_plain_twin(self, moves: list[tuple[int, int | None]]) -> None:
        """The same as a delayed call for each, to the second; None removes one."""
        clock = Clock()
        deadlines: Deadlines[One] = Deadlines(clock)
        ones = [One(clock) for _ in range(4)]
        due: dict[int, float] = {}
        passed: list[list[float]] = [[] for _ in ones]
        for which, seconds in moves:
            if seconds is None:
                deadlines.remove(ones[which])
                due.pop(which, None)
            else:
                deadlines.set(ones[which], clock.seconds() + seconds)
                due[which] = clock.seconds() + seconds
            for _ in range(7):
                clock.advance(1)
                for number, at in tuple(due.items()):
                    if at <= clock.seconds():
                        passed[number].append(clock.seconds())
                        del due[number]
        self.assertEqual([each.passed for each in ones], passed)
