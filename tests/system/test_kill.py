"""kill -9 under load: every message that got a 250 is delivered, and none is delivered half."""

from __future__ import annotations

import hashlib
import re
import smtplib
import threading
from pathlib import Path

import pytest

from tests.system.harness import DEADLINE, Server, SystemTestCase, maildir_files, until

SESSIONS = 6

#: Octets of the bodies, in turn: in a segment, across its blocks, and in a file of its own.
SIZES = (200, 3_000, 40_000, 400_000)

TOKEN = re.compile(rb"^Subject: (r\d+-s\d+-n\d+)\r?$", re.MULTILINE)


def numbered(token: str, size: int) -> bytes:
    """Return a mail that shows by every part of it which one it is."""
    line = hashlib.sha256(token.encode()).hexdigest().encode() + b"\r\n"
    return (
        f"From: ann@sender.example\r\nTo: bob@example.com\r\nSubject: {token}\r\n\r\n".encode()
        + line * (size // len(line) + 1)
    )


class Load:
    """Sessions of smtplib that send one mail after the other until the server is gone.

    :ivar sent: every mail that was begun, by its token.
    :ivar accepted: the tokens of those that got their 250.
    :ivar refused: replies that no server under load should have given.
    """

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}
        self.accepted: set[str] = set()
        self.refused: list[str] = []
        self._news = threading.Condition()

    def run(self, turn: int, port: int, server: Server, enough: int) -> None:
        """Send from all sessions; kill the server while they do, after ``enough`` 250s."""
        before = len(self.accepted)
        threads = [
            threading.Thread(target=self._session, args=(turn, number, port))
            for number in range(SESSIONS)
        ]
        for thread in threads:
            thread.start()
        with self._news:
            came = self._news.wait_for(lambda: len(self.accepted) - before >= enough, DEADLINE)
        server.kill()
        for thread in threads:
            thread.join()
        assert came, f"too few were accepted in time:\n{server.output}"

    def _session(self, turn: int, session: int, port: int) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
                for number in range(100_000):
                    token = f"r{turn}-s{session}-n{number}"
                    mail = numbered(token, SIZES[(session + number) % len(SIZES)])
                    with self._news:
                        self.sent[token] = mail
                    client.sendmail("ann@sender.example", "bob@example.com", mail)
                    with self._news:
                        self.accepted.add(token)
                        self._news.notify_all()
        except smtplib.SMTPServerDisconnected:
            pass
        except smtplib.SMTPException as error:
            self.refused.append(str(error))
        except OSError:
            pass


class KillTests(SystemTestCase):
    """Requirements 35, 36, 38 and 40."""

    def rounds(self, count: int) -> None:
        """Load, kill, start again, ``count`` times; then compare what came with what was sent."""
        load = Load()
        server = self.server(
            "--listen", "tcp:0:interface=127.0.0.1", "--maildir", f"{self.directory}/maildir"
        )
        for turn in range(count):
            server.start()
            load.run(turn, server.port, server, (25, 60, 110)[turn % 3])
        server.start()
        self.compare(load)
        server.stop()
        self.compare(load)
        leftovers = list((self.directory / "maildir" / "tmp").iterdir())
        self.assertLessEqual(len(leftovers), count * 32)

    def compare(self, load: Load) -> None:
        self.assertEqual(load.refused, [])
        seen: dict[Path, str] = {}

        def arrived() -> set[str]:
            for path in maildir_files(self.directory / "maildir"):
                if path not in seen:
                    seen[path] = self.whole(path, load)
            return set(seen.values())

        until(lambda: load.accepted <= arrived(), "every accepted mail to be delivered")
        self.assertEqual(len(set(seen.values())), len(seen), "a mail was filed twice")

    def whole(self, path: Path, load: Load) -> str:
        """Return the token of a filed mail that is all of what was sent."""
        content = path.read_bytes()
        found = TOKEN.search(content)
        if found is None:
            self.fail(f"{path} holds no mail: {content[:300]!r}")
        token = found[1].decode()
        sent = load.sent[token].replace(b"\r\n", b"\n")
        self.assertTrue(content.endswith(b"\n" + sent), f"{path}: {token} is not what was sent")
        trace = content[: -len(sent)]
        self.assertEqual((trace.count(b"Return-Path: "), trace.count(b"Received: ")), (1, 1))
        return token

    def test_three_rounds(self) -> None:
        self.rounds(3)

    @pytest.mark.proof
    def test_twenty_rounds(self) -> None:
        self.rounds(20)
