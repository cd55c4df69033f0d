"""HTTP servers on the loopback interface, and webhooks that post to them."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet import reactor as _reactor
from twisted.internet import ssl, threads
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mailsvc.deadline import Deadlines
from mailsvc.deliverers.options import WebhookOptions
from mailsvc.deliverers.webhook.deliverer import Webhook
from mailsvc.testing import FakeContext
from mailsvc.units import convert_unit
from tests.issuer import Issued

reactor: Any = _reactor
E = TypeVar("E", bound=Exception)

#: Answers a request: returns the body, or None if it will finish the request itself.
Answering = Callable[[Request], bytes | None]


def nothing(request: Request) -> bytes:
    """Answer 204."""
    request.setResponseCode(204)
    return b""


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver(Resource):
    """Keeps every request, and answers as it is told."""

    isLeaf = True  # noqa: N815

    def __init__(self, answering: Answering = nothing) -> None:
        self.children = {}
        self.answering = answering
        self.requests: list[Received] = []

    def render(self, request: Request) -> bytes | int:
        headers = {
            name.decode().lower(): b", ".join(values).decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        assert request.content is not None
        body = request.content.read()
        self.requests.append(Received(request.uri.decode(), headers, body))
        answer = self.answering(request)
        return NOT_DONE_YET if answer is None else answer


class Accepted(Protocol):
    """A connection that a test looks at and writes to."""

    transport: Any

    def __init__(self, made: Callable[[Accepted], None]) -> None:
        self.octets = b""
        self.made = made
        self.wanted: list[tuple[bytes, Deferred[None]]] = []
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made(self)

    def dataReceived(self, data: bytes) -> None:
        self.octets += data
        for entry in list(self.wanted):
            if entry[0] in self.octets:
                self.wanted.remove(entry)
                entry[1].callback(None)

    def until(self, octets: bytes) -> Deferred[None]:
        """Fire when ``octets`` have arrived."""
        arrived: Deferred[None] = Deferred()
        self.wanted.append((octets, arrived))
        self.dataReceived(b"")
        return arrived

    def connectionLost(self, reason: object = None) -> None:
        self.closed.callback(None)


class Connections(Factory):
    """Hands out the connections that arrive."""

    noisy = False

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []
        self._waiting: list[Deferred[Accepted]] = []

    def buildProtocol(self, addr: object) -> Accepted:
        return Accepted(self._made)

    def _made(self, connection: Accepted) -> None:
        self.accepted.append(connection)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(connection)

    def next(self) -> Deferred[Accepted]:
        """Fire with the next connection."""
        waiting: Deferred[Accepted] = Deferred()
        self._waiting.append(waiting)
        return waiting


class ServerCase(TestCase):
    """A test with servers, all gone at its end."""

    def listen(
        self, factory: Factory, issued: Issued | None = None, interface: str = "127.0.0.1"
    ) -> int:
        """Listen on a port of the system's choice and return it."""
        if issued is None:
            port = reactor.listenTCP(0, factory, interface=interface)
        else:
            certificate = ssl.PrivateCertificate.loadPEM(issued.pem + issued.key_pem)
            port = reactor.listenSSL(0, factory, certificate.options(), interface=interface)
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def serve(
        self, receiver: Receiver, issued: Issued | None = None, interface: str = "127.0.0.1"
    ) -> int:
        """Serve ``receiver`` and return the port."""
        make_site: Any = Site
        wrapping: Any = WrappingFactory
        factory = wrapping(make_site(receiver))
        factory.noisy = factory.wrappedFactory.noisy = False
        number = self.listen(factory, issued, interface)
        self.addCleanup(
            lambda: [each.transport.abortConnection() for each in list(factory.protocols)]
        )
        return number

    async def failing(self, attempt: Awaitable[None], kind: type[E]) -> E:
        """Return the error that ``attempt`` ends with."""
        try:
            await attempt
        except kind as error:
            return error
        self.fail("there was no failure")

    def webhook(self, url: str, clock: object = None, **keys: object) -> Webhook:
        """Return a webhook as the configuration would make it.

        :param clock: what its deadlines run on; the reactor's own clock unless given.
        """
        section = {"url": url, "format": "raw", "allow_private": True, **keys}
        options = msgspec.convert(section, WebhookOptions, dec_hook=convert_unit)
        self.context = FakeContext(reactor)
        self.patch(self.context, "in_thread", threads.deferToThread)
        webhook = Webhook.from_options(options, self.context)
        if isinstance(clock, Clock):
            self.patch(webhook._transport, "_reactor", clock)
            self.patch(webhook._transport, "_deadlines", Deadlines(clock))
        self.addCleanup(lambda: Deferred.fromCoroutine(webhook.close()))
        return webhook

    def write(self, octets: bytes) -> str:
        """Return the path of a new private file."""
        path = Path(self.mktemp()).resolve()
        path.write_bytes(octets)
        path.chmod(0o600)
        return str(path)


def has_ipv6() -> bool:
    """Say whether this machine has an IPv6 loopback address."""
    with socket.socket(socket.AF_INET6) as tried:
        try:
            tried.bind(("::1", 0))
        except OSError:
            return False
    return True
