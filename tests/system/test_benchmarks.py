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

    def rows(self, section: str) -> list[dict[str, Any]]:
        document = json.loads((self.work / "quick.json").read_text())
        rows: list[dict[str, Any]] = document["sections"][section]["rows"]
        return rows

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
        table = self.run_benchmarks("--quick", "--summary")
        self.assertTrue(re.search(r"\| mailsvc \| yes \| [0-9,.]+ \|", table), table)

    def test_filed_mail_is_compared(self) -> None:
        self.run_benchmarks("--quick", "--only", "maildir", "--peers", "ours-maildir")
        self.assertEqual([row["checked"] for row in self.rows("maildir")], ["compared"])

    def test_posted_mail_is_compared(self) -> None:
        self.run_benchmarks("--quick", "--only", "webhook", "--peers", "ours-webhook")
        self.assertEqual([row["checked"] for row in self.rows("webhook")], ["compared"])

    def test_unknown_section(self) -> None:
        self.assertIn("--only takes accept", self.run_benchmarks("--only", "all", status=2))
