"""What would happen to a mail, and a mail to see it happen: asked by command."""

from __future__ import annotations

from tests.system import configurations
from tests.system.harness import Server, SystemTestCase, maildir_files

RECIPIENT = "bob@example.com"


class QuestionTests(SystemTestCase):
    """``route``, ``send-test`` and ``check``."""

    def start(self) -> Server:
        return self.configured(configurations.maildir(self.directory))

    def test_route(self) -> None:
        server = self.start()
        for _ in range(2):
            taken = self.mailsvc("route", "--config", "mailsvc.toml", RECIPIENT)
            self.assertIn("archive", taken)
            self.assertIn("*@example.com", taken)
            refused = self.mailsvc(
                "route", "--config", "mailsvc.toml", "x@elsewhere.example", status=1
            )
            self.assertIn("550 5.7.1", refused)
            if server.running:
                server.stop()

    def test_send_test(self) -> None:
        self.start()
        said = self.mailsvc("send-test", "--config", "mailsvc.toml", RECIPIENT)
        self.assertIn("250", said)
        self.in_maildir(1)

    def test_send_test_of_the_quick_start(self) -> None:
        self.quick()
        self.mailsvc("send-test", RECIPIENT)
        self.in_maildir(1)

    def test_send_test_with_nobody_there(self) -> None:
        server = self.start()
        server.stop()
        said = self.mailsvc("send-test", "--config", "mailsvc.toml", RECIPIENT, status=1)
        self.assertNotIn("Traceback", said)
        self.assertEqual(list(maildir_files(self.directory / "maildir")), [])

    def test_check(self) -> None:
        server = self.start()
        self.mailsvc("check", "--config", "mailsvc.toml")
        server.stop()
        self.mailsvc("check", "--config", "mailsvc.toml")
