"""The protocol: octets, timers, flow control and the ends of a connection, on a fake transport."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsvc.errors import Refused, SpoolFull
from mailsvc.events import Broke, CommandRefused, MessageAccepted, MessageRefused
from mailsvc.interfaces import IRouter, ISender
from mailsvc.message import Address, Reply, Route
from mailsvc.routing import Rule
from mailsvc.rules import Timers
from mailsvc.smtp.policy import Policy
from tests.reception import BROKEN, Reception

MAIL = ("EHLO client.example", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
CONTENT = ("Subject: hello", "", "It works.", ".")


class ReceivingTests(SynchronousTestCase):
    """Mail comes in, and 250 comes after the commit."""

    def test_message(self) -> None:
        """A message is written behind its trace field, committed, answered and told on."""
        reception = Reception()
        self.assertEqual(reception.read(), ["220 mx.example.com ESMTP mailsvc"])
        self.assertEqual(reception.codes(*MAIL[1:]), ["503", "503"])
        codes = reception.codes(*MAIL, "DATA")
        self.assertEqual(codes[-3:], ["250", "250", "354"])
        answer = reception.say(*CONTENT)
        message = reception.message
        self.assertEqual(answer, [f"250 2.0.0 OK {message.envelope.id}"])
        self.assertEqual(
            message.octets.decode().split("\r\n"),
            [
                "Received: from client.example ([192.0.2.1])",
                f"\tby mx.example.com with ESMTP id {message.envelope.id};",
                "\tFri, 15 Jan 2027 08:00:00 +0000",
                "Subject: hello",
                "",
                "It works.",
                "",
            ],
        )
        self.assertTrue(message.stuffed)
        self.assertEqual(message.fate, "committed")
        self.assertEqual(reception.woken, ["app"])
        (accepted,) = reception.logged(MessageAccepted)
        self.assertIn("from=<a@example.org> to=<b@example.com>", accepted.text())

    def test_whence_it_came(self) -> None:
        """Requirement 19: the address is a literal of its kind; a Unix socket has none."""
        for host, literal in (
            ("192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::7", "[IPv6:2001:db8::7]"),
            ("", "local"),
        ):
            reception = Reception(host=host)
            reception.codes(*MAIL, "DATA")
            reception.say(*CONTENT)
            first, _, _ = reception.message.octets.decode().partition("\r\n")
            self.assertEqual(first, f"Received: from client.example ({literal})")

    def test_no_250_before_the_commit(self) -> None:
        """Requirement 35: the answer waits for the commit, and what is pipelined behind."""
        reception = Reception()
        reception.spool.at_once = False
        reception.codes(*MAIL, "DATA")
        self.assertEqual(reception.say(*CONTENT, "NOOP"), [])
        reception.message.finish()
        self.assertEqual([line[:3] for line in reception.read()], ["250", "250"])

    def test_not_stored(self) -> None:
        """Requirement 35: what is ours to mend is answered 451, or 452 when there is no room."""
        for error, code in ((BROKEN, "451 4.3.0"), (SpoolFull("full"), "452 4.3.1")):
            reception = Reception()
            reception.spool.at_once = False
            reception.codes(*MAIL, "DATA")
            reception.say(*CONTENT)
            reception.message.finish(error)
            (line,) = reception.read()
            self.assertTrue(line.startswith(code), line)
            self.assertEqual(reception.woken, [])
            (refused,) = reception.logged(MessageRefused)
            self.assertIn(" from=<a@example.org> to=<b@example.com> size=", refused.text())
            self.assertIn(f": {code} ", refused.text())
            reception.spool.broken = error
            *_, line = reception.say(*MAIL, "DATA")
            self.assertTrue(line.startswith(code), line)
            self.assertIn(" size=0 ", reception.logged(MessageRefused)[-1].text())

    def test_what_the_session_refuses_is_logged(self) -> None:
        """A message that is refused by its announced size leaves a line, as any other does."""
        reception = Reception()
        reception.say("EHLO client.example", "MAIL FROM:<a@example.org> SIZE=9999999999")
        reception.say("MAIL FROM:<a b@example.org>")
        size, syntax = reception.logged(CommandRefused)
        self.assertIn("refused MAIL FROM:<a@example.org>\\x20SIZE=9999999999", size.text())
        self.assertIn(": 552 5.3.4", size.text())
        self.assertIn("refused MAIL FROM:<a\\x20b@example.org>", syntax.text())

    def test_failure_of_ours(self) -> None:
        """What no code foresaw is logged, answered 421, and ends the connection."""
        reception = Reception()
        reception.spool.broken = ZeroDivisionError("oops")
        *_, line = reception.say(*MAIL, "DATA")
        self.assertTrue(line.startswith("421 4.3.0"), line)
        self.assertTrue(reception.transport.disconnecting)
        self.assertEqual(len(reception.logged(Broke)), 1)

    def test_failure_of_ours_later(self) -> None:
        """The same where the failure comes after a wait."""
        reception = Reception()
        reception.spool.at_once = False
        reception.codes(*MAIL, "DATA")
        reception.say(*CONTENT)
        reception.message.finish(ZeroDivisionError("oops"))
        self.assertTrue(reception.read()[0].startswith("421 4.3.0"))
        self.assertTrue(reception.transport.disconnecting)

    def test_recipient_twice(self) -> None:
        """A RCPT given twice counts once."""
        reception = Reception()
        reception.codes(*MAIL, "RCPT TO:<B@EXAMPLE.COM>", "RCPT TO:<c@example.com>", "DATA")
        reception.say(*CONTENT)
        recipients = [str(each.address) for each in reception.message.envelope.recipients]
        self.assertEqual(recipients, ["b@example.com", "c@example.com"])

    def test_refused_recipients(self) -> None:
        """Requirement 15: no relaying; each refusal is logged."""
        reception = Reception(Rule(("known@example.com",), ("app",)))
        answers = reception.say(
            *MAIL[:2], "RCPT TO:<unknown@example.com>", "RCPT TO:<x@elsewhere.example>"
        )
        self.assertEqual([line[:9] for line in answers[-2:]], ["550 5.1.1", "550 5.7.1"])
        texts = [event.text() for event in reception.logged(CommandRefused)]
        self.assertIn("refused RCPT unknown@example.com from=<a@example.org> client=", texts[0])
        self.assertIn(" client=192.0.2.1: 550 5.1.1", texts[0])

    def test_size_of_a_route(self) -> None:
        """Requirement 12: max_size answers at RCPT against SIZE, and the count is enforced, too."""
        reception = Reception(Rule(("*@example.com",), ("app",), max_size=1024))
        answers = reception.say(MAIL[0], MAIL[1] + " SIZE=2000", MAIL[2])
        self.assertTrue(answers[-1].startswith("552 5.2.3"), answers)
        reception.codes("RSET", MAIL[1] + " SIZE=10", MAIL[2], "DATA")
        (answer,) = reception.say(*["x" * 70] * 30, ".")
        self.assertTrue(answer.startswith("552 5.2.3"), answer)
        self.assertEqual(reception.message.fate, "aborted")
        self.assertEqual(len(reception.logged(CommandRefused)), 1)
        (refused,) = reception.logged(MessageRefused)
        self.assertRegex(refused.text(), r" size=\d+ .*: 552 5\.2\.3 ")

    def test_the_smallest_size_of_several_routes(self) -> None:
        """Requirement 12: one content for all recipients is as long as the narrowest route lets."""
        wide, narrow = (
            Rule((f"{name}@example.com",), ("app",), max_size=size)
            for name, size in (("wide", 4096), ("narrow", 1024))
        )
        for names in (("wide", "narrow"), ("narrow", "wide")):
            reception = Reception(wide, narrow)
            recipients = [f"RCPT TO:<{name}@example.com>" for name in names]
            self.assertEqual(
                reception.codes(*MAIL[:2], *recipients, "DATA")[-3:], ["250", "250", "354"]
            )
            (answer,) = reception.say(*["x" * 70] * 30, ".")
            self.assertTrue(answer.startswith("552 5.2.3"), answer)

    def test_protocols_and_null_sender(self) -> None:
        """Requirement 19: the trace field says how the mail came; the null reverse-path is one."""
        for policy, hello, parameters, protocol in (
            (Policy("mx.example.com"), "HELO x.example", "", "SMTP"),
            (Policy("mx.example.com"), "EHLO x.example", " SMTPUTF8", "UTF8SMTP"),
            (Policy("mx.example.com", role="lmtp"), "LHLO x.example", "", "LMTP"),
            (Policy("mx.example.com", role="lmtp"), "LHLO x.example", " SMTPUTF8", "UTF8LMTP"),
        ):
            reception = Reception(policy=policy)
            reception.codes(hello, f"MAIL FROM:<>{parameters}", MAIL[2], "DATA")
            self.assertEqual([line[:3] for line in reception.say(*CONTENT)], ["250"])
            self.assertEqual(reception.message.envelope.client.protocol, protocol)
            self.assertIsNone(reception.message.envelope.reverse_path)

    def test_sender_of_another(self) -> None:
        """Where users may send as themselves only, another's address is refused, and logged."""
        reception = Reception(policy=LoginTests.POLICY, users={"ann": "secret"}, own_senders=True)
        reception.codes("EHLO x.example", "AUTH PLAIN AGFubgBzZWNyZXQ=")
        self.assertEqual(reception.codes("MAIL FROM:<bob@example.org>"), ["553"])
        self.assertEqual(reception.codes("MAIL FROM:<ann@example.org>"), ["250"])
        self.assertEqual(len(reception.logged(CommandRefused)), 1)

    def test_verify(self) -> None:
        """Requirement 16: VRFY tells what the router knows where the listener allows it."""
        reception = Reception(
            Rule(("known@mx.example.com",), ("app",)),
            policy=Policy("mx.example.com", vrfy="anyone"),
        )
        answers = reception.say("EHLO x.example", "VRFY known", "VRFY <who@mx.example.com>")
        self.assertEqual(
            answers[-2:], ["250 2.1.5 <known@mx.example.com>", "550 5.1.1 No such mailbox"]
        )
        # An address is understood as in RCPT, and what is none is nobody's.
        self.assertEqual(
            reception.say(
                'VRFY "known"@mx.example.com',
                'VRFY <"k\\nown">',
                "VRFY known@mx.example.com x",
                "VRFY known@",
                "VRFY @",
                'VRFY "known',
            ),
            ["250 2.1.5 <known@mx.example.com>"] * 2 + ["550 5.1.1 No such mailbox"] * 4,
        )

    def test_verify_later(self) -> None:
        """Requirement 16: what cannot be said now is not denied for good."""

        @implementer(IRouter)
        class Down:
            async def route(self, address: Address, sender: ISender) -> Route:
                raise Refused(Reply(451, "Ask later", "4.4.3"))

        reception = Reception(router=Down(), policy=Policy("mx.example.com", vrfy="anyone"))
        *_, answer = reception.say("EHLO x.example", "VRFY bob@example.com")
        self.assertEqual(answer, "451 4.4.3 Ask later")


