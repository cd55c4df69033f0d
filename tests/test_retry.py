from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.retry import LONGEST_WAIT, SCHEDULE, after_failure, asked, delay


class DelayTests(SynchronousTestCase):
    """Requirement 53: retries with jitter, Retry-After honoured."""

    def test_standard_webhooks_schedule(self) -> None:
        minutes, hours = 60, 3600
        expected = [
            5,
            5 * minutes,
            30 * minutes,
            2 * hours,
            5 * hours,
            10 * hours,
            14 * hours,
            20 * hours,
            24 * hours,
        ]
        waits = [delay(SCHEDULE, attempt, 0.0) for attempt in range(1, 10)]
        self.assertEqual(waits, expected)
        self.assertIsNone(delay(SCHEDULE, 10, 0.0))

    def test_spread_only_ever_adds_at_most_a_fifth(self) -> None:
        for spread in (0.0, 0.3, 0.999999):
            wait = delay((100.0,), 1, spread)
            assert wait is not None
            self.assertTrue(100 <= wait < 120, wait)
        self.assertNotEqual(delay((100.0,), 1, 0.2), delay((100.0,), 1, 0.7))

    def test_an_empty_schedule_never_retries(self) -> None:
        self.assertIsNone(delay((), 1, 0.5))


class AskedTests(SynchronousTestCase):
    def test_never_sooner_than_asked(self) -> None:
        self.assertEqual(asked(90, 0.0), 90)
        self.assertTrue(90 < asked(90, 0.9) < 108.1)

    def test_at_most_a_day(self) -> None:
        self.assertEqual(asked(10 * LONGEST_WAIT, 0.9), LONGEST_WAIT)
        self.assertEqual(asked(LONGEST_WAIT - 1, 0.9), LONGEST_WAIT)

    def test_zero_and_the_past_do_not_spin(self) -> None:
        self.assertEqual(asked(0, 0.0), 1)
        self.assertEqual(asked(-5, 0.0), 1)


class AfterFailureTests(SynchronousTestCase):
    def test_follows_the_schedule(self) -> None:
        self.assertEqual(after_failure((10, 20), 2, None, 0, 0.0), 20)
        self.assertIsNone(after_failure((10, 20), 3, None, 0, 0.0))

    def test_retry_after_replaces_the_wait(self) -> None:
        self.assertEqual(after_failure((10, 20), 1, 60, 0, 0.0), 60)
        self.assertEqual(after_failure((1000,), 1, 60, 0, 0.0), 60)

    def test_being_asked_to_wait_does_not_exhaust_a_young_message(self) -> None:
        self.assertEqual(after_failure((10, 20), 3, 1, 29.9, 0.0), 1)
        self.assertIsNone(after_failure((10, 20), 3, 1, 30, 0.0))
