"""Who may connect: limits over all clients and by address, and what slow clients take."""

from __future__ import annotations

import gc
import tracemalloc
from ipaddress import ip_network
from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.certificates import CertificateStore
from mailsvc.composition import admission_limits
from mailsvc.config import read
from mailsvc.deliverers.plugins import installed
from mailsvc.errors import ConfigError
from mailsvc.events import CommandRefused
from mailsvc.listener import (
    TOO_MANY,
    TOO_MANY_OF_ONE,
    TOO_OFTEN,
    Admission,
    AdmissionLimits,
)
from mailsvc.rules import Timers
from mailsvc.smtp.policy import Policy
from mailsvc.units import Networks
from tests.issuer import Issuer
from tests.reception import Reception
from tests.test_proxied import Listening

ONE, TWO = "198.51.100.7", "198.51.100.8"


def address(host: str) -> IPv4Address:
    return IPv4Address("TCP", host, 4711)


class AdmissionTests(SynchronousTestCase):
    """Requirement 42: connections and commands are bounded, in all and by address."""

    def setUp(self) -> None:
        self.clock = Clock()

    def admission(self, limits: AdmissionLimits, *exempt: str) -> Admission:
        networks = Networks(ip_network(each) for each in exempt)
        return Admission(limits, self.clock.seconds, networks.cover)

    def test_in_all(self) -> None:
        """The number over all addresses holds for those that are exempt, too."""
        admission = self.admission(AdmissionLimits(connections=2), ONE)
        self.assertEqual([admission.enter(host) for host in (ONE, "", TWO)], [None, None, TOO_MANY])
        admission.leave("")
        self.assertIsNone(admission.enter(TWO))
        self.assertEqual(admission.open, 2)

    def test_by_address(self) -> None:
        """One address has its number; an IPv6 network of /64 is one address."""
        for same, other in (
            ((ONE, f"::ffff:{ONE}"), TWO),
            (("2001:db8::1", "2001:db8::ffff:2"), "2001:db8:0:1::1"),
        ):
            admission = self.admission(AdmissionLimits(per_address=1))
            self.assertEqual([admission.enter(host) for host in same], [None, TOO_MANY_OF_ONE])
            self.assertIsNone(admission.enter(other))
            admission.leave(same[0])
            self.assertIsNone(admission.enter(same[1]))

    def test_exempt(self) -> None:
        """Exempt networks and Unix sockets have no limits by address."""
        limits = AdmissionLimits(per_address=1, connection_rate=0.001)
        admission = self.admission(limits, "198.51.100.0/24")
        for host in (ONE, ""):
            self.assertEqual([admission.enter(host) for _ in range(5)], [None] * 5)

    def test_connection_rate(self) -> None:
        """A burst of a minute is free; then it is the rate, and another address has its own."""
        admission = self.admission(AdmissionLimits(per_address=1000, connection_rate=0.5))
        answers = [admission.enter(ONE) for _ in range(32)]
        self.assertEqual(answers, [None] * 30 + [TOO_OFTEN] * 2)
        self.assertIsNone(admission.enter(TWO))
        # What was turned away does not count: who comes too often gets the rate, not nothing.
        answers = []
        for _ in range(20):
            self.clock.advance(1)
            answers.append(admission.enter(ONE))
        self.assertEqual(answers, [TOO_OFTEN, None] * 10)

    def test_command_rate(self) -> None:
        admission = self.admission(AdmissionLimits(command_rate=0.5))
        self.assertTrue(admission.may_command(ONE, 30))
        self.assertFalse(admission.may_command(ONE, 1))
        self.assertTrue(admission.may_command(TWO, 1))
        self.clock.advance(10)
        self.assertTrue(admission.may_command(ONE, 1))

    def test_no_rates(self) -> None:
        """None is no limit."""
        admission = self.admission(AdmissionLimits(per_address=10_000))
        self.assertEqual({admission.enter(ONE) for _ in range(5000)}, {None})
        self.assertTrue(admission.may_command(ONE, 10**9))

    def test_change(self) -> None:
        """A reload counts on with what is open, whoever was exempt before."""
        admission = self.admission(AdmissionLimits(per_address=1), ONE)
        admission.enter(ONE)
        admission.enter(TWO)
        admission.change(AdmissionLimits(per_address=1), lambda host: False)
        self.assertEqual(admission.enter(TWO), TOO_MANY_OF_ONE)
        admission.leave(ONE)
        self.assertEqual(admission.open, 1)
        self.assertIsNone(admission.enter(ONE))
        self.assertEqual(admission.enter(ONE), TOO_MANY_OF_ONE)


