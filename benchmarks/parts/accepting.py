"""The parts of taking a message in, up to the spool."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.parts.measuring import least
from mailsvc.authentication import Authentication
from mailsvc.deadline import Deadlines
from mailsvc.intake import Intake
from mailsvc.interfaces import IIncoming, ISpool
from mailsvc.logs import TextLines
from mailsvc.message import Envelope
from mailsvc.protocol import SMTPProtocol
from mailsvc.routing import Router, Rule
from mailsvc.rules import Rules, Timers
from mailsvc.smtp.policy import Policy
from mailsvc.synchronous import Synchronous

CONVERSATION = "protocol, session, intake, routing, a line of the log"
CONNECTION = "a connection: greeting, EHLO, QUIT, its end"
SEARCHING = "searching 25 MiB for its end, bare newlines and dots, and counting"

BODY = b"Subject: x\r\nFrom: <a@example.org>\r\n\r\n" + (b"y" * 70 + b"\r\n") * 141
_COMMANDS = (
    b"MAIL FROM:<sender@example.org>\r\n",
    b"RCPT TO:<bench@example.com>\r\n",
    b"DATA\r\n",
    BODY + b".\r\n",
)


#: A piece of a large one, as long as what a transport reads at once.
_LINES = (b"y" * 76 + b"\r\n") * (524_288 // 78)


class _Deaf(StringTransport):
    """Keeps nothing of what it is given."""

    def write(self, data: bytes) -> None:
        """Forget it."""


@implementer(IIncoming)
class _Forgotten:
    """A message that is as good as stored."""

    def __init__(self, envelope: Envelope, stuffed: bool) -> None:
        self._id = envelope.id

    def write(self, data: bytes | memoryview, dots: int | None = None) -> None:
        """Forget it."""

    def commit(self) -> Deferred[str]:
        """Say that it is stored."""
        return succeed(self._id)

    def store(self, told: Callable[[Exception | None], None]) -> None:
        """Say that it is stored."""
        told(None)

    def abort(self) -> None:
        """Forget it."""


class _Nowhere:
    begin = _Forgotten


def _rules(log: TextIO) -> Rules:
    clock = Clock()
    clock.advance(time.time())
    spool = cast(Any, _Nowhere())
    emit = TextLines(log).emit
    intake = Intake(
        hostname="mx.example.com",
        spool=cast(ISpool, spool),
        router=Router((Rule(("*@example.com",), ("app",)),), "mx.example.com"),
        authentication=Authentication(
            "mx.example.com", [], clock=clock, in_thread=cast(Any, None), emit=emit
        ),
        synchronous=Synchronous(spool, cast(Any, None), clock, 120),
        emit=emit,
        now=clock.seconds,
        wake=lambda names: None,
    )
    return Rules(policy=Policy("mx.example.com"), intake=intake, clock=clock, timers=Timers())


def _connected(rules: Rules) -> SMTPProtocol:
    deadlines: Deadlines[SMTPProtocol] = Deadlines(rules.clock)
    protocol = SMTPProtocol(
        rules, "192.0.2.1", implicit=False, deadlines=deadlines, gone=lambda _: None
    )
    protocol.makeConnection(_Deaf())  # type: ignore[no-untyped-call]
    protocol.dataReceived(b"EHLO bench.example.org\r\n")
    return protocol


def _conversation(rules: Rules, runs: int) -> float:
    """Return what protocol, session, intake, router and the line of the log take."""
    protocol = _connected(rules)

    def work() -> None:
        for _ in range(100):
            for each in _COMMANDS:
                protocol.dataReceived(each)

    return least(work, 100, runs)


def _connection(rules: Rules, runs: int) -> float:
    """Return what a connection takes that brings nothing, the transport left out."""
    ended = Failure(ConnectionDone())

    def work() -> None:
        for _ in range(100):
            protocol = _connected(rules)
            protocol.dataReceived(b"QUIT\r\n")
            protocol.connectionLost(ended)

    return least(work, 100, runs)


def _searching(rules: Rules, runs: int) -> float:
    """Return what 25 MiB take that come in large pieces, as they do from a transport."""
    protocol = _connected(rules)
    pieces = [_LINES] * ((25 << 20) // len(_LINES))

    def work() -> None:
        for each in _COMMANDS[:3]:
            protocol.dataReceived(each)
        for each in pieces:
            protocol.dataReceived(each)
        protocol.dataReceived(b".\r\n")

    return least(work, 1, runs)


def measure(runs: int) -> dict[str, float]:
    """Return what the parts of taking a message in take, by name."""
    with open(os.devnull, "w") as log:
        rules = _rules(log)
        return {
            CONVERSATION: _conversation(rules, runs),
            CONNECTION: _connection(rules, runs),
            SEARCHING: _searching(rules, max(1, runs // 8)),
        }
