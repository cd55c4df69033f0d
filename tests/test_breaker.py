from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.breaker import Breaker, BreakerPolicy
from mailsvc.pace import LONGEST_HOLD, Pace

POLICY = BreakerPolicy(failures=3, first=10, longest=35)


class BreakerTests(SynchronousTestCase):
    """Requirement 53: a circuit breaker per destination."""

    def setUp(self) -> None:
        self.breaker = Breaker(POLICY)

    def open(self, now: float) -> float | None:
        return [self.breaker.failed(now) for _ in range(3)][-1]

    def test_opens_after_so_many_failures_in_a_row(self) -> None:
        self.assertEqual([self.breaker.failed(0) for _ in range(3)], [None, None, 10])
        self.assertEqual(self.breaker.until, 10)

    def test_a_success_between_starts_the_count_again(self) -> None:
        self.breaker.failed(0)
        self.breaker.failed(0)
        self.assertFalse(self.breaker.succeeded())
        self.assertIsNone(self.breaker.failed(0))
        self.assertIsNone(self.breaker.until)

    def test_late_failures_while_open_change_nothing(self) -> None:
        self.open(0)
        self.assertIsNone(self.breaker.failed(9))
        self.assertEqual(self.breaker.until, 10)

    def test_each_failed_probe_doubles_the_time_up_to_the_longest(self) -> None:
        now = 0.0
        times = [self.open(now)]
        for _ in range(3):
            assert self.breaker.until is not None
            now = self.breaker.until
            times.append(self.breaker.failed(now))
        self.assertEqual(times, [10, 20, 35, 35])

    def test_a_success_closes_and_begins_at_the_first_time_again(self) -> None:
        self.open(0)
        self.breaker.failed(10)
        self.assertTrue(self.breaker.succeeded())
        self.assertIsNone(self.breaker.until)
        self.assertEqual(self.open(100), 10)

    def test_zero_failures_never_open(self) -> None:
        breaker = Breaker(BreakerPolicy(failures=0))
        self.assertEqual({breaker.failed(0) for _ in range(1000)}, {None})

    def test_the_first_time_is_never_cut_by_the_longest(self) -> None:
        breaker = Breaker(BreakerPolicy(failures=1, first=900, longest=300))
        self.assertEqual(breaker.failed(0), 900)
        self.assertEqual(breaker.failed(900), 900)


class PaceTests(SynchronousTestCase):
    """Requirement 53 and the control per destination: concurrency, rate, breaker, slow down."""

    def test_concurrency(self) -> None:
        pace = Pace(4, None, POLICY, 0)
        self.assertEqual(pace.room(0, 0), (4, None))
        self.assertEqual(pace.room(0, 3), (1, None))
        self.assertEqual(pace.room(0, 4), (0, None))

    def test_rate_is_a_bucket_of_one_second(self) -> None:
        pace = Pace(100, 5.0, POLICY, 0)
        self.assertEqual(pace.room(0, 0), (5, None))
        pace.began(5, 0)
        room, until = pace.room(0, 5)
        self.assertEqual(room, 0)
        self.assertAlmostEqual(until or 0, 0.2)
        self.assertEqual(pace.room(until or 0, 5), (1, None))
        self.assertEqual(pace.room(1000, 5), (5, None))

    def test_a_slow_rate_waits_for_a_whole_token(self) -> None:
        pace = Pace(10, 0.1, POLICY, 0)
        pace.began(1, 0)
        room, until = pace.room(3, 0)
        self.assertEqual((room, round(until or 0, 6)), (0, 10))
        self.assertEqual(pace.room(10, 0), (1, None))

    def test_time_that_goes_back_gives_no_tokens(self) -> None:
        pace = Pace(10, 1.0, POLICY, 100)
        pace.began(1, 100)
        self.assertEqual(pace.room(50, 0)[0], 0)
        self.assertEqual(pace.room(51, 0)[0], 1)

    def test_an_open_breaker_leaves_no_room_then_one_probe(self) -> None:
        pace = Pace(10, None, POLICY, 0)
        for _ in range(3):
            pace.failed(0)
        self.assertEqual(pace.room(0, 0), (0, 10))
        self.assertEqual(pace.room(10, 0), (1, None))
        self.assertEqual(pace.room(10, 1), (0, None))
        self.assertTrue(pace.succeeded())
        self.assertEqual(pace.room(10, 0), (10, None))

    def test_slow_down_holds_and_halves_then_success_widens(self) -> None:
        pace = Pace(8, None, POLICY, 0)
        pace.slow_down(0, 20)
        pace.slow_down(0, 10)
        self.assertEqual(pace.room(0, 0), (0, 20))
        self.assertEqual(pace.room(20, 0), (4, None))
        for _ in range(4):
            pace.succeeded()
        # By about one in each round of a window.
        self.assertEqual(pace.room(20, 0), (4, None))
        pace.succeeded()
        self.assertEqual(pace.room(20, 0), (5, None))
        for _ in range(100):
            pace.succeeded()
        self.assertEqual(pace.room(20, 0), (8, None))

    def test_slow_down_never_stops_a_destination_for_long(self) -> None:
        pace = Pace(1, None, POLICY, 0)
        pace.slow_down(0, 86400)
        self.assertEqual(pace.room(0, 0), (0, LONGEST_HOLD))
        self.assertEqual(pace.room(LONGEST_HOLD, 0), (1, None))

    def test_forget(self) -> None:
        pace = Pace(8, None, POLICY, 0)
        for _ in range(3):
            pace.failed(0)
        pace.slow_down(0, 60)
        pace.forget()
        self.assertEqual(pace.room(0, 0), (8, None))

    def test_adjust_takes_the_new_settings_at_full_pace(self) -> None:
        pace = Pace(8, None, POLICY, 0)
        pace.slow_down(0, 60)
        pace.adjust(3, 2.0, BreakerPolicy(failures=1))
        self.assertEqual(pace.room(0, 0), (2, None))
        pace.adjust(3, None, BreakerPolicy(failures=1, first=7))
        self.assertEqual(pace.room(1, 0), (3, None))
        pace.failed(1)
        self.assertEqual(pace.room(1, 0), (0, 8))
