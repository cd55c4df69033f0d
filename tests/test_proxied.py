"""Connections from load balancers: whose PROXY header is believed, and who is the client then."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.certificates import CertificateStore
from mailsvc.events import CommandRefused, Event, HeaderRefused
from mailsvc.listener import Admission, AdmissionLimits, SMTPFactory
from mailsvc.rules import Timers
from mailsvc.units import Networks
from tests.issuer import Issuer
from tests.reception import Reception

PROXY = IPv4Address("TCP", "10.0.0.1", 4711)
STRANGER = IPv4Address("TCP", "203.0.113.9", 4711)
HEADER = b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25\r\n"
#: LOCAL: the proxy asks for itself.
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)


class Transport(StringTransport):
    """Delivers to its ``protocol``, which may be replaced, as a socket's transport does."""

    protocol: Any

    def setTcpNoDelay(self, enabled: bool) -> None:
        """TLS asks what it wraps."""

    def receive(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Listening:
    """A listener with ``proxy = [...]`` on a fake clock.

    :ivar events: what was logged.
    """

    def __init__(
        self,
        *networks: str,
        limits: AdmissionLimits | None = None,
        exempt: str = "127.0.0.0/8",
        greeting_delay: float = 0,
        tls: object = None,
    ) -> None:
        reception = Reception(timers=Timers(handshake=30, command=300))
        # Only what is behind its connection is wanted here.
        reception.protocol.connectionLost(Failure(ConnectionDone()))
        self.clock = reception.clock
        self.spool = reception.spool
        self.events: list[Event] = reception.events
        self.admission = Admission(
            limits or AdmissionLimits(),
            self.clock.seconds,
            Networks([ip_network(exempt)]).cover,
        )
        rules = replace(
            reception.rules,
            proxies=Networks(ip_network(each) for each in networks or ("10.0.0.0/8",)),
            greeting_delay=greeting_delay,
            may_command=self.admission.may_command,
            tls=tls,
        )
        self.factory = SMTPFactory(
            rules, self.admission, self.events.append, implicit=tls is not None
        )

    def connect(self, address: IAddress, *pieces: bytes) -> Transport:
        """Connect from an address and send octets, piece by piece."""
        transport = Transport()
        transport.protocol = self.factory.buildProtocol(address)
        transport.protocol.makeConnection(transport)
        for piece in pieces:
            transport.receive(piece)
        return transport

    def client(self, transport: Transport) -> str:
        """Return the client that a refused command is logged for."""
        transport.receive(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@else.example>\r\n")
        (refused,) = (each for each in self.events if isinstance(each, CommandRefused))
        self.events.clear()
        return refused.client

    def refused(self) -> list[HeaderRefused]:
        """Return why connections were closed."""
        return [each for each in self.events if isinstance(each, HeaderRefused)]


class BeliefTests(SynchronousTestCase):
    """The header is read from the peers that ``proxy`` names, and believed from nobody else."""

    def test_client_of_a_proxy(self) -> None:
        """The client is who the header names; nothing is said before it has come."""
        listening = Listening()
        transport = listening.connect(PROXY)
        self.assertEqual(transport.value(), b"")
        transport.receive(HEADER)
        self.assertTrue(transport.value().startswith(b"220 "))
        self.assertEqual(listening.client(transport), "198.51.100.7")

    def test_proxy_itself(self) -> None:
        """A header without an address is about the proxy's own connection."""
        for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
            listening = Listening()
            self.assertEqual(listening.client(listening.connect(PROXY, header)), "10.0.0.1")

    def test_client_on_a_socket_for_both(self) -> None:
        """A proxy that listens on IPv6 for IPv4, too, names a client of IPv4 in its form."""
        listening = Listening()
        header = HEADER.replace(b"TCP4 198", b"TCP6 ::ffff:198").replace(b" 192", b" ::ffff:192")
        self.assertEqual(listening.client(listening.connect(PROXY, header)), "198.51.100.7")

    def test_cut_at_every_octet(self) -> None:
        """Requirement 2: segments change nothing, and what is behind the header is not lost."""
        whole = HEADER + b"NOOP\r\n"
        for cut in range(len(whole) + 1):
            transport = Listening().connect(PROXY, *filter(None, (whole[:cut], whole[cut:])))
            self.assertEqual(
                [line[:3] for line in transport.value().splitlines()], [b"220", b"250"], cut
            )
        single = Listening().connect(PROXY, *(bytes([octet]) for octet in whole))
        self.assertEqual(single.value(), transport.value())

    def test_stranger(self) -> None:
        """Anybody else is an ordinary client, and a header of theirs is a wrong command."""
        listening = Listening()
        transport = listening.connect(STRANGER)
        self.assertTrue(transport.value().startswith(b"220 "))
        transport.clear()
        transport.receive(HEADER)
        self.assertTrue(transport.value().startswith(b"500 "), transport.value())
        self.assertEqual(listening.client(transport), "203.0.113.9")
        self.assertEqual(listening.refused(), [])

    def test_peers(self) -> None:
        """The real peer decides; a Unix socket's is where loopback is."""
        for network, peer, waits in (
            ("10.0.0.0/8", IPv6Address("TCP", "::ffff:10.0.0.1", 1), True),
            ("10.0.0.0/8", IPv6Address("TCP", "2001:db8::1", 1), False),
            ("2001:db8::/32", IPv6Address("TCP", "2001:db8::1", 1), True),
            ("127.0.0.1/32", UNIXAddress(None), True),
            ("::1/128", UNIXAddress(None), True),
            ("10.0.0.0/8", UNIXAddress(None), False),
        ):
            transport = Listening(network).connect(peer)
            self.assertEqual(transport.value() == b"", waits, (network, peer))
            if waits:
                transport.receive(HEADER)
                self.assertTrue(transport.value().startswith(b"220 "))

    def test_no_proxies(self) -> None:
        """Without the key nobody's header is read."""
        listening = Listening()
        listening.factory.rules = replace(listening.factory.rules, proxies=Networks())
        self.assertTrue(listening.connect(PROXY).value().startswith(b"220 "))


class RefusalTests(SynchronousTestCase):
    """A proxy that sends no header is closed without a word, with one line in the log."""

    def closed(self, listening: Listening, transport: Transport, reason: str) -> None:
        self.assertEqual(transport.value(), b"")
        self.assertTrue(transport.disconnecting or transport.disconnected)
        transport.receive(b"EHLO x\r\n" + HEADER)
        transport.lose()
        self.assertEqual(transport.value(), b"")
        self.assertEqual(listening.refused(), [HeaderRefused("10.0.0.1", reason)])
        self.assertEqual(len(listening.events), 1)
        self.assertEqual(listening.admission.open, 0)
        self.assertEqual(listening.clock.getDelayedCalls(), [])

    def test_wrong(self) -> None:
        for octets, reason in (
            (b"EHLO x\r\n", "is missing"),
            (b"PROXY TCP4 x y 1 2\r\n", "is malformed"),
            (b"PROXY " + b"x" * 200, "is too long"),
        ):
            listening = Listening()
            self.closed(listening, listening.connect(PROXY, octets), reason)

    def test_late(self) -> None:
        """Octet by octet gives no more time."""
        listening = Listening()
        transport = listening.connect(PROXY)
        for octet in HEADER[:10]:
            listening.clock.advance(2.9)
            transport.receive(bytes([octet]))
        self.assertEqual(listening.refused(), [])
        listening.clock.advance(1.1)
        self.closed(listening, transport, "did not come in time")

    def test_half(self) -> None:
        """A header that ends in the middle is no header."""
        listening = Listening()
        transport = listening.connect(PROXY, HEADER[:-1])
        transport.lose()
        self.assertEqual(listening.refused(), [HeaderRefused("10.0.0.1", "is not whole")])
        self.assertEqual(listening.admission.open, 0)

    def test_look_from_outside(self) -> None:
        """A connection that is closed again without an octet is a check of the proxy's."""
        listening = Listening()
        listening.connect(PROXY).lose()
        self.assertEqual(listening.events, [])
        self.assertEqual(listening.admission.open, 0)
        self.assertEqual(listening.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A stop does not wait for headers."""
        listening = Listening()
        transport = listening.connect(PROXY, HEADER[:5])
        self.successResultOf(listening.factory.stop())
        self.assertTrue(transport.disconnected)
        transport.lose()
        self.assertEqual(listening.events, [])
        self.assertEqual(listening.admission.open, 0)


class LimitTests(SynchronousTestCase):
    """Requirement 42: the limits that go by address count for the client, not for the proxy."""

    def named(self, host: str) -> bytes:
        return b"PROXY TCP4 %s 192.0.2.1 12345 25\r\n" % host.encode()

    def test_connections_of_an_address(self) -> None:
        """One client has its own number, and another is not kept out by it."""
        listening = Listening(limits=AdmissionLimits(per_address=2))
        first, *_ = [listening.connect(PROXY, self.named("198.51.100.7")) for _ in range(2)]
        third = listening.connect(PROXY, self.named("198.51.100.7"))
        self.assertTrue(third.value().startswith(b"421 4.7.0 "))
        self.assertTrue(third.disconnecting)
        other = listening.connect(PROXY, self.named("198.51.100.8"))
        self.assertTrue(other.value().startswith(b"220 "))
        third.lose()
        self.assertEqual(listening.admission.open, 3)
        first.lose()
        again = listening.connect(PROXY, self.named("198.51.100.7"))
        self.assertTrue(again.value().startswith(b"220 "))

    def test_connections_in_all(self) -> None:
        """Those that wait for their header are connections, too."""
        listening = Listening(limits=AdmissionLimits(connections=2))
        waiting = listening.connect(PROXY)
        listening.connect(PROXY, HEADER)
        self.assertTrue(listening.connect(PROXY).value().startswith(b"421 4.7.0 "))
        waiting.receive(HEADER)
        self.assertTrue(waiting.value().startswith(b"220 "))

    def test_exempt_client(self) -> None:
        """Exempt is who the header names; a proxy that is exempt lends that to nobody."""
        limits = AdmissionLimits(per_address=1)
        for exempt, spared in (("198.51.100.0/24", True), ("10.0.0.0/8", False)):
            listening = Listening(limits=limits, exempt=exempt, greeting_delay=5)
            transports = [listening.connect(PROXY, HEADER) for _ in range(2)]
            greeted = [each.value().startswith(b"220 ") for each in transports]
            self.assertEqual(greeted, [spared, spared])

    def test_commands(self) -> None:
        """A client that commands too fast is told so; another is not."""
        listening = Listening(limits=AdmissionLimits(command_rate=0.1))
        fast = listening.connect(PROXY, HEADER, b"NOOP\r\n" * 7)
        self.assertIn(b"421 4.7.0 Too many commands", fast.value())
        slow = listening.connect(PROXY, self.named("198.51.100.8"), b"NOOP\r\n")
        self.assertNotIn(b"421", slow.value())

    def test_early_talker(self) -> None:
        """What comes behind the header within the greeting delay is early."""
        listening = Listening(greeting_delay=5)
        early = listening.connect(PROXY, HEADER + b"EHLO x\r\n")
        self.assertTrue(early.value().startswith(b"554 5.5.1 "))
        patient = listening.connect(PROXY, HEADER)
        self.assertEqual(patient.value(), b"")
        listening.clock.advance(5)
        self.assertTrue(patient.value().startswith(b"220 "))


class TLSTests(SynchronousTestCase):
    """Implicit TLS begins behind the header, which comes in the clear."""

    def setUp(self) -> None:
        path = Path(self.mktemp()) / "mx.pem"
        store = CertificateStore(
            Issuer().issue("mx.example.com").write(path), hostname="mx.example.com"
        )
        self.options = store.options()
        self.client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.client.set_connect_state()
        self.assertRaises(SSL.WantReadError, self.client.do_handshake)
        self.hello = self.client.bio_read(65_536)

    def shake(self, listening: Listening, transport: Transport) -> bytes:
        """Finish the handshake and return what the client reads then."""
        for _ in range(3):
            answer: bytes = transport.value()
            transport.clear()
            self.client.bio_write(answer)
            try:
                self.client.do_handshake()
                break
            except SSL.WantReadError:
                transport.receive(self.client.bio_read(65_536))
        transport.receive(self.client.bio_read(65_536))
        # Twisted gathers small writes before it encrypts them.
        listening.clock.advance(0)
        self.client.bio_write(transport.value())
        read: bytes = self.client.recv(65_536)
        return read

    def test_hello_behind_the_header(self) -> None:
        """The handshake may come in the same segment."""
        listening = Listening(tls=self.options)
        transport = listening.connect(PROXY, HEADER + self.hello)
        self.assertTrue(self.shake(listening, transport).startswith(b"220 "))

    def test_hello_without_a_header(self) -> None:
        listening = Listening(tls=self.options)
        transport = listening.connect(PROXY, self.hello)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(listening.refused(), [HeaderRefused("10.0.0.1", "is missing")])

    def test_turned_away(self) -> None:
        """Before the handshake nothing can be said: the connection is closed."""
        listening = Listening(tls=self.options, limits=AdmissionLimits(per_address=1))
        listening.connect(PROXY, HEADER)
        second = listening.connect(PROXY, HEADER)
        self.assertTrue(second.disconnecting)
        self.assertEqual(second.value(), b"")
        second.lose()
        self.assertEqual(listening.admission.open, 1)
