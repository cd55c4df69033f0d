"""The same octets in the same order, whether they go to the socket or by way of the transport."""

from __future__ import annotations

import socket

from twisted.internet.interfaces import ISystemHandle
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsvc.direct import DirectWriter


@implementer(ISystemHandle)
class OnSocket(StringTransport):
    """A transport with a socket; what it is given itself is kept apart."""

    handle: object = None

    def getHandle(self) -> object:
        return self.handle


def on(handle: object) -> OnSocket:
    """Return a transport on ``handle``."""
    transport = OnSocket()
    transport.handle = handle
    return transport


class DirectWriterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.transport = on(self.ours)

    def arrived(self) -> bytes:
        octets = b""
        try:
            while piece := self.theirs.recv(1_048_576):
                octets += piece
        except BlockingIOError:
            pass
        return octets

    def test_small_replies_go_to_the_socket(self) -> None:
        writer = DirectWriter(self.transport)
        for reply in (b"250 OK\r\n", b"354 Go\r\n"):
            writer.write(reply)
        self.assertEqual(self.arrived(), b"250 OK\r\n354 Go\r\n")
        self.assertEqual(self.transport.value(), b"")

    def test_the_same_as_by_the_transport_alone(self) -> None:
        """The plain twin: every octet once and in order, however much the socket takes."""
        pieces = [bytes([number]) * size for number, size in enumerate((9, 70_000, 900_000, 5, 0))]
        pieces += [b"last " * 200_000, b"."]
        plain = StringTransport()
        writer = DirectWriter(self.transport)
        for piece in pieces:
            plain.write(piece)
            writer.write(piece)
        sent = self.arrived()
        self.assertTrue(sent)
        self.assertTrue(self.transport.value())
        self.assertEqual(sent + self.transport.value(), plain.value())

    def test_nothing_overtakes_what_the_transport_holds(self) -> None:
        """A socket that has room again is not written to while older octets may wait."""
        writer = DirectWriter(self.transport)
        writer.write(b"x" * 4_000_000)
        self.arrived()
        writer.write(b"later")
        self.assertEqual(self.arrived(), b"")
        self.assertTrue(self.transport.value().endswith(b"xlater"))

    def test_a_closed_socket_is_the_transport_s_to_notice(self) -> None:
        writer = DirectWriter(self.transport)
        self.ours.close()
        writer.write(b"250 OK\r\n")
        self.assertEqual(self.transport.value(), b"250 OK\r\n")

    def test_by_transport(self) -> None:
        writer = DirectWriter(self.transport)
        writer.by_transport()
        writer.write(b"250 OK\r\n")
        self.assertEqual((self.arrived(), self.transport.value()), (b"", b"250 OK\r\n"))

    def test_a_transport_without_a_plain_socket(self) -> None:
        for transport in (StringTransport(), on(object())):
            DirectWriter(transport).write(b"250 OK\r\n")
            self.assertEqual(transport.value(), b"250 OK\r\n")
