"""``etc/mailsvc.toml`` as it is runs, once what ``docs/operation.md`` has one prepare is there."""

from __future__ import annotations

import re
import smtplib
import ssl
import tempfile
from pathlib import Path

from standardwebhooks import Webhook

from tests.floors import ROOT
from tests.system import mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.receiver import Receiver

SENDER = "ann@sender.example"
SECRET = re.compile(r"```sh\n(printf 'whsec_[^\n]*)\n")


class ExampleTests(SystemTestCase):
    """Only places and ports differ: below the test's directory, on loopback."""

    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        text = (ROOT / "etc" / "mailsvc.toml").read_text("utf-8")
        for place in ("/etc/mailsvc", "/var/lib/mailsvc", "/var/mail"):
            (self.directory / place[1:]).mkdir(parents=True)
            text = text.replace(f'"{place}', f'"{self.directory}{place}')
        # A socket's path may have 107 octets, which the test's directory exceeds.
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.socket = f"{folder}/lmtp.sock"
        text = text.replace("unix:/run/mailsvc/lmtp.sock", f"unix:{self.socket}")
        text = re.sub(r'"tcp6:\d+"', lambda _: r"'tcp6:0:interface=\:\:1'", text)
        url = 'url = "https://app.example.com/inbound"\n'
        self.assertIn(url, text)
        text = text.replace(url, f'url = "{self.receiver.url}"\nallow_private = true\n')
        self.path = str(self.write("mailsvc.toml", text))

    def prepare(self) -> str:
        """Do what the page says, and return the secret that it makes."""
        tls = self.directory / "etc/mailsvc/tls"
        self.made = authority(tls, "mx.example.com")
        self.made.trust.rename(self.directory / "trust.pem")
        page = (ROOT / "docs" / "operation.md").read_text("utf-8")
        [make_secret] = SECRET.findall(page)
        place = str(self.directory / "etc/mailsvc")
        self.run_program("sh", "-c", make_secret.replace("/etc/mailsvc", place))
        self.mailsvc("passwd", "--config", self.path, "add", "alice", stdin="secret\nsecret\n")
        return Path(place, "app.secret").read_text("utf-8").strip()

    def test_check_says_what_is_not_there_yet(self) -> None:
        found = self.mailsvc("check", "--config", self.path, status=1)
        for key in ("[tls] certificates", "[auth] users", "[destination.app] secret_file"):
            self.assertRegex(found, rf"mailsvc\.toml:\d+: {re.escape(key)}: .*")
        self.assertEqual(len(found.splitlines()), 3, found)

    def test_it_runs(self) -> None:
        secret = self.prepare()
        self.mailsvc("check", "--config", self.path)
        server = self.server("--config", self.path).start(2)
        server.wait_for(r"listening on .*lmtp\.sock")
        mx, submission = server.ports()
        context = ssl.create_default_context(cafile=str(self.directory / "trust.pem"))
        context.check_hostname = False

        with smtplib.SMTP("::1", mx, timeout=DEADLINE) as client:
            client.starttls(context=context)
            client.sendmail(SENDER, "support+7@example.com", mails.simple())
        with smtplib.SMTP_SSL("::1", submission, timeout=DEADLINE, context=context) as client:
            client.login("alice", "secret")
            client.sendmail(
                SENDER, ["bob@example.com", "order-17@shop.example.com"], mails.simple()
            )
        with smtplib.LMTP(self.socket) as client:
            # One recipient each: smtplib reads a single reply to the content.
            client.sendmail(SENDER, "noreply@example.com", mails.simple())
            client.sendmail(SENDER, "eve@sub.example.com", mails.simple())

        mail = self.directory / "var/mail"
        for place in ("example.com/support", "example.com/bob", "sub.example.com/eve"):
            self.in_maildir(1, mail / place)
        tags = set()
        for request in self.receiver.wait(2):
            payload = Webhook(secret).verify(request.body, request.headers)
            tags.add(payload["envelope"]["tag"])
        self.assertEqual(tags, {"7", "17"})
        server.wait_for(r"delivered .* destination=nowhere")
        server.stop()
