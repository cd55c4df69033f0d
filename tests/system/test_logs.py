"""The log: one line for each thing that happened, for people or as JSON."""

from __future__ import annotations

import json
import smtplib

from tests.system import configurations, mails
from tests.system.harness import DEADLINE, Server, SystemTestCase
from tests.system.receiver import Receiver

SENDER, RECIPIENT = "ann@sender.example", "bob@example.com"


class LogTests(SystemTestCase):
    """What a service writes while mail goes through it."""

    def traffic(self, server: Server) -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            client.sendmail(SENDER, RECIPIENT, mails.simple(text="nobody-logs-this\n"))
            client.mail(SENDER)
            client.docmd("RCPT TO:<\x1b[31mred@elsewhere.example>")
            client.rcpt("nobody@elsewhere.example")
        server.wait_for("elivered")

    def test_lines_for_people(self) -> None:
        server = self.configured(configurations.maildir(self.directory))
        self.traffic(server)
        (accepted,) = server.wait_for(r"\baccepted ")
        for part in (
            f"from=<{SENDER}>",
            f"to=<{RECIPIENT}>",
            "size=",
            "destination=archive",
            "client=127",
        ):
            self.assertIn(part, accepted)
        (delivered,) = server.wait_for(r"\bdelivered ")
        for part in (f"from=<{SENDER}>", f"to=<{RECIPIENT}>", "destination=archive", "attempt=1"):
            self.assertIn(part, delivered)
        server.wait_for(r"\brefused .*nobody@elsewhere\.example.*550")
        server.stop()
        self.assertNotIn("nobody-logs-this", server.output)
        self.assertNotIn("\x1b", server.output)

    def test_lines_of_json(self) -> None:
        path = self.write("mailsvc.toml", configurations.maildir(self.directory))
        server = self.server("--config", str(path), "--log-json").start()
        self.traffic(server)
        server.stop()
        events = [json.loads(line) for line in server.lines]
        for event in events:
            self.assertTrue({"time", "level", "event"} <= event.keys(), event)
        by_name = {event["event"]: event for event in events}
        accepted, delivered = by_name["MessageAccepted"], by_name["Delivered"]
        self.assertEqual(accepted["reverse_path"], SENDER)
        self.assertEqual(accepted["recipients"], [RECIPIENT])
        self.assertEqual(accepted["client"], "127.0.0.1")
        self.assertTrue(delivered["id"].startswith(accepted["id"]))
        self.assertEqual((delivered["attempt"], delivered["destination"]), (1, "archive"))
        self.assertIn("CommandRefused", by_name)

    def test_a_failure_and_a_dead_letter(self) -> None:
        answers = iter((500, 406))
        receiver = Receiver(lambda request: next(answers))
        self.addCleanup(receiver.close)
        text = configurations.webhook(self.directory, receiver.url, 'schedule = ["1 s"]')
        server = self.configured(text)
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            client.sendmail(SENDER, RECIPIENT, mails.simple())
        envelope = f"from=<{SENDER}> to=<{RECIPIENT}>"
        server.wait_for(rf"\bdeferred .*{envelope} destination=app attempt=1 size=\d+ .*500")
        server.wait_for(rf"\bdead .*{envelope} destination=app attempt=2 size=\d+,.*406")
