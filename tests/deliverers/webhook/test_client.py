"""The client below treq, beside Twisted's Agent: what each makes of the same answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IProtocol, IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, HTTPConnectionPool, PartialDownloadError, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from mailsvc.deliverers.webhook.client import Client, StaleConnection, WrongLength
from mailsvc.deliverers.webhook.response import AnswerTooLong, BadAnswer
from tests.deliverers.webhook.test_response import WHOLE

URL = b"http://app.example.com:8080/in?a=b"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


#: Answers as servers give them: status, body, the sizes of its chunks (none: it is counted), and
#: fields beside.
ANSWERS = st.builds(
    lambda status, body, sizes, fields: answer_of(status, body, sizes, fields),
    st.sampled_from([200, 202, 204, 302, 304, 406, 429, 503]),
    st.binary(max_size=60),
    st.lists(st.integers(1, 20), max_size=4),
    st.lists(
        st.sampled_from(
            [b"Content-Type: text/plain", b"Retry-After: 7", b"connection: close", b"X-A:b"]
        ),
        max_size=3,
    ),
)


def answer_of(status: int, body: bytes, sizes: list[int], fields: list[bytes]) -> bytes:
    """Return an answer's octets."""
    lines = [b"HTTP/1.1 %d Reason" % status, *fields]
    if status in (204, 304):
        return b"\r\n".join([*lines, b"", b""])
    if not sizes:
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])
    head = b"\r\n".join([b"HTTP/1.1 100 Continue", b"", *lines, b"Transfer-Encoding: chunked"])
    framed = b"\r\n\r\n"
    for size in sizes:
        piece, body = body[:size], body[size:]
        framed += b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b""
    return head + framed + b"0\r\n\r\n"


class Wire(StringTransport):
    """The client's side of a connection."""

    aborted = False
    closed = False
    lost = False
    protocol: Any

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True

    def loseConnection(self) -> None:
        self.closed = True

    def lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(reason))


@implementer(IAgentEndpointFactory)
class Wires:
    """Connects at once, to nobody, and remembers."""

    def __init__(self) -> None:
        self.made: list[Wire] = []
        self.factories: list[Any] = []

    def endpointForURI(self, uri: object) -> Wires:
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol | None]:
        self.factories.append(factory)
        address: Any = IAddress(None, None)
        protocol: Any = factory.buildProtocol(address)
        wire = Wire()
        wire.protocol = protocol
        protocol.makeConnection(wire)
        self.made.append(wire)
        return succeed(protocol)


@implementer(IBodyProducer)
class Octets:
    """A body that is written at once, or by the test."""

    def __init__(self, octets: bytes, length: int | None = None, *, held: bool = False) -> None:
        self.octets = octets
        self.length = len(octets) if length is None else length
        self.held = held
        self.stopped = 0
        self.done: Deferred[None] = Deferred()
        self.consumer: Any = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self.consumer = consumer
        if not self.held:
            consumer.write(self.octets)
            self.done.callback(None)
        return self.done

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        self.stopped += 1


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wires = Wires()
        self.client = Client(self.clock, self.wires, URL)

    def post(self, body: Octets | None = None, **fields: str) -> Deferred[IResponse]:
        headers = Headers({name: [value] for name, value in fields.items()})
        answer: Deferred[IResponse] = self.client.request(
            b"POST", b"http://ignored.invalid/", headers, body or Octets(b"body")
        )
        return answer


