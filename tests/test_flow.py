"""What a connection takes from its transport and gives it; the transport is Twisted's own."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsvc import flow
from mailsvc.deadline import Deadlines
from mailsvc.flow import Flow
from tests.reception import Reception

#: Why these cannot run with a mailsvc that was compiled; tests/test_protocol.py can.
_COMPILED = None if flow.__file__.endswith(".py") else "a compiled class has no interpreted heirs"


class Simple(Flow):
    """A connection that only counts how often it goes on."""

    __slots__ = ("gone_on", "lost")

    host = "192.0.2.7"

    def __init__(self) -> None:
        reception = Reception()
        super().__init__(reception.rules, Deadlines(reception.clock))
        self.gone_on = 0
        self.lost = 0

    def connectionMade(self) -> None:
        """Nothing is said of its own."""

    def connectionLost(self, reason: Failure) -> None:
        reason.trap(ConnectionDone)
        self.lost += 1

    def overdue(self) -> None:
        raise AssertionError("nothing is waited for")

    def _proceed(self) -> None:
        self.gone_on += 1


class Transport(Connection):
    """A connection on a pair of sockets, which take no option of TCP."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class OnSocketTests(SynchronousTestCase):
    """Replies go to the socket; the transport has a part in it only when one does not fit."""

    skip = _COMPILED

    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.theirs.close)
        self.theirs.setblocking(False)
        self.reactor = MemoryReactor()
        self.flow = Simple()
        self.transport = Transport(ours, cast(Any, self.flow), cast(Any, self.reactor))
        self.transport.connected = 1
        self.transport.startReading()
        self.flow.makeConnection(cast(Any, self.transport))

    def arrived(self) -> bytes:
        octets = b""
        try:
            while piece := self.theirs.recv(1_048_576):
                octets += piece
        except BlockingIOError:
            pass
        return octets

    def test_small_replies(self) -> None:
        """No producer, no writing by the reactor."""
        for reply in (b"220 x\r\n", b"", b"250 x\r\n"):
            self.flow._send(reply)
        self.assertEqual(self.arrived(), b"220 x\r\n250 x\r\n")
        self.assertIsNone(self.transport.producer)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_a_peer_that_does_not_read(self) -> None:
        """It is not read from until it has read; then all has come, in order."""
        replies = [b"250 %07d\r\n" % number for number in range(100_000)]
        self.flow._send(b"".join(replies[:99_999]))
        self.flow._send(replies[-1])
        self.assertEqual((self.reactor.getReaders(), self.flow.gone_on), ([], 0))
        octets = b""
        while self.transport in self.reactor.getWriters():
            octets += self.arrived()
            self.transport.doWrite()
        self.assertEqual(octets + self.arrived(), b"".join(replies))
        self.assertEqual(self.flow.gone_on, 1)
        self.flow._release()
        self.assertEqual(self.reactor.getReaders(), [self.transport])

    def test_close_at_once(self) -> None:
        """What the socket has taken needs no turn of the reactor; nothing is left in it."""
        self.flow._send(b"221 x\r\n")
        self.flow._lose()
        self.assertEqual((self.theirs.recv(99), self.theirs.recv(99)), (b"221 x\r\n", b""))
        self.assertEqual(self.flow.lost, 1)
        self.assertEqual((self.reactor.getReaders(), self.reactor.getWriters()), ([], []))
        self.transport.abortConnection()
        self.assertEqual(self.flow.lost, 1)

    def test_close_waits_for_what_was_sent(self) -> None:
        self.flow._send(b"x" * 4_000_000)
        self.flow._lose()
        octets, done = self.arrived(), None
        while done is None:
            done = self.transport.doWrite()
            octets += self.arrived()
        self.assertEqual(octets, b"x" * 4_000_000)

    def test_logged_by_the_peer(self) -> None:
        """Lines of Twisted about the connection begin with the peer's address."""
        self.assertEqual(self.transport.logPrefix(), "192.0.2.7")


class ByTransportTests(SynchronousTestCase):
    skip = _COMPILED

    def test_without_a_socket(self) -> None:
        """As under TLS: the transport has all replies, and a producer from the start."""
        simple, transport = Simple(), StringTransport()
        simple.makeConnection(cast(Any, transport))
        self.assertIs(transport.producer, simple)
        simple._send(b"220 x\r\n")
        self.assertEqual(transport.value(), b"220 x\r\n")
        simple._lose()
        self.assertEqual((transport.producer, transport.disconnecting), (None, True))
