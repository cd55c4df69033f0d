"""Random command streams in random segments: the session does what the simple model does.

Requirements 1, 2, 4, 5, 6, 8, 10, 11, 12, 17, 18, 20, 22, 23, 24, 30, 31, 33, 42 and 44.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Reply
from mailsvc.smtp.questions import Authenticated, Challenge
from mailsvc.smtp.session import Policy

from .model import BAD_HOSTS, BAD_PATHS, GOOD_HOSTS, GOOD_PATHS, REFUSED, UTF8_PATH, Model, Rules
from .owner import Owner, Script

PARAMETERS = st.lists(
    st.sampled_from(
        ["SIZE=10", "SIZE=41", "SIZE=x", "SIZE", "BODY=8BITMIME", "BODY=BINARYMIME", "BODY=9BIT"]
        + ["SMTPUTF8", "SMTPUTF8=1", "FOO=bar"]
    ),
    max_size=2,
).map(lambda words: "".join(f" {word}" for word in words))
SENDERS = st.sampled_from([*GOOD_PATHS] * 4 + ["<>", REFUSED, UTF8_PATH, *BAD_PATHS])
RECIPIENTS = st.sampled_from([*GOOD_PATHS] * 4 + [REFUSED, UTF8_PATH, "<postmaster>", *BAD_PATHS])
HOSTS = st.sampled_from([*GOOD_HOSTS] * 3 + [*BAD_HOSTS])
BODY = st.lists(
    st.sampled_from(
        [b"x", b"\r\n", b"\r\n.\r\n", b"\r\n..", b"Received: y\r\n", b"\r\n\r\n", b"\r", b"\n"]
        + [b".", b"\0", b"\xff", b"0123456789"]
    ),
    max_size=8,
).map(b"".join)


def line(text: str) -> bytes:
    return text.encode() + b"\r\n"


def chunk(body: bytes, last: bool) -> bytes:
    return b"BDAT %d%s\r\n" % (len(body), b" LAST" if last else b"") + body


COMMANDS = st.one_of(
    st.builds(lambda verb, host: line(f"{verb} {host}"), st.sampled_from(["EHLO", "HELO"]), HOSTS),
    st.builds(lambda host: line(f"LHLO {host}"), HOSTS),
    st.builds(lambda path, words: line(f"MAIL FROM:{path}{words}"), SENDERS, PARAMETERS),
    st.builds(lambda path: line(f"mail from:{path}"), SENDERS),
    st.builds(lambda path: line(f"RCPT TO:{path}"), RECIPIENTS),
    st.builds(lambda path: line(f"RCPT TO:{path}"), RECIPIENTS),
    st.builds(lambda path: line(f"RCPT TO:{path} FOO"), RECIPIENTS),
    st.builds(lambda body: b"DATA\r\n" + body + b"\r\n.\r\n", BODY),
    st.builds(chunk, BODY, st.booleans()),
    st.builds(chunk, BODY, st.booleans()),
    st.sampled_from(
        [
            b"DATA\r\n",
            b".\r\n",
            b"DATA x\r\n",
            b"RSET\r\n",
            b"RSET x\r\n",
            b"NOOP x\r\n",
            b"VRFY a\r\n",
        ]
        + [
            b"VRFY\r\n",
            b"EXPN a\r\n",
            b"HELP\r\n",
            b"HELP MAIL\r\n",
            b"HELP x\r\n",
            b"FOO\r\n",
            b"\r\n",
        ]
        + [
            b"QUIT\r\n",
            b"QUIT x\r\n",
            b"GET / HTTP/1.1\r\n",
            b"STARTTLS\r\n",
            b"NOOP\n",
            b"NO\rOP\r\n",
        ]
        + [b"MAIL FROM:<\xff@example.org>\r\n", b"RCPT TO:<\xff@example.org>\r\n", b"MAIL\r\n"]
        + [b"BDAT\r\n", b"BDAT x\r\n", b"BDAT 99 LAST\r\n", b"NOOP " + b"x" * 2041 + b"\r\n"]
        + [b"NOOP " + b"x" * 2042 + b"\r\n", b"AUTH " + b"x" * 2042 + b"\r\n"]
        + [b"AUTH\r\n", b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n", b"AUTH PLAIN\r\nAGJvYgBzZWNyZXQ=\r\n"]
        + [b"AUTH PLAIN\r\n*\r\n", b"AUTH PLAIN\r\nnot base64\r\n", b"AUTH PLAIN AAAA\r\n"]
        + [b"AUTH FOO\r\n", b"AUTH PLAIN AAA\r\n"]
    ),
)
#: A message that is well so far, so that most runs get to the content.
START = st.sampled_from(
    [
        b"",
        b"EHLO client.example\r\n",
        b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<B.c+d@example.com>\r\n",
        b"LHLO client.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<B.c+d@example.com>\r\n",
        b"EHLO client.example\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<postmaster>\r\n",
        b"EHLO client.example\r\n" + b"AUTH PLAIN AAAA\r\n" * 4,
    ]
)
STREAMS = st.builds(
    lambda start, commands: start + b"".join(commands), START, st.lists(COMMANDS, max_size=12)
)
RULES = st.builds(
    Rules,
    lmtp=st.sampled_from([False, False, False, True]),
    bad=st.sampled_from([6, 1, 100]),
    messages=st.sampled_from([0, 0, 2]),
    auth=st.sampled_from([True, True, False]),
)


def owner(rules: Rules) -> Owner:
    script = Script(
        senders={REFUSED: Reply(550, "No", "5.7.1")},
        recipients={REFUSED: Reply(550, "No", "5.1.1")},
        logins={("PLAIN", None): Challenge(b""), ("PLAIN", b"\0bob\0secret"): Authenticated()},
    )
    policy = Policy(
        "mx.example.com",
        role="lmtp" if rules.lmtp else "mx",
        message_size=rules.size,
        header_size=rules.header,
        recipients=rules.recipients,
        hops=rules.hops,
        bad_commands=rules.bad,
        messages=rules.messages,
        cleartext_mechanisms=("PLAIN",) if rules.auth else (),
        mechanisms=("PLAIN",) if rules.auth else (),
    )
    return Owner(policy, script)


def codes(output: bytes) -> list[str]:
    """Return the code, and the enhanced code if there is one, of each reply's last line."""
    found = []
    for reply in output.decode().split("\r\n")[:-1]:
        match = re.fullmatch(r"(\d{3})([ -])(?:(\d\.\d\.\d+) )?.*", reply)
        assert match is not None, reply
        if match[2] == " ":
            found.append(" ".join(filter(None, (match[1], match[3]))))
    return found


