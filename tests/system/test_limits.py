"""Each limit as a client meets it, and what it costs the others: nothing."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Callable

from tests.system import configurations, mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, SystemTestCase
from tests.system.secure import PASSWORD, USER
from tests.system.test_wire import ENVELOPE, Wire

#: Clients of their own; loopback itself is exempt.
ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
GREETING = b"EHLO client.example\r\n"
MAIL = GREETING + ENVELOPE + b"DATA\r\n"


class LimitsTestCase(SystemTestCase):
    def client(self, port: int, source: str = "127.0.0.1") -> Wire:
        wire = Wire(port, source)
        self.addCleanup(wire.socket.close)
        return wire

    def asked(self, port: int, octets: bytes, source: str = "127.0.0.1") -> list[bytes]:
        """Return the lines that are answered until the server closes, or after QUIT."""
        wire = self.client(port, source)
        wire.send(octets + b"QUIT\r\n")
        return wire.rest().splitlines()

    def mail_goes_through(self, port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            client.sendmail("ann@sender.example", "bob@example.com", mails.simple())


class ReplyTests(LimitsTestCase):
    """Requirements 12, 17, 20 and 42: each limit has a reply of its own, and a key."""

    def test_what_a_message_and_a_connection_may_have(self) -> None:
        port = self.configured(
            configurations.maildir(
                self.directory,
                limits="""
                    message_size = "64 KiB"
                    header_size = "8 KiB"
                    recipients = 100
                    hops = 25
                    bad_commands = 3
                    refused_recipients = 4
                    messages = 2
                """,
            )
        ).port
        hop, end = b"Received: x\r\n", b"\r\nbody\r\n.\r\n"
        self.assertIn(b"250-LIMITS MAILMAX=2 RCPTMAX=100", self.asked(port, GREETING))
        for content, reply in (
            (b"A: b\r\n" + end, b"250 2.0.0 "),
            (hop * 25 + end, b"250 2.0.0 "),
            (hop * 26 + end, b"554 5.4.6 "),
            (b"A: " + b"x" * 8192 + b"\r\n" + end, b"552 5.3.4 Message header too large"),
            (b"A: b\r\n\r\n" + b"x" * 65_536 + end, b"552 5.3.4 Message larger than SIZE allows"),
        ):
            *_, answer, _ = self.asked(port, MAIL + content)
            self.assertTrue(answer.startswith(reply), answer)
        *_, answer, _ = self.asked(port, GREETING + b"MAIL FROM:<> SIZE=65537\r\n")
        self.assertTrue(answer.startswith(b"552 5.3.4 "), answer)
        recipients = [b"RCPT TO:<b%d@example.com>\r\n" % number for number in range(101)]
        answers = self.asked(port, GREETING + b"MAIL FROM:<>\r\n" + b"".join(recipients))
        self.assertEqual(
            [line[:9] for line in answers[-3:]], [b"250 2.1.5", b"452 4.5.3", b"221 2.0.0"]
        )
        wrong = self.asked(port, GREETING + b"WHAT\r\n" * 4 + b"NOOP\r\n")
        self.assertEqual([line[:9] for line in wrong[-4:]], [b"500 5.5.1"] * 3 + [b"421 4.7.0"])
        self.assertIn(b"Too many bad commands", wrong[-1])
        guesses = [b"RCPT TO:<b%d@elsewhere.example>\r\n" % number for number in range(5)]
        answers = self.asked(port, GREETING + b"MAIL FROM:<>\r\n" + b"".join(guesses))
        self.assertEqual([line[:9] for line in answers[-5:]], [b"550 5.7.1"] * 4 + [b"421 4.7.0"])
        self.assertIn(b"Too many refused recipients", answers[-1])
        third = self.asked(port, GREETING + b"MAIL FROM:<>\r\nRSET\r\n" * 3)
        self.assertTrue(third[-1].startswith(b"421 4.7.0 Too many messages"), third[-1])

    def test_what_an_address_may_take(self) -> None:
        """Of connections, of new ones in a time, and of commands; others, and exempt ones, more."""
        port = self.configured(
            configurations.maildir(
                self.directory,
                limits="""
                    connections_per_address = 2
                    connection_rate = "240/h"
                    command_rate = "6/min"
                    exempt = ["127.0.0.1", "127.0.0.4"]
                """,
            )
        ).port
        held = [self.client(port, ONE) for _ in range(2)]
        for wire in held:
            self.assertTrue(wire.until(b"\r\n").startswith(b"220 "))
        many = self.client(port, ONE).rest()
        self.assertTrue(many.startswith(b"421 4.7.0 Too many connections from your address"), many)
        # Four in a minute are four at once, and one more in each quarter.
        answers: list[bytes] = []
        while not answers or answers[-1].startswith(b"220 "):
            wire = self.client(port, TWO)
            wire.send(b"QUIT\r\n")
            answers.append(wire.rest())
        self.assertGreater(len(answers), 4)
        self.assertTrue(answers[-1].startswith(b"421 4.7.0 You connect too often"), answers)
        fast = self.client(port, "127.0.0.5")
        fast.send(b"NOOP\r\n" * 7)
        *_, last = fast.rest().splitlines()
        self.assertTrue(last.startswith(b"421 4.7.0 Too many commands"), last)
        for exempt in ("127.0.0.1", THREE):
            more = [self.client(port, exempt) for _ in range(6)]
            for wire in more:
                self.assertTrue(wire.until(b"\r\n").startswith(b"220 "))
            self.assertEqual(self.asked(port, b"NOOP\r\n" * 20, exempt)[-1][:3], b"221")
        self.mail_goes_through(port)

    def test_connections_in_all(self) -> None:
        port = self.configured(
            configurations.maildir(self.directory, limits="connections = 2")
        ).port
        for wire in (first := self.client(port), self.client(port)):
            self.assertTrue(wire.until(b"\r\n").startswith(b"220 "))
        more = self.client(port, ONE).rest()
        self.assertTrue(more.startswith(b"421 4.7.0 Too many connections, try"), more)
        first.send(b"QUIT\r\n")
        first.rest()
        self.mail_goes_through(port)

    def test_a_reload_changes_them(self) -> None:
        """What is open stays open and counts."""
        limits = 'exempt = ["127.0.0.1"]\nconnections_per_address = {}'
        running = self.configured(configurations.maildir(self.directory, limits=limits.format(9)))
        held = self.client(running.port, ONE)
        held.until(b"\r\n")
        text = configurations.maildir(self.directory, limits=limits.format(1))
        path = self.write("mailsvc.toml", text)
        self.mailsvc("reload", "--config", str(path))
        more = self.client(running.port, ONE).rest()
        self.assertTrue(more.startswith(b"421 4.7.0 Too many connections from your"), more)
        held.send(b"NOOP\r\n")
        self.assertTrue(held.until(b"\r\n").startswith(b"250 "))

    def test_who_talks_before_the_greeting(self) -> None:
        port = self.configured(
            configurations.maildir(
                self.directory,
                configurations.listener(more='greeting_delay = "1 s"'),
                limits='exempt = ["127.0.0.1"]',
            )
        ).port
        patient, early = self.client(port, ONE), self.client(port, ONE)
        early.send(GREETING)
        self.assertTrue(early.rest().startswith(b"554 5.5.1 You talked before the greeting"))
        self.assertTrue(patient.until(b"\r\n").startswith(b"220 "))
        self.assertEqual(self.asked(port, GREETING)[-1][:3], b"221")


class TimerTests(LimitsTestCase):
    """Requirement 41: who stalls is shed, in each state; who does not stall is not hurt."""

    def setUp(self) -> None:
        super().setUp()
        issued = authority(self.directory / "tls")
        self.trust = str(issued.trust)
        self.running = self.configured(
            configurations.maildir(
                self.directory,
                configurations.listener("mx", "starttls"),
                configurations.listener("mx", "implicit"),
                configurations.listener(more='proxy = ["127.0.0.2"]'),
                limits="\n".join(
                    f'{name}_timeout = "2 s"'
                    for name in ("command", "idle", "handshake", "auth", "write")
                )
                + '\ncontent_timeout = "3 s"',
            )
            + f'\n[tls]\ncertificates = "{issued.identity}"\n[auth]\ncheckers = ["memory:a:b"]\n',
            listeners=3,
        )
        self.mx, self.implicit, self.proxied = self.running.ports()

    def test_stalls(self) -> None:
        started = self.client(self.mx)
        started.send(GREETING + b"STARTTLS\r\n")
        started.until(b"Ready to start TLS\r\n")
        login = self.client(self.mx)
        login.send(GREETING + b"STARTTLS\r\n")
        login.until(b"Ready to start TLS\r\n")
        context = ssl.create_default_context(cafile=self.trust)
        login.socket = context.wrap_socket(login.socket, server_hostname="localhost")
        self.addCleanup(login.socket.close)
        login.send(GREETING + b"AUTH LOGIN\r\n")
        command, content = b"no whole command came", b"no more content came"
        told: list[tuple[Wire, bytes, bytes]] = [(login, b"", b"no response came")]
        for octets, late in (
            (b"", command),
            (b"EHLO client.exa", command),
            (b"x" * 5000, command),
            (GREETING + ENVELOPE, command),
            (MAIL + b"A: b\r\n", content),
            (GREETING + ENVELOPE + b"BDAT 9\r\nA: b", content),
            (GREETING + b"BDAT 9 LAST\r\nA: b", content),
        ):
            told.append((self.client(self.mx), octets, late))
        silent = [(started, b"\x16\x03\x01")]
        silent += [(self.client(self.implicit), octets) for octets in (b"", b"\x16\x03")]
        silent += [(self.client(self.proxied, ONE), octets) for octets in (b"", b"PROXY TCP4 ")]
        for wire, octets in [*((wire, octets) for wire, octets, _ in told), *silent]:
            wire.send(octets)
        self.mail_goes_through(self.mx)
        for wire, octets, late in told:
            last = wire.rest().splitlines()[-1]
            self.assertEqual(last, b"421 4.4.2 Timeout: %b, closing connection" % late, octets)
        for wire, octets in silent:
            self.assertEqual(ended(wire.rest), b"", octets)
        self.mail_goes_through(self.mx)
        self.in_maildir(2)

    def test_drips(self) -> None:
        """Octets that come one by one put neither a command off nor a whole content."""
        command, content = self.client(self.mx), self.client(self.mx)
        content.send(MAIL)
        content.until(b"<CRLF>.<CRLF>\r\n")
        late = {command: b"no whole command came", content: b"the message took too long"}
        answers = dict.fromkeys(late, b"")
        while late:
            for wire in list(late):
                wire.send(b"x")
                wire.socket.settimeout(0.05)
                try:
                    octets = wire.socket.recv(1000)
                except TimeoutError:
                    continue
                self.assertTrue(octets, answers[wire])
                answers[wire] += octets
                if b"421 4.4.2 Timeout: %b" % late[wire] in answers[wire]:
                    del late[wire]

    def test_who_does_not_read(self) -> None:
        """It is not read from any more, and then its connection is cut."""
        wire = self.client(self.mx)
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def flood() -> bytes:
            while True:
                wire.send(b"HELP\r\n" * 1000)

        self.assertEqual(ended(flood), b"")


class LoginFloodTests(LimitsTestCase):
    """Requirement 33: who tries many passwords at once keeps nobody else from logging in."""

    def test_from_one_address(self) -> None:
        issued = authority(self.directory / "tls")
        configuration = self.write(
            "mailsvc.toml",
            configurations.maildir(
                self.directory,
                configurations.listener("submission", "implicit"),
                limits='exempt = ["127.0.0.1"]',
            )
            + f'\n[tls]\ncertificates = "{issued.identity}"\n'
            + f'[auth]\nusers = "{self.directory}/users"\niterations = 100000\n'
            + 'address_free = 100\ndelay = "1 ms"\n',
        )
        self.mailsvc(
            *("passwd", "--config", str(configuration), "add", USER),
            stdin=f"{PASSWORD}\n{PASSWORD}\n",
        )
        running = self.server("--config", str(configuration)).start()
        context = ssl.create_default_context(cafile=str(issued.trust))

        def client(source: str) -> Wire:
            wire = self.client(running.port, source)
            wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
            self.addCleanup(wire.socket.close)
            wire.until(b"\r\n")
            wire.send(GREETING)
            wire.until(b"250 HELP\r\n")
            return wire

        def plain(user: str, password: str) -> bytes:
            words = base64.b64encode(f"\0{user}\0{password}".encode())
            return b"AUTH PLAIN %b\r\n" % words

        flood = [client(ONE) for _ in range(40)]
        other = client(TWO)
        for number, wire in enumerate(flood):
            wire.send(plain(f"user{number}", "guess"))
        self.assertEqual(flood[0].until(b"\r\n")[:10], b"535 5.7.8 ")
        other.send(plain(USER, PASSWORD))
        self.assertEqual(other.until(b"\r\n"), b"235 2.7.0 Authenticated\r\n")
        for wire in flood[1:]:
            self.assertEqual(wire.until(b"\r\n")[:10], b"535 5.7.8 ")


def ended(call: Callable[[], bytes]) -> bytes:
    """Return what a call returns; nothing where the server has cut the connection."""
    try:
        return call()
    except ConnectionError:
        return b""