class LoginTests(SynchronousTestCase):
    """AUTH through the portal."""

    POLICY = Policy(
        "mx.example.com",
        mechanisms=("PLAIN", "LOGIN"),
        cleartext_mechanisms=("PLAIN", "LOGIN"),
        auth_required=True,
    )

    def test_plain(self) -> None:
        """A user who logged in may send, and the message says who it was."""
        reception = Reception(policy=self.POLICY, users={"ann": "secret"})
        self.assertEqual(reception.codes(*MAIL)[-2:], ["530", "503"])
        self.assertEqual(reception.codes("AUTH PLAIN AGFubgBzZWNyZXQ="), ["235"])
        reception.codes(*MAIL, "DATA")
        reception.say(*CONTENT)
        self.assertEqual(reception.message.envelope.client.user, "ann")
        self.assertEqual(reception.message.envelope.client.protocol, "ESMTPA")

    def test_steps_and_failure(self) -> None:
        """A wrong password is 535, after the delay of a failure; an exchange can be given up."""
        reception = Reception(policy=self.POLICY, users={"ann": "secret"})
        reception.codes("EHLO x.example")
        self.assertEqual(reception.codes("AUTH LOGIN"), ["334"])
        self.assertEqual(reception.codes("*"), ["501"])
        self.assertEqual(reception.codes("AUTH LOGIN"), ["334"])
        self.assertEqual(reception.codes("YW5u"), ["334"])
        self.assertEqual(reception.codes("d3Jvbmc="), [])
        reception.clock.advance(60)
        self.assertEqual([line[:3] for line in reception.read()], ["535"])