class TurnedAwayTests(SynchronousTestCase):
    """Requirement 42: each limit has its own reply and leaves a line in the log."""

    def test_replies(self) -> None:
        for limits, text in (
            (AdmissionLimits(connections=1), b"421 4.7.0 Too many connections, try"),
            (AdmissionLimits(per_address=1), b"421 4.7.0 Too many connections from your address"),
            (AdmissionLimits(connection_rate=0.01), b"421 4.7.0 You connect too often, try again"),
        ):
            listening = Listening(limits=limits)
            first = listening.connect(address(ONE))
            second = listening.connect(address(ONE), b"EHLO x\r\n")
            self.assertTrue(first.value().startswith(b"220 "))
            self.assertTrue(second.value().startswith(text), second.value())
            self.assertEqual(second.value().count(b"\r\n"), 1)
            self.assertTrue(second.disconnecting)
            (refused,) = (each for each in listening.events if isinstance(each, CommandRefused))
            self.assertEqual((refused.client, refused.command), (ONE, "connection"))

    def test_too_fast(self) -> None:
        """Too many commands end the connection with their own reply; exempt ones go on."""
        limits = AdmissionLimits(command_rate=0.1)
        for exempt, ended in (("127.0.0.0/8", True), ("198.51.100.0/24", False)):
            listening = Listening(limits=limits, exempt=exempt)
            transport = listening.connect(address(ONE), *[b"NOOP\r\n"] * 7)
            self.assertEqual(b"\r\n421 4.7.0 Too many commands" in transport.value(), ended)
            self.assertEqual(transport.disconnecting, ended)

    def test_unix_socket(self) -> None:
        """A peer on a Unix socket is nobody's address."""
        listening = Listening(limits=AdmissionLimits(per_address=1, command_rate=0.01))
        for _ in range(3):
            transport = listening.connect(UNIXAddress(None), b"NOOP\r\n" * 9)
            self.assertEqual(transport.value().count(b"\r\n250 "), 9)


class AddressTests(SynchronousTestCase):
    """Requirement 19: a client's address is told as an address literal can hold it."""

    def test_mapped_and_zoned(self) -> None:
        """On a socket for both, IPv4 comes as IPv6; a link-local address comes with its zone."""
        for peer, plain in (
            (f"::ffff:{ONE}", ONE),
            ("fe80::1%eth0", "fe80::1"),
            ("2001:DB8:0::7", "2001:db8::7"),
        ):
            listening = Listening()
            transport = listening.connect(IPv6Address("TCP", peer, 1))
            self.assertEqual(listening.client(transport), plain)


class SwitchedOffTests(SynchronousTestCase):
    """Rates can be switched off in a configuration."""

    def admission(self, limits: str) -> AdmissionLimits:
        text = (
            f'hostname = "mx.example.com"\nspool = "{self.mktemp()}"\n'
            '[[listener]]\nendpoint = "tcp:25"\n'
            '[destination.app]\nkind = "discard"\n'
            '[[route]]\nto = "*"\ndeliver = "app"\n'
            f"[limits]\n{limits}\n"
        )
        settings = read(text, "m.toml", installed().kinds)
        return admission_limits(settings.limits)

    def test_rates(self) -> None:
        """0 is no limit, as for the other limits; without the key there is one."""
        default = self.admission("")
        self.assertEqual((default.connection_rate, default.command_rate), (5.0, 1000.0))
        off = self.admission("connection_rate = 0\ncommand_rate = 0")
        self.assertEqual((off.connection_rate, off.command_rate), (None, None))
        some = self.admission('connection_rate = "30/min"\ncommand_rate = 0')
        self.assertEqual((some.connection_rate, some.command_rate), (0.5, None))

    def test_what_is_no_rate(self) -> None:
        error = self.assertRaises(ConfigError, self.admission, "command_rate = 5")
        self.assertIn("command_rate: not a rate", str(error))
        self.assertIn("write 0 for no limit", str(error))


