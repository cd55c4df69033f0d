"""Requirement 52: whatever happens, a real server and its commands show no secret."""

from __future__ import annotations

import base64
import json
import smtplib

from tests.system import configurations, mails
from tests.system.harness import DEADLINE, SystemTestCase, until
from tests.system.receiver import Receiver, Request

#: What is secret, in the forms in which it travels.
WORD = "hunter2"
KEY = base64.b64encode(WORD.encode() * 6).decode()
PAIR = base64.b64encode(f"actionmailbox:{WORD}".encode()).decode()


class SecretTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.statuses = [500, 422]
        self.receiver = Receiver(self.answer)
        self.addCleanup(self.receiver.close)
        self.secret = self.write("secret", f"whsec_{KEY}\n")
        self.shown: list[str] = []

    def answer(self, request: Request) -> int:
        if "check" in request.path:
            return 204
        return self.statuses.pop(0) if self.statuses else 204

    def command(self, *words: str, status: int | None = 0) -> str:
        config = str(self.directory / "mailsvc.toml")
        self.shown.append(self.mailsvc(*words, "--config", config, status=status))
        return self.shown[-1]

    def configuration(self) -> str:
        url = self.receiver.url
        text = configurations.webhook(
            self.directory,
            f"{url}?token={WORD}",
            f"""secret_file = "{self.secret}"
password_file = "{self.write("password", WORD)}"
headers = {{ X-Key = "{WORD}" }}
schedule = ["1 s", "1 h"]""",
        )
        return text + f'check_url = "{url}/check?token={WORD}"\nallow_private = true\n'

    def test_nothing_is_shown(self) -> None:
        path = self.write("mailsvc.toml", self.configuration())
        server = self.server("--config", str(path), "--log-json").start()
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            client.sendmail("ann@example.org", "bob@example.com", mails.simple())

        def dead() -> bool:
            found = json.loads(self.command("queue", "--json"))["entries"]
            return bool(found) and found[0]["state"] == "dead"

        until(dead, "a dead letter")
        # What is secret was used.
        check, *posts = self.receiver.requests
        self.assertIn(WORD, check.path)
        self.assertEqual([each.headers["x-key"] for each in posts], [WORD] * 2)
        self.assertEqual(posts[0].headers["authorization"], f"Basic {PAIR}")
        (entry,) = json.loads(self.command("queue", "--json"))["entries"]
        for words in (("queue",), ("show", entry["id"]), ("show", entry["id"], "--json")):
            self.command(*words)
        self.command("route", "bob@example.com")
        self.command("check")
        for broken in (f"whsec_{WORD}", f"whsec_{WORD}!", f"whsk_{KEY}", "\udcff", ""):
            self.secret.write_bytes(broken.encode("utf-8", "surrogateescape"))
            self.command("check", status=1)
            self.command("reload", status=1)
        self.secret.write_text(f"whsec_{KEY}\n")
        self.secret.chmod(0o644)
        self.command("reload", status=1)
        self.secret.chmod(0o600)
        # Somebody confuses the secret with the place where it is kept.
        text = path.read_text("utf-8")
        for key in ("secret_file", "secret_env", "secret_credential"):
            path.write_text(
                text.replace(f'secret_file = "{self.secret}"', f'{key} = "whsec_{KEY}"')
            )
            self.command("reload", status=1)
        for url in (f"https://u:{WORD}@app.test/", f"https://u:{WORD}#@app.test/", f"x?{WORD}"):
            path.write_text(text.replace(f"{self.receiver.url}?token={WORD}", url))
            self.command("reload", status=1)
        path.write_text(text)
        self.command("reload")
        self.command("retry", "--all", "--wait")
        server.stop()
        for shown in (*self.shown, server.output):
            for secret in (WORD, KEY, PAIR):
                self.assertNotIn(secret, shown)
        self.assertNotIn("Traceback", server.output)
