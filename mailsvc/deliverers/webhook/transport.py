"""Posts requests to one URL and returns what was answered: the only module that speaks HTTP.

What lies beneath is Twisted's pooled Agent under treq.  Nothing above knows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from hyperlink import EncodedURL
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from mailsvc.deliverers.webhook.answers import Answer
from mailsvc.deliverers.webhook.egress import EgressRefused
from mailsvc.deliverers.webhook.payload import Reactor
from mailsvc.deliverers.webhook.upload import Body, Upload, Watch
from mailsvc.errors import SpoolError, TransientFailure
from mailsvc.events import printable

#: Octets of an answer, its header included.
ANSWER_LIMIT = 65_536
#: Idle connections kept to the destination, and for how many seconds.
_IDLE_CONNECTIONS = 100
_IDLE_SECONDS = 55.0
#: Seconds that a peer has to agree to the end of a connection.
_CLOSE_SECONDS = 5.0

#: treq is given this URL and :class:`_Target` knows the real one, since treq's parser takes no IPv6
#: literal.
_PLACEHOLDER = EncodedURL.from_text("http://destination.invalid/")


class AnswerTooLong(Exception):
    """The answer exceeds :data:`ANSWER_LIMIT`."""


class StaleConnection(Exception):
    """A kept connection was closed by the peer before it answered the next request."""


class _Bounded(ProtocolWrapper):
    """Between an HTTP client and its connection: bounds each answer, and tells stale connections.

    Requests are not pipelined, so what arrives after a write belongs to the request written.
    """

    transport: Any
    factory: Any

    def __init__(
        self, reactor: Reactor, factory: WrappingFactory[_Bounded], protocol: IProtocol
    ) -> None:
        super().__init__(factory, protocol)
        self._reactor = reactor
        self._received = 0
        self._answered = False
        self._too_long = False
        self._closing: IDelayedCall | None = None

    def write(self, data: bytes) -> None:
        self._request()
        self.transport.write(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:
        self._request()
        self.transport.writeSequence(data)

    def _request(self) -> None:
        if self._received:
            self._answered = True
            self._received = 0

    def loseConnection(self) -> None:
        self.disconnecting = 1
        self.transport.loseConnection()
        if self._closing is None:
            # A peer that takes its time over TLS's farewell would keep the socket for ever.
            self._closing = self._reactor.callLater(_CLOSE_SECONDS, self.transport.abortConnection)

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > ANSWER_LIMIT:
            self._too_long = True
            self.transport.abortConnection()
        else:
            self.wrappedProtocol.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if self._too_long:
            reason = Failure(AnswerTooLong())
        elif self._answered and not self._received and reason.check(ConnectionClosed):
            reason = Failure(StaleConnection())
        self.factory.unregisterProtocol(self)
        self.wrappedProtocol.connectionLost(reason)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """Connects through another endpoint and bounds what arrives."""

    def __init__(self, endpoint: IStreamClientEndpoint, reactor: Reactor) -> None:
        self._endpoint = endpoint
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        wrapping: Any = WrappingFactory
        wrapped: Any = protocolFactory
        factory = wrapping(wrapped)
        factory.protocol = partial(_Bounded, self._reactor)
        factory.noisy = wrapped.noisy = False
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return connected.addCallback(lambda bounded: bounded.wrappedProtocol)


@implementer(IAgentEndpointFactory)
class _BoundedEndpoints:
    """Bounds every connection of an Agent."""

    def __init__(self, endpoints: IAgentEndpointFactory, reactor: Reactor) -> None:
        self._endpoints = endpoints
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return _BoundedEndpoint(self._endpoints.endpointForURI(uri), self._reactor)


@implementer(IAgent)
class _Target:
    """An agent bound to one URL, which undoes what treq would add."""

    def __init__(self, agent: IAgent, url: bytes) -> None:
        self._agent = agent
        self._url = url

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        exact = Headers() if headers is None else headers.copy()
        # treq asks for gzip and would inflate it: a small answer could become a large one.
        exact.removeHeader(b"accept-encoding")
        answer: Deferred[IResponse] = self._agent.request(method, self._url, exact, bodyProducer)
        return answer.addCallback(_as_sent)


def _as_sent(response: IResponse) -> IResponse:
    response.headers.removeHeader(b"content-encoding")
    return response


class _Collector(Protocol):
    """Collects an answer's body; its length is bounded where it comes from."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.finished: Deferred[bytes] = Deferred(self._abandon)

    def _abandon(self, finished: Deferred[bytes]) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished.called:
            return
        # An HTTP/1.0 answer without a length ends with its connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.finished.callback(b"".join(self._chunks))
        else:
            self.finished.errback(reason)


