"""HTTP for a few readers: one request a connection, and each step of it bounded in time.

The request has to be complete in :data:`REQUEST_SECONDS`; a reader has to take 64 KiB of the
answer, and what is left at its end, in :data:`READ_SECONDS`.  Bodies of requests are not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from typing_extensions import override
from zope.interface import implementer

#: Connections at most; one more is closed at once.
CONNECTIONS = 100
REQUEST_SECONDS = 30.0
READ_SECONDS = 60.0
#: Octets of a request's body that are read and ignored.
_BODY = 65_536

#: Twisted has no types for these.
_CHANNEL: Any = HTTPChannel
_REQUEST: Any = Request
_SITE: Any = Site


def cut_off(request: Request) -> None:
    """End a request's connection now, unless it has ended."""
    channel: Any = request.channel
    if channel is not None:
        channel.abort()


@implementer(IPushProducer)
class Flow:
    """Says when the connection takes more; a reader that is too slow is cut off.

    :param slow: called when it took too long.
    """

    def __init__(self, clock: Any, slow: Callable[[], object]) -> None:  # noqa: ANN401
        self._clock = clock
        self._slow = slow
        self._waiting: Deferred[None] | None = None
        self._paused = False

    def pauseProducing(self) -> None:
        """Wait with more."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Nothing: the request hears that its connection is lost."""

    async def ready(self) -> None:
        """Wait until more can be written."""
        if self._paused:
            waiting: Deferred[None] = Deferred()
            self._waiting = waiting
            timer = self._clock.callLater(READ_SECONDS, self._slow)
            try:
                await waiting
            finally:
                self._waiting = None
                if timer.active():
                    timer.cancel()


class BoundedRequest(Request):
    """A request whose body is not kept."""

    _ignored = 0

    @override
    def gotLength(self, length: int | None) -> None:
        """Expect nothing to keep."""
        _REQUEST.gotLength(self, 0)

    @override
    def handleContentChunk(self, data: bytes) -> None:
        """Forget the octets; whoever sends many is cut off."""
        self._ignored += len(data)
        if self._ignored > _BODY:
            cut_off(self)


class BoundedChannel(HTTPChannel):
    """One request a connection, each step of it bounded in time."""

    site: BoundedSite
    _limit: IDelayedCall | None = None

    @override
    def connectionMade(self) -> None:
        """Expect a request."""
        _CHANNEL.connectionMade(self)
        self.site.channels.add(self)
        self._limited(REQUEST_SECONDS)

    @override
    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Say that the connection ends with the answer."""
        return False

    @override
    def allContentReceived(self) -> None:
        """Answer; the answer has bounds of its own."""
        self._limited(None)
        _CHANNEL.allContentReceived(self)

    @override
    def requestDone(self, request: Request) -> None:
        """Expect the reader to take the rest."""
        self._limited(READ_SECONDS)
        _CHANNEL.requestDone(self, request)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection."""
        self._limited(None)
        self.site.channels.discard(self)
        _CHANNEL.connectionLost(self, reason)

    def abort(self) -> None:
        """End the connection now."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _limited(self, seconds: float | None) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        clock = self.site.reactor
        self._limit = None if seconds is None else clock.callLater(seconds, self.abort)


class BoundedSite(Site):
    """The factory of the endpoint.

    :ivar channels: the connections.
    """

    protocol: Any = BoundedChannel

    def __init__(self, page: Resource, clock: Any) -> None:  # noqa: ANN401
        Site.__init__(self, page, requestFactory=BoundedRequest, timeout=None, reactor=clock)
        self.channels: set[BoundedChannel] = set()

    @override
    def startFactory(self) -> None:
        """Do nothing: there is no log of requests, since whoever reads a link can follow it."""

    @override
    def stopFactory(self) -> None:
        """Do nothing."""

    @override
    def log(self, request: object) -> None:
        """Do nothing; see :meth:`startFactory`."""

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a connection, unless there are as many as there may be."""
        return _SITE.buildProtocol(self, addr) if len(self.channels) < CONNECTIONS else None

    def abort(self) -> None:
        """End every connection now."""
        for channel in tuple(self.channels):
            channel.abort()
