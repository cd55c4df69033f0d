"""Sizes, times, rates, shares and networks, as people write them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.units import (
    Duration,
    Networks,
    Rate,
    Share,
    Size,
    Words,
    convert_unit,
    parse_duration,
    parse_network,
    parse_rate,
    parse_rate_limit,
    parse_share,
    parse_size,
    parse_words,
)


class UnitTests(SynchronousTestCase):
    def good(self, parse: Callable[[object], object], cases: dict[object, object]) -> None:
        for text, value in cases.items():
            self.assertEqual(parse(text), value, text)

    def bad(self, parse: Callable[[object], object], cases: dict[object, str]) -> None:
        for text, message in cases.items():
            error = self.assertRaises(ValueError, parse, text)
            self.assertIn(message, str(error), text)

    def test_sizes(self) -> None:
        self.good(
            parse_size,
            {
                "50 MiB": 52_428_800,
                "1.5kib": 1536,
                " 2 GB ": 2 * 10**9,
                "7 B": 7,
                "1TiB": 2**40,
            },
        )
        self.bad(
            parse_size,
            {
                52: "a bare number has no unit",
                True: "write a size",
                "52": "unknown unit ''",
                "5 mb/s": "cannot read",
                "5 potatoes": "unknown unit 'potatoes'",
                "-5 MiB": "cannot read",
                "0.5 B": "not a whole number",
                "9999999999 TiB": "too large",
                "": "cannot read",
            },
        )

    def test_durations(self) -> None:
        self.good(
            parse_duration,
            {"30 s": 30.0, "5min": 300.0, "2 Hours": 7200.0, "7 days": 604_800.0, "250 ms": 0.25},
        )
        self.bad(
            parse_duration,
            {
                30: "a bare number has no unit",
                "30": "unknown unit",
                "30 m": "unknown unit 'm'",
                "367 days": "longer than a year",
                "soon": "cannot read 'soon'",
            },
        )

    def test_rates(self) -> None:
        self.good(parse_rate, {"10/s": 10.0, "90 / min": 1.5, "3600/h": 1.0, "86400/day": 1.0})
        self.bad(
            parse_rate,
            {
                10: "not a rate",
                "10": "not a rate",
                "10/year": "not a rate",
                "10 x/s": "not a rate",
                "0/s": "lets nothing through",
                "a/s": "cannot read",
            },
        )

    def test_rate_limits(self) -> None:
        """The number 0 switches a limit off; nothing else that is no rate does."""
        self.good(parse_rate_limit, {0: 0.0, "10/s": 10.0, "90/min": 1.5})
        self.bad(
            parse_rate_limit,
            {
                False: "not a rate",
                "0": "not a rate",
                "none": "not a rate",
                10: "not a rate",
                -1: "not a rate",
                "0/s": "write 0 for no limit",
            },
        )

    def test_shares(self) -> None:
        self.good(parse_share, {"50 %": 0.5, "100%": 1.0, 0.25: 0.25, 1: 1.0})
        self.bad(
            parse_share,
            {
                "0 %": "more than 0 %",
                "101 %": "more than 0 %",
                float("nan"): "more than 0 %",
                True: "not a share",
                "half": "not a share",
                "5 x %": "not a share",
            },
        )

    def test_networks(self) -> None:
        self.assertEqual(parse_network("10.0.0.0/8"), ip_network("10.0.0.0/8"))
        self.assertEqual(parse_network(" ::1 "), ip_network("::1/128"))
        self.bad(
            parse_network,
            {
                10: "not a network",
                "here": "'here' is not a network",
                "10.0.0.1/8": "did you mean '10.0.0.0/8'?",
            },
        )

    def test_what_networks_cover(self) -> None:
        networks = Networks((ip_network("127.0.0.0/8"), ip_network("fe80::/10")))
        covered = ("127.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0")
        self.assertEqual([networks.cover(host) for host in covered], [True] * 3)
        self.assertEqual(
            [networks.cover(host) for host in ("192.0.2.1", "::1", "", "name")], [False] * 4
        )

    def test_words(self) -> None:
        self.assertEqual(parse_words("a"), ("a",))
        self.assertEqual(parse_words(["a", "b"]), ("a", "b"))
        for wrong in (1, ["a", 1], {"a": 1}):
            error = self.assertRaises(ValueError, parse_words, wrong)
            self.assertEqual(str(error), "must be a text or an array of texts")
        for empty in ("", [], [" "]):
            error = self.assertRaises(ValueError, parse_words, empty)
            self.assertEqual(str(error), "must not be empty")

    def test_in_a_struct(self) -> None:
        class Section(msgspec.Struct):
            size: Size
            time: Duration
            rate: Rate | None
            share: Share
            networks: Networks
            words: Words

        section = msgspec.convert(
            {
                "size": "1 KiB",
                "time": "1 min",
                "rate": "1/s",
                "share": "1 %",
                "networks": ["10.0.0.1"],
                "words": "x",
            },
            Section,
            dec_hook=convert_unit,
        )
        self.assertEqual(
            (section.size, section.time, section.rate, section.share, section.words),
            (1024, 60.0, 1.0, 0.01, ("x",)),
        )
        self.assertTrue(section.networks.cover("10.0.0.1"))
        error = self.assertRaises(ValueError, convert_unit, Networks, "10.0.0.1")
        self.assertIn("must be an array of networks", str(error))
        self.assertRaises(NotImplementedError, convert_unit, bytearray, "x")