class FlowTests(SynchronousTestCase):
    """Requirements 42 and 43: what is not read yet is bounded."""

    def test_spool_pushes_back(self) -> None:
        """While the spool asks to wait, input is held, then the transport is paused."""
        reception = Reception()
        reception.codes(*MAIL, "DATA")
        waiting: Deferred[None] = Deferred()
        reception.spool.pushes_back = waiting
        reception.protocol.dataReceived(b"x" * 50 + b"\r\n")
        for _ in range(3):
            self.assertEqual(reception.transport.producerState, "producing")
            reception.protocol.dataReceived((b"y" * 50 + b"\r\n") * 600)
        self.assertEqual(reception.transport.producerState, "paused")
        reception.spool.pushes_back = None
        waiting.callback(None)
        self.assertEqual(reception.transport.producerState, "producing")
        self.assertEqual([line[:3] for line in reception.say(".")], ["250"])
        self.assertEqual(reception.message.octets.count(b"y" * 50), 1800)

    def test_peer_that_does_not_read(self) -> None:
        """Nothing more is taken from a peer that does not read; in the end it is aborted."""
        reception = Reception(timers=Timers(write=60))
        reception.codes("EHLO x.example")
        producer = reception.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.assertEqual(reception.say("NOOP"), [])
        self.assertEqual(reception.transport.producerState, "paused")
        producer.resumeProducing()
        self.assertEqual([line[:3] for line in reception.read()], ["250"])
        self.assertEqual(reception.transport.producerState, "producing")
        producer.pauseProducing()
        reception.clock.advance(61)
        self.assertTrue(reception.transport.disconnected or reception.transport.disconnecting)


