"""A real server asks a real HTTP server whether recipients exist."""

from __future__ import annotations

import base64
import json
import smtplib

from standardwebhooks import Webhook

from tests.system import configurations, mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.receiver import Receiver, Request


class RecipientTests(SystemTestCase):
    def configuration(self, url: str, more: str = "allow_private = true") -> str:
        return configurations.maildir(self.directory) + f'check_url = "{url}"\n{more}\n'

    def replies(self, port: int, *recipients: str) -> list[tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            client.ehlo()
            client.mail("ann@example.org")
            replies = [client.rcpt(each) for each in recipients]
            if any(code == 250 for code, _ in replies):
                client.data(mails.simple())
        return replies

    def test_recipients(self) -> None:
        def answer(request: Request) -> int:
            known = json.loads(request.body)["recipient"] == "bob@example.com"
            return 204 if known else 422

        receiver = Receiver(answer)
        self.addCleanup(receiver.close)
        server = self.configured(self.configuration(receiver.url))
        for _ in range(2):
            (bob, _), (eve, words) = self.replies(server.port, "bob@example.com", "eve@example.com")
            self.assertEqual((bob, eve), (250, 550))
            self.assertTrue(words.startswith(b"5.1.1 "), words)
        self.assertEqual(len(receiver.requests), 2)
        self.in_maildir(2)
        # A reload forgets, and asks the application as it is now.
        receiver.answer = lambda request: 500
        self.mailsvc("reload", "--config", str(self.directory / "mailsvc.toml"))
        ((code, words),) = self.replies(server.port, "bob@example.com")
        self.assertEqual((code, words[:6]), (451, b"4.3.0 "))
        server.wait_for(r"refused RCPT bob@example.com .*\(check_url: the answer was 500\)")

    def test_signed_and_private_authority(self) -> None:
        """Requirements 50 and 52: verified by ``ca_file``, signed with the destination's keys."""
        made = authority(self.directory / "tls")
        questions = Receiver(identity=made.identity)
        webhooks = Receiver()
        self.addCleanup(questions.close)
        self.addCleanup(webhooks.close)
        secrets = ["whsec_" + base64.b64encode(each * 32).decode() for each in (b"n", b"o")]
        self.write("secret", "\n".join(secrets) + "\n").chmod(0o600)
        text = configurations.webhook(
            self.directory, webhooks.url, f'secret_file = "{self.directory}/secret"'
        )
        text += f'check_url = "{questions.url}"\nallow_networks = ["127.0.0.0/8"]\n'
        server = self.configured(text + f'ca_file = "{made.trust}"\n')
        self.replies(server.port, "bob@example.com")
        (question,) = questions.requests
        (mail,) = webhooks.wait(1)
        for request in (question, mail):
            for secret in secrets:
                Webhook(secret).verify(request.body, request.headers)
        self.assertNotEqual(question.headers["webhook-id"], mail.headers["webhook-id"])
        # Without it nobody vouches for the application.
        self.write("mailsvc.toml", text)
        self.mailsvc("reload", "--config", str(self.directory / "mailsvc.toml"))
        ((code, _),) = self.replies(server.port, "bob@example.com")
        self.assertEqual(code, 451)
        server.wait_for(r"check_url: TLS failed: certificate verify failed")

    def test_private_addresses(self) -> None:
        """Requirement 48: the guard stands before this URL, too."""
        receiver = Receiver()
        self.addCleanup(receiver.close)
        server = self.configured(self.configuration(receiver.url, ""))
        ((code, _),) = self.replies(server.port, "bob@example.com")
        self.assertEqual(code, 451)
        server.wait_for(r"refused RCPT .*check_url: the address is not allowed")
        self.assertEqual(receiver.requests, [])
