"""What a start says."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.announcement import Listening, announcement
from mailsvc.config import read
from mailsvc.deliverers.plugins import installed
from mailsvc.quickstart import quick
from mailsvc.routing import Router
from mailsvc.settings import Listener
from mailsvc.units import Networks

TEXT = """\
hostname = "mx.example.com"
[[listener]]
endpoint = "tcp:25"
[destination.app]
kind = "discard"
[[route]]
to = "PATTERN"
deliver = "app"
"""


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

    def test_no_line_to_try_where_a_header_is_demanded(self) -> None:
        """A listener that wants a PROXY header from this machine is not one to try."""
        for network, tried in (("127.0.0.0/8", 0), ("10.0.0.0/8", 1)):
            listener = Listener("tcp:25", proxy=Networks([ip_network(network)]))
            lines = self.lines(Listening(listener, IPv4Address("TCP", "0.0.0.0", 25)))
            self.assertEqual(len([line for line in lines if line.startswith("try:")]), tried)

    def test_the_line_to_try_is_for_an_address_that_a_route_takes(self) -> None:
        at = Listening(Listener("tcp:25"), IPv4Address("TCP", "127.0.0.1", 25))
        for pattern, recipients in (
            ("*", ["you@mx.example.com"]),
            ("*@example.com", ["you@example.com"]),
            ("example.org", ["you@example.org"]),
            ("ann@example.org", ["ann@example.org"]),
            ("ann+*@example.org", []),
        ):
            settings = read(TEXT.replace("PATTERN", pattern), "m.toml", installed().kinds)
            lines = announcement(settings, Router(settings.rules, settings.hostname), [at])
            tried = [line.rpartition(" ")[2] for line in lines if line.startswith("try:")]
            self.assertEqual(tried, recipients, pattern)

    def test_secrets_of_a_url(self) -> None:
        """Requirement 52: what follows a URL's question mark may be a secret, and is not logged."""
        (line,) = [
            line
            for line in self.lines(webhook="http://127.0.0.1:3000/inbound?token=hush")
            if line.startswith("mail for any")
        ]
        self.assertIn("http://127.0.0.1:3000/inbound", line)
        self.assertNotIn("hush", line)
