"""A real server lets a real HTTP server decide what it answers to mail."""

from __future__ import annotations

import json
import smtplib
import threading

from tests.system import configurations, mails
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.receiver import Receiver


class SynchronousTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        text = configurations.webhook(self.directory, self.receiver.url)
        self.running = self.configured(text + 'mode = "sync"\n')

    def send(self, subject: str, recipient: str = "bob@example.com") -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", self.running.port, timeout=DEADLINE) as client:
            client.ehlo()
            client.mail("ann@example.org")
            client.rcpt(recipient)
            return client.data(mails.simple(subject=subject))

    def queued(self) -> int:
        printed = self.mailsvc("queue", "--config", "mailsvc.toml", "--json")
        return len(json.loads(printed)["entries"])

    def test_answers(self) -> None:
        """Refused, not taken now, taken; each again; and nothing is left in the queue."""
        self.receiver.words = "No such ticket"
        self.receiver.answer = lambda request: 422
        for _ in range(2):
            self.assertEqual(self.send("one"), (550, b"5.7.1 No such ticket"))
        self.assertEqual(len(self.receiver.requests), 1)
        self.receiver.words = ""
        self.receiver.answer = lambda request: 500
        self.assertEqual(self.send("two")[0], 451)
        self.receiver.answer = lambda request: 204
        for _ in range(2):
            self.assertEqual(self.send("two")[0], 250)
        self.assertEqual(self.send("three")[0], 250)
        one, two, again, three = [each.headers["webhook-id"] for each in self.receiver.requests]
        self.assertEqual(two, again)
        self.assertEqual(len({one, two, three}), 3)
        self.assertEqual(self.queued(), 0)

    def test_a_paused_destination(self) -> None:
        """410 pauses; mail that comes then is the sender's still, and nothing of it is kept."""
        self.receiver.answer = lambda request: 410
        self.assertEqual(self.send("one")[0], 451)
        self.receiver.answer = lambda request: 204
        for _ in range(2):
            self.assertEqual(self.send("two")[0], 451)
        self.assertEqual(self.queued(), 0)
        self.mailsvc("resume", "--config", "mailsvc.toml", "app")
        self.assertEqual(self.send("two")[0], 250)
        self.assertEqual(len(self.receiver.requests), 2)

    def test_a_kill_before_the_answer(self) -> None:
        """Requirement 36: what was stored is delivered after the next start."""
        asked, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)

        def answer(request: object) -> int:
            asked.set()
            go.wait(DEADLINE)
            return 204

        # The same mail was sent before, and got no answer that counts.
        self.receiver.answer = lambda request: 500
        self.assertEqual(self.send("killed")[0], 451)
        self.receiver.answer = answer
        failed = []

        def send() -> None:
            try:
                self.send("killed")
            except (OSError, smtplib.SMTPException) as error:
                failed.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        self.assertTrue(asked.wait(DEADLINE))
        self.running.kill()
        thread.join()
        self.assertEqual(len(failed), 1)
        go.set()
        self.running.start()
        self.receiver.wait(3)
        # Nor has the sender been answered, so the mail comes once more.
        self.assertEqual(self.send("killed")[0], 250)
        ids = {each.headers["webhook-id"] for each in self.receiver.requests}
        self.assertEqual((len(self.receiver.requests), len(ids)), (4, 1))
