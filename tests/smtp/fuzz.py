"""The coverage-guided fuzzer's program: ``python -m tests.smtp.fuzz [libFuzzer options] CORPUS``.

An input's first octet chooses the policy, the second the segmentation, the rest is what a client
sends.  :func:`check` says what must hold for every one; ``test_fuzz.py`` runs the program.
"""

from __future__ import annotations

import importlib
import random
import re
import sys

from mailsvc.message import Reply
from mailsvc.smtp.questions import Authenticated, Challenge
from mailsvc.smtp.session import Phase, Policy

from .owner import Owner, Script

_LINE = re.compile(rb"[2-5]\d\d(?:[ -][\t\x20-\x7e\x80-\xff]+| )")
_STARTTLS_LAST = re.compile(rb"(?i)STARTTLS[\t ]*\r\n\Z")

POLICIES = (
    Policy("mx.example.com", notifications=True, vrfy="anyone"),
    Policy("mx.example.com", message_size=60, header_size=40, hops=1, recipients=2, messages=2),
    Policy("mx.example.com", bare_newline="repair", bad_commands=1000),
    Policy(
        "mx.example.com",
        role="lmtp",
        mechanisms=("PLAIN", "LOGIN"),
        cleartext_mechanisms=("PLAIN", "LOGIN"),
        vrfy="authenticated",
        requiretls=True,
    ),
    Policy("mx.example.com", starttls=True, bad_commands=1000),
)


def _owner(policy: Policy) -> Owner:
    script = Script(
        recipients={"<no@example.com>": Reply(550, "No such mailbox", "5.1.1")},
        logins={
            ("PLAIN", None): Challenge(b""),
            ("PLAIN", b"\0bob\0secret"): Authenticated(),
            ("LOGIN", None): Challenge(b"Username:"),
        },
    )
    owner = Owner(policy, script, secure=policy.role == "lmtp")
    owner.greet()
    return owner


def check(octets: bytes) -> None:
    """Assert what must hold for any input.  Requirements 2, 4, 25 and 26."""
    policy = POLICIES[octets[0] % len(POLICIES)] if octets else POLICIES[0]
    cut = random.Random(octets[1] if len(octets) > 1 else 0)
    stream = octets[2:]
    whole = _owner(policy)
    whole.feed([stream])
    _check_owner(policy, whole)
    if policy.starttls:
        # Requirement 26 is exempt from requirement 2; TLS never starts over residue.
        assert not whole.tls or _STARTTLS_LAST.search(stream), stream
        return
    pieces = _owner(policy)
    at = 0
    while at < len(stream):
        size = cut.choice((1, 1, 2, 3, 7, 40, 500))
        pieces.feed([stream[at : at + size]])
        at += size
    _check_owner(policy, pieces)
    assert whole.output == pieces.output, (whole.output, pieces.output)
    assert whole.told == pieces.told, (whole.told, pieces.told)


def _check_owner(policy: Policy, owner: Owner) -> None:
    lines = owner.output.split(b"\r\n")
    assert lines.pop() == b""
    for line in lines:
        assert _LINE.fullmatch(line) and len(line) <= 510, line
    session = owner.session
    assert owner.closed == (session.phase is Phase.CLOSED)
    assert owner.closed or not session.has_input() or session.phase is Phase.TLS
    assert len(session._line) <= 12_288
    if not any("BINARYMIME" in told for told in owner.told):
        for content in owner.contents:
            assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", content), content
            if "content" not in owner.told:
                assert b"\r\n.\r\n" not in b"\r\n" + content, content


def main() -> None:
    """Fuzz as the command line says; returns by exit."""
    # Loaded by name: there is no wheel of it for every platform that runs the other tests.
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
