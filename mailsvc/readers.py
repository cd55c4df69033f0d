"""Reads from the sockets of all connections by way of one reader of the reactor.

The reactor goes through six functions for each socket that can be read, and notes in a context
whose turn it is: 17,000 instructions for a command of which the session takes 5,000.  Here the
reactor has one reader, a poller of our own that knows the sockets.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

_log = Logger(namespace="mailsvc")
_LOST = Failure(CONNECTION_LOST)


class Readers:
    """What the transports of connections have for their reactor.

    :param reactor: reads from this, and does all that is not reading.
    """

    def __init__(self, reactor: Any) -> None:  # noqa: ANN401
        self._reactor = reactor
        self.addWriter: Callable[[Any], None] = reactor.addWriter
        self.removeWriter: Callable[[Any], None] = reactor.removeWriter
        self.callLater: Callable[..., Any] = reactor.callLater
        #: Made for the first connection.
        self._poller: select.epoll | None = None
        self._transports: dict[int, Any] = {}

    def take(self, transport: Any) -> None:  # noqa: ANN401
        """Read for a transport of TCP, or of a Unix socket, from now on."""
        transport.stopReading()
        transport.reactor = self
        transport.startReading()

    def addReader(self, transport: Any) -> None:  # noqa: ANN401
        """Have a transport's octets read."""
        if self._poller is None:
            self._poller = select.epoll()
            self._reactor.addReader(self)
        handle: int = transport.fileno()
        if handle not in self._transports:
            self._poller.register(handle, select.EPOLLIN)
            self._transports[handle] = transport

    def removeReader(self, transport: Any) -> None:  # noqa: ANN401
        """Have a transport's octets left where they are."""
        handle: int = transport.fileno()
        if self._poller is not None and self._transports.get(handle) is transport:
            del self._transports[handle]
            self._poller.unregister(handle)

    # What the reactor asks of a reader.

    def fileno(self) -> int:
        """Return the poller's number."""
        return -1 if self._poller is None else self._poller.fileno()

    def logPrefix(self) -> str:
        """Return what Twisted logs before what goes wrong here."""
        return "mailsvc"

    def doRead(self) -> None:
        """Read from all sockets that have octets."""
        assert self._poller is not None, "only a poller has the reactor read"
        for handle, _ in self._poller.poll(0):
            transport = self._transports.get(handle)
            if transport is None:
                # One before it has ended it.
                continue
            try:
                self._read(transport)
            except Exception:
                failure = Failure()
                _log.failure("reading from a connection", failure)
                transport.stopReading()
                self.callLater(0, transport.connectionLost, failure)

    def _read(self, transport: Any) -> None:  # noqa: ANN401
        """Do what the reactor and ``transport.doRead`` do."""
        try:
            data = transport.socket.recv(transport.bufferSize)
        except BlockingIOError:
            return
        except OSError:
            transport.connectionLost(_LOST)
            return
        if data:
            transport.protocol.dataReceived(data)
        else:
            transport.stopReading()
            transport.readConnectionLost(connectionDone)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, and all connections with it."""
        for transport in tuple(self._transports.values()):
            transport.connectionLost(reason)
        if self._poller is not None:
            self._poller.close()
            self._poller = None


classImplements(Readers, IReadDescriptor)
