"""The parts of the benchmarks that only count and write: medians, verdicts, tables, comparison."""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import accounting, disk, page, targets
from benchmarks.check import CheckFailed
from benchmarks.load import Load, Outcome
from benchmarks.lookup import Lookup, Unmeasured
from benchmarks.rounds import Row, interleaved, medians, paired, together
from benchmarks.sections.accepting import PIPELINED, ROUND_TRIPS
from benchmarks.sections.idle import P99
from benchmarks.servers.ours import plain_copy
from benchmarks.shares import even, evenly
from benchmarks.wording import filled, number, table

ROW = Row(
    server="ours",
    title="mailsvc",
    what=ROUND_TRIPS,
    durable=True,
    rate=1000.0,
    p50=5.0,
    p99=10.0,
    p999=20.0,
    cpu=100.0,
    peak=60.0,
    above=4.0,
    rounds=1,
    checked="counted",
    messages=2000,
    spread=(1000.0, 1000.0),
)


def document(*rows: Row) -> dict[str, Any]:
    """Return figures that hold one section, of accepting."""
    return {
        "machine": {
            "cpu": "a processor",
            "mailsvc": "compiled",
            "versions": {"Python": "3.11"},
        },
        "sections": {
            "accept": {
                "date": "2026-01-02 03:04",
                "commit": "abcdef0",
                "load": 0.5,
                "rows": [asdict(row) for row in rows],
                "values": {},
                "notes": ["Haraka: it is not installed"],
            }
        },
    }


class RoundTests(SynchronousTestCase):
    def test_medians_and_spread(self) -> None:
        """Each figure is the median by itself; memory is the most that any round took."""
        rows = [
            ROW,
            replace(ROW, rate=3000.0, cpu=80.0, peak=50.0),
            replace(ROW, rate=1200.0, cpu=300.0, peak=70.0, checked="counted, 1 came twice"),
        ]
        middle = medians(rows)
        self.assertEqual((middle.rate, middle.cpu, middle.peak), (1200.0, 100.0, 70.0))
        self.assertEqual(middle.spread, (1000.0, 3000.0))
        self.assertEqual((middle.rounds, middle.messages), (3, 6000))
        self.assertEqual(middle.checked, "counted, 1 came twice")

    def test_servers_take_turns(self) -> None:
        """A slow minute of the machine hits all servers alike: A B A B, never A A B B."""
        order: list[str] = []

        def turn(server: str) -> Row:
            order.append(server)
            return replace(ROW, server=server)

        rows = interleaved(3, [lambda: turn("a"), lambda: turn("b")])
        self.assertEqual(order, ["a", "b"] * 3)
        self.assertEqual([(row.server, row.rounds) for row in rows], [("a", 3), ("b", 3)])

    def test_together(self) -> None:
        """Two servers at the same time: a message costs what it does on the average."""
        rows = [ROW, replace(ROW, rate=500.0, cpu=400.0, p99=30.0, messages=1000)]
        row = together(rows, "both", "two")
        self.assertEqual((row.server, row.rate, row.cpu, row.p99), ("both", 1500.0, 200.0, 30.0))
        self.assertEqual((row.messages, row.peak, row.spread), (3000, 120.0, (1500.0, 1500.0)))

    def test_pairs(self) -> None:
        """One pair that met a bad minute does not decide, and neither do two unlike minutes."""
        without = [replace(ROW, p99=value) for value in (2.0, 50.0, 4.0)]
        beside = [replace(ROW, p99=value) for value in (3.0, 60.0, 40.0)]
        self.assertEqual(paired("p99", without, beside), 1.5)


class SharesTests(SynchronousTestCase):
    """A round in which one of two processes had nearly all says nothing of two."""

    def test_connections_of_a_process(self) -> None:
        """Those that it has accepted, not those that it has made."""
        with socket.create_server(("127.0.0.1", 0)) as door, ExitStack() as opened:
            port = door.getsockname()[1]
            for count in range(3):
                found = accounting.connections([os.getpid(), os.getppid()], port)
                self.assertEqual(found, [count, 0])
                opened.enter_context(socket.create_connection(("127.0.0.1", port)))
                opened.enter_context(door.accept()[0])

    def test_even(self) -> None:
        for shares in ([10, 10], [7, 13], [20], [7, 6, 7]):
            self.assertTrue(even(shares), shares)
        for shares in ([6, 14], [0, 20], [2, 9, 9], [0, 0], []):
            self.assertFalse(even(shares), shares)

    def test_uneven_rounds_are_taken_again(self) -> None:
        turns = iter([(1, [1, 19]), (2, [9, 11]), (3, [10, 10])])
        seen: list[str] = []
        self.assertEqual(evenly(lambda: next(turns), seen), 2)
        self.assertEqual(seen, ["1 + 19 (left out)", "9 + 11"])

    def test_not_for_ever(self) -> None:
        with self.assertRaisesRegex(CheckFailed, "one process had most"):
            evenly(lambda: (1, [1, 19]), [])


