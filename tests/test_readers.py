"""One reader for all sockets: what each connection is told is what the reactor would tell it."""

from __future__ import annotations

import socket
import struct
from typing import Any, cast

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsvc.readers import Readers


@implementer(IHalfCloseableProtocol)
class Told(Protocol):
    """Notes what it is told.

    :ivar broken: raised by what is told next.
    """

    def __init__(self, name: str, told: list[tuple[str, object]]) -> None:
        self.name = name
        self.told = told
        self.broken: Exception | None = None

    def dataReceived(self, data: bytes) -> None:
        self.told.append((self.name, data))
        if self.broken is not None:
            raise self.broken

    def readConnectionLost(self) -> None:
        self.told.append((self.name, "half"))

    def writeConnectionLost(self) -> None:
        raise AssertionError("nobody asked for it")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.told.append((self.name, reason.type))


class ReadersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.readers = Readers(self.reactor)
        self.addCleanup(lambda: self.readers.connectionLost(Failure(ConnectionAborted())))
        self.told: list[tuple[str, object]] = []

    def connection(self, name: str, family: int = socket.AF_UNIX) -> tuple[Any, socket.socket]:
        """Return a transport that is read for, and its peer's socket."""
        if family == socket.AF_UNIX:
            ours, theirs = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                theirs = socket.create_connection(server.getsockname())
                ours, _ = server.accept()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        protocol = Told(name, self.told)
        transport = Connection(ours, cast(Any, protocol), cast(Any, self.reactor))
        transport.connected = 1
        transport.startReading()
        protocol.makeConnection(cast(Any, transport))
        self.readers.take(transport)
        return transport, theirs

    def test_the_reactor_has_one_reader(self) -> None:
        self.assertEqual(self.readers.fileno(), -1)
        self.connection("a")
        self.connection("b")
        self.assertEqual(self.reactor.getReaders(), [self.readers])
        self.assertTrue(verifyObject(IReadDescriptor, self.readers))
        self.assertGreater(self.readers.fileno(), 0)

    def test_all_that_have_octets_are_read(self) -> None:
        peers = [self.connection(name)[1] for name in "abc"]
        peers[0].send(b"one")
        peers[2].send(b"two")
        self.readers.doRead()
        self.assertEqual(sorted(self.told, key=str), [("a", b"one"), ("c", b"two")])
        self.readers.doRead()
        self.assertEqual(len(self.told), 2)

    def test_no_more_than_the_transport_takes_at_once(self) -> None:
        transport, peer = self.connection("a")
        transport.bufferSize = 3
        peer.send(b"12345")
        self.readers.doRead()
        self.readers.doRead()
        self.assertEqual(self.told, [("a", b"123"), ("a", b"45")])

    def test_one_that_is_paused_is_left_alone(self) -> None:
        transport, peer = self.connection("a")
        transport.pauseProducing()
        transport.pauseProducing()
        peer.send(b"x")
        self.readers.doRead()
        self.assertEqual(self.told, [])
        transport.resumeProducing()
        transport.resumeProducing()
        self.readers.doRead()
        self.assertEqual(self.told, [("a", b"x")])

    def test_a_peer_that_will_send_no_more(self) -> None:
        transport, peer = self.connection("a")
        peer.shutdown(socket.SHUT_WR)
        self.readers.doRead()
        self.readers.doRead()
        self.assertEqual(self.told, [("a", "half")])
        transport.connectionLost(connectionDone)
        self.assertEqual(self.told[1:], [("a", ConnectionDone)])

    def test_a_connection_that_is_reset(self) -> None:
        _, peer = self.connection("a", socket.AF_INET)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        self.readers.doRead()
        self.assertEqual(self.told, [("a", ConnectionLost)])

    def test_what_a_protocol_raises_ends_its_connection_alone(self) -> None:
        transport, peer = self.connection("a")
        transport.protocol.broken = ZeroDivisionError("oops")
        _, other = self.connection("b")
        peer.send(b"x")
        other.send(b"y")
        self.readers.doRead()
        self.reactor.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(
            sorted(self.told, key=str), [("a", ZeroDivisionError), ("a", b"x"), ("b", b"y")]
        )

    def test_aborted(self) -> None:
        """The transport ends itself in the reactor's next turn, and its number is free then."""
        transport, peer = self.connection("a")
        transport.abortConnection()
        peer.send(b"x")
        self.readers.doRead()
        self.reactor.advance(0)
        self.assertEqual(self.told, [("a", ConnectionAborted)])
        for name in "bc":
            self.connection(name)[1].send(b"y")
        self.readers.doRead()
        self.assertEqual(sorted(self.told[1:], key=str), [("b", b"y"), ("c", b"y")])

    def test_one_that_another_ends_is_not_read(self) -> None:
        pairs = [self.connection(name) for name in "ab"]
        for mine, other in ((0, 1), (1, 0)):
            protocol = pairs[mine][0].protocol
            protocol.dataReceived = lambda data, each=pairs[other][0]: each.connectionLost(
                connectionDone
            )
            pairs[mine][1].send(b"x")
        self.readers.doRead()
        self.assertEqual([what for _, what in self.told], [ConnectionDone])

    def test_the_reactor_stops(self) -> None:
        for name in "ab":
            self.connection(name)
        self.readers.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(sorted(self.told), [("a", ConnectionLost), ("b", ConnectionLost)])
        self.assertEqual(self.readers.fileno(), -1)
