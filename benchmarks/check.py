"""Whether every message that got a 250 is there, byte for byte."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from email import message_from_bytes

from benchmarks.load import Load, Outcome, message
from benchmarks.workplace import Workplace


class CheckFailed(AssertionError):
    """A server acknowledged what it did not keep or deliver; the text says what."""


def compare(workplace: Workplace, load: Load, outcome: Outcome, stored: Iterable[bytes]) -> str:
    """Compare stored mails with those that were sent, and say how many were.

    A mail may have header fields before the sent ones (Received, Return-Path) and LF for CRLF.

    :raises CheckFailed: one is missing, or is not what was sent.
    """
    found = _Found(outcome)
    for octets in stored:
        number = found.number(octets)
        expected = message(workplace, load, outcome.prefix, number)
        wire = octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
        if not wire.endswith(expected):
            # Haraka and curl's mail end without the last line's CRLF, or with one more.
            if not wire.rstrip(b"\r\n").endswith(expected.rstrip(b"\r\n")):
                raise CheckFailed(f"message {number} is not what was sent")
        before = wire[: wire.rindex(b"From: Bench <sender@example.org>\r\n")]
        if any(not re.match(rb"[A-Za-z-]+:|[ \t]|From |$", line) for line in before.splitlines()):
            raise CheckFailed(f"message {number} has more before it than header fields")
    return found.verdict()


def compare_payloads(
    workplace: Workplace, load: Load, outcome: Outcome, bodies: Iterable[bytes]
) -> str:
    """Compare the text and the HTML of posted JSON with those that were sent.

    :raises CheckFailed: one is missing, or is not what was sent.
    """
    found = _Found(outcome)
    for body in bodies:
        document = json.loads(body)
        number = found.number(b"Subject: " + document["subject"].encode())
        sent = message_from_bytes(message(workplace, load, outcome.prefix, number))
        for part in sent.walk():
            kind = {"text/plain": "text", "text/html": "html"}.get(part.get_content_type())
            if kind is None:
                continue
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            lines = [line.rstrip() for line in content.decode("ascii").rstrip().splitlines()]
            if [each.rstrip() for each in document[kind].rstrip().splitlines()] != lines:
                raise CheckFailed(f"the {kind} of message {number} is not what was sent")
    return found.verdict()


class _Found:
    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._token = re.compile(rb"Subject: " + outcome.prefix.encode() + rb"-([0-9]{8})\b")
        self._numbers: Counter[int] = Counter()

    def number(self, octets: bytes) -> int:
        token = self._token.search(octets)
        if token is None:
            raise CheckFailed(f"a mail that was not sent in this run: {octets[:300]!r}")
        number = int(token[1])
        self._numbers[number] += 1
        return number

    def verdict(self) -> str:
        outcome = self._outcome
        missing = set(range(outcome.begun)) - set(outcome.lost) - set(self._numbers)
        if missing:
            some = sorted(missing)[:5]
            raise CheckFailed(f"{len(missing)} acknowledged mails are missing, such as {some}")
        twice = sum(self._numbers.values()) - len(self._numbers)
        return "compared" if not twice else f"compared, {twice} came twice"
