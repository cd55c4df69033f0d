"""A turn of the reactor done together: the same replies, in the same order, as one by one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.batch import Batch
from mailsvc.deadline import Deadlines
from mailsvc.protocol import SMTPProtocol
from mailsvc.turnend import TurnEnd
from tests.reception import Reception

DIALOGUE = (
    b"EHLO client.example\r\nMAIL FROM:<ann@sender.example>\r\nRCPT TO:<bob@example.com>\r\n"
    b"RCPT TO:<nobody@elsewhere.example>\r\nDATA\r\nSubject: x\r\n\r\n..one\r\ntwo\r\n.\r\n"
    b"MAIL FROM:<>\r\nRCPT TO:<bob@example.com>\r\nBDAT 7 LAST\r\nthree\r\nNOOP\r\nQUIT\r\n"
)


class BatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.batch = Batch(TurnEnd(self.clock.callLater))
        self.done: list[str] = []

    def test_all_is_taken_before_anything_is_sent(self) -> None:
        def take(name: str) -> None:
            self.done.append(f"take {name}")
            self.batch.send(lambda: self.done.append(f"send {name}"))

        for name in "ab":
            self.batch.take(partial(take, name))
        self.assertEqual(self.done, [])
        self.clock.advance(0)
        self.assertEqual(self.done, ["take a", "take b", "send a", "send b"])
        self.assertEqual((self.batch.inputs, self.clock.getDelayedCalls()), (2, []))

    def test_what_comes_meanwhile_is_not_forgotten(self) -> None:
        def take() -> None:
            self.done.append("first")
            self.batch.take(lambda: self.done.append("second"))

        self.batch.take(take)
        self.clock.advance(0)
        self.assertEqual(self.done, ["first", "second"])
        self.batch.send(lambda: self.done.append("third"))
        self.clock.advance(0)
        self.assertEqual(self.done[2:], ["third"])


class Connections:
    """Some connections, with or without turns taken as a whole."""

    def __init__(self, count: int, *, together: bool) -> None:
        self.reception = Reception()
        self.clock = self.reception.clock
        batch = Batch(TurnEnd(self.clock.callLater)) if together else None
        rules = replace(self.reception.rules, batch=batch)
        self.transports = [StringTransport() for _ in range(count)]
        deadlines: Deadlines[SMTPProtocol] = Deadlines(self.clock)
        self.protocols = [
            SMTPProtocol(
                rules, "192.0.2.1", implicit=False, deadlines=deadlines, gone=lambda _: None
            )
            for _ in range(count)
        ]
        for protocol, transport in zip(self.protocols, self.transports, strict=True):
            protocol.makeConnection(transport)
        self.turn()

    def turn(self) -> None:
        """Let a turn of the reactor end."""
        self.clock.advance(0)

    def replies(self) -> list[list[str]]:
        """Return the codes of what each was told; ids differ."""
        return [
            [line[:9] for line in each.value().decode().split("\r\n")] for each in self.transports
        ]

    def contents(self) -> list[bytes]:
        """Return what was stored, without the trace field."""
        return sorted(
            each.octets.split(b"+0000\r\n", 1)[1]
            for each in self.reception.spool.messages
            if each.fate == "committed"
        )


class TogetherTests(SynchronousTestCase):
    @given(st.data())
    def test_the_plain_twin(self, data: st.DataObject) -> None:
        """Two connections, cut and interleaved as may be; None ends a turn."""
        cuts = st.lists(st.integers(1, 60), max_size=12)
        plain, together = (Connections(2, together=word) for word in (False, True))
        rest = [DIALOGUE, DIALOGUE]
        for sizes in data.draw(st.lists(st.tuples(st.integers(0, 1), cuts), max_size=12)):
            number, pieces = sizes
            for size in pieces:
                piece, rest[number] = rest[number][:size], rest[number][size:]
                if piece:
                    for connections in (plain, together):
                        connections.protocols[number].dataReceived(piece)
            together.turn()
            self.assertEqual(together.replies(), plain.replies())
        for number, piece in enumerate(rest):
            if piece:
                for connections in (plain, together):
                    connections.protocols[number].dataReceived(piece)
        together.turn()
        self.assertEqual(together.replies(), plain.replies())
        self.assertEqual(together.contents(), plain.contents())
        self.assertEqual(len(plain.contents()), 4)
        self.assertTrue(all(each.disconnecting for each in together.transports))

    def test_a_peer_that_goes_within_the_turn(self) -> None:
        """What it said before it went was said: a message that was whole is taken."""
        whole = DIALOGUE[: DIALOGUE.index(b"MAIL FROM:<>")]
        for half in (True, False):
            connections = Connections(1, together=True)
            [protocol] = connections.protocols
            protocol.dataReceived(whole)
            if half:
                protocol.readConnectionLost()
            else:
                protocol.connectionLost(Failure(ConnectionError()))
            connections.turn()
            self.assertEqual(len(connections.contents()), 1)
            if half:
                self.assertIn("250 2.0.0", connections.replies()[0])
