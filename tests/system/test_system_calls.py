"""Requirement 36: the order of system calls, which a killed process alone cannot show.

A process that is killed leaves its written pages to the kernel, a machine that loses power does
not.  So strace looks on while one mail is taken in: content is synced before the rows that name it
are written, and these are synced before the 250 leaves.
"""

from __future__ import annotations

import re
import smtplib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system import mails
from tests.system.harness import SystemTestCase, until

CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
PATH = re.compile(r"^-?\d+<([^>]*)>")

SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
SENDS = ("sendto", "sendmsg", "write", "writev")


@dataclass
class Call:
    """One system call: between the lines ``began`` and ``ended`` of the trace.

    :ivar path: what its first argument, a file descriptor, stands for; empty if it is none.
    """

    name: str
    text: str
    path: str
    began: int
    ended: int


def calls(trace: str) -> list[Call]:
    """Return the calls of a trace by ``strace -f -y``."""
    found: list[Call] = []
    waiting: dict[str, Call] = {}
    for number, line in enumerate(trace.splitlines()):
        if call := CALL.match(line):
            thread, name, text = call.groups()
            path = PATH.match(text)
            entry = Call(name, text, path[1] if path else "", number, number)
            found.append(entry)
            if text.endswith("<unfinished ...>"):
                waiting[thread] = entry
        elif resumed := RESUMED.match(line):
            entry = waiting.pop(resumed[1])
            entry.ended = number
    return found


@pytest.mark.needs("strace")
class OrderTests(SystemTestCase):
    """One mail under strace."""

    def trace(self, content: bytes, mark: str) -> list[Call]:
        """Return what the service did from the content's first write to the mail's filing."""
        record = self.directory / "trace"
        server = self.server("--listen", "tcp:0:interface=127.0.0.1").start(
            prefix=(
                *("strace", "-D", "-f", "-y", "-s", "200000", "-o", str(record)),
                *("-e", f"trace=openat,rename,renameat,{','.join({*SYNCS, *WRITES, *SENDS})}"),
            )
        )
        with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
            client.sendmail("ann@sender.example", "bob@example.com", content)
            self.in_maildir(1)
        server.stop()
        until(lambda: "+++ killed by SIGTERM +++" in record.read_text("latin-1"), "the trace's end")
        found = calls(record.read_text("latin-1"))
        first = next(
            number
            for number, call in enumerate(found)
            if call.name in WRITES and mark in call.text and "/mailsvc-data/" in call.path
        )
        return found[first:]

    def first(self, found: list[Call], names: tuple[str, ...], wanted: str, after: int) -> Call:
        """Return the first such call that began after the line ``after``."""
        for call in found:
            if call.name in names and call.began > after and re.search(wanted, call.path):
                return call
        self.fail(f"no {names} on {wanted} after line {after}")

    def reply(self, found: list[Call]) -> Call:
        """Return the call that sent the 250 for the content."""
        for call in found:
            if call.name in SENDS and '"250 2.' in call.text:
                return call
        self.fail("no 250 was sent")

    def check_accepting(self, found: list[Call]) -> None:
        content = found[0]
        synced = self.first(found, SYNCS, f"^{re.escape(content.path)}$", content.ended)
        rows = self.first(found, WRITES, r"-wal$", synced.ended)
        committed = self.first(found, SYNCS, r"-wal$", rows.ended)
        self.assertGreater(self.reply(found).began, committed.ended)

    def test_small(self) -> None:
        """Content in a segment: synced, then the rows, then the reply."""
        self.check_accepting(self.trace(mails.simple("small", "marked-7f3a\n"), "marked-7f3a"))

    def test_large(self) -> None:
        """Content in a file of its own, which is renamed and whose directory is synced, too."""
        content = mails.simple("large") + b"marked-7f3a\r\n" * 60_000
        found = self.trace(content, "marked-7f3a")
        self.check_accepting(found)
        renamed = self.first(found, ("rename", "renameat"), "", found[0].ended)
        folder = str(Path(renamed.text.split('"')[3]).parent)
        synced = self.first(found, SYNCS, f"{re.escape(Path(folder).name)}$", renamed.ended)
        self.assertGreater(self.reply(found).began, synced.ended)

    def test_maildir(self) -> None:
        """The file is synced before its rename, the directory after it, the outcome after that."""
        found = self.trace(mails.simple("small", "marked-7f3a\n"), "marked-7f3a")
        reply = self.reply(found)
        filed = next(
            call
            for call in found
            if call.name in WRITES and "marked-7f3a" in call.text and "/maildir/tmp/" in call.path
        )
        synced = self.first(found, SYNCS, "/maildir/tmp/", filed.ended)
        renamed = next(
            call for call in found if call.name.startswith("rename") and "/new/" in call.text
        )
        self.assertGreater(renamed.began, synced.ended)
        folder = self.first(found, SYNCS, "/maildir/new$", renamed.ended)
        self.assertGreater(folder.began, renamed.ended)
        self.assertGreater(folder.ended, reply.began)


class ReadingTests(SystemTestCase):
    """The trace is read as strace writes it."""

    def test_calls(self) -> None:
        found = calls(
            "7 fdatasync(11</spool/segment> <unfinished ...>\n"
            '8 sendto(9<TCP:[127.0.0.1:25->127.0.0.1:4]>, "250 2.0.0 Ok", 12, 0, NULL, 0) = 12\n'
            "7 <... fdatasync resumed>) = 0\n"
        )
        self.assertEqual([(c.name, c.began, c.ended) for c in found][0], ("fdatasync", 0, 2))
        self.assertEqual(found[0].path, "/spool/segment")
        self.assertEqual(found[1].name, "sendto")
