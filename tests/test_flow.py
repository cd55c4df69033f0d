"""How many octets are taken at once: the same octets in the same order, however they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.flow import Records

LARGE = b"x" * 16_384


class RecordsTests(SynchronousTestCase):
    """Records of TLS: joined within a turn of the reactor, and never kept beyond it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.taken: list[bytes] = []
        self.records = Records(self.clock, self.taken.append)

    def test_a_command_is_taken_at_once(self) -> None:
        self.records.add(b"NOOP\r\n")
        self.assertEqual(self.taken, [b"NOOP\r\n"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_large_ones_are_joined(self) -> None:
        for _ in range(3):
            self.records.add(LARGE)
        self.assertEqual(self.taken, [])
        self.clock.advance(0)
        self.assertEqual(self.taken, [LARGE * 3])
        self.records.add(LARGE)
        self.clock.advance(0)
        self.assertEqual(self.taken, [LARGE * 3, LARGE])

    def test_a_short_one_ends_the_chunk(self) -> None:
        """The end of a content need not wait for the turn's end."""
        self.records.add(LARGE)
        self.records.add(b"\r\n.\r\n")
        self.assertEqual(self.taken, [LARGE + b"\r\n.\r\n"])
        self.clock.advance(0)
        self.assertEqual(len(self.taken), 1)

    @given(st.lists(st.one_of(st.integers(1, 40_000), st.none())))
    def test_the_plain_twin(self, steps: list[int | None]) -> None:
        """None is the end of a turn, a number the size of a record."""
        clock, taken, plain = Clock(), [b""], b""
        records = Records(clock, taken.append)
        for number, step in enumerate(steps):
            if step is None:
                clock.advance(0)
                self.assertEqual(b"".join(taken), plain)
            else:
                octets = bytes([number % 256]) * step
                plain += octets
                records.add(octets)
        records.flush()
        self.assertEqual(b"".join(taken), plain)