class _Narrow(StringTransport):
    """Has room for nothing: each write tells the producer to wait, as a full socket does."""

    def write(self, data: bytes) -> None:
        transport: Any = super()
        transport.write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


class NarrowTests(SynchronousTestCase):
    """Requirement 42: unread replies are bounded, and so is the time that they wait."""

    def test_pause_within_a_write(self) -> None:
        """The time to read a reply is not that of a command, though the peer may say more."""
        reception = Reception(timers=Timers(write=60, command=300), transport=_Narrow())
        self.assertEqual([line[:3] for line in reception.read()], ["220"])
        self.assertEqual(reception.transport.producerState, "paused")
        reception.clock.advance(61)
        self.assertTrue(reception.transport.disconnected)

    def test_read_after_all(self) -> None:
        """Who reads in time has the whole time of a command again."""
        reception = Reception(timers=Timers(write=60, command=300), transport=_Narrow())
        producer = reception.transport.producer
        assert producer is not None
        reception.clock.advance(59)
        producer.resumeProducing()
        reception.clock.advance(299)
        self.assertFalse(reception.transport.disconnecting)
        self.assertEqual(reception.codes("NOOP"), ["220", "250"])

    def test_pause_after_a_write(self) -> None:
        """Under TLS the socket turns out to be full later: then, too, the time begins again."""
        reception = Reception(timers=Timers(write=60, command=300))
        reception.codes("NOOP")
        producer = reception.transport.producer
        assert producer is not None
        producer.pauseProducing()
        reception.clock.advance(59)
        producer.resumeProducing()
        reception.clock.advance(299)
        self.assertFalse(reception.transport.disconnecting)
        self.assertEqual(reception.codes("NOOP"), ["250"])