class ModelTests(SynchronousTestCase):
    """The session against the model."""

    def compare(self, rules: Rules, stream: bytes, segments: list[bytes]) -> None:
        model = Model(rules)
        model.read(stream)
        subject = owner(rules)
        subject.feed(segments)
        self.assertEqual(codes(subject.output), model.replies)
        told = model.told
        if told[-1:] == ["..."]:
            # Within content: whether it is dropped before its end is the session's choice.
            told = told[:-1]
            if subject.told[-1:] == ["content dropped"] and told[-1:] != ["content dropped"]:
                subject.told.pop()
        self.assertEqual(subject.told, told)

    @settings(max_examples=1500, deadline=None)
    @given(RULES, STREAMS, st.randoms(use_true_random=False))
    def test_random_streams(self, rules: Rules, stream: bytes, random: object) -> None:
        assert hasattr(random, "randint")
        segments = []
        at = 0
        while at < len(stream):
            size = random.randint(1, 30)
            segments.append(stream[at : at + size])
            at += size
        self.compare(rules, stream, segments)

    @settings(max_examples=300, deadline=None)
    @given(RULES, STREAMS)
    def test_one_octet_at_a_time(self, rules: Rules, stream: bytes) -> None:
        self.compare(rules, stream, [stream[at : at + 1] for at in range(len(stream))])

    @settings(max_examples=700, deadline=None)
    @given(RULES, STREAMS)
    def test_in_one_piece(self, rules: Rules, stream: bytes) -> None:
        self.compare(rules, stream, [stream])