class TwinTests(Case):
    """The plain twin is Twisted's Agent."""

    def agent(self) -> IAgent:
        pool: Any = HTTPConnectionPool(self.clock)
        pool.retryAutomatically = False
        agent: IAgent = Agent.usingEndpointFactory(self.clock, self.wires, pool)
        return agent

    def exchange(
        self, agent: IAgent, octets: bytes, end: Exception | None, size: int = 65_536
    ) -> tuple[object, ...]:
        """Return status, body and fields of an answer, or only that there is none.

        :param size: octets that arrive at once.
        """
        bodies: list[bytes] = []
        answer = agent.request(b"POST", URL, Headers({b"X-Own": [b"1"]}), Octets(b"body"))
        codes: list[tuple[int, object]] = []

        def read(response: IResponse) -> Deferred[bytes]:
            fields = {
                name.lower(): response.headers.getRawHeaders(name)
                for name in (b"Content-Type", b"Retry-After")
            }
            codes.append((response.code, fields))
            body: Deferred[bytes] = readBody(response)
            return body.addErrback(unframed)

        def unframed(failure: Failure) -> bytes:
            # Without a length the end of the connection ends the body, and Twisted cannot know.
            failure.trap(PartialDownloadError)
            error: Any = failure.value
            octets: bytes = error.response
            return octets

        answer.addCallback(read).addCallbacks(bodies.append, lambda _: None)
        wire = self.wires.made[-1]
        for at in range(0, len(octets), size):
            if not (wire.aborted or wire.closed):
                wire.protocol.dataReceived(octets[at : at + size])
        if end is not None:
            wire.lose(end)
        return (codes[0], bodies[0]) if bodies else ()

    def test_the_same_answers(self) -> None:
        table: list[tuple[bytes, Exception | None]] = [(octets, None) for octets in WHOLE]
        ok = b"HTTP/1.1 200 OK\r\n"
        table += [
            (ok + b"Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx", None),
            (b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", None),
            (ok + b"\r\nunframed", ConnectionDone()),
            (b"HTTP/1.0 500 No\r\n\r\nunframed", ConnectionDone()),
            (b"HTTP/1.0 200 OK\r\n\r\nunframed", ConnectionLost()),
            (b"", ConnectionDone()),
            (ok, ConnectionDone()),
            (ok + b"Content-Length: 9\r\n\r\nshort", ConnectionDone()),
            (ok + b"Transfer-Encoding: chunked\r\n\r\n9\r\nshort", ConnectionLost()),
            (ok + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", ConnectionDone()),
            (ok + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", ConnectionDone()),
            (b"220 mx.example.com ESMTP\r\n\r\n", ConnectionDone()),
        ]
        answered = 0
        for octets, end in table:
            self.wires.made.clear()
            theirs = self.exchange(self.agent(), octets, end)
            ours = self.exchange(Client(self.clock, self.wires, URL), octets, end)
            self.assertEqual(ours, theirs, octets)
            answered += bool(ours)
        self.flushLoggedErrors()
        self.assertEqual(answered, len(WHOLE) + 5)

    @given(ANSWERS, st.integers(1, 200))
    def test_the_same_whole_answers(self, octets: bytes, size: int) -> None:
        """However they are framed, and in whatever pieces they come."""
        theirs = self.exchange(self.agent(), octets, None, size)
        ours = self.exchange(Client(self.clock, self.wires, URL), octets, None, size)
        self.assertEqual(ours, theirs)
        self.assertTrue(ours)

    @given(ANSWERS, st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
    def test_a_damaged_answer(self, octets: bytes, at: int, put: bytes, cut: int) -> None:
        """What the client takes for an answer is the same answer to Twisted; it may take less."""
        octets = octets[:at] + put + octets[at + cut :]
        theirs = self.exchange(self.agent(), octets, ConnectionDone())
        ours = self.exchange(Client(self.clock, self.wires, URL), octets, ConnectionDone())
        self.flushLoggedErrors()
        if ours:
            self.assertEqual(ours, theirs)

    def test_the_same_request(self) -> None:
        """The same line and fields, in whatever order, and the same body."""
        self.agent().request(b"POST", URL, Headers({b"X-Own": [b"1", b"2"]}), Octets(b"body"))
        headers = Headers({b"X-Own": [b"1", b"2"], b"Accept-Encoding": [b"gzip"]})
        self.client.request(b"POST", URL, headers, Octets(b"body"))
        theirs, ours = (wire.value().split(b"\r\n") for wire in self.wires.made)
        self.assertEqual(ours[0], theirs[0])
        self.assertEqual(
            sorted(line.lower() for line in ours[1:]), sorted(line.lower() for line in theirs[1:])
        )


class RequestTests(Case):
    def test_one_write(self) -> None:
        self.post(own="1")
        (wire,) = self.wires.made
        self.assertEqual(
            wire.value(),
            b"POST /in?a=b HTTP/1.1\r\nHost: app.example.com:8080\r\nOwn: 1\r\n"
            b"Content-Length: 4\r\n\r\nbody",
        )

    def test_a_body_of_no_octets(self) -> None:
        """Its producer need not write at all; the header goes out nevertheless."""
        body = Octets(b"", held=True)
        answer = self.post(body)
        (wire,) = self.wires.made
        body.done.callback(None)
        self.assertTrue(wire.value().endswith(b"Content-Length: 0\r\n\r\n"))
        wire.protocol.dataReceived(NO_CONTENT)
        self.assertEqual(self.successResultOf(answer).code, 204)

    def test_connections_come_and_go_without_a_line(self) -> None:
        """The log has a line for each delivery; Twisted would add two for each connection."""
        self.post()
        self.assertFalse(self.wires.factories[0].noisy)

    def test_without_a_body(self) -> None:
        answer = self.client.request(b"HEAD", URL)
        (wire,) = self.wires.made
        self.assertTrue(wire.value().startswith(b"HEAD /in?a=b HTTP/1.1\r\n"))
        wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        self.assertEqual(self.successResultOf(answer).code, 200)

    def test_a_long_body_can_be_paused(self) -> None:
        """Requirement 51: memory is bounded by what the connection takes."""
        body = Octets(b"", 100_000, held=True)
        answer = self.post(body)
        (wire,) = self.wires.made
        self.assertEqual((wire.producer, wire.streaming), (body, True))
        body.consumer.write(b"x" * 60_000)
        body.consumer.write(b"x" * 40_000)
        body.done.callback(None)
        self.assertIsNone(wire.producer)
        wire.protocol.dataReceived(NO_CONTENT)
        self.assertEqual(self.successResultOf(answer).code, 204)
        self.assertEqual(body.stopped, 0)

    def test_a_body_of_another_length(self) -> None:
        """What follows it would be read as the next request."""
        for octets in (b"longer", b"shor"):
            body = Octets(octets, 5)
            answer = self.post(body)
            wire = self.wires.made[-1]
            self.failureResultOf(answer, WrongLength)
            self.assertTrue(wire.aborted)
            self.assertNotIn(b"longer", wire.value())

    def test_a_body_that_fails(self) -> None:
        body = Octets(b"", 10, held=True)
        answer = self.post(body)
        body.done.errback(OSError("no disk"))
        self.failureResultOf(answer, OSError)
        self.assertTrue(self.wires.made[0].aborted)

    def test_cancelled(self) -> None:
        body = Octets(b"", 100_000, held=True)
        answer = self.post(body)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        (wire,) = self.wires.made
        self.assertTrue(wire.aborted)
        self.assertEqual(body.stopped, 1)
        wire.lose(ConnectionDone())


class AnswerTests(Case):
    def answered(self, octets: bytes) -> tuple[Wire, Deferred[IResponse]]:
        answer = self.post()
        wire = self.wires.made[-1]
        wire.protocol.dataReceived(octets)
        return wire, answer

    def test_bad_answers_end_the_connection(self) -> None:
        for octets, error in ((b"SSH-2.0-x\r\n", BadAnswer), (b"HTTP/1." * 10_000, AnswerTooLong)):
            wire, answer = self.answered(octets)
            self.failureResultOf(answer, error)
            self.assertTrue(wire.aborted)

    def test_an_answer_before_the_request_is_whole(self) -> None:
        body = Octets(b"", 100_000, held=True)
        answer = self.post(body)
        (wire,) = self.wires.made
        wire.protocol.dataReceived(b"HTTP/1.1 406 No\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(answer).code, 406)
        self.assertEqual((body.stopped, wire.closed), (1, True))
        wire.lose(ConnectionDone())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_redirect_has_led_here(self) -> None:
        _, answer = self.answered(NO_CONTENT)
        response = self.successResultOf(answer)
        self.assertRaises(NotImplementedError, response.setPreviousResponse, response)


class PoolTests(Case):
    def serve(self, octets: bytes = NO_CONTENT) -> Wire:
        """Make a request, answer it, and return its connection."""
        answer = self.post()
        wire = next(wire for wire in self.wires.made if wire.value() and not wire.lost)
        wire.protocol.dataReceived(octets)
        self.successResultOf(answer)
        wire.clear()
        return wire

    def test_kept(self) -> None:
        self.assertIs(self.serve(), self.serve())
        self.assertEqual(len(self.wires.made), 1)

    def test_not_kept(self) -> None:
        for octets in (
            b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n",
            NO_CONTENT + b"more",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ):
            wire = self.serve(octets)
            self.assertTrue(wire.closed)
            wire.lose(ConnectionDone())
        self.assertEqual(len(self.wires.made), 3)

    def test_what_comes_unasked_ends_it(self) -> None:
        """Else it would answer the next request."""
        wire = self.serve()
        wire.protocol.dataReceived(NO_CONTENT)
        self.assertTrue(wire.aborted)
        wire.lose(ConnectionDone())
        self.post()
        self.assertEqual(len(self.wires.made), 2)

    def test_closed_while_idle(self) -> None:
        self.serve().lose(ConnectionDone())
        self.assertIsNot(self.serve(), self.wires.made[0])

    def test_stale(self) -> None:
        for reason in (ConnectionDone(), ConnectionLost()):
            wire = self.serve()
            answer = self.post()
            wire.lose(reason)
            self.failureResultOf(answer, StaleConnection)

    def test_not_stale(self) -> None:
        """A first request, an answer that began, and another failure are what they are."""
        answer = self.post()
        self.wires.made[-1].lose(ConnectionDone())
        self.failureResultOf(answer, ConnectionDone)
        wire = self.serve()
        answer = self.post()
        wire.protocol.dataReceived(b"HTTP")
        wire.lose(ConnectionLost())
        self.failureResultOf(answer, ConnectionLost)
        wire = self.serve()
        answer = self.post()
        wire.lose(OSError())
        self.failureResultOf(answer, OSError)

    def test_idle_ones_are_closed_in_time(self) -> None:
        first, second = self.post(), self.post()
        early, late = self.wires.made
        early.protocol.dataReceived(NO_CONTENT)
        self.clock.advance(20)
        late.protocol.dataReceived(NO_CONTENT)
        self.successResultOf(first)
        self.successResultOf(second)
        self.clock.advance(35)
        self.assertEqual((early.closed, late.closed), (True, False))
        early.lose(ConnectionDone())
        self.clock.advance(20)
        self.assertTrue(late.closed)
        self.clock.advance(5)
        self.assertTrue(late.aborted)
        late.lose(ConnectionLost())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_bounded_number(self) -> None:
        answers = [self.post() for _ in range(101)]
        for wire in self.wires.made:
            wire.protocol.dataReceived(NO_CONTENT)
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual(sum(wire.closed for wire in self.wires.made), 1)

    def test_closing(self) -> None:
        busy = self.post()
        self.serve_other()
        closing = Deferred.fromCoroutine(self.client.close())
        under_way, idle = self.wires.made
        self.assertNoResult(closing)
        self.assertEqual((under_way.closed, idle.closed), (False, True))
        idle.lose(ConnectionDone())
        self.successResultOf(closing)
        under_way.protocol.dataReceived(NO_CONTENT)
        self.successResultOf(busy)
        self.assertTrue(under_way.closed)
        under_way.lose(ConnectionDone())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def serve_other(self) -> None:
        answer = self.post()
        self.wires.made[-1].protocol.dataReceived(NO_CONTENT)
        self.successResultOf(answer)
