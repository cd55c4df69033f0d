"""Requests and answers over real sockets on the loopback interface."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from typing import Any, ClassVar
from unittest import skipUnless

from cryptography import x509
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from mailsvc.deliverers.webhook import client, transport
from mailsvc.errors import DestinationPaused, PermanentFailure, TransientFailure
from mailsvc.message import Delivery
from mailsvc.testing import MAIL, MemoryContent, make_delivery, started
from tests.deliverers.webhook.servers import (
    Accepted,
    Connections,
    Receiver,
    ServerCase,
    has_ipv6,
    reactor,
)
from tests.issuer import Issuer

LARGE = b"x" * 5_000_000


class FieldsTests(SynchronousTestCase):
    def test_as_headers_has_them(self) -> None:
        fields = [
            ("webhook-id", "m1-1"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("etag", "e"),
            ("X-Twice", "1"),
            ("x-twice", "2"),
            ("X-Lines", "a\r\nb: c\n"),
            ("X-Empty", ""),
        ]
        headers = Headers()
        for name, value in fields:
            headers.addRawHeader(name.encode(), value.encode())
        ours = transport._Fields(fields)
        self.assertEqual(list(ours.getAllRawHeaders()), list(headers.getAllRawHeaders()))
        self.assertRaises(UnicodeEncodeError, transport._Fields, [("X-A", "\xe9")])


class RequestTests(ServerCase):
    async def deliver(self, receiver: Receiver, octets: bytes = MAIL, **keys: object) -> None:
        port = self.serve(receiver)
        webhook = self.webhook(f"http://127.0.0.1:{port}/in?a=b", **keys)
        await webhook.deliver(make_delivery(size=len(octets)), MemoryContent(octets))

    async def test_the_request(self) -> None:
        receiver = Receiver()
        await self.deliver(receiver)
        (request,) = receiver.requests
        self.assertEqual(request.path, "/in?a=b")
        self.assertEqual(request.body, MAIL)
        self.assertEqual(request.headers["content-length"], str(len(MAIL)))
        self.assertEqual(request.headers["content-type"], "message/rfc822")
        self.assertEqual(request.headers["user-agent"], "mailsvc")
        for absent in ("accept-encoding", "cookie", "expect", "transfer-encoding"):
            self.assertNotIn(absent, request.headers)

    async def test_a_large_body_arrives_whole(self) -> None:
        receiver = Receiver()
        await self.deliver(receiver, LARGE)
        self.assertEqual(receiver.requests[0].body, LARGE)
        self.assertEqual(receiver.requests[0].headers["content-length"], str(len(LARGE)))

    async def test_an_answer_before_the_upload_s_end(self) -> None:
        connections = Connections()
        webhook = self.webhook(f"http://127.0.0.1:{self.listen(connections)}/")
        attempt = started(webhook.deliver(make_delivery(), MemoryContent(LARGE)))
        connection = await connections.next()
        await connection.until(b"\r\n\r\n")
        connection.transport.write(b"HTTP/1.1 406 No\r\nContent-Length: 0\r\n\r\n")
        await self.failing(attempt, PermanentFailure)

    async def test_redirects_are_not_followed(self) -> None:
        """Requirement 49."""

        def redirect(request: Request) -> bytes:
            request.redirect(b"/elsewhere")
            return b""

        receiver = Receiver(redirect)
        await self.failing(self.deliver(receiver), TransientFailure)
        self.assertEqual(len(receiver.requests), 1)

    async def test_no_proxy_from_the_environment(self) -> None:
        """Requirement 49."""
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            self.patch(os, "environ", {**os.environ, name: "http://127.0.0.1:1/"})
        receiver = Receiver()
        await self.deliver(receiver)
        self.assertEqual(len(receiver.requests), 1)

    def test_a_treq_that_is_made_otherwise_is_left_alone(self) -> None:
        """Today's treq is given others for its agents; one that cannot be is as it is."""
        wanted = {"CookieAgent", "ContentDecoderAgent"}
        self.assertLessEqual(wanted, set(HTTPClient.request.__code__.co_names))
        self.assertIsNot(transport._unwrapped(HTTPClient.request), HTTPClient.request)
        decorated = functools.wraps(HTTPClient.request)(lambda *_: wanted)
        for other in (decorated, functools.partial(HTTPClient.request)):
            self.assertIs(transport._unwrapped(other), other)

    async def test_cookies_are_not_kept(self) -> None:
        def biscuit(request: Request) -> bytes:
            request.addCookie(b"session", b"1")
            return b""

        receiver = Receiver(biscuit)
        webhook = self.webhook(f"http://127.0.0.1:{self.serve(receiver)}/")
        for _ in range(2):
            await webhook.deliver(make_delivery(), MemoryContent())
        self.assertNotIn("cookie", receiver.requests[1].headers)

    async def test_compressed_answers_are_not_inflated(self) -> None:
        """Requirement 51: a bomb stays as small as it is sent."""

        def bomb(request: Request) -> bytes:
            request.responseHeaders.setRawHeaders(b"content-encoding", [b"gzip"])
            return b"not gzip at all"

        await self.deliver(Receiver(bomb))

    async def test_connections_are_kept(self) -> None:
        receiver = Receiver()
        webhook = self.webhook(f"http://127.0.0.1:{self.serve(receiver)}/")
        clients: set[int] = set()

        def answering(request: Request) -> bytes:
            clients.add(request.client.port)
            return b""

        receiver.answering = answering
        for number in range(5):
            await webhook.deliver(make_delivery(id=f"m{number}-1"), MemoryContent())
        self.assertEqual(len(clients), 1)

    async def test_several_at_once(self) -> None:
        receiver = Receiver()
        webhook = self.webhook(f"http://127.0.0.1:{self.serve(receiver)}/")
        deliveries = [make_delivery(id=f"m{number}-1") for number in range(30)]
        await gatherResults(
            [started(webhook.deliver(delivery, MemoryContent())) for delivery in deliveries]
        )
        self.assertEqual(len(receiver.requests), 30)

    @skipUnless(has_ipv6(), "needs IPv6 on the loopback interface")
    async def test_an_ipv6_literal(self) -> None:
        receiver = Receiver()
        port = self.serve(receiver, interface="::1")
        webhook = self.webhook(f"http://[::1]:{port}/in")
        await webhook.deliver(make_delivery(), MemoryContent())
        self.assertEqual(receiver.requests[0].headers["host"], f"[::1]:{port}")

    async def test_other_ways_to_write_the_loopback_address(self) -> None:
        """Requirement 48: decimal, octal, short and mapped forms reach nothing."""
        receiver = Receiver()
        port = self.serve(receiver)
        for host in (
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "localhost",
            "127.0.0.1",
            "[::ffff:127.0.0.1]",
            "0",
        ):
            webhook = self.webhook(f"http://{host}:{port}/", allow_private=False)
            attempt = started(webhook.deliver(make_delivery(), MemoryContent()))
            error = await self.failing(attempt, TransientFailure)
            self.assertTrue(
                str(error).startswith("the address is not allowed: ")
                or str(error) == "the host's name does not resolve",
                str(error),
            )
        self.assertEqual(receiver.requests, [])

    async def test_an_allowed_network(self) -> None:
        receiver = Receiver()
        await self.deliver(receiver, allow_private=False, allow_networks=["127.0.0.0/8"])
        self.assertEqual(len(receiver.requests), 1)