class Transport:
    """Posts to one URL, over connections of its own.

    Connections are never shared between destinations: each has its own guard and trust.

    :param agent: sends requests; see :func:`pooled_agent`.
    :param url: the URL's octets, complete and escaped.
    """

    def __init__(self, reactor: Reactor, agent: IAgent, url: bytes) -> None:
        self._reactor = reactor
        self._client = HTTPClient(
            _Target(agent, url), IndexableCookieJar(DefaultCookiePolicy(allowed_domains=()))
        )

    async def post(self, headers: Sequence[tuple[str, str]], body: Body) -> Answer:
        """Send one request and return the answer, whatever its status.

        Times are those of :mod:`mailsvc.deliverers.webhook.upload`.  Cancelling ends the request
        and its connection.

        :param headers: names and values in printable ASCII.
        :raises mailsvc.errors.TransientFailure: there was no whole answer.
        :raises mailsvc.errors.SpoolError: the body's content could not be read.
        """
        fields = Headers()
        for name, value in headers:
            fields.addRawHeader(name.encode("ascii"), value.encode("ascii"))
        try:
            return await self._attempt(fields, body)
        except _Stale:
            # The peer closed an idle connection at the moment when it was used again.  The same
            # request, id included, goes out once more; a second time this is a failure.
            return await self._attempt(fields, body, last=True)

    async def _attempt(self, headers: Headers, body: Body, *, last: bool = False) -> Answer:
        watch = Watch(self._reactor)
        try:
            sent: Deferred[Any] = self._client.request(
                "POST",
                _PLACEHOLDER,
                headers=headers,
                data=Upload(body, watch),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            watch.start(sent.cancel)
            response = await sent
            collector = _Collector()
            watch.cancel = collector.finished.cancel
            response.deliverBody(collector)
            content = await collector.finished
        except Exception as error:
            if watch.expired:
                raise TransientFailure(watch.expired) from None
            causes = _causes(error)
            if not last and any(isinstance(cause, StaleConnection) for cause in causes):
                raise _Stale from None
            if isinstance(error, CancelledError):
                raise
            for cause in causes:
                if isinstance(cause, SpoolError):
                    raise cause from None
            raise TransientFailure(_worded(causes)) from error
        finally:
            watch.stop()
        return Answer(
            status=response.code,
            content_type=_field(response, b"content-type"),
            retry_after=_field(response, b"retry-after"),
            body=content,
        )


class _Stale(Exception):
    """The request met a stale connection and may be sent again."""


def pooled_agent(
    reactor: Reactor, endpoints: IAgentEndpointFactory
) -> tuple[Agent, HTTPConnectionPool]:
    """Return an agent that keeps its connections, bounds its answers and follows no redirect.

    It knows no proxy.

    :param endpoints: makes the connections.
    """
    pool: Any = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = _IDLE_CONNECTIONS
    pool.cachedConnectionTimeout = _IDLE_SECONDS
    pool.retryAutomatically = False
    return Agent.usingEndpointFactory(reactor, _BoundedEndpoints(endpoints, reactor), pool), pool


def _field(response: IResponse, name: bytes) -> str:
    values = response.headers.getRawHeaders(name)
    return values[0].decode("latin-1") if values else ""


def _causes(error: BaseException) -> list[BaseException]:
    """Return the errors that an error of Twisted's HTTP client wraps, or itself."""
    reasons: Sequence[Failure] = getattr(error, "reasons", ())
    found = [cause for reason in reasons for cause in _causes(reason.value or Exception())]
    return found or [error]


def _worded(causes: Sequence[BaseException]) -> str:
    """Say what went wrong, for the operator."""
    cause = causes[0]
    if isinstance(cause, EgressRefused):
        return f"the address is not allowed: {cause} (see allow_private and allow_networks)"
    if isinstance(cause, AnswerTooLong):
        return f"the answer is longer than {ANSWER_LIMIT} octets"
    if isinstance(cause, DNSLookupError):
        return "the host's name does not resolve"
    if isinstance(cause, ConnectError):
        return f"no connection: {printable(cause)}"
    if isinstance(cause, VerificationError):
        return f"the certificate is not the host's: {printable(cause)}"
    if isinstance(cause, SSL.Error):
        return f"TLS failed: {_worded_tls(cause)}"
    if isinstance(cause, (ConnectionClosed, StaleConnection)):
        return "the connection was closed before the whole answer was there"
    return f"the request failed: {printable(type(cause).__name__)}: {printable(cause)}"


def _worded_tls(error: SSL.Error) -> str:
    """Return the reasons that OpenSSL gives."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [str(entry[-1]) for entry in entries if entry]
    return printable(", ".join(reasons) or "the handshake was broken off")
