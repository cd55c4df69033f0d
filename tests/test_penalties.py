from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.penalties import Counters, Penalties, Penalty, delay, network


class DelayTests(SynchronousTestCase):
    def test_grows_to_a_limit(self) -> None:
        """Requirement 33: the delay grows."""
        self.assertEqual([delay(n, 1.0, 16.0) for n in range(7)], [0, 1, 2, 4, 8, 16, 16])
        self.assertEqual(delay(-3, 1.0, 16.0), 0.0)
        self.assertEqual(delay(10**9, 1.0, 16.0), 16.0)


class NetworkTests(SynchronousTestCase):
    def test_keys(self) -> None:
        self.assertEqual(network("192.0.2.1"), "192.0.2.1")
        self.assertEqual(network("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(network("2001:db8:1:2:3::4"), "2001:db8:1:2::/64")
        self.assertEqual(network("2001:db8:1:2:ffff::"), "2001:db8:1:2::/64")
        self.assertEqual(network("fe80::1%eth0"), "fe80::/64")
        self.assertEqual(network(""), "")


class CountersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.counters = Counters(self.clock.seconds, 60.0, 3)

    def test_drains(self) -> None:
        self.counters.add("a")
        self.counters.add("a")
        self.assertEqual(self.counters.count("a"), 2)
        self.clock.advance(59)
        self.assertEqual(self.counters.count("a"), 2)
        self.clock.advance(1)
        self.assertEqual(self.counters.count("a"), 1)
        self.clock.advance(600)
        self.assertEqual(self.counters.count("a"), 0)

    def test_nothing_is_kept_of_zero(self) -> None:
        self.counters.add("a")
        self.counters.add("a", -1)
        self.counters.add("b", -1)
        self.assertEqual(len(self.counters), 0)

    def test_bounded(self) -> None:
        for key in "abcde":
            self.counters.add(key)
        self.assertEqual(len(self.counters), 3)
        self.assertEqual(self.counters.count("a"), 0)
        self.assertEqual(self.counters.count("e"), 1)


class PenaltiesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.rules = Penalty(
            first=1.0, most=8.0, address_free=2, address_most=8, user_free=3, user_most=4.0
        )
        self.penalties = Penalties(
            self.clock.seconds, lambda host: host == "127.0.0.1", self.rules, 100
        )

    def test_an_address_waits_longer_and_is_turned_away(self) -> None:
        """Requirement 33: a counter per address, whatever users and connections."""
        waits = [self.penalties.begin("192.0.2.1", f"user{n}") for n in range(9)]
        self.assertEqual(waits, [0, 0, 0, 1, 2, 4, 8, 8, None])

    def test_others_do_not_wait(self) -> None:
        for number in range(8):
            self.penalties.begin("192.0.2.1", f"user{number}")
        self.assertEqual(self.penalties.begin("192.0.2.2", "tim"), 0.0)

    def test_a_turned_away_address_comes_back(self) -> None:
        for number in range(8):
            self.penalties.begin("192.0.2.1", f"user{number}")
        self.assertIsNone(self.penalties.begin("192.0.2.1", "tim"))
        self.clock.advance(self.rules.drain)
        self.assertIsNotNone(self.penalties.begin("192.0.2.1", "tim"))

    def test_a_user_waits_whatever_the_address(self) -> None:
        waits = [self.penalties.begin(f"192.0.2.{n}", "tim") for n in range(8)]
        self.assertEqual(waits, [0, 0, 0, 0, 1, 2, 4, 4])

    def test_the_user_does_not_wait_where_known(self) -> None:
        self.penalties.begin("198.51.100.1", "tim")
        self.penalties.succeeded("198.51.100.1", "tim")
        for number in range(8):
            self.penalties.begin(f"192.0.2.{number}", "tim")
        self.assertEqual(self.penalties.begin("198.51.100.1", "tim"), 0.0)
        self.assertEqual(self.penalties.begin("198.51.100.2", "tim"), 4.0)

    def test_success_costs_nothing(self) -> None:
        for _ in range(50):
            self.assertEqual(self.penalties.begin("192.0.2.1", "tim"), 0.0)
            self.penalties.succeeded("192.0.2.1", "tim")

    def test_success_does_not_forget_the_failures(self) -> None:
        for number in range(5):
            self.penalties.begin("192.0.2.1", f"user{number}")
        self.penalties.begin("192.0.2.1", "tim")
        self.penalties.succeeded("192.0.2.1", "tim")
        self.assertEqual(self.penalties.begin("192.0.2.1", "tim"), 4.0)

    def test_attempts_side_by_side_wait_like_others(self) -> None:
        """Each counts from its start: many connections at once are no way around."""
        waits = [self.penalties.begin("192.0.2.1", "tim") for _ in range(4)]
        self.assertEqual(waits, [0, 0, 0, 1])

    def test_exempt(self) -> None:
        for _ in range(50):
            self.assertEqual(self.penalties.begin("127.0.0.1", "tim"), 0.0)
            self.penalties.forgive("127.0.0.1", "tim")
        self.penalties.succeeded("127.0.0.1", "tim")

    def test_a_unix_socket_is_nobody_s_address(self) -> None:
        """Its peers are many, and one of them must not have the others turned away."""
        for _ in range(50):
            self.assertEqual(self.penalties.begin("", "tim"), 0.0)
        self.penalties.succeeded("", "tim")
        self.assertEqual(self.penalties.begin("192.0.2.1", "tim"), 0.0)

    def test_lines(self) -> None:
        """An attempt stands in two lines; whoever has none of the penalties in none."""
        self.assertEqual(self.penalties.lines("192.0.2.1", "tim"), ("192.0.2.1", "tim"))
        self.assertEqual(self.penalties.lines("2001:db8::1", "tim"), ("2001:db8::/64", "tim"))
        self.assertEqual(self.penalties.lines("127.0.0.1", "tim"), ("", ""))
        self.assertEqual(self.penalties.lines("", "tim"), ("", ""))
        self.penalties.succeeded("192.0.2.1", "tim")
        self.assertEqual(self.penalties.lines("192.0.2.1", "tim"), ("192.0.2.1", ""))
        self.assertEqual(self.penalties.lines("192.0.2.2", "tim"), ("192.0.2.2", "tim"))

    def test_without_a_user(self) -> None:
        for number in range(8):
            self.penalties.begin(f"192.0.2.{number}", "")
        self.assertEqual(self.penalties.begin("192.0.2.9", ""), 0.0)
        self.penalties.forgive("192.0.2.9", "")
        self.assertEqual(self.penalties.begin("192.0.2.9", ""), 0.0)

    def test_bounded(self) -> None:
        for number in range(300):
            host = f"10.0.{number // 100}.{number % 100}"
            self.penalties.begin(host, f"user{number}")
            self.penalties.succeeded(host, f"user{number}")
        self.assertLessEqual(len(self.penalties._known), 100)

    def test_a_reload_changes_the_rules_and_keeps_the_counts(self) -> None:
        for _ in range(4):
            self.penalties.begin("192.0.2.1", "alice")
        rules = Penalty(address_free=0, address_most=5, drain=600.0)
        self.penalties.change(rules, lambda host: host == "192.0.2.9")
        self.assertEqual(self.penalties.begin("192.0.2.1", "bob"), 8.0)
        self.assertIsNone(self.penalties.begin("192.0.2.1", "bob"))
        self.assertEqual(self.penalties.begin("192.0.2.9", "alice"), 0.0)
        self.clock.advance(599)
        self.assertIsNone(self.penalties.begin("192.0.2.1", "bob"))
        self.clock.advance(1)
        self.assertIsNotNone(self.penalties.begin("192.0.2.1", "bob"))

    def test_defaults(self) -> None:
        penalties = Penalties(self.clock.seconds)
        self.assertEqual(penalties.rules.connection, 5)
        self.assertEqual(penalties.begin("127.0.0.1", "tim"), 0.0)
