"""A third party's deliverer: a file in ``twisted/plugins`` of any directory on the Python path."""

from __future__ import annotations

import os
import smtplib

from tests.floors import ROOT
from tests.system import configurations, mails
from tests.system.harness import DEADLINE, PROGRAMS, Server, SystemTestCase, until

EXAMPLE = ROOT / "docs" / "examples" / "command_deliverer.py"

#: The path that the tests' own environment adds, if any, stays.
OTHERS = os.environ.get("PYTHONPATH", "")


class PluginTests(SystemTestCase):
    """The example of the pages, installed and run as they say."""

    def setUp(self) -> None:
        super().setUp()
        self.plugins = self.directory / "site" / "twisted" / "plugins"
        self.plugins.mkdir(parents=True)
        self.path = os.pathsep.join(filter(None, (str(self.directory / "site"), OTHERS)))
        (self.plugins / "command_deliverer.py").write_bytes(EXAMPLE.read_bytes())

    def serve(self, command: str) -> Server:
        text = configurations.maildir(self.directory).replace(
            f'kind = "maildir"\npath = "{self.directory}/maildir"',
            f'kind = "command"\ncommand = ["sh", "-c", "{command}"]\nschedule = ["1 s", "1 s"]',
        )
        self.assertIn('kind = "command"', text)
        return self.configured(text, PYTHONPATH=self.path)

    def send(self, server: Server, content: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            client.sendmail("ann@sender.example", "bob@example.com", content)

    def test_it_gets_the_mail(self) -> None:
        copy = self.directory / "copy"
        server = self.serve(f"cat > {copy}")
        self.send(server, mails.dots_and_blanks())
        server.wait_for(r"\bdelivered .*destination=archive")
        filed = copy.read_bytes()
        self.assertEqual(
            mails.without_trace(filed, return_path=filed.startswith(b"Return-Path")),
            mails.dots_and_blanks(),
        )

    def test_what_it_raises_is_tried_again(self) -> None:
        """Any exception is transient: the second run finds what the first one left, and works."""
        flag = self.directory / "flag"
        server = self.serve(f"cat > /dev/null; test -e {flag} || ! touch {flag}")
        self.send(server, mails.simple())
        server.wait_for(r"\bdeferred .*attempt=1\b")
        server.wait_for(r"\bdelivered .*attempt=2\b")

    def test_one_that_cannot_be_imported_is_reported_and_hides_no_other(self) -> None:
        (self.plugins / "broken_deliverer.py").write_text("import no_such_module\n", "utf-8")
        copy = self.directory / "copy"
        server = self.serve(f"cat > {copy}")
        server.wait_for(r"broken_deliverer.*no_such_module")
        self.send(server, mails.simple())
        until(copy.exists, "the copy")

    def test_a_kind_that_its_module_did_not_bring(self) -> None:
        (self.plugins / "command_deliverer.py").write_text("import no_such_module\n", "utf-8")
        text = configurations.maildir(self.directory).replace('"maildir"', '"command"')
        path = self.write("mailsvc.toml", text)
        said = self.run_program(
            *(str(PROGRAMS / "mailsvc"), "check", "--config", str(path)),
            status=1,
            environment={"PYTHONPATH": self.path},
        )
        # Twisted itself shows the traceback of the module; the message is the last line.
        message = said.splitlines()[-1]
        for part in (str(path), "command", "maildir", "webhook", "no_such_module"):
            self.assertIn(part, message)