class DiskTests(SynchronousTestCase):
    def test_quantiles(self) -> None:
        steady = disk.Steady([1.0, 2.0, 3.0, 4.0], rate=300.0, cpu=20.0)
        self.assertEqual(
            [steady.quantile(each) for each in (0, 0.5, 0.99, 1)], [1.0, 3.0, 4.0, 4.0]
        )

    def test_steady_syncs(self) -> None:
        """Each write is timed, and the file is gone."""
        directory = Path(self.mktemp())
        directory.mkdir()
        writes = disk.steady_syncs(directory, rate=1000.0, seconds=0.005)
        self.assertEqual(len(writes), 5)
        self.assertEqual(writes.milliseconds, sorted(writes.milliseconds))
        self.assertEqual(list(directory.iterdir()), [])

    def test_sequential(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertGreater(disk.sequential(directory, 2 << 20).rate, 0)
        self.assertEqual(list(directory.iterdir()), [])


class PlainTests(SynchronousTestCase):
    def test_what_was_compiled_is_left_out(self) -> None:
        """A copy of an earlier run leaves nothing behind, either."""
        package, directory = Path(self.mktemp()) / "mailsvc", Path(self.mktemp())
        for where in (package / "smtp" / "__pycache__", directory / "mailsvc"):
            where.mkdir(parents=True)
        for name in ("smtp/session.py", "smtp/session.cpython-311.so", "smtp/__pycache__/a.pyc"):
            (package / name).touch()
        (directory / "mailsvc" / "old.so").touch()
        plain_copy(package, directory)
        files = [path for path in directory.rglob("*") if path.is_file()]
        self.assertEqual(files, [directory / "mailsvc" / "smtp" / "session.py"])


class LookupTests(SynchronousTestCase):
    def test_what_is_not_there(self) -> None:
        """A figure that is missing is no zero: whatever needs it says so."""
        figures = Lookup(document(ROW))
        self.assertEqual(figures.figure("cpu", "accept", "ours", ROUND_TRIPS), 100.0)
        for ask in (
            lambda: figures.row("accept", "ours", PIPELINED),
            lambda: figures.row("large", "ours"),
            lambda: figures.value("accept", "a name"),
            lambda: figures.ratio("cpu", "accept", "ours", "postfix"),
        ):
            self.assertRaises(Unmeasured, ask)


class WordingTests(SynchronousTestCase):
    def test_three_digits(self) -> None:
        words = [number(each) for each in (0.126, 9.994, 12.34, 123.4, 12345.6)]
        self.assertEqual(words, ["0.13", "9.99", "12.3", "123", "12,346"])

    def test_lines_are_filled(self) -> None:
        """Figures make a text longer or shorter; tables, lists and headings stay as they are."""
        kept = "### A heading\n\n| a table |\n|---|\n\n- a list\n- of two"
        text = filled(f"one\ntwo {'three ' * 30}\n\n{kept}\n")
        self.assertTrue(text.endswith(f"\n\n{kept}\n"), text)
        first = text.split("\n\n")[0].splitlines()
        self.assertEqual(len(first), 2)
        self.assertTrue(first[0].startswith("one two three"), first)

    def test_table(self) -> None:
        text = table(("Part", "CPU"), [("one", 1.0), ("two", "-")])
        self.assertEqual(text, "| Part | CPU |\n|---|---|\n| one | 1.00 |\n| two | - |")


class VerdictTests(SynchronousTestCase):
    def verdict(self, target: str, *rows: Row) -> targets.Verdict:
        found = [each for each in targets.verdicts(document(*rows)) if each.target == target]
        return found[0]

    def test_met_and_not_met(self) -> None:
        sink = replace(ROW, server="smtp-sink", rate=900.0)
        verdict = self.verdict("rate ≥ smtp-sink's", ROW, sink)
        self.assertEqual((verdict.measured, verdict.met), ("1.11 ×", True))
        verdict = self.verdict("rate ≥ smtp-sink's", ROW, replace(sink, rate=2000.0))
        self.assertEqual((verdict.measured, verdict.met), ("0.50 ×", False))

    def test_upper_bounds(self) -> None:
        postfix = replace(ROW, server="postfix", cpu=1500.0)
        self.assertEqual(self.verdict("CPU ≤ 1/10 of Postfix's", ROW, postfix).met, True)
        postfix = replace(postfix, cpu=999.0)
        self.assertEqual(self.verdict("CPU ≤ 1/10 of Postfix's", ROW, postfix).met, False)

    def test_what_was_not_measured_is_not_met(self) -> None:
        verdict = self.verdict("rate ≥ smtp-sink's", ROW)
        self.assertEqual((verdict.measured, verdict.met), ("", None))
        self.assertEqual({each.met for each in targets.verdicts(document(ROW))}, {None})

    def test_idle_connections_are_judged_by_pairs(self) -> None:
        figures = document(ROW)
        for value, met in ((1.1, True), (1.11, False)):
            figures["sections"]["idle"] = {"rows": [], "values": {P99: value}}
            found = [each for each in targets.verdicts(figures) if "idle conn" in each.what]
            self.assertEqual([each.met for each in found], [None, met])

    def test_a_short_soak_is_no_answer(self) -> None:
        """Flat memory is a matter of half an hour; less is shown, but decides nothing."""
        figures = document(ROW)
        soak = {"resident after a tenth, MiB": 60.0, "resident at the end, MiB": 61.0}
        for seconds, met in ((1799.0, None), (1800.0, True)):
            figures["sections"]["soak"] = {"rows": [], "values": {**soak, "seconds": seconds}}
            verdict = targets.verdicts(figures)[-1]
            self.assertEqual((verdict.what, verdict.met), ("soak, 30 minutes", met))


class PageTests(SynchronousTestCase):
    def test_tables(self) -> None:
        """A row has as many cells as its heading, and says what was left out and how far apart."""
        sink = replace(ROW, server="smtp-sink", title="smtp-sink", durable=False, rate=11_560.0)
        text = page.render(document(replace(ROW, spread=(900.0, 1100.0)), sink))
        self.assertIn("| smtp-sink | one command per round trip | no | 11,560 |", text)
        self.assertIn("900–1,100", text)
        self.assertIn("- Left out: Haraka: it is not installed", text)
        self.assertIn("| rate ≥ smtp-sink's | 0.09 × | **not met** |", text)
        for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            self.assertEqual(len({line.count("|") for line in rows.splitlines()}), 1, rows)

    def test_whether_it_was_compiled(self) -> None:
        """Both kinds are in the table; the targets are judged by what is installed."""
        plain = replace(ROW, server="ours-plain", title="mailsvc, not compiled", rate=10.0)
        sink = replace(ROW, server="smtp-sink", title="smtp-sink", rate=900.0)
        text = page.render(document(ROW, plain, sink))
        self.assertIn("\n| mailsvc | compiled |\n", text)
        self.assertIn("\n| mailsvc, not compiled | one command per round trip | yes | 10.0 |", text)
        self.assertIn("| rate ≥ smtp-sink's | 1.11 × | met |", text)

    def test_remarks(self) -> None:
        figures = document(ROW)
        figures["sections"]["accept"]["remarks"] = ["the spools lay in memory"]
        self.assertIn("- the spools lay in memory\n", page.render(figures))

    def test_summary_holds_the_first_load_only(self) -> None:
        text = page.summary(document(ROW, replace(ROW, what=PIPELINED, rate=5.0)))
        self.assertEqual(len(text.splitlines()), 3)
        self.assertIn("| mailsvc | yes | 1,000 | 10.0 | 100 |", text)


class LoadTests(SynchronousTestCase):
    def test_arguments(self) -> None:
        """Only what differs from the generator's defaults is said; a flag has no value."""
        self.assertEqual(Load().arguments(), ["--sessions", "20", "--messages", "1000"])
        words = Load(per_connection=1, pipelined=True).arguments()
        self.assertEqual(words[4:], ["--per-connection", "1", "--pipelined"])

    def test_outcome_is_what_the_generator_prints(self) -> None:
        figures = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0}
        outcome = Outcome("run000001", acknowledged=2, begun=3, seconds=1.5, lost=[2], **figures)
        self.assertEqual(outcome.begun - len(outcome.lost), outcome.acknowledged)
