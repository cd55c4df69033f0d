"""An HTTP/1.1 client for one URL: what treq stands on here.

It does what a webhook needs and no more: requests with a body of known length, answers that are
short, and connections that are kept.  Measured side by side with Twisted's pooled Agent, a request
of 10 KiB through treq costs 0.3 to 0.45 of the CPU.  ``tests/deliverers/webhook/test_client.py``
gives both the same answers and compares what they make of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IProducer,
    IProtocol,
    ISSLTransport,
    ISystemHandle,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.client import URI, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from mailsvc.deliverers.webhook.payload import Reactor
from mailsvc.deliverers.webhook.response import AnswerTooLong, BadAnswer, ResponseReader
from mailsvc.direct import DirectWriter

#: A body up to this many octets goes out in one write, its header included; a longer one is
#: produced as fast as the connection takes it.
_ONE_WRITE = 65_536
#: Octets of a longer one that the kernel holds unsent.  What it holds looks sent to us: megabytes
#: of it, on a slow line, would outlast the time that the answer has.
UNSENT = 131_072
#: Idle connections kept, and for how many seconds.
_IDLE_CONNECTIONS = 100
_IDLE_SECONDS = 55.0
#: Seconds that a peer has to agree to the end of a connection.
_CLOSE_SECONDS = 5.0
#: Fields that the client sets itself, and what would have an answer compressed.
_OWN_FIELDS = frozenset({b"host", b"connection", b"content-length", b"accept-encoding"})
#: How every body ends.
_DONE = Failure(ResponseDone())


class StaleConnection(Exception):
    """A kept connection was closed by the peer before it answered the next request."""


class WrongLength(Exception):
    """A body was not as long as its producer had said."""


@implementer(IResponse)
class Response:
    """A whole answer; :meth:`deliverBody` delivers at once what is there already."""

    request = None
    previousResponse = None  # noqa: N815

    def __init__(self, reader: ResponseReader) -> None:
        self.version = (b"HTTP", 1, 1)
        self.code = reader.status
        self.phrase = b""
        fields: dict[bytes, list[bytes]] = {}
        for name, value in reader.fields:
            # Without this field nothing above inflates: a small answer could become a large one.
            if name != b"content-encoding":
                fields.setdefault(name, []).append(value)
        self.headers = Headers(fields)
        self._body = bytes(reader.body)
        self.length = len(self._body)

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give the body to ``protocol``."""
        if self._body:
            protocol.dataReceived(self._body)
        protocol.connectionLost(_DONE)

    def setPreviousResponse(self, response: IResponse) -> None:
        """Refuse: no redirect is followed, so there is none."""
        raise NotImplementedError


@implementer(IConsumer, IHandshakeListener)
class Connection(Protocol):
    """A connection that carries one request after another, never two at once.

    :param kept: called when it can be used again.
    :param gone: called when it is lost.
    """

    transport: Any

    def __init__(
        self,
        reactor: Reactor,
        kept: Callable[[Connection], None],
        gone: Callable[[Connection], None],
    ) -> None:
        self._reactor = reactor
        self._kept = kept
        self._gone = gone
        self._output: DirectWriter | None = None
        self._reader: ResponseReader | None = None
        self._answer: Deferred[IResponse] | None = None
        self._upload: IBodyProducer | None = None
        self._registered = False
        self._head = b""
        self._owed = 0
        self._served = False
        self._closing: IDelayedCall | None = None
        self._agreed = False
        self._agreeing: Deferred[Connection] | None = None
        self._over = False
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Prepare for small requests."""
        self.transport.setTcpNoDelay(True)
        self._output = DirectWriter(self.transport)
        self._agreed = not ISSLTransport.providedBy(self.transport)

    def handshakeCompleted(self) -> None:
        """Note that TLS is agreed on, and the certificate is good."""
        self._agreed = True
        agreeing, self._agreeing = self._agreeing, None
        if agreeing is not None:
            agreeing.callback(self)

    def agreed(self) -> Connection | Deferred[Connection]:
        """Return the connection once it can carry a request: with TLS, after the handshake.

        Cancelling ends the connection.
        """
        if self._agreed:
            return self
        self._agreeing = Deferred(self._disagree)
        return self._agreeing

    def _disagree(self, _: object) -> None:
        self._agreeing = None
        self.transport.abortConnection()

    def request(
        self, head: bytes, body: IBodyProducer | None, *, bodiless: bool = False
    ) -> Deferred[IResponse]:
        """Send a request and return its answer.

        Cancelling ends the connection.

        :param head: the header with its empty line.
        :param body: produces octets of a known length.
        :param bodiless: the method is HEAD.
        """
        self._reader = ResponseReader(bodiless=bodiless)
        answer: Deferred[IResponse] = Deferred(lambda _: self._forsake())
        self._answer = answer
        self._head = head
        if body is None:
            self._owed = 0
            self.write(b"")
            return answer
        self._owed = body.length
        self._upload = body
        if body.length > _ONE_WRITE:
            self.registerProducer(body, True)
        body.startProducing(self).addCallbacks(self._uploaded, self._failed)
        return answer

    # What the body's producer calls.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let the transport pause the body."""
        assert self._output is not None, "a request follows connectionMade"
        self._output.by_transport()
        self._registered = True
        handle = _socket(self.transport)
        if handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Pause nothing any more."""
        if self._registered:
            self._registered = False
            self.transport.unregisterProducer()

    def write(self, data: bytes) -> None:
        """Send octets of the body; the first take the header with them."""
        assert self._output is not None, "a request follows connectionMade"
        self._owed -= len(data)
        if self._owed < 0:
            self._failed(Failure(WrongLength("the body is longer than was said")))
            return
        head, self._head = self._head, b""
        self._output.write(head + data if head else data)

    def _uploaded(self, _: object) -> None:
        self.unregisterProducer()
        self._upload = None
        if self._head:
            self.write(b"")  # an empty body whose producer wrote nothing
        if self._owed > 0:
            self._failed(Failure(WrongLength("the body is shorter than was said")))

    def _failed(self, failure: Failure) -> None:
        if self._answer is not None:
            self._fail(failure)

    # The answer.

    def dataReceived(self, data: bytes) -> None:
        """Read the answer; what comes unasked ends the connection."""
        reader = self._reader
        if reader is None:
            self.transport.abortConnection()
            return
        try:
            complete = reader.receive(data)
        except (AnswerTooLong, BadAnswer):
            self._fail(Failure())
            return
        if complete:
            self._finish(reader)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say what the end means for the answer."""
        self._over = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        reader = self._reader
        if reader is not None:
            closed = reason.check(ConnectionClosed)
            if closed and reader.end():
                self._finish(reader)
            elif closed and self._served and not reader.received:
                self._fail(Failure(StaleConnection()))
            else:
                self._fail(reason)
        agreeing, self._agreeing = self._agreeing, None
        if agreeing is not None:
            agreeing.errback(reason)
        self._gone(self)
        self.lost.callback(None)

    def _finish(self, reader: ResponseReader) -> None:
        answer = self._answer
        assert answer is not None, "what is read answers a request"
        # An answer that did not wait for the whole request leaves a connection that cannot be used.
        keep = reader.keep and self._upload is None
        self._release()
        self._served = True
        if keep:
            self._kept(self)
        else:
            self.close()
        answer.callback(Response(reader))

    def _fail(self, failure: Failure) -> None:
        answer = self._answer
        self._forsake()
        if answer is not None:
            answer.errback(failure)

    def _forsake(self) -> None:
        self._release()
        self.transport.abortConnection()

    def _release(self) -> None:
        """Forget the request; a body that is still on its way is stopped."""
        self._reader = self._answer = None
        self._head = b""
        upload, self._upload = self._upload, None
        self.unregisterProducer()
        if upload is not None:
            upload.stopProducing()

    def close(self) -> None:
        """Close; a peer that takes its time over TLS's farewell does not keep the socket."""
        if self._closing is None and not self._over:
            self._closing = self._reactor.callLater(_CLOSE_SECONDS, self.transport.abortConnection)
            self.transport.loseConnection()