class _Wide(StringTransport):
    """Says, as sockets do, how much it reads at once."""

    bufferSize = 65_536  # noqa: N815


class ReadingTests(SynchronousTestCase):
    """Requirement 43: large contents come in large chunks, and are the same as in small ones."""

    def test_as_much_as_there_is(self) -> None:
        content = b"\r\n" + b"".join(b"%07d\r\n" % number for number in range(200_000))
        stored = []
        for size in (1_000, 10_000_000):
            transport = _Wide()
            reception = Reception(transport=transport)
            reception.say("EHLO x", "MAIL FROM:<a@b.example>", "RCPT TO:<c@example.com>", "DATA")
            rest = content + b".\r\n"
            while rest:
                read = min(size, transport.bufferSize)
                reception.protocol.dataReceived(rest[:read])
                rest = rest[read:]
            self.assertEqual([line[:3] for line in reception.read()], ["250"])
            stored.append(reception.message.octets.partition(b"\r\n0000000\r\n")[2])
            self.assertEqual(transport.bufferSize, 65_536 if size == 1_000 else 524_288)
        self.assertEqual(stored[0], stored[1])


class TimerTests(SynchronousTestCase):
    """Requirement 41: what a peer may take its time for, and how long."""

    def test_command(self) -> None:
        """A command has to be complete in time: single octets do not put the deadline off."""
        reception = Reception(timers=Timers(command=300))
        reception.read()
        for octet in b"NOOP":
            reception.clock.advance(70)
            reception.protocol.dataReceived(bytes([octet]))
        self.assertEqual(reception.read(), [])
        reception.clock.advance(21)
        self.assertEqual(
            reception.read(), ["421 4.4.2 Timeout: no whole command came, closing connection"]
        )
        self.assertTrue(reception.transport.disconnecting)

    def test_commands_in_time(self) -> None:
        """Each complete command has the whole time again."""
        reception = Reception(timers=Timers(command=300))
        for _ in range(5):
            reception.clock.advance(200)
            self.assertEqual(reception.codes("NOOP")[-1:], ["250"])

    def test_content(self) -> None:
        """Content may pause for a while, but not take for ever."""
        for pause, pieces, told in (
            (181, 1, "no more content came"),
            (100, 6, "the message took too long"),
        ):
            reception = Reception(timers=Timers(idle=180, content=550))
            reception.codes(*MAIL, "DATA")
            for _ in range(pieces):
                self.assertFalse(reception.transport.disconnecting)
                reception.protocol.dataReceived(b"more\r\n")
                reception.clock.advance(pause)
            self.assertTrue(reception.read()[0].startswith(f"421 4.4.2 Timeout: {told}"))
            self.assertEqual(reception.message.fate, "aborted")

    def test_refused_chunk(self) -> None:
        """Requirement 23: a chunk that is refused is read all the same, and has its time."""
        reception = Reception(timers=Timers(idle=180, content=550))
        self.assertEqual(reception.codes("EHLO x.example", "BDAT 6")[-1:], ["250"])
        reception.clock.advance(10)
        reception.protocol.dataReceived(b"refuse")
        self.assertEqual([line[:3] for line in reception.read()], ["503"])
        self.assertFalse(reception.transport.disconnecting)

    def test_answers_of_ours(self) -> None:
        """A peer that waits for us has done nothing wrong."""
        reception = Reception(timers=Timers(command=300, idle=180))
        reception.spool.at_once = False
        reception.codes(*MAIL, "DATA")
        reception.say(*CONTENT)
        reception.clock.pump([100] * 20)
        self.assertEqual(reception.read(), [])
        reception.message.finish()
        self.assertEqual([line[:3] for line in reception.read()], ["250"])

    def test_login(self) -> None:
        """Each response of AUTH has its own time."""
        reception = Reception(
            policy=LoginTests.POLICY, users={"a": "b"}, timers=Timers(auth=60, command=300)
        )
        reception.codes("EHLO x.example")
        self.assertEqual(reception.codes("AUTH LOGIN"), ["334"])
        reception.clock.advance(61)
        self.assertTrue(reception.read()[0].startswith("421 4.4.2 Timeout: no response came"))

    def test_peer_that_does_not_leave(self) -> None:
        """A peer that neither reads the last reply nor goes is aborted."""
        reception = Reception(timers=Timers(write=60))
        reception.say("QUIT")
        self.assertTrue(reception.transport.disconnecting)
        reception.clock.advance(61)
        self.assertTrue(reception.transport.disconnected)


