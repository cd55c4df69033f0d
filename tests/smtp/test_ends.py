"""How a session ends before its client wants it to.  Requirements 33, 35, 37 and 41."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Reply
from mailsvc.smtp.questions import (
    Challenge,
    CloseAsked,
    ContentDropped,
    ContentEnded,
    ContentReceived,
    VerifyAsked,
)
from mailsvc.smtp.session import Phase, Policy, Session

from .owner import Owner, Script

PLAIN = Policy("mx.example.com", mechanisms=("PLAIN",), cleartext_mechanisms=("PLAIN",))
ENVELOPE = "EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


def greeted(policy: Policy | None = None, script: Script | None = None) -> Owner:
    owner = Owner(policy, script)
    owner.greet()
    owner.say("EHLO client.example\r\n")
    return owner


class ShutTests(SynchronousTestCase):
    """Requirement 41 and a stopping service: 421, and everything that was begun is given up."""

    TIMEOUT = Reply(421, "Timeout", "4.4.2")

    def shut(self, owner: Owner) -> str:
        owner.output = b""
        owner.session.shut(self.TIMEOUT)
        owner.run()
        self.assertIs(owner.session.phase, Phase.CLOSED)
        return owner.output.decode()

    def test_at_rest(self) -> None:
        owner = greeted()
        self.assertEqual(self.shut(owner), "421 4.4.2 Timeout\r\n")
        self.assertEqual(owner.told, ["close"])
        self.assertEqual(owner.say("NOOP\r\n"), "")

    def test_twice_is_once(self) -> None:
        owner = greeted()
        self.shut(owner)
        self.assertEqual(self.shut(owner), "")

    def test_within_content(self) -> None:
        owner = greeted()
        owner.say(ENVELOPE + "DATA\r\nhalf a mess")
        self.shut(owner)
        self.assertEqual(owner.told[-2:], ["content dropped", "close"])
        self.assertEqual(owner.contents, [])

    def test_between_chunks(self) -> None:
        owner = greeted()
        owner.say(ENVELOPE + "BDAT 3\r\nabc")
        self.shut(owner)
        self.assertEqual(owner.told[-2:], ["content dropped", "close"])

    def test_within_a_login(self) -> None:
        owner = greeted(PLAIN, Script(logins={("PLAIN", None): Challenge(b"")}))
        owner.say("AUTH PLAIN\r\n")
        self.shut(owner)
        self.assertEqual(owner.told[-2:], ["login ended", "close"])

    def test_while_a_question_is_outstanding(self) -> None:
        session = Session(Policy("mx.example.com"))
        session.receive(ENVELOPE.encode())
        session.next()
        session.shut(self.TIMEOUT)
        self.assertEqual(session.next(), CloseAsked())
        self.assertIsNone(session.next())
        session.answer(None)
        self.assertTrue(session.output().endswith(b"421 4.4.2 Timeout\r\n"))

    def ended(self) -> Session:
        session = Session(Policy("mx.example.com"))
        session.receive(ENVELOPE.encode() + b"DATA\r\nx\r\n.\r\n")
        for _ in range(3):
            session.next()
            session.answer(None)
        self.assertIsInstance(session.next(), ContentReceived)
        return session

    def test_while_the_owner_decides_on_the_content(self) -> None:
        """It may be stored already: the owner is not told to drop it."""
        session = self.ended()
        self.assertEqual(session.next(), ContentEnded())
        session.shut(self.TIMEOUT)
        self.assertEqual(session.next(), CloseAsked())

    def test_before_the_owner_is_asked_about_the_content(self) -> None:
        session = self.ended()
        session.shut(self.TIMEOUT)
        self.assertEqual(session.next(), ContentDropped())
        self.assertEqual(session.next(), CloseAsked())

    def test_while_the_owner_verifies_between_chunks(self) -> None:
        """The content is not complete then, so it is dropped."""
        session = Session(Policy("mx.example.com", vrfy="anyone"))
        session.receive(ENVELOPE.encode() + b"BDAT 1\r\nxVRFY y\r\n")
        for _ in range(3):
            session.next()
            session.answer(None)
        self.assertEqual(session.next(), ContentReceived(b"x", 0))
        self.assertEqual(session.next(), VerifyAsked("y"))
        session.shut(self.TIMEOUT)
        self.assertEqual(session.next(), ContentDropped())


class ShutByAnswerTests(SynchronousTestCase):
    """RFC 5321 section 3.8: 421 is the last reply, whoever gives it.  Requirement 33."""

    LAST = Reply(421, "Too many", "4.7.0")

    def refuse(self, text: bytes, accepted: int, policy: Policy | None = None) -> Session:
        session = Session(policy or Policy("mx.example.com"))
        session.receive(text + b"NOOP\r\n")
        for _ in range(accepted):
            session.next()
            session.answer(None)
        while isinstance(session.next(), ContentReceived):
            pass
        session.answer(self.LAST)
        self.assertEqual(session.next(), CloseAsked())
        self.assertIsNone(session.next())
        output = session.output()
        self.assertTrue(output.endswith(b"421 4.7.0 Too many\r\n"), output)
        self.assertEqual(output.count(b"421"), 1)
        self.assertIs(session.phase, Phase.CLOSED)
        return session

    def test_sender_and_recipient(self) -> None:
        self.refuse(ENVELOPE.encode(), 0)
        self.refuse(ENVELOPE.encode(), 1)

    def test_content(self) -> None:
        """The owner decided on a complete content, so it is not told to drop it."""
        for content in (b"DATA\r\n", b"BDAT 3\r\nabc", b"BDAT 3 LAST\r\nabc"):
            self.refuse(ENVELOPE.encode() + content, 2)
        self.refuse(ENVELOPE.encode() + b"DATA\r\nx\r\n.\r\n", 3)
        self.refuse(ENVELOPE.encode() + b"BDAT 3 LAST\r\nabc", 3)

    def test_content_of_lmtp(self) -> None:
        policy = Policy("mx.example.com", role="lmtp")
        text = b"LHLO x\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<b@example.com>\r\n" * 3
        self.refuse(text + b"BDAT 0 LAST\r\n", 5, policy)

    def test_verify(self) -> None:
        self.refuse(b"VRFY x\r\n", 0, Policy("mx.example.com", vrfy="anyone"))

    def test_login(self) -> None:
        self.refuse(b"EHLO x\r\nAUTH PLAIN eA==\r\n", 0, PLAIN)
