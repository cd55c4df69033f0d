"""Every command in every state, and which refusals count as bad commands.

Requirements 1, 8, 10, 16, 18, 23, 24, 27, 31 and 42.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Reply
from mailsvc.smtp.questions import Authenticated, Challenge
from mailsvc.smtp.session import Policy
from mailsvc.smtp.states import ORDER, State

from .owner import Owner, Script

GREETING = "EHLO client.example\r\n"
SENDER = GREETING + "MAIL FROM:<a@example.org>\r\n"
RECIPIENT = SENDER + "RCPT TO:<b@example.com>\r\n"
BINARY = GREETING + "MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@example.com>\r\n"

#: What leads into each state: of a message of at most 100 octets.
WAYS = {
    State.START: "",
    State.READY: GREETING,
    State.SENDER: SENDER,
    State.RECIPIENT: RECIPIENT,
    State.CHUNKS: RECIPIENT + "BDAT 1\r\nx",
    State.SPOILT: RECIPIENT + "BDAT 101\r\n" + "x" * 101,
}

#: The code of the reply in START, READY, SENDER, RECIPIENT, CHUNKS and SPOILT.
CODES = {
    "HELO client.example": "250 250 250 250 250 250",
    "EHLO client.example": "250 250 250 250 250 250",
    "LHLO client.example": "500 500 500 500 500 500",
    "MAIL FROM:<a@example.org>": "503 250 503 503 503 503",
    "RCPT TO:<b@example.com>": "503 503 250 250 503 503",
    "DATA": "503 503 503 354 503 503",
    "BDAT 0": "503 503 503 250 250 503",
    "BDAT 0 LAST": "503 503 503 250 250 503",
    "AUTH PLAIN eA==": "503 235 503 503 503 503",
    "STARTTLS": "220 220 220 220 220 220",
    "RSET": "250 250 250 250 250 250",
    "VRFY bob": "252 252 252 252 252 252",
    "EXPN bob": "502 502 502 502 502 502",
    "HELP": "214 214 214 214 214 214",
    "NOOP x": "250 250 250 250 250 250",
    "QUIT": "221 221 221 221 221 221",
    "WHAT": "500 500 500 500 500 500",
}

SCRIPT = Script(
    logins={("PLAIN", b"x"): Authenticated(), ("PLAIN", None): Challenge(b"")},
    senders={"<no@example.org>": Reply(550, "No", "5.7.1")},
    recipients={"<no@example.com>": Reply(550, "No", "5.1.1")},
)


def arrived(way: str, bad_commands: int = 10, **more: bool) -> Owner:
    """Return a session that has come ``way``."""
    policy = Policy(
        "mx.example.com",
        message_size=100,
        recipients=1 if more.get("few") else 1000,
        bad_commands=bad_commands,
        starttls=True,
        mechanisms=("PLAIN", "LOGIN"),
        cleartext_mechanisms=("PLAIN",),
        auth_required=more.get("auth_required", False),
    )
    owner = Owner(policy, SCRIPT, secure=more.get("secure", False))
    owner.greet()
    if way:
        owner.say(way)
    return owner


def last(output: str) -> str:
    return output.split("\r\n")[-2]


class StateTests(SynchronousTestCase):
    """The whole table: one reply each, and a refused command changes nothing."""

    def test_every_command_in_every_state(self) -> None:
        self.assertEqual({line.split()[0].encode() for line in CODES} - {b"WHAT"}, set(ORDER))
        for line, codes in CODES.items():
            for state, code in zip(State, codes.split(), strict=True):
                owner = arrived(WAYS[state])
                self.assertIs(owner.session.state, state)
                output = owner.say(f"{line}\r\n")
                self.assertEqual(last(output)[:4], f"{code} ", (line, state))
                ends = [each for each in output.split("\r\n") if each[3:4] == " "]
                self.assertEqual(len(ends), 1, (line, state))

    def test_a_refused_command_changes_nothing(self) -> None:
        for line, codes in CODES.items():
            for state, code in zip(State, codes.split(), strict=True):
                if code[0] != "5" or (line == "BDAT 0 LAST" and state is State.SPOILT):
                    continue
                owner = arrived(WAYS[state])
                owner.told.clear()
                owner.say(f"{line}\r\n")
                self.assertIs(owner.session.state, state, line)
                self.assertEqual(owner.told, [], (line, state))

    def test_what_ends_the_transaction_ends_it_from_every_state(self) -> None:
        """Requirements 8 and 24."""
        for line in ("EHLO client.example", "HELO client.example", "RSET"):
            for state in State:
                owner = arrived(WAYS[state])
                owner.told.clear()
                owner.say(f"{line}\r\n")
                told = state in (State.SENDER, State.RECIPIENT, State.CHUNKS, State.SPOILT)
                self.assertEqual("reset" in owner.told, told, (line, state))
                greeted = line != "RSET" or state is not State.START
                self.assertIs(owner.session.state, State.READY if greeted else State.START)
                self.assertEqual(owner.session.recipients, 0)

    def test_lmtp_greets_with_lhlo_only(self) -> None:
        owner = Owner(Policy("mx.example.com", role="lmtp"))
        for line, code in (("EHLO x", "500"), ("HELO x", "500"), ("LHLO x", "250")):
            self.assertEqual(last(owner.say(f"{line}\r\n"))[:3], code)


class BadCommandTests(SynchronousTestCase):
    """Requirement 42: what counts as a bad command, and what is only refused.

    Where none is allowed the first bad one is 421.
    """

    def replies(self, way: str, line: str, **more: bool) -> tuple[str, str]:
        """Return the reply where bad commands are allowed, and where they are not."""
        some, none = (
            last(arrived(way, bad, **more).say(line.encode("latin-1") + b"\r\n")) for bad in (10, 0)
        )
        return some, none

    def test_bad(self) -> None:
        cases = (
            ("", "WHAT", "500"),
            ("", "\xff", "500"),
            ("", "", "500"),
            ("", "NOOP " + "x" * 3000, "500"),
            ("", "LHLO client.example", "500"),
            ("", "EHLO", "501"),
            ("", "EHLO -", "501"),
            ("", "HELO a b", "501"),
            ("", "MAIL FROM:<a@example.org>", "503"),
            ("", "EXPN staff", "502"),
            ("", "VRFY", "501"),
            ("", "VRFY \xff", "501"),
            ("", "HELP WHAT", "504"),
            ("", "STARTTLS now", "501"),
            ("", "BDAT 0", "503"),
            (GREETING, "MAIL", "501"),
            (GREETING, "MAIL TO:<a@example.org>", "501"),
            (GREETING, "MAIL FROM:<\xff@example.org>", "501"),
            (GREETING, "MAIL FROM:<a b@example.org>", "501"),
            (GREETING, "MAIL FROM:<a@example.org> SIZE=x", "501"),
            (GREETING, "MAIL FROM:<a@example.org> SIZE=1 SIZE=1", "501"),
            (GREETING, "MAIL FROM:<a@example.org> WHAT", "555"),
            (GREETING, "MAIL FROM:<\xc3\xa4@example.org>", "553"),
            (GREETING, "AUTH", "501"),
            (GREETING, "AUTH LOGIN", "538"),
            (GREETING, "AUTH WHAT", "504"),
            (GREETING, "AUTH PLAIN !", "501"),
            (GREETING, "AUTH PLAIN eA== eA==", "501"),
            (GREETING, "AUTH PLAIN\r\n*", "501"),
            (GREETING, "AUTH PLAIN\r\n!", "501"),
            (GREETING, "AUTH PLAIN\r\n" + "A" * 13_000, "500"),
            (GREETING + "AUTH PLAIN eA==\r\n", "AUTH PLAIN eA==", "503"),
            ("HELO client.example\r\n", "AUTH PLAIN eA==", "503"),
            (SENDER, "MAIL FROM:<a@example.org>", "503"),
            (SENDER, "RCPT", "501"),
            (SENDER, "RCPT TO:<>", "501"),
            (SENDER, "RCPT TO:<\xff@example.com>", "501"),
            (SENDER, "RCPT TO:<b@example.com> NOTIFY=NEVER", "555"),
            (SENDER, "RCPT TO:<\xc3\xa4@example.com>", "553"),
            (SENDER, "DATA", "503"),
            (RECIPIENT, "DATA now", "501"),
            (RECIPIENT, "RSET now", "501"),
            (RECIPIENT, "QUIT now", "501"),
            (
                SENDER + "RSET\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@c.example>\r\n",
                "DATA",
                "503",
            ),
        )
        for way, line, code in cases:
            some, none = self.replies(way, line)
            self.assertEqual(some[:3], code, line[:40])
            self.assertEqual(none, "421 4.7.0 Too many bad commands, closing connection", line[:40])

    def test_bad_where_it_depends_on_the_connection(self) -> None:
        for more, line, code in (
            ("secure", "STARTTLS", "503"),
            ("auth_required", "MAIL FROM:<a@example.org>", "530"),
        ):
            some, none = self.replies(GREETING, line, **{more: True})
            self.assertEqual((some[:3], none[:3]), (code, "421"), line)

    def test_bad_where_there_is_neither_tls_nor_login(self) -> None:
        for line in ("STARTTLS", "AUTH PLAIN"):
            for bad, code in ((1, "502"), (0, "421")):
                owner = Owner(Policy("mx.example.com", bad_commands=bad))
                owner.say(GREETING)
                self.assertEqual(last(owner.say(f"{line}\r\n"))[:3], code, line)

    def test_not_bad(self) -> None:
        """A client may not know better: another recipient, a smaller message, another time."""
        cases = (
            (GREETING, "MAIL FROM:<a@example.org> SIZE=101", "552"),
            (GREETING, "MAIL FROM:<no@example.org>", "550"),
            (GREETING, "AUTH PLAIN AAAA", "535"),
            (SENDER, "RCPT TO:<no@example.com>", "550"),
            (SENDER, "RCPT TO:<@relay.example:b@example.com>", "550"),
            ("", "VRFY bob", "252"),
        )
        for way, line, code in cases:
            some, none = self.replies(way, line)
            self.assertEqual((some[:3], none), (code, some), line)
        some, none = self.replies(RECIPIENT, "RCPT TO:<c@example.com>", few=True)
        self.assertEqual((some[:3], none), ("452", some))

    def test_only_an_accepted_message_forgives(self) -> None:
        message = RECIPIENT + "DATA\r\n{}\r\n.\r\n"
        for text, left in (("short", 250), ("x" * 101, 421)):
            owner = arrived(message.format(text).replace("DATA", "WHAT\r\nDATA"), 1)
            self.assertEqual(last(owner.say("WHAT\r\nNOOP\r\n"))[:3], str(left), text[:9])