class HandshakeTests(SynchronousTestCase):
    """Requirements 28 and 41: a TLS handshake that stalls ends by its own timer."""

    def test_implicit(self) -> None:
        """Octets that are no handshake yet do not put it off."""
        path = Path(self.mktemp()) / "mx.pem"
        issued = Issuer().issue("mx.example.com").write(path)
        listening = Listening(tls=CertificateStore(issued, hostname="mx.example.com").options())
        transport = listening.connect(address(ONE), b"\x16")
        listening.clock.advance(29)
        transport.receive(b"\x03")
        self.assertFalse(transport.disconnecting or transport.disconnected)
        listening.clock.advance(1)
        self.assertTrue(transport.disconnected)
        self.assertEqual(transport.value(), b"")

    def test_a_stop_does_not_wait_for_it(self) -> None:
        path = Path(self.mktemp()) / "mx.pem"
        issued = Issuer().issue("mx.example.com").write(path)
        listening = Listening(tls=CertificateStore(issued, hostname="mx.example.com").options())
        transport = listening.connect(address(ONE), b"\x16")
        listening.factory.stop()
        self.assertTrue(transport.disconnected)
        self.assertEqual(transport.value(), b"")

    def test_starttls(self) -> None:
        """The same behind the 220 of STARTTLS; the timer of a command is not asked."""

        class Starting(StringTransport):
            started = False

            def startTLS(self, context: object) -> None:
                self.started = True

        transport = Starting()
        reception = Reception(
            policy=Policy("mx.example.com", starttls=True),
            timers=Timers(handshake=30, command=300),
            transport=transport,
        )
        self.assertEqual(reception.codes("EHLO x.example", "STARTTLS")[-1:], ["220"])
        self.assertTrue(transport.started)
        # Nobody is there any more, until it is known who is there under TLS.
        self.assertEqual(reception.intake.authentication.realm.present, {})
        self.assertFalse(transport.disconnected)
        reception.clock.advance(29)
        self.assertFalse(transport.disconnected)
        reception.clock.advance(1)
        self.assertTrue(transport.disconnected)
        self.assertEqual(reception.read(), [])


class Mute:
    """A transport that nobody listens at, shared by many connections."""

    def write(self, data: bytes) -> None:
        pass

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass


class IdleTests(SynchronousTestCase):
    """Requirement 42: connections are many, so one that only waits is small."""

    def test_memory(self) -> None:
        """After EHLO, and after a mail: three objects, a time and a place among the deadlines."""
        mail = (
            b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
            b"Subject: hello\r\n\r\nIt works.\r\n.\r\n",
        )
        for pieces in ((b"EHLO x.example\r\n",), (b"EHLO x.example\r\n", *mail)):
            listening = Listening(limits=AdmissionLimits(per_address=10_000))
            octets = self.octets_each(listening, pieces)
            self.assertLess(octets, 720)

    def octets_each(self, listening: Listening, pieces: tuple[bytes, ...]) -> float:
        """Return the memory of one of many connections that sent ``pieces``, without transports."""
        host, transport, octets = address(ONE), Mute(), [0, 0]
        kept = []
        tracemalloc.start()
        try:
            for number in range(2):
                for _ in range(500):
                    protocol = listening.factory.buildProtocol(host)
                    protocol.makeConnection(transport)
                    for piece in pieces:
                        protocol.dataReceived(piece)
                    kept.append(protocol)
                listening.events.clear()
                listening.spool.messages.clear()
                gc.collect()
                octets[number] = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        return (octets[1] - octets[0]) / 500


class SlowTests(SynchronousTestCase):
    """Requirements 41 and 42: slow clients are shed, and cost nobody else anything."""

    def test_slow_clients(self) -> None:
        """Clients that drip octets end with their timer, while another hands mail in."""
        listening = Listening(limits=AdmissionLimits(connections=301, per_address=3))
        slow = [
            listening.connect(address(f"203.0.113.{number}"), b"EHLO slow.example\r\n")
            for number in range(100)
            for _ in range(3)
        ]
        more = listening.connect(address("203.0.113.1"))
        self.assertTrue(more.value().startswith(b"421 "))
        for octet in b"MAIL FROM":
            listening.clock.advance(30)
            for each in slow:
                each.receive(bytes([octet]))
        good = listening.connect(
            address(ONE),
            b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
            b"Subject: hello\r\n\r\nIt works.\r\n.\r\n",
        )
        self.assertIn(b"\r\n250 2.0.0 OK ", good.value())
        listening.clock.advance(30)
        for each in slow:
            self.assertIn(b"421 4.4.2 Timeout", each.value())
            self.assertTrue(each.disconnecting)
            each.lose()
        self.assertFalse(good.disconnecting)
        self.assertEqual(listening.admission.open, 1)
        again = listening.connect(IPv6Address("TCP", "2001:db8::1", 1))
        self.assertTrue(again.value().startswith(b"220 "))
