"""What a start says."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.announcement import Listening, announcement
from mailsvc.deliverers.plugins import installed
from mailsvc.quickstart import quick
from mailsvc.routing import Router
from mailsvc.settings import Listener


class AnnouncementTests(SynchronousTestCase):
    def lines(self, *listening: Listening, **options: str) -> list[str]:
        settings = quick(installed().kinds, **options)
        return list(announcement(settings, Router(settings.rules, settings.hostname), listening))

    def test_listeners(self) -> None:
        """Each with its address and what it is; the line to try is for the first that fits."""
        lines = self.lines(
            Listening(Listener("unix:/run/mail", role="lmtp"), UNIXAddress("/run/mail")),
            Listening(Listener("tcp:465", tls="implicit"), IPv6Address("TCP", "::", 465)),
            Listening(Listener("tcp:25", tls="starttls"), IPv4Address("TCP", "0.0.0.0", 25)),
        )
        self.assertEqual(
            lines[:3],
            [
                "listening on /run/mail (lmtp, no TLS)",
                "listening on [::]:465 (mx, TLS)",
                "listening on 0.0.0.0:25 (mx, STARTTLS)",
            ],
        )
        self.assertIn("smtps://[::1]:465 ", lines[-1])

    def test_no_line_to_try(self) -> None:
        """Where no listener takes mail without more ado."""
        lines = self.lines(Listening(Listener("unix:/run/mail"), UNIXAddress("/run/mail")))
        self.assertFalse([line for line in lines if line.startswith("try:")])

    def test_secrets_of_a_url(self) -> None:
        """Requirement 52: what follows a URL's question mark may be a secret, and is not logged."""
        (line,) = [
            line
            for line in self.lines(webhook="http://127.0.0.1:3000/inbound?token=hush")
            if line.startswith("mail for any")
        ]
        self.assertIn("http://127.0.0.1:3000/inbound", line)
        self.assertNotIn("hush", line)
