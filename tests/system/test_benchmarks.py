"""The benchmarks still run; what they measure here says nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.sections.alone import DISK, WORST
from benchmarks.sections.idle import BEGIN, END, NEW_CPU, P99
from mailsvc.smtp import session

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.proof
@pytest.mark.needs("cc", "smtp-sink", "openssl", "/usr/include/openssl/ssl.h")
class BenchmarkTests(SynchronousTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.work = Path(self.mktemp()).resolve()

    def run_benchmarks(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--work", str(self.work), *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.work / "quick.json").read_text())
        return document

    def section(self, name: str) -> dict[str, Any]:
        section: dict[str, Any] = self.document()["sections"][name]
        return section

    def rows(self, section: str) -> list[dict[str, Any]]:
        """Return the rows of the servers."""
        rows: list[dict[str, Any]] = self.section(section)["rows"]
        return [row for row in rows if row["server"] != DISK]

    def values(self, section: str) -> dict[str, float]:
        values: dict[str, float] = self.section(section)["values"]
        return values

    def test_accepting_beside_smtp_sink(self) -> None:
        """Both servers take mail in three ways, and mailsvc delivered what it acknowledged."""
        words = ("--quick", "--only", "accept", "--peers", "ours,smtp-sink")
        self.run_benchmarks(*words)
        rows = self.rows("accept")
        self.assertEqual([row["server"] for row in rows], ["ours", "smtp-sink"] * 3)
        for row in rows:
            self.assertGreater(row["messages"], 0)
            self.assertGreater(row["cpu"], 0)
            self.assertGreater(row["peak"], 1)
            self.assertLessEqual(row["p50"], row["p99"])
        self.assertEqual({row["checked"] for row in rows if row["server"] == "ours"}, {"counted"})
        disk = [row for row in self.section("accept")["rows"] if row["server"] == DISK]
        self.assertEqual(len(disk), 1)
        self.assertGreaterEqual(self.values("accept")[WORST], disk[0]["p99"])
        table = self.run_benchmarks("--quick", "--summary")
        self.assertTrue(re.search(r"\| mailsvc \| yes \| [0-9,.]+ \|", table), table)

    def test_compiled_and_not_compiled(self) -> None:
        """Which it is, is looked up; both are measured where there are both."""
        self.run_benchmarks("--quick", "--only", "accept", "--peers", "ours,ours-plain")
        servers = {row["server"] for row in self.rows("accept")}
        if session.__file__.endswith(".py"):
            self.assertEqual(self.document()["machine"]["mailsvc"], "not compiled")
            self.assertEqual(servers, {"ours"})
            self.assertEqual(len(self.section("accept")["notes"]), 1)
        else:
            self.assertEqual(self.document()["machine"]["mailsvc"], "compiled")
            self.assertEqual(servers, {"ours", "ours-plain"})

    def test_filed_mail_is_compared(self) -> None:
        self.run_benchmarks("--quick", "--only", "maildir", "--peers", "ours-maildir")
        self.assertEqual([row["checked"] for row in self.rows("maildir")], ["compared"])

    def test_posted_mail_is_compared(self) -> None:
        self.run_benchmarks("--quick", "--only", "webhook", "--peers", "ours-webhook")
        self.assertEqual([row["checked"] for row in self.rows("webhook")], ["compared"])

    def test_the_floor_of_large_messages(self) -> None:
        """The server that keeps nothing takes them under TLS as well; the disk writes alone."""
        self.run_benchmarks("--quick", "--only", "tls", "--peers", "ours,canned")
        self.assertEqual([row["server"] for row in self.rows("tls")], ["ours", "canned"])
        values = self.values("tls")
        self.assertEqual(len(values), 3)
        self.assertTrue(all(value > 0 for value in values.values()), values)

    def test_groups_are_counted_from_within(self) -> None:
        """Two processes note as well as one how many groups they committed."""
        kinds = ("ours", "ours-twice", "ours-apart", "ours-once-noting", "ours-twice-noting")
        self.run_benchmarks("--quick", "--only", "processes", "--peers", ",".join(kinds))
        self.assertEqual(len(self.rows("processes")), 8)
        values = self.values("processes")
        self.assertEqual(len(values), 12)
        self.assertTrue(all(value > 0 for value in values.values()), values)

    def test_idle_connections_are_looked_at_from_within(self) -> None:
        words = ("ours-memory", "ours-memory-2", "ours-noting")
        self.run_benchmarks("--quick", "--only", "idle", "--peers", ",".join(words))
        self.assertEqual(len(self.rows("idle")), 4)
        for name in (P99, NEW_CPU, BEGIN, END):
            self.assertGreater(self.values("idle")[name], 0)

    def test_unknown_section(self) -> None:
        self.assertIn("--only takes accept", self.run_benchmarks("--only", "all", status=2))
