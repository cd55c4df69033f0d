"""Requirements 48 and 49: where a real server does not go, whatever its configuration says."""

from __future__ import annotations

import smtplib

from tests.system import configurations, mails
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.receiver import Receiver

#: Ways to write this machine, its network and its cloud, and the word that says why not.
HOSTS = {
    "name": ("localhost", "loopback"),
    "dotted": ("127.0.0.1", "loopback"),
    "short": ("127.1", "loopback"),
    "decimal": ("2130706433", "loopback"),
    "octal": ("0177.0.0.1", "loopback"),
    "hexadecimal": ("0x7f000001", "loopback"),
    "nothing": ("0.0.0.0", "unspecified"),
    "six": ("[::1]", "loopback"),
    "mapped": ("[::ffff:127.0.0.1]", "IPv4 address in IPv6 form"),
    "compatible": ("[::127.0.0.1]", "IPv4 address in IPv6 form"),
    "nat64": ("[64:ff9b::7f00:1]", "NAT64"),
    "sixtofour": ("[2002:7f00:1::1]", "6to4"),
    "metadata": ("169.254.169.254", "metadata"),
    "alibaba": ("100.100.100.200", "metadata"),
    "ours": ("10.0.0.1", "private"),
}


class EgressTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        self.port = self.receiver.url.rpartition(":")[2]

    def destination(self, name: str, host: str, more: str = "") -> str:
        return f"""
[destination.{name}]
kind = "webhook"
url = "http://{host}:{self.port}"
{more}

[[route]]
to = "{name}@inside.test"
deliver = "{name}"
"""

    def send(self, port: int, *names: str) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            for name in names:
                client.sendmail("ann@example.org", [f"{name}@inside.test"], mails.simple())

    def test_addresses(self) -> None:
        """Requirement 48: every notation ends at the guard, which looks at what is dialled."""
        text = configurations.maildir(self.directory)
        text += "".join(self.destination(name, host) for name, (host, _) in HOSTS.items())
        # What is open for one destination is open for no other, and metadata for none by this.
        text += self.destination("open", "127.0.0.1", "allow_private = true")
        text += self.destination("cloud", "169.254.169.254", "allow_private = true")
        server = self.configured(text)
        self.send(server.port, *HOSTS, "cloud", "open")
        for name, (_, why) in {**HOSTS, "cloud": ("", "metadata")}.items():
            server.wait_for(
                rf"deferred .* destination={name} .*"
                rf"(the address is not allowed: .*{why}|the host's name does not resolve)"
            )
        self.assertEqual(len(self.receiver.wait(1)), 1)

    def test_redirects(self) -> None:
        """Requirement 49: an answer that leads elsewhere is a failure."""
        self.receiver.location = self.receiver.url + "/elsewhere"
        self.receiver.answer = lambda request: 307
        text = configurations.maildir(self.directory)
        server = self.configured(text + self.destination("open", "127.0.0.1", "allow_private=true"))
        self.send(server.port, "open")
        server.wait_for(r"deferred .* destination=open .*the answer was 307")
        self.assertEqual(len(self.receiver.requests), 1)
