"""Flow control: whether octets are taken from a peer now (requirement 42), and how many at once.

Replies go to the socket at once (:mod:`mailsvc.direct`) until one is not taken whole.  From then on
they go by way of the transport, which tells its producer whether the peer reads them.
"""

from __future__ import annotations

from abc import abstractmethod
from socket import socket
from typing import Any

from twisted.internet.interfaces import IPushProducer, ITCPTransport, ITransport
from twisted.internet.protocol import connectionDone
from zope.interface import classImplements

from mailsvc.deadline import Deadlines
from mailsvc.direct import send, socket_of
from mailsvc.rules import Rules
from mailsvc.timing import Timed

#: Octets held while an answer is awaited, before the transport is paused.
_HELD = 65_536

#: So many octets at once are nearly what a transport usually reads (TLS takes some of them for
#: itself), and what one with much to read may come to.  A chunk costs 25 us whatever its size:
#: 25 MiB took a third less CPU in chunks of 512 KiB than in those of 64 KiB.
MUCH, _WIDEST = 49_152, 524_288


class Flow(Timed):
    """A connection that takes nothing from a peer which does not read.

    :ivar transport: what the octets come from; nobody else writes to it.
    """

    __slots__ = ("_commands", "_full", "_held", "_paused", "_socket", "transport")

    def __init__(self, rules: Rules, deadlines: Deadlines[Timed]) -> None:
        super().__init__(rules, deadlines)
        self.transport: Any = None
        #: Where replies go at once; None: by way of the transport.
        self._socket: socket | None = None
        #: The peer does not read its replies, so nothing more is taken from it.
        self._full = False
        self._commands = 0
        self._held = 0
        self._paused = False

    @property
    @abstractmethod
    def host(self) -> str:
        """The peer's IP address; empty for a Unix socket."""

    @abstractmethod
    def _proceed(self) -> None:
        """Go on: the peer has read."""

    @abstractmethod
    def connectionMade(self) -> None:
        """Begin: the transport is there."""

    def makeConnection(self, transport: ITransport) -> None:
        """Take the transport."""
        self.transport = transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self._socket = socket_of(transport)
        if self._socket is None:
            self.transport.registerProducer(self, True)
        else:
            # What Twisted logs of a connection begins with this; else it keeps a text for each.
            self.transport.logstr = self.host
            if self._rules.readers is not None:
                self._rules.readers.take(transport)
        self.connectionMade()

    def _send(self, octets: bytes) -> None:
        """Send ``octets`` after all that was sent before; there may be none."""
        if octets and self._socket is not None:
            octets = send(self._socket, octets)
            if octets:
                self._by_transport()
        if octets:
            self.transport.write(octets)

    def _by_transport(self) -> None:
        """Leave all writing to the transport from now on: it is to be waited for, or TLS begins."""
        if self._socket is not None:
            self._socket = None
            self.transport.registerProducer(self, True)

    def _lose(self) -> None:
        """Close, once the socket has taken what was sent; a peer has its time to read it."""
        if self._socket is None:
            self._await_reading()
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._run()
        else:
            # It has taken all, and a turn of the reactor to find that out would cost as much as the
            # rest of a connection's end: this is what the transport does then.
            self.transport.connectionLost(connectionDone)

    def pauseProducing(self) -> None:
        """The peer does not read its replies: take nothing more from it."""
        self._full = True
        self._pause()
        self._await_reading()

    def resumeProducing(self) -> None:
        """The peer has read its replies."""
        self._full = False
        self._has_read()
        self._proceed()

    def stopProducing(self) -> None:
        """The transport is gone, which the protocol is told."""

    def _too_fast(self, commands: int) -> bool:
        """Say whether a peer, which has sent so many commands, sends too many at a time."""
        may_command = self._rules.may_command
        if may_command is None or commands == self._commands:
            return False
        count, self._commands = commands - self._commands, commands
        return not may_command(self.host, count)

    def _hold(self, octets: int) -> None:
        """Count octets that came while an answer is awaited; many of them are enough."""
        self._held += octets
        if self._held > _HELD:
            self._pause()

    def _widen(self, octets: int) -> None:
        """Let the transport read more at once if its last read was nearly as much as it may.

        Nothing is held for that while nothing comes.

        :param octets: what it read.
        """
        size: int = getattr(self.transport, "bufferSize", _WIDEST)
        if size < _WIDEST and 4 * octets >= 3 * size:
            self.transport.bufferSize = 2 * size

    def _release(self) -> None:
        """Take octets again: what was held is answered."""
        self._held = 0
        if self._paused and not self._full:
            self._run()

    def _run(self) -> None:
        """Let the transport run: one that is paused does not notice that its peer has gone."""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()


classImplements(Flow, IPushProducer)
