"""What the benchmarks' page says is in the way of targets, from figures that are made up."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import parts
from benchmarks.obstacles import in_the_way
from benchmarks.parts.accepting import CONNECTION, CONVERSATION, SEARCHING
from benchmarks.parts.delivering import FILE, FILING, PARSING, PAYLOAD, SIGNING
from benchmarks.parts.storing import GROUPS, TAKING, UNSYNCED, writing
from benchmarks.parts.turning import TURN, WAIT
from benchmarks.rounds import Row
from benchmarks.sections.accepting import ONE_EACH, PIPELINED, ROUND_TRIPS
from benchmarks.sections.alone import DISK
from benchmarks.sections.bulk import DISK_CPU, DISK_RATE, GENERATOR_CPU, SIZE
from benchmarks.sections.delivering import DISCARDED, HELD, POSTED, REQUEST
from benchmarks.sections.idle import (
    BEGIN,
    CANNED,
    END,
    FULL_BEGIN,
    FULL_BEGIN_WORST,
    FULL_LOAD,
    FULL_LOAD_WORST,
    NEW_CPU,
    OURS,
    P99,
)
from benchmarks.sections.scale import APART, ONE, TURNS, TWO, WAITS, each, halved
from benchmarks.sections.scale import GROUPS as COMMITTED
from benchmarks.targets import Obstacle

_ROW = Row(
    server="ours",
    title="a server",
    what=ROUND_TRIPS,
    durable=True,
    rate=1000.0,
    p50=10.0,
    p99=20.0,
    p999=30.0,
    cpu=500.0,
    peak=60.0,
    above=4.0,
    rounds=1,
    checked="counted",
    messages=2000,
    spread=(1000.0, 1000.0),
)
_PARTS = {
    CONVERSATION: 50.0,
    CONNECTION: 25.0,
    SEARCHING: 13_000.0,
    TAKING: 13.0,
    writing(1): 200.0,
    writing(5): 60.0,
    writing(20): 10.0,
    UNSYNCED: 5.0,
    TURN: 6.0,
    WAIT: 5.0,
    PARSING: 60.0,
    PAYLOAD: 12.0,
    SIGNING: 11.0,
    FILE: 30.0,
    FILING: 55.0,
}

_LOADS = (ROUND_TRIPS, PIPELINED)
_DELIVERED = (
    replace(_ROW, what=DISCARDED, cpu=250.0),
    replace(_ROW, what=HELD, cpu=190.0),
)


@dataclass
class _Figures:
    """A document that is made up section by section."""

    document: dict[str, Any] = field(
        default_factory=lambda: {"machine": {"cores": 2}, "sections": {}}
    )

    def section(self, name: str, *rows: Row, **values: float) -> None:
        self.values(name, values, *rows)

    def values(self, name: str, values: dict[str, float], *rows: Row) -> None:
        self.document["sections"][name] = {
            "rows": [asdict(row) for row in rows],
            "values": values,
            "notes": [],
        }


class InTheWayTests(SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.figures = _Figures()
        self.figures.values("parts", _PARTS)

    def told(self) -> str:
        text = in_the_way(self.figures.document)
        for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            self.assertEqual(len({line.count("|") for line in rows.splitlines()}), 1, rows)
        return text

    def assert_told(self, words: str, told: str) -> None:
        """Look for words wherever the lines are broken."""
        self.assertIn(" ".join(words.split()), " ".join(told.split()))

    def accepting(self, ours: Row = _ROW) -> None:
        rows = []
        for what in (ROUND_TRIPS, PIPELINED, ONE_EACH):
            for server, rate, cpu, p99 in (
                ("ours", 0.0, 0.0, 0.0),
                ("smtp-sink", 8000.0, 90.0, 2.0),
                ("postfix", 500.0 if what == ONE_EACH else 250.0, 2000.0, 50.0),
                ("aiosmtpd", 800.0, 1200.0, 30.0),
                ("canned", 10_000.0, 90.0 if what == ONE_EACH else 40.0, 1.0),
                ("grouping", 7000.0, 70.0, 4.0),
            ):
                row = replace(_ROW, server=server, what=what, rate=rate, cpu=cpu, p99=p99)
                rows.append(replace(ours, what=what) if server == "ours" else row)
        rows.append(replace(_ROW, server=DISK, p50=0.25, p99=3.0))
        self.figures.section("accept", *rows)
        # How it is grouped, and what a delivery takes, is measured with others.
        self.figures.values("processes", {each(COMMITTED, ONE, mode): 0.1 for mode in _LOADS})
        self.figures.section("webhook", *_DELIVERED)

    def test_nothing_is_missed(self) -> None:
        self.assertEqual(self.told(), "")
        self.accepting(replace(_ROW, rate=9000.0, cpu=50.0, p99=1.0))
        self.assertEqual(self.told(), "")

    def test_what_was_not_measured_is_said(self) -> None:
        """A target that is missed is told of in any case."""
        self.accepting()
        del self.figures.document["sections"]["parts"]
        text = self.told()
        self.assert_told("### p99 of accepting", text)
        self.assertNotIn("### Accepting", text)
        self.assert_told("was not measured in this run:\n\n- durable accept, 10 KiB", text)

    def test_accepting(self) -> None:
        """What each target leaves stands beside the parts.

        They take 83 us where ten messages make a group of 200 us, and the delivery 60.
        """
        self.accepting()
        text = self.told()
        self.assert_told(f"| {CONVERSATION} | 50.0 |", text)
        for target, leaves in (
            ("rate ≥ smtp-sink's", "125"),
            ("rate ≥ 8 × Postfix's", "500"),
            ("CPU ≤ 1/10 of Postfix's", "200"),
            ("CPU ≤ 1/6 of aiosmtpd's", "200"),
        ):
            self.assert_told(
                f"| {PIPELINED} | {target} | {leaves} | 40.0 | 70.0 | 123 | 183 | 500 |", text
            )
        self.assert_told("2 of these 8 targets leave less", text)
        self.assert_told(
            f"It does not meet: rate ≥ smtp-sink's ({ROUND_TRIPS}); rate ≥ smtp-sink's"
            f" ({PIPELINED}).\n\nWhat",
            text,
        )

    def test_a_connection_each(self) -> None:
        self.accepting()
        text = self.told()
        self.assert_told("leaves 500 µs of one core for a message and its connection", text)
        self.assert_told("accept, EHLO, QUIT, close | 50.0 |", text)
        self.assert_told("| all of these | 258 |\n| mailsvc, measured | 500 |", text)

    def test_latency(self) -> None:
        """20 sessions at 1,000/s: 20 ms from message to message, half of which is the wait."""
        self.accepting()
        text = self.told()
        rates = "1,000 | 8,000 | 10,000 | 7,000 |"
        self.assert_told(f"| 1.5 × smtp-sink's | 3.00 | 3,333 | {rates}", text)
        self.assert_told(f"| 0.1 × Postfix's | 5.00 | 2,000 | {rates}", text)
        self.assert_told(f"does not meet: p99 ≤ 1.5 × smtp-sink's ({ROUND_TRIPS}), with 4.00", text)
        self.assert_told(
            "took 0.25 ms at the median and 3.00 ms at p99,\nso two take 0.50 ms", text
        )

    def bulk(self, section: str) -> None:
        rows = [
            replace(_ROW, server="ours", rate=10.0, cpu=90_000.0),
            replace(_ROW, server="postfix", rate=8.0, cpu=170_000.0),
            replace(_ROW, server="canned", rate=60.0, cpu=10_000.0),
        ]
        rate = 20 * SIZE / 1e6 / 0.9
        values = {DISK_RATE: rate, DISK_CPU: 40.0, GENERATOR_CPU: 15.0}
        self.figures.values(section, values, *rows)

    def test_large_messages(self) -> None:
        """At 20 messages/s two cores have 100 ms for each."""
        self.bulk("large")
        text = self.told()
        self.assert_told("a message every 50.0 ms, in which the\n2 cores have 100 ms of CPU", text)
        self.assert_told("| all of these | 78.0 |", text)
        self.assert_told("| mailsvc with the generator, measured | 105 |", text)
        self.assert_told(
            "0.35 × Postfix's CPU is 59.5 ms; receiving, searching and writing take 63.0", text
        )

    def test_starttls(self) -> None:
        self.bulk("tls")
        text = self.told()
        self.assert_told(
            "The target is 2 × Postfix's rate: 419 MB/s, a message every 62.5 ms", text
        )
        self.assertNotIn("0.35 ×", text)

    def test_idle_connections(self) -> None:
        values: dict[str, float] = {
            CANNED: 0.75,
            OURS: 3.0,
            P99: 2.0,
            NEW_CPU: 5.5,
            BEGIN: 80.0,
            END: 840.0,
        }
        values |= {FULL_BEGIN: 3, FULL_BEGIN_WORST: 150.0, FULL_LOAD: 0.0, FULL_LOAD_WORST: 0.0}
        self.figures.values("idle", values)
        text = self.told()
        self.assert_told("on it, take 0.75 KiB. What mailsvc\nadds is 2.25 KiB", text)
        self.assert_told(f"| {NEW_CPU} | 5.50 |", text)
        self.assert_told(f"| {END} | 840 |", text)

    def delivering(self) -> None:
        self.figures.values(
            "webhook",
            {REQUEST: 70.0},
            replace(_ROW, server="ours-webhook", what=POSTED, cpu=600.0),
            *_DELIVERED,
            *(replace(_ROW, server=f"{each}-http") for each in ("haraka", "aiosmtpd")),
            replace(_ROW, server="postfix-curl", rate=200.0),
        )
        self.figures.section(
            "maildir",
            replace(_ROW, server="ours-maildir", rate=2000.0, cpu=450.0),
            replace(_ROW, server="postfix-maildir", rate=800.0),
        )

    def test_webhook(self) -> None:
        self.delivering()
        text = self.told()
        self.assert_told("| 10 × Postfix piping to curl | 2,000 | 500 |", text)
        self.assert_told("| 3 × aiosmtpd | 3,000 | 333 |", text)
        self.assert_told("outcome of a delivery that does nothing | 60.0 |", text)
        self.assert_told("| all of these | 392 |\n| mailsvc, measured | 600 |", text)
        self.assert_told("used\n0.60 of a core", text)
        self.assert_told("by itself, 2,551 messages/s", text)

    def test_maildir(self) -> None:
        self.delivering()
        text = self.told()
        self.assert_told("leaves 250 µs of one core", text)
        self.assert_told("its share of the syncs | 25.0 |", text)
        self.assert_told("| all of these | 305 |\n| mailsvc, measured | 450 |", text)

    def test_two_processes(self) -> None:
        """From 200 us in groups of one and 10 in groups of 20: a group itself is 200 us."""
        values: dict[str, float] = {}
        for mode in _LOADS:
            for what, one, two in ((COMMITTED, 0.1, 0.3), (TURNS, 0.5, 1.0), (WAITS, 1.0, 2.0)):
                values |= {each(what, ONE, mode): one, each(what, TWO, mode): two}
        rows = [
            replace(_ROW, server=server, what=what, cpu=cpu)
            for mode in _LOADS
            for server, what, cpu in (
                ("ours", mode, 200.0),
                ("ours", halved(mode), 240.0),
                ("ours-twice", mode, 270.0),
                (APART, mode, 260.0),
            )
        ]
        self.figures.values("processes", values, *rows)
        text = self.told()
        costs = "| 200 | 240 | 1.20 × | 260 | 1.30 × | 270 | 1.35 × |"
        self.assert_told(f"| {PIPELINED} {costs}", text)
        allowed = f"costs more by itself than the target allows ({ROUND_TRIPS}; {PIPELINED})"
        self.assert_told(f"Dividing the sessions {allowed}", text)
        self.assert_told(f"that shares nothing with the first {allowed}", text)
        for row in (
            f"{COMMITTED} | 0.10 | 0.30 | 200 | 40.0 |",
            f"{TURNS} | 0.50 | 1.00 | 6.00 | 3.00 |",
            f"{WAITS} | 1.00 | 2.00 | 5.00 | 5.00 |",
        ):
            self.assert_told(f"| {PIPELINED} | {row}", text)

    def test_every_obstacle_is_told_of(self) -> None:
        """Whatever is in the way of a target has its part, once its figures are there."""
        self.accepting()
        self.bulk("large")
        self.bulk("tls")
        self.test_idle_connections()
        self.delivering()
        self.test_two_processes()
        text = self.told()
        self.assertEqual(text.count("\n### "), len(Obstacle) - 1)
        self.assertNotIn("was not measured", text)


class PartsTests(SynchronousTestCase):
    def test_the_parts_can_be_measured(self) -> None:
        """All are there that the page asks for, and each takes time."""
        values = parts.measure(Path(self.mktemp()), runs=1)
        self.assertEqual(set(values), set(_PARTS))
        self.assertTrue(all(value > 0 for value in values.values()), values)
        self.assertEqual(len(GROUPS), 3)