def _socket(transport: Any) -> socket.socket | None:  # noqa: ANN401
    """Return the socket below a transport, with TLS or without."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        transport = transport.transport
    handle = transport.getHandle() if ISystemHandle.providedBy(transport) else None
    return handle if isinstance(handle, socket.socket) else None


class _Connections(Factory):
    noisy = False


@implementer(IAgent)
class Client:
    """Sends requests to one URL, whatever URL it is asked for, over connections that it keeps.

    It follows no redirect, knows no proxy and no cookies, and its answers are whole.

    :param endpoints: makes the connections.
    :param url: the URL's octets, complete and escaped.
    """

    def __init__(self, reactor: Reactor, endpoints: IAgentEndpointFactory, url: bytes) -> None:
        self._reactor = reactor
        self._endpoints = endpoints
        self._where = where = URI.fromBytes(url)
        self._target = b" %s HTTP/1.1\r\nHost: %s\r\n" % (where.originForm, where.netloc)
        #: The idle connections and when they became so; the one used last is used next.
        self._idle: dict[Connection, float] = {}
        self._sweeping: IDelayedCall | None = None
        self._closed = False
        self._factory = _Connections.forProtocol(
            partial(Connection, reactor, self._keep, self._forget)
        )

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send one request; see :class:`twisted.web.iweb.IAgent`.

        :return: fires with a whole answer, or fails with what the endpoint says,
            :class:`StaleConnection`, :class:`WrongLength`, what the body's producer says, or an
            error of :mod:`mailsvc.deliverers.webhook.response`.
        """
        lines = [method + self._target]
        if headers is not None:
            for name, values in headers.getAllRawHeaders():
                if name.lower() not in _OWN_FIELDS:
                    for value in values:
                        lines.append(b"%s: %s\r\n" % (name, value))
        if bodyProducer is not None:
            lines.append(b"Content-Length: %d\r\n" % bodyProducer.length)
        lines.append(b"\r\n")
        head = b"".join(lines)
        bodiless = method == b"HEAD"
        if self._idle:
            connection, _ = self._idle.popitem()
            return connection.request(head, bodyProducer, bodiless=bodiless)
        endpoint = self._endpoints.endpointForURI(self._where)
        connecting: Deferred[Any] = endpoint.connect(self._factory)
        connecting.addCallback(Connection.agreed)
        return connecting.addCallback(Connection.request, head, bodyProducer, bodiless=bodiless)

    def _keep(self, connection: Connection) -> None:
        if self._closed or len(self._idle) >= _IDLE_CONNECTIONS:
            connection.close()
            return
        self._idle[connection] = self._reactor.seconds()
        if self._sweeping is None:
            self._sweeping = self._reactor.callLater(_IDLE_SECONDS, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def _sweep(self) -> None:
        """Close what was idle for long, and come again for what will have been."""
        self._sweeping = None
        now = self._reactor.seconds()
        for connection, since in list(self._idle.items()):
            if now - since < _IDLE_SECONDS:
                self._sweeping = self._reactor.callLater(_IDLE_SECONDS + since - now, self._sweep)
                break
            del self._idle[connection]
            connection.close()

    async def close(self) -> None:
        """Close the connections that are idle, and later each one that becomes so."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        idle, self._idle = list(self._idle), {}
        for connection in idle:
            connection.close()
        await gatherResults([connection.lost for connection in idle])
