"""A real HAProxy in front: it says who the client is, and mailsvc believes nobody else."""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
from contextlib import ExitStack

import pytest

from tests.system import configurations, mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, SystemTestCase, until

MAIL = mails.simple("through a load balancer")
ENVELOPE = ("ann@sender.example", "bob@example.com")
PROXY = 'proxy = ["127.0.0.1"]'


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class ProxiedTests(SystemTestCase):
    """Behind HAProxy, with both versions of the header."""

    def setUp(self) -> None:
        super().setUp()
        issued = authority(self.directory / "tls")
        self.trust = str(issued.trust)
        text = configurations.maildir(
            self.directory,
            configurations.listener("mx", "starttls", PROXY),
            configurations.listener("mx", "implicit", PROXY),
            # The clients come from 127.0.0.2: only the proxy is spared the limits.
            limits='exempt = ["127.0.0.1"]\nconnections_per_address = 1\nhandshake_timeout = "1 s"',
        )
        text += f'\n[tls]\ncertificates = "{issued.identity}"\n'
        self.running = self.configured(text, listeners=2)

    def haproxy(self, word: str) -> tuple[int, int]:
        """Start HAProxy in front of both listeners; return its ports."""
        ports = free_port(), free_port()
        fronts = "".join(
            f"listen port{front}\n  bind 127.0.0.1:{front}\n"
            f"  server mailsvc 127.0.0.1:{back} {word}\n"
            for front, back in zip(ports, self.running.ports(), strict=True)
        )
        configuration = self.write(
            "haproxy.cfg",
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n"
            f"  timeout server 60s\n{fronts}",
        )
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(configuration)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(process.wait, DEADLINE)
        self.addCleanup(process.terminate)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", ports[1])) == 0

        until(listens, "HAProxy")
        return ports

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.trust)

    def through(self, word: str) -> None:
        """Hand mail in through STARTTLS and implicit TLS as 127.0.0.2."""
        starttls, implicit = self.haproxy(word)
        source = ("127.0.0.2", 0)
        with smtplib.SMTP("localhost", starttls, timeout=DEADLINE, source_address=source) as client:
            client.starttls(context=self.context())
            client.sendmail(*ENVELOPE, MAIL)
            # The limit of one connection is the client's: it has one, another client has none.
            second = smtplib.SMTP(timeout=DEADLINE, source_address=source)
            self.assertEqual(second.connect("localhost", starttls)[0], 421)
            second.close()
            other = smtplib.SMTP(timeout=DEADLINE, source_address=("127.0.0.3", 0))
            self.assertEqual(other.connect("localhost", starttls)[0], 220)
            other.close()
        with smtplib.SMTP_SSL(
            "localhost",
            implicit,
            timeout=DEADLINE,
            source_address=("127.0.0.4", 0),
            context=self.context(),
        ) as client:
            client.sendmail(*ENVELOPE, MAIL)
        first, second_mail = sorted(self.in_maildir(2), key=lambda mail: b"127.0.0.4" in mail)
        self.assertIn(b"[127.0.0.2]", first)
        self.assertIn(b"[127.0.0.4]", second_mail)
        for mail in (first, second_mail):
            self.assertIn(b" with ESMTPS", mail)
            self.assertEqual(mails.without_trace(mail), MAIL.replace(b"\r\n", b"\n"))

    @pytest.mark.needs("haproxy")
    def test_version_1(self) -> None:
        """Requirements 26 and 42: TLS and the limits by address, behind ``send-proxy``."""
        self.through("send-proxy")

    @pytest.mark.needs("haproxy")
    def test_version_2(self) -> None:
        """The same behind ``send-proxy-v2``."""
        self.through("send-proxy-v2")

    def test_without_haproxy(self) -> None:
        """A proxy without a header, and one that keeps silent, are closed; a stranger is not."""
        port = self.running.port
        for sent, reason in ((b"EHLO x\r\n", "is missing"), (b"PROXY", "did not come in time")):
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
                connection.sendall(sent)
                try:
                    self.assertEqual(connection.recv(1000), b"")
                except ConnectionResetError:
                    pass
            self.running.wait_for(f"closed proxy=127.0.0.1: its PROXY header {reason}")
        with ExitStack() as stack:
            stranger = socket.create_connection(("127.0.0.1", port), DEADLINE, ("127.0.0.5", 0))
            stack.enter_context(stranger)
            lines = stack.enter_context(stranger.makefile("rb"))
            self.assertTrue(lines.readline().startswith(b"220 "))
            stranger.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n")
            self.assertTrue(lines.readline().startswith(b"500 "))