class AnswerTests(ServerCase):
    """What a server writes, octet by octet, and what becomes of the delivery."""

    async def answered(self, *pieces: bytes, close: bool = True) -> None:
        connections = Connections()
        webhook = self.webhook(f"http://127.0.0.1:{self.listen(connections)}/")
        attempt = started(webhook.deliver(make_delivery(), MemoryContent()))
        connection = await connections.next()
        await connection.until(b"world\r\n")
        for piece in pieces:
            connection.transport.write(piece)
        if close:
            connection.transport.loseConnection()
        await attempt

    async def fails(self, *pieces: bytes) -> str:
        error = await self.failing(self.answered(*pieces), TransientFailure)
        return str(error)

    async def test_answers_in_every_framing(self) -> None:
        for pieces in (
            (b"HTTP/1.1 204 No Content\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",),
            (b"HTTP/1.0 200 OK\r\n\r\nuntil the end",),
        ):
            await self.answered(*pieces)

    async def test_a_rejection_in_an_unframed_answer(self) -> None:
        body = b'HTTP/1.0 200 OK\r\n\r\n{"action": "reject", "reply": "no"}'
        error = await self.failing(self.answered(body), PermanentFailure)
        self.assertEqual(error.reply, "no")

    async def test_gone(self) -> None:
        gone = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
        await self.failing(self.answered(gone), DestinationPaused)

    async def test_retry_after(self) -> None:
        busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n"
        error = await self.failing(self.answered(busy), TransientFailure)
        self.assertEqual(error.retry_after, 17)

    async def test_broken_answers_are_failures(self) -> None:
        cut = "the connection was closed before the whole answer was there"
        self.assertEqual(await self.fails(), cut)
        self.assertEqual(await self.fails(b"HTTP/1.1 200 OK\r\n"), cut)
        self.assertEqual(await self.fails(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), cut)
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok"
        self.assertEqual(await self.fails(chunked), cut)
        broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        malformed = "the answer is malformed: "
        self.assertEqual(await self.fails(broken), malformed + "a chunk's size is malformed")
        smtp = b"220 mx.example.com ESMTP\r\n"
        self.assertEqual(await self.fails(smtp), malformed + "it does not begin as HTTP/1")

    async def test_a_long_answer_is_cut_off(self) -> None:
        """Requirement 51: at most 64 KiB, header included."""
        for pieces in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n", b"x" * 70_000),
            (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n" * 8_000),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,),
        ):
            self.assertEqual(await self.fails(*pieces), "the answer is longer than 65536 octets")

    async def test_a_closed_port(self) -> None:
        connections = Connections()
        port = reactor.listenTCP(0, connections, interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        webhook = self.webhook(f"http://127.0.0.1:{number}/")
        attempt = started(webhook.deliver(make_delivery(), MemoryContent()))
        error = await self.failing(attempt, TransientFailure)
        self.assertIn("no connection: ", str(error))

    async def test_a_name_that_does_not_resolve(self) -> None:
        webhook = self.webhook("http://none.invalid/")
        attempt = started(webhook.deliver(make_delivery(), MemoryContent()))
        error = await self.failing(attempt, TransientFailure)
        self.assertEqual(str(error), "the host's name does not resolve")


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class StaleTests(ServerCase):
    """A kept connection may be closed just when it is used again."""

    def setUp(self) -> None:
        self.connections = Connections()
        self.hook = self.webhook(f"http://127.0.0.1:{self.listen(self.connections)}/")

    def start(self, delivery: Delivery) -> Deferred[None]:
        return started(self.hook.deliver(delivery, MemoryContent()))

    async def kept(self) -> Accepted:
        """Return a connection that has served one request."""
        attempt = self.start(make_delivery(id="first-1"))
        connection = await self.connections.next()
        await connection.until(b"world\r\n")
        connection.transport.write(OK)
        await attempt
        connection.octets = b""
        return connection

    async def test_the_request_goes_out_again(self) -> None:
        old = await self.kept()
        attempt = self.start(make_delivery(id="second-1"))
        await old.until(b"world\r\n")
        old.transport.abortConnection()
        new = await self.connections.next()
        await new.until(b"world\r\n")
        self.assertIn(b"Mailsvc-Message-Id: second\r\n", new.octets)
        new.transport.write(OK)
        await attempt

    async def test_but_once(self) -> None:
        old = await self.kept()
        attempt = self.start(make_delivery(id="second-1"))
        await old.until(b"world\r\n")
        old.transport.abortConnection()
        new = await self.connections.next()
        await new.until(b"world\r\n")
        new.transport.abortConnection()
        await self.failing(attempt, TransientFailure)
        self.assertEqual(len(self.connections.accepted), 2)

    async def test_a_fresh_connection_is_not_stale(self) -> None:
        attempt = self.start(make_delivery())
        connection = await self.connections.next()
        await connection.until(b"world\r\n")
        connection.transport.abortConnection()
        await self.failing(attempt, TransientFailure)
        self.assertEqual(len(self.connections.accepted), 1)

    async def test_an_answer_that_began_is_no_stale_connection(self) -> None:
        old = await self.kept()
        attempt = self.start(make_delivery(id="second-1"))
        await old.until(b"world\r\n")
        old.transport.write(b"HTTP/1.1 200 O")
        old.transport.loseConnection()
        await self.failing(attempt, TransientFailure)
        self.assertEqual(len(self.connections.accepted), 1)


class TimeTests(ServerCase):
    """Requirement 51, on a clock of the test's own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connections = Connections()
        port = self.listen(self.connections)
        self.hook = self.webhook(f"http://127.0.0.1:{port}/", clock=self.clock)

    def start(self, octets: bytes = MAIL) -> Deferred[None]:
        return started(self.hook.deliver(make_delivery(), MemoryContent(octets)))

    async def test_no_answer(self) -> None:
        attempt = self.start()
        connection = await self.connections.next()
        await connection.until(b"world\r\n")
        self.clock.advance(30.1)
        error = await self.failing(attempt, TransientFailure)
        self.assertEqual(str(error), "no answer within 30 s")
        await connection.closed
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_an_answer_that_never_ends(self) -> None:
        began: Deferred[None] = Deferred()

        receive = client.Connection.dataReceived

        def received(self: client.Connection, data: bytes) -> None:
            receive(self, data)
            began.callback(None)

        self.patch(client.Connection, "dataReceived", received)
        attempt = self.start()
        connection = await self.connections.next()
        await connection.until(b"world\r\n")
        connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n.")
        await began
        self.clock.advance(30.1)
        error = await self.failing(attempt, TransientFailure)
        self.assertEqual(str(error), "no answer within 30 s")
        await connection.closed

    async def test_an_upload_that_stands_still(self) -> None:
        attempt = self.start(LARGE * 8)
        connection = await self.connections.next()
        await connection.until(b"\r\n\r\n")
        connection.transport.pauseProducing()
        while not attempt.called:
            self.clock.advance(30.1)
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        error = await self.failing(attempt, TransientFailure)
        self.assertEqual(str(error), "the upload stood still for 30 s")
        connection.transport.resumeProducing()
        await connection.closed

    async def test_little_waits_in_the_kernel(self) -> None:
        """What it holds looks sent; megabytes of it would outlast the time for the answer."""
        unsent = []
        register = client.Connection.registerProducer

        def registered(self: client.Connection, *arguments: Any) -> None:  # noqa: ANN401
            register(self, *arguments)
            handle = client._socket(self.transport)
            assert handle is not None
            unsent.append(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT))

        self.patch(client.Connection, "registerProducer", registered)
        receiver = Receiver()
        name = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        issuer = Issuer()
        secure = self.serve(receiver, issuer.issue("", [name]))
        for url in (
            f"http://127.0.0.1:{self.serve(receiver)}/",
            f"https://127.0.0.1:{secure}/",
        ):
            webhook = self.webhook(url, ca_file=self.write(issuer.pem))
            await webhook.deliver(make_delivery(), MemoryContent(LARGE))
        self.assertEqual(unsent, [client.UNSENT] * 2)

    async def test_no_connection(self) -> None:
        agent = Never()
        self.patch(self.hook._transport._client, "_agent", agent)
        attempt = self.start()
        await agent.asked
        self.clock.advance(10.1)
        error = await self.failing(attempt, TransientFailure)
        self.assertEqual(str(error), "no connection within 10 s")

    async def test_a_cancelled_attempt_ends_its_connection(self) -> None:
        for octets in (MAIL, LARGE * 8):
            attempt = self.start(octets)
            connection = await self.connections.next()
            await connection.until(b"\r\n\r\n")
            attempt.cancel()
            await self.failing(attempt, Exception)
            await connection.closed
            self.assertEqual(self.clock.getDelayedCalls(), [])


class Never:
    """An agent that does not connect."""

    def __init__(self) -> None:
        self.asked: Deferred[None] = Deferred()

    def request(self, *args: object, **kwargs: object) -> Deferred[object]:
        reactor.callLater(0, self.asked.callback, None)
        return Deferred()


class TlsTests(ServerCase):
    """Requirement 50: chain and name are verified."""

    issuer: ClassVar[Issuer] = Issuer()

    def url(self, receiver: Receiver, host: str, *names: x509.GeneralName, end: float = 90) -> str:
        issued = self.issuer.issue("a name that does not count", names, end=end)
        return f"https://{host}:{self.serve(receiver, issued)}/"

    async def post(self, url: str, *, trusted: bool = True) -> None:
        ca_file = self.write(self.issuer.pem) if trusted else ""
        webhook = self.webhook(url, ca_file=ca_file)
        await webhook.deliver(make_delivery(), MemoryContent())

    async def test_a_name(self) -> None:
        receiver = Receiver()
        await self.post(self.url(receiver, "localhost", x509.DNSName("localhost")))
        self.assertEqual(len(receiver.requests), 1)

    async def test_an_address(self) -> None:
        receiver = Receiver()
        name = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        await self.post(self.url(receiver, "127.0.0.1", name))
        self.assertEqual(len(receiver.requests), 1)

    async def refused(self, url: str, *, trusted: bool = True) -> str:
        attempt = started(self.post(url, trusted=trusted))
        error = await self.failing(attempt, TransientFailure)
        return str(error)

    async def test_another_name(self) -> None:
        receiver = Receiver()
        url = self.url(receiver, "localhost", x509.DNSName("app.example.com"))
        self.assertIn("the certificate is not the host's", await self.refused(url))
        url = self.url(receiver, "127.0.0.1", x509.DNSName("localhost"))
        self.assertIn("the certificate is not the host's", await self.refused(url))
        self.assertEqual(receiver.requests, [])

    async def test_an_unknown_issuer(self) -> None:
        receiver = Receiver()
        url = self.url(receiver, "localhost", x509.DNSName("localhost"))
        why = await self.refused(url, trusted=False)
        self.assertIn("TLS failed: certificate verify failed", why)
        self.assertEqual(receiver.requests, [])

    async def test_an_expired_certificate(self) -> None:
        receiver = Receiver()
        url = self.url(receiver, "localhost", x509.DNSName("localhost"), end=-0.5)
        self.assertIn("certificate verify failed", await self.refused(url))

    async def test_a_handshake_that_stalls(self) -> None:
        """Requirement 51: it belongs to the connection, which has 10 seconds."""
        clock = Clock()
        connections = Connections()
        url = f"https://127.0.0.1:{self.listen(connections)}/"
        webhook = self.webhook(url, clock=clock, ca_file=self.write(self.issuer.pem))
        attempt = started(webhook.deliver(make_delivery(), MemoryContent()))
        connection = await connections.next()
        # The client's hello is there.
        await connection.until(b"\x16\x03")
        clock.advance(9.9)
        self.assertFalse(attempt.called)
        clock.advance(0.2)
        error = await self.failing(attempt, TransientFailure)
        self.assertEqual(str(error), "no connection within 10 s")
        await connection.closed
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_a_peer_that_leaves_the_handshake(self) -> None:
        connections = Connections()
        refused = started(self.refused(f"https://127.0.0.1:{self.listen(connections)}/"))
        connection = await connections.next()
        await connection.until(b"\x16\x03")
        connection.transport.loseConnection()
        self.assertNotEqual(await refused, "")

    async def test_a_server_without_tls(self) -> None:
        connections = Connections()
        url = f"https://127.0.0.1:{self.listen(connections)}/"
        refused = started(self.refused(url))
        connection = await connections.next()
        connection.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertIn("TLS failed: ", await refused)

    async def test_a_large_body(self) -> None:
        receiver = Receiver()
        url = self.url(receiver, "localhost", x509.DNSName("localhost"))
        webhook = self.webhook(url, ca_file=self.write(self.issuer.pem))
        await webhook.deliver(make_delivery(), MemoryContent(LARGE))
        self.assertEqual(receiver.requests[0].body, LARGE)


class ClosingTests(ServerCase):
    async def test_a_connection_that_lingers_is_aborted(self) -> None:
        """A peer that does not agree to the end of TLS keeps no socket for ever."""
        calls: list[tuple[float, object]] = []

        class Lingering:
            def loseConnection(self) -> None:
                pass

            def abortConnection(self) -> None:
                calls.append((clock.seconds(), "aborted"))

        clock = Clock()
        connection = client.Connection(clock, lambda _: None, lambda _: None)
        connection.transport = Lingering()
        connection.close()
        connection.close()
        clock.advance(6)
        self.assertEqual(calls, [(6, "aborted")])
