"""A large attachment comes by the link in the payload, for its time and under its signature."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import smtplib
import subprocess
import time
from email.message import EmailMessage
from pathlib import Path

from mailsvc.links import Links
from mailsvc.parsed import Attachment
from mailsvc.secretfile import SecretSource, load
from tests.system import configurations
from tests.system.harness import Server, SystemTestCase
from tests.system.receiver import Receiver

SERVED = re.compile(r"links to attachments are served on 127\.0\.0\.1:(\d+)")
HTTP = """
[http]
endpoint = "tcp:0:interface=127.0.0.1"
base_url = "https://mail.example.com/x"
"""


def fetch(server: Server, url: str, *arguments: str) -> tuple[int, str, bytes]:
    """Return status, header and body of what curl gets from the server for a link."""
    server.wait_for(SERVED.pattern)
    port = next(found[1] for line in server.lines if (found := SERVED.search(line)))
    path = url.removeprefix("https://mail.example.com")
    done = subprocess.run(
        ["curl", "-s", "-i", "--path-as-is", *arguments, f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    return int(head[9:12]), head.decode("latin-1").lower(), body


class LinkTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)

    def text(self, more: str = HTTP) -> str:
        inline = 'inline_limit = "1 KiB"'
        return configurations.webhook(self.directory, self.receiver.url, inline) + more

    def mail(self, octets: bytes) -> EmailMessage:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.com", "Files"
        mail.set_content("Two files.\n")
        mail.add_attachment(octets, "application", "zip", filename="Übersicht 1.zip")
        mail.add_attachment(b"small", "application", "pdf", filename="small.pdf")
        return mail

    def test_the_link_is_good_for_its_time_and_through_a_kill(self) -> None:
        octets = os.urandom(3_000_000)
        server = self.configured(self.text())
        self.send(server, self.mail(octets))
        [request] = self.receiver.wait(1)
        large, small = json.loads(request.body)["attachments"]
        self.assertEqual((large["content"], large["size"]), (None, len(octets)))
        self.assertEqual((small["url"], base64.b64decode(small["content"])), (None, b"small"))
        server.wait_for("delivered")
        url = large["url"]
        self.assertTrue(url.startswith("https://mail.example.com/x/attachments/"))
        status, head, body = fetch(server, url)
        self.assertEqual((status, body), (200, octets))
        self.assertIn("content-type: application/zip\r\n", head)
        self.assertIn("filename*=utf-8''%c3%9cbersicht%201.zip", head)
        self.assertIn(f'etag: "{large["sha256"]}"', head)
        self.assertEqual(fetch(server, url[:-1] + ("A" if url[-1] != "A" else "Q"))[0], 403)
        self.assertEqual(fetch(server, "/")[0], 404)
        status, _, body = fetch(server, url, "-r", "2999990-")
        self.assertEqual((status, body), (206, octets[-10:]))
        self.assertEqual(fetch(server, self.expired())[0], 410)

        server.kill()
        server.start()
        status, _, body = fetch(server, url)
        self.assertEqual((status, body), (200, octets))
        self.assertNotIn(url.rpartition("/")[2], server.output)
        secret = (self.directory / "spool/links.secret").read_text().strip()
        self.assertNotIn(secret, server.output)
        self.assertEqual((self.directory / "spool/links.secret").stat().st_mode & 0o777, 0o600)

        # The key is replaced: links of before work as long as the old one is in the file.
        fresh = "whsec_" + base64.b64encode(bytes(32)).decode()
        (self.directory / "spool/links.secret").write_text(f"{fresh}\n{secret}\n")
        self.reload(server, 1)
        self.assertEqual(fetch(server, url, "-I")[0], 200)
        (self.directory / "spool/links.secret").write_text(f"{fresh}\n")
        self.reload(server, 2)
        self.assertEqual(fetch(server, url, "-I")[0], 403)
        server.stop()

    def send(self, server: Server, mail: EmailMessage) -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=60) as client:
            client.send_message(mail)

    def reload(self, server: Server, times: int) -> None:
        server.signal(signal.SIGHUP)
        server.wait_for(r"reloaded$", times)
        # The announcement that follows is complete when the last line of it is there.
        server.wait_for(SERVED.pattern, times + 1)

    def expired(self) -> str:
        """Return a link that was good a minute ago."""

        async def retain(message_id: str, until: float) -> bool:
            return True

        secrets = load(SecretSource(file=str(self.directory / "spool/links.secret"))).secrets
        links = Links("https://mail.example.com/x", secrets, 60, lambda: time.time() - 120, retain)
        return links.url("0123", Attachment("", "a/b", "", "attachment", "", b"x", 0, 1))

    def test_without_a_base_url_or_a_file_all_is_inline(self) -> None:
        octets = os.urandom(100_000)
        server = self.configured(self.text(more=""))
        self.send(server, self.mail(octets))
        [request] = self.receiver.wait(1)
        for attachment in json.loads(request.body)["attachments"]:
            self.assertTrue(attachment["content"])
        self.assertNotIn("links to attachments", server.output)
        self.assertFalse(Path(self.directory / "spool/links.secret").exists())
