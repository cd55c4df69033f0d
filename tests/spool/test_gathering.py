"""Which jobs make a group: a sync for each would cost more than all the rest."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.spool.gathering import Gathering


class Turns:
    """A reactor whose turns the test makes, and a writer that is done when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.arrived = 0
        self._next: list[Callable[[], None]] = []
        self._later = Clock()
        self._groups: list[int] = []
        self.gathering: Gathering[int] = Gathering(
            self._later.callLater,
            self._next.append,
            lambda: self.now,
            lambda: self.arrived,
            lambda group: self._groups.append(len(group)),
        )

    def submit(self, count: int) -> None:
        """Add so many jobs."""
        for number in range(count):
            self.gathering.add(number)

    def turn(self, after: float = 0.0) -> list[int]:
        """Make a turn after so many seconds; return the sizes of the groups handed over in it."""
        self.now += after
        calls = self._next.copy()
        self._next.clear()
        self._later.advance(after)
        for call in calls:
            call()
        groups, self._groups = self._groups, []
        return groups

    def store(self, count: int, seconds: float = 0.0) -> None:
        """Have a group handed over, and let it be stored in so many seconds."""
        self.submit(count)
        assert [self.turn(), self.turn()] == [[], [count]]
        self.now += seconds
        self._later.advance(seconds)
        self.gathering.done()


class GatheringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns = Turns()

    def test_one_alone_waits_for_a_turn_that_brings_nothing(self) -> None:
        for _ in range(3):
            self.turns.submit(1)
            self.assertEqual([self.turns.turn(), self.turns.turn()], [[], [1]])
            self.turns.now += 0.001
            self.turns.gathering.done()

    def test_as_long_as_turns_bring_more(self) -> None:
        for count in (3, 1, 2):
            self.turns.submit(count)
            self.assertEqual(self.turns.turn(), [])
        self.assertEqual(self.turns.turn(), [6])

    def test_as_long_as_peers_say_more(self) -> None:
        self.turns.submit(1)
        for _ in range(3):
            self.turns.arrived += 1
            self.assertEqual(self.turns.turn(), [])
        self.turns.submit(1)
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], [2]])

    def test_not_for_long(self) -> None:
        self.turns.submit(1)
        self.assertEqual(self.turns.turn(), [])
        self.turns.now = 0.0049
        self.turns.submit(1)
        self.assertEqual(self.turns.turn(), [])
        self.turns.now = 0.005
        self.turns.submit(1)
        self.assertEqual(self.turns.turn(), [3])

    def test_a_clock_that_is_set_back(self) -> None:
        self.turns.store(2, seconds=0.001)
        self.turns.submit(1)
        self.turns.now = -3600.0
        self.assertEqual(self.turns.turn(), [1])

    def test_what_comes_while_the_writer_is_busy_is_one_group(self) -> None:
        self.turns.submit(1)
        self.turns.turn()
        self.assertEqual(self.turns.turn(), [1])
        for _ in range(5):
            self.turns.submit(2)
            self.assertEqual(self.turns.turn(), [])
        self.turns.gathering.done()
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], [10]])
        self.turns.gathering.done()
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], []])

    def test_what_nobody_stores_any_more(self) -> None:
        self.turns.submit(2)
        self.assertEqual(len(self.turns.gathering.take()), 2)
        self.assertEqual(self.turns.gathering.take(), [])


class LullTests(SynchronousTestCase):
    """Peers without a core say nothing for a while: a group need not be small for it."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.turns.store(3, seconds=0.001)

    def lull(self) -> None:
        """Begin a group smaller than the last, and let a turn bring nothing."""
        self.turns.submit(1)
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], []])

    def test_ends_with_as_many_as_last_time(self) -> None:
        self.lull()
        self.turns.submit(1)
        self.assertEqual(self.turns.turn(0.0004), [])
        self.turns.submit(1)
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], [3]])

    def test_is_no_longer_than_the_last_group_took(self) -> None:
        self.lull()
        self.assertEqual([self.turns.turn(0.0009), self.turns.turn(0.0002)], [[], [1]])

    def test_is_not_long_where_the_disk_is_slow(self) -> None:
        self.lull()
        self.turns.turn(0.0011)
        self.turns.now += 1.0
        self.turns.gathering.done()
        self.turns.store(3, seconds=1.0)
        self.lull()
        self.assertEqual([self.turns.turn(0.0019), self.turns.turn(0.0002)], [[], [1]])

    def test_is_gone_on_after_by_what_came_in_it(self) -> None:
        self.lull()
        self.turns.submit(1)
        self.assertEqual([self.turns.turn(0.0011), self.turns.turn()], [[], [2]])

    def test_is_not_for_a_group_as_large_as_the_last(self) -> None:
        self.turns.submit(3)
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], [3]])

    def test_is_not_for_one_after_one(self) -> None:
        self.lull()
        self.turns.turn(0.0011)
        self.turns.now += 0.001
        self.turns.gathering.done()
        self.turns.submit(1)
        self.assertEqual([self.turns.turn(), self.turns.turn()], [[], [1]])