class GreetingTests(SynchronousTestCase):
    """The greeting delay catches those who talk first."""

    def test_patient(self) -> None:
        """Who waits is greeted."""
        reception = Reception(greeting_delay=5)
        self.assertEqual(reception.read(), [])
        reception.clock.advance(5)
        self.assertEqual([line[:3] for line in reception.read()], ["220"])
        self.assertEqual(reception.codes("NOOP"), ["250"])

    def test_early_talker(self) -> None:
        """Who talks first is turned away."""
        reception = Reception(greeting_delay=5)
        self.assertEqual(reception.codes("EHLO early.example"), ["554"])
        self.assertTrue(reception.transport.disconnecting)
        reception.clock.advance(5)
        self.assertEqual(reception.read(), [])


class EndTests(SynchronousTestCase):
    """Requirement 37 and the ends that a connection can have."""

    def lose(self, reception: Reception) -> None:
        reception.protocol.connectionLost(Failure(ConnectionDone()))

    def test_lost_within_content(self) -> None:
        """What was not complete is not delivered."""
        reception = Reception()
        reception.codes(*MAIL, "DATA")
        reception.say("Subject: half")
        self.lose(reception)
        self.assertEqual(reception.message.fate, "aborted")
        self.assertEqual(reception.gone, 1)
        self.assertEqual(reception.clock.getDelayedCalls(), [])

    def test_lost_within_commit(self) -> None:
        """A commit that is under way finishes: its answer is lost, its message is not."""
        reception = Reception()
        reception.spool.at_once = False
        reception.codes(*MAIL, "DATA")
        reception.say(*CONTENT)
        self.lose(reception)
        reception.message.finish()
        self.assertEqual(reception.message.fate, "committed")
        self.assertEqual(reception.woken, ["app"])

    def test_half_closed(self) -> None:
        """A peer that ends its side still gets the answers to what it has said."""
        reception = Reception()
        reception.spool.at_once = False
        reception.codes(*MAIL, "DATA")
        reception.say(*CONTENT)
        reception.protocol.readConnectionLost()
        self.assertFalse(reception.transport.disconnecting)
        reception.message.finish()
        self.assertEqual([line[:3] for line in reception.read()], ["250"])
        self.assertTrue(reception.transport.disconnecting)

    def test_half_closed_within_content(self) -> None:
        """Half a message is none."""
        reception = Reception()
        reception.codes(*MAIL, "DATA")
        reception.say("Subject: half")
        reception.protocol.readConnectionLost()
        self.lose(reception)
        self.assertEqual(reception.message.fate, "aborted")

    def test_stop_while_idle(self) -> None:
        """At a shutdown an idle client is told to come back."""
        reception = Reception()
        reception.say(*MAIL)
        reception.protocol.stop()
        self.assertTrue(reception.read()[0].startswith("421 4.3.2"))
        self.assertTrue(reception.transport.disconnecting)

    def test_stop_within_a_message(self) -> None:
        """At a shutdown a message that is under way is finished first."""
        reception = Reception()
        reception.codes(*MAIL, "DATA")
        reception.protocol.stop()
        self.assertFalse(reception.transport.disconnecting)
        self.assertEqual([line[:3] for line in reception.say(*CONTENT)], ["250", "421"])
        self.assertTrue(reception.transport.disconnecting)

    def test_nothing_after_quit(self) -> None:
        """Requirement 24: what follows QUIT is not run."""
        reception = Reception()
        reception.read()
        self.assertEqual(reception.codes("QUIT", "NOOP"), ["221"])
        self.assertEqual(reception.say("NOOP"), [])
