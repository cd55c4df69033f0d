"""A connection from a load balancer: its PROXY header first, then the protocol of the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from mailsvc.deadline import Deadlines
from mailsvc.events import Emit, HeaderRefused
from mailsvc.proxyheader import ProxyHeader, read_header


class ProxiedProtocol(Protocol):
    """Reads the header, and gives the transport to the protocol that is made for the client.

    Nothing is answered to a header that is wrong: who sends it is a proxy, not a client of SMTP.

    :param peer: the proxy's IP address; empty for a Unix socket.
    :param seconds: how long the header may take.
    :param build: makes the protocol for the address that the header names, or for None, the
        peer's own; None from it closes the connection.
    :param deadlines: those of all connections that wait for their header; it is one of them for as
        long as it waits.
    :param gone: called once, when the header was read or the connection has ended without one.
    """

    def __init__(
        self,
        peer: str,
        clock: IReactorTime,
        seconds: float,
        emit: Emit,
        *,
        build: Callable[[str | None], IProtocol | None],
        deadlines: Deadlines[ProxiedProtocol],
        gone: Callable[[ProxiedProtocol], None],
    ) -> None:
        self._peer = peer
        self._clock = clock
        self._seconds = seconds
        self._emit = emit
        self._build = build
        self._gone = gone
        self._octets = b""
        self._ended = False
        self._deadlines = deadlines
        deadlines.set(self)

    def connectionMade(self) -> None:
        """Wait for the header."""
        self._deadlines.set(self, self._clock.seconds() + self._seconds)

    def dataReceived(self, data: bytes) -> None:
        """Take octets until the header is whole."""
        if self._ended:
            return
        self._octets += data
        try:
            header = read_header(self._octets)
        except ValueError as error:
            self._refuse(str(error))
            return
        if header is not None:
            self._hand_over(header)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say so if there was half a header; a proxy that looks whether we are here sends none."""
        if not self._ended:
            if self._octets:
                self._emit(HeaderRefused(self._peer or "local", "is not whole"))
            self._end()

    def stop(self) -> None:
        """End the connection: nothing has been begun."""
        self._end()
        transport: Any = self.transport
        transport.abortConnection()

    def _hand_over(self, header: ProxyHeader) -> None:
        self._end()
        transport: Any = self.transport
        protocol = self._build(header.host)
        if protocol is None:
            transport.loseConnection()
            return
        # As STARTTLS does it: from here on the transport knows nothing of this object.
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if header.rest:
            protocol.dataReceived(header.rest)

    def overdue(self) -> None:
        """End what has not become a whole header."""
        self._refuse("did not come in time")

    def _refuse(self, reason: str) -> None:
        self._emit(HeaderRefused(self._peer or "local", reason))
        self._end()
        transport: Any = self.transport
        transport.abortConnection()

    def _end(self) -> None:
        self._ended = True
        self._octets = b""
        self._deadlines.remove(self)
        self._gone(self)
