"""The session's own promises: what its owner may do, bounds, and STARTTLS.

Requirements 2, 3, 5, 6, 18, 26, 27, 29, 42 and 43.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Address, Reply
from mailsvc.smtp import commands, replies, states
from mailsvc.smtp.questions import (
    Authenticated,
    AuthenticationAsked,
    Challenge,
    CloseAsked,
    ContentDropped,
    ContentEnded,
    ContentReceived,
    ContentStarted,
    RecipientAsked,
    SenderAsked,
    TLSAsked,
    VerifyAsked,
)
from mailsvc.smtp.session import AUTH_LINE, LINE, Phase, Policy, Session

from .owner import Owner, Script

TLS = Policy("mx.example.com", starttls=True)
PLAIN = Policy("mx.example.com", mechanisms=("PLAIN",), cleartext_mechanisms=("PLAIN",))
ENVELOPE = "EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


def greeted(policy: Policy | None = None, script: Script | None = None) -> Owner:
    owner = Owner(policy, script)
    owner.greet()
    owner.say("EHLO client.example\r\n")
    return owner


class ReplyTests(SynchronousTestCase):
    """Requirements 18 and 25: the standard replies."""

    def test_the_class_of_the_enhanced_code_is_that_of_the_code(self) -> None:
        for name, octets in vars(replies).items():
            if not isinstance(octets, bytes):
                continue
            match = re.fullmatch(rb"(\d)\d\d (?:(\d)\.\d{1,3}\.\d{1,3} )?[\x20-\x7e]+\r\n", octets)
            assert match is not None, name
            wanted = None if match[1] == b"3" else match[1]
            self.assertEqual(match[2], wanted, name)


class TableTests(SynchronousTestCase):
    """The tables of the state machine fit each other."""

    def test_every_command_has_a_row(self) -> None:
        self.assertEqual(set(commands.COMMANDS), set(states.ORDER))
        for verb, row in states.ORDER.items():
            self.assertEqual(len(row), len(states.State), verb)

    def test_every_transition_leads_where_its_command_may_be(self) -> None:
        moves = {
            states.Move.SENDER_ACCEPTED: b"MAIL",
            states.Move.RECIPIENT_ACCEPTED: b"RCPT",
            states.Move.CHUNK_ACCEPTED: b"BDAT",
        }
        for move, verb in moves.items():
            allowed = {state for state in states.State if states.ORDER[verb][state] is None}
            self.assertEqual({state for state, other in states.NEXT if other is move}, allowed)

    def test_every_command_helps(self) -> None:
        """Requirement 16."""
        for verb in commands.COMMANDS:
            name = verb.decode()
            owner = Owner(Policy("mx.example.com", role="lmtp" if name == "LHLO" else "mx"))
            self.assertRegex(owner.say(f"HELP {name}\r\n"), rf"\A214[ -]2\.0\.0 {name}[ :]")


class OwnerTests(SynchronousTestCase):
    """What the owner sees and may do."""

    def test_nothing_is_read_while_an_answer_is_outstanding(self) -> None:
        """Requirement 1: the next command waits, and replies stay in order."""
        session = Session(Policy("mx.example.com"))
        session.receive(ENVELOPE.encode() + b"NOOP\r\n")
        self.assertEqual(session.next(), SenderAsked(Address("a", "example.org")))
        session.output()
        session.receive(b"VR")
        session.receive(b"FY x\r\n")
        self.assertIsNone(session.next())
        self.assertEqual(session.output(), b"")
        session.answer(None)
        self.assertIsInstance(session.next(), RecipientAsked)
        session.answer(Reply(451, "Later", "4.3.0"))
        self.assertIsNone(session.next())
        self.assertEqual(
            [line[:3] for line in session.output().split(b"\r\n")],
            [b"250", b"451", b"250", b"252", b""],
        )

    def test_a_positive_reply_of_the_owner_accepts(self) -> None:
        script = Script(
            senders={"<a@example.org>": Reply(250, "Welcome back", "2.1.0")},
            recipients={"<b@example.com>": Reply(251, "Will forward", "2.1.5")},
        )
        owner = Owner(script=script)
        output = owner.say(ENVELOPE + "DATA\r\n")
        self.assertIn("250 2.1.0 Welcome back\r\n251 2.1.5 Will forward\r\n354 ", output)

    def test_readable_state(self) -> None:
        owner = Owner()
        session = owner.session
        self.assertEqual((session.helo, session.extended, session.utf8), ("", False, False))
        owner.say("HELO one.example\r\n")
        self.assertEqual((session.helo, session.extended), ("one.example", False))
        owner.say("EHLO two.example\r\nMAIL FROM:<> SMTPUTF8\r\n")
        self.assertEqual((session.helo, session.extended), ("two.example", True))
        self.assertTrue(session.utf8)
        owner.say("RSET\r\n")
        self.assertFalse(session.utf8)
        self.assertEqual(session.commands, 4)

    def test_phases(self) -> None:
        """Requirement 41: which timer applies."""
        owner = Owner(PLAIN, Script(logins={("PLAIN", None): Challenge(b"")}))
        session = owner.session
        self.assertIs(session.phase, Phase.COMMAND)
        owner.say("EHLO client.example\r\nAUTH PLAIN\r\n")
        self.assertIs(session.phase, Phase.AUTHENTICATION)
        owner.say("*\r\n")
        self.assertIs(session.phase, Phase.COMMAND)
        owner.say(ENVELOPE + "DATA\r\n")
        self.assertIs(session.phase, Phase.CONTENT)
        owner.say("\r\n.\r\n")
        self.assertIs(session.phase, Phase.COMMAND)
        owner.say("BDAT 5\r\nab")
        self.assertIs(session.phase, Phase.CONTENT)
        owner.say("cde")
        self.assertIs(session.phase, Phase.COMMAND)
        owner.say("QUIT\r\n")
        self.assertIs(session.phase, Phase.CLOSED)

    def test_an_answer_without_a_question_is_an_error(self) -> None:
        session = Session(Policy("mx.example.com"))
        self.assertRaises(RuntimeError, session.answer, None)

    def test_an_answer_of_the_wrong_kind_is_an_error(self) -> None:
        session = Session(Policy("mx.example.com", vrfy="anyone", cleartext_mechanisms=("PLAIN",)))
        session.receive(b"EHLO x\r\nVRFY y\r\nAUTH PLAIN\r\n")
        self.assertEqual(session.next(), VerifyAsked("y"))
        self.assertRaises(TypeError, session.answer, None)
        self.assertEqual(session.next(), AuthenticationAsked("PLAIN", None))
        self.assertRaises(TypeError, session.answer, None)

    def test_a_tuple_of_replies_must_fit(self) -> None:
        """LMTP: one for each accepted RCPT."""
        ok = Reply(250, "Ok", "2.0.0")
        for role, answer in (("lmtp", (ok, ok)), ("mx", (ok,))):
            session = Session(Policy("mx.example.com", role=role))
            text = ENVELOPE.replace("EHLO", "LHLO") if role == "lmtp" else ENVELOPE
            session.receive(text.encode() + b"DATA\r\n.\r\n")
            for _ in range(3):
                session.next()
                session.answer(None)
            self.assertIsInstance(session.next(), ContentEnded)
            self.assertRaises(ValueError, session.answer, answer)

    def test_output_is_given_once(self) -> None:
        session = Session(Policy("mx.example.com"))
        session.greet()
        self.assertEqual(session.output(), b"220 mx.example.com ESMTP mailsvc\r\n")
        self.assertEqual(session.output(), b"")

    def test_content_is_handed_on_as_it_comes(self) -> None:
        """Requirement 43: a chunk of content is one question, and not a copy."""
        session = Session(Policy("mx.example.com"))
        session.receive(ENVELOPE.encode() + b"BDAT 40000 LAST\r\n")
        for kind in (SenderAsked, RecipientAsked, ContentStarted):
            self.assertIsInstance(session.next(), kind)
            session.answer(None)
        self.assertIsNone(session.next())
        chunk = b"\r\n" + b"x" * 19_998
        for _ in range(2):
            session.receive(chunk)
            received = session.next()
            assert isinstance(received, ContentReceived)
            self.assertIs(received.data, chunk)
        self.assertIsInstance(session.next(), ContentEnded)

    def test_the_cause_of_a_dropped_content_is_told(self) -> None:
        session = Session(Policy("mx.example.com", message_size=10))
        session.receive(ENVELOPE.encode() + b"DATA\r\n0123456789\r\n")
        for _ in range(3):
            session.next()
            session.answer(None)
        self.assertEqual(session.next(), ContentDropped(replies.TOO_LARGE))

    def test_what_the_session_refuses_by_itself_is_told(self) -> None:
        """So that it is logged: nobody else sees it."""
        owner = Owner(Policy("mx.example.com", message_size=100, recipients=1))
        owner.say("EHLO client.example\r\n")
        for line in (
            "MAIL FROM:<a b@example.org>",
            "MAIL TO:<a@example.org>",
            "MAIL FROM:<a@example.org> SIZE=101",
            "MAIL FROM:<a@example.org> SIZE=x",
            "MAIL FROM:<\u00e4@example.org>",
            "MAIL FROM:<a@example.org>",
            "RCPT TO:<..@example.com>",
            "RCPT TO:b@example.com>",
            "RCPT TO:<@relay.example:b@example.com>",
            "RCPT TO:<b@example.com> NOTIFY=NEVER",
            "RCPT TO:<\u00e4@example.com>",
            "RCPT TO:<b@example.com>",
            "RCPT TO:<c@example.com>",
        ):
            owner.declined.clear()
            reply = owner.say(f"{line}\r\n")
            verb, _, argument = line.partition(" ")
            told = [] if reply[0] == "2" else [(verb, argument.encode(), reply.encode())]
            self.assertEqual(owner.declined, told, line)

    def test_the_lowest_limit_counts_and_ends_with_the_transaction(self) -> None:
        """Requirement 12."""
        owner = Owner()
        owner.say(ENVELOPE)
        for octets in (20, 10, 30):
            owner.session.limit(octets)
        self.assertIn("552 5.2.3", owner.say("DATA\r\n012345678\r\n.\r\n"))
        self.assertIn("250 2.0.0 Mess", owner.say(ENVELOPE + "DATA\r\n012345678\r\n.\r\n"))


class LineTests(SynchronousTestCase):
    """Requirements 2, 3, 5 and 6: lines, long ones and those that have no end."""

    def say(self, owner: Owner, text: bytes, *, single: bool) -> str:
        owner.output = b""
        owner.feed([text[at : at + 1] for at in range(len(text))] if single else [text])
        return owner.output.decode()

    def test_the_longest_lines(self) -> None:
        """Requirement 6: what is allowed is accepted, one octet more is one 500."""
        cases = (
            ("NOOP ", LINE, "250 2.0.0", "500 5.5.2"),
            ("RCPT TO:<b@example.com>", LINE, "503 5.5.1", "500 5.5.2"),
            ("AUTH PLAIN ", AUTH_LINE, "501 5.5.2", "500 5.5.2"),
        )
        for start, longest, right, wrong in cases:
            for single in (False, True):
                for more, wanted in ((0, right), (1, wrong)):
                    owner = greeted(PLAIN)
                    line = start.ljust(longest - 2 + more, "x" if start != "RCPT" else " ")
                    reply = self.say(owner, line.encode() + b"\r\n", single=single)
                    self.assertEqual(reply[:9], wanted, (start, more, single))
                    self.assertEqual(reply.count("\r\n"), 1)
                    self.assertIn("250 2.0.0", owner.say("NOOP\r\n"))

    def test_the_least_that_the_standards_ask_for(self) -> None:
        """Requirement 6."""
        self.assertGreaterEqual(LINE, 2048)
        self.assertGreaterEqual(AUTH_LINE, 12_288)

    def test_a_long_response_ends_the_exchange(self) -> None:
        """Requirement 6; RFC 4954 section 4."""
        for length, wanted, last in (
            (0, "535 5.7.8", "login PLAIN"),
            (4, "500 5.5.6", "login ended"),
        ):
            owner = greeted(PLAIN, Script(logins={("PLAIN", None): Challenge(b"")}))
            owner.say("AUTH PLAIN\r\n")
            line = b"A" * (AUTH_LINE - 4 + length) + b"\r\n"
            self.assertEqual(self.say(owner, line, single=False)[:9], wanted)
            self.assertTrue(owner.told[-1].startswith(last))

    def test_an_endless_line_takes_no_memory(self) -> None:
        """Requirements 5 and 43."""
        owner = greeted()
        for _ in range(1000):
            owner.feed([b"x" * 10_000])
            session = owner.session
            self.assertLessEqual(len(session._line) + len(session.data) - session.at, LINE)
        self.assertEqual(owner.say(b"\r\n"), replies.LINE_TOO_LONG.decode())
        self.assertIn("250 2.0.0", owner.say("NOOP\r\n"))

    def test_the_end_of_a_long_line_may_be_cut(self) -> None:
        """Requirement 2."""
        owner = greeted()
        self.assertEqual(owner.say(b"x" * 5000 + b"\r"), "")
        self.assertEqual(owner.say(b"\n"), replies.LINE_TOO_LONG.decode())

    def test_a_bare_cr_is_seen_before_the_line_ends(self) -> None:
        """Requirements 2 and 3: however it is cut, and in a long line, too."""
        for text in (b"NO\rOP", b"\rX", b"x" * 5000 + b"\rx", b"x" * 5000 + b"\r\r\n"):
            for single in (False, True):
                owner = greeted()
                reply = self.say(owner, text, single=single)
                self.assertEqual(reply, replies.BARE_NEWLINE.decode(), text[-10:])
                self.assertTrue(owner.closed)

    def test_a_bare_newline_in_a_response_ends_all(self) -> None:
        """Requirement 3."""
        owner = greeted(PLAIN, Script(logins={("PLAIN", None): Challenge(b"")}))
        owner.say("AUTH PLAIN\r\n")
        self.assertEqual(owner.say(b"AAAA\n"), replies.BARE_NEWLINE.decode())
        self.assertEqual(owner.told[-2:], ["login ended", "close"])


class TLSTests(SynchronousTestCase):
    """Requirements 26, 27 and 29."""

    def test_clean(self) -> None:
        owner = greeted(TLS)
        self.assertEqual(owner.say("STARTTLS\r\n"), replies.TLS_READY.decode())
        self.assertEqual(owner.told, ["tls"])
        self.assertIs(owner.session.phase, Phase.TLS)

    def test_residue_in_the_same_segment(self) -> None:
        """Requirement 26: even one octet."""
        for residue in ("\r", "NOOP\r\n", "\x16"):
            owner = greeted(TLS)
            self.assertEqual(owner.say("STARTTLS\r\n" + residue), replies.RESIDUE.decode())
            self.assertEqual(owner.told, ["close"])

    def test_residue_held_in_another_segment(self) -> None:
        """Requirement 26: what is held counts."""
        session = Session(TLS)
        session.receive(b"HELO x\r\nMAIL FROM:<a@example.org>\r\nSTARTTLS\r\n")
        session.next()
        session.receive(b"RSET\r\n")
        session.answer(None)
        self.assertEqual(session.next(), CloseAsked())
        self.assertTrue(session.output().endswith(replies.SENDER_OK + replies.RESIDUE))

    def test_residue_before_the_reply_was_taken(self) -> None:
        """Requirement 26: octets that are read before the 220 is written."""
        for taken in (False, True):
            session = Session(TLS)
            session.receive(b"STARTTLS\r\n")
            if taken:
                self.assertEqual(session.next(), TLSAsked())
            else:
                session._read_line()
            session.receive(b"EHLO evil\r\n")
            self.assertEqual(session.next(), CloseAsked())
            self.assertIsNone(session.next())
            self.assertEqual(session.output(), replies.RESIDUE)

    def test_nothing_is_read_after_the_reply_was_taken(self) -> None:
        session = Session(TLS)
        session.receive(b"STARTTLS\r\n")
        session.next()
        session.receive(b"")
        self.assertEqual(session.output(), replies.TLS_READY)
        session.receive(b"EHLO late\r\n")
        self.assertIsNone(session.next())
        self.assertEqual(session.output(), b"")

    def test_a_new_session_knows_nothing(self) -> None:
        """Requirement 27."""
        owner = Owner(TLS, secure=True)
        self.assertIn("503 5.5.1", owner.say("MAIL FROM:<a@example.org>\r\n"))
        self.assertNotIn("STARTTLS", owner.say("EHLO client.example\r\n"))
        self.assertIn("503 5.5.1", owner.say("STARTTLS\r\n"))

    def test_a_login_is_not_announced_again(self) -> None:
        """Requirement 29: EHLO announces what works in the present state."""
        script = Script(logins={("PLAIN", b"x"): Authenticated()})
        owner = Owner(PLAIN, script)
        self.assertIn("AUTH PLAIN", owner.say("EHLO client.example\r\n"))
        self.assertIn("235 2.7.0", owner.say("AUTH PLAIN eA==\r\n"))
        self.assertTrue(owner.session.authenticated)
        self.assertNotIn("AUTH", owner.say("EHLO client.example\r\n"))
