"""What the parts of accepting cost, each alone and in one process: CPU microseconds per message.

A floor for the whole: in a service the same code runs with colder caches, and takes turns with a
second thread.  Each figure is the least of many short runs, which other load disturbs least.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from mailsvc.intake import Intake
from mailsvc.interfaces import IIncoming, ISpool
from mailsvc.logs import TextLines
from mailsvc.message import Address, Envelope, Recipient, Route
from mailsvc.protocol import SMTPProtocol
from mailsvc.realm import Authentication
from mailsvc.routing import Router, Rule
from mailsvc.rules import Rules, Timers
from mailsvc.smtp.policy import Policy
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import SpoolLimits
from mailsvc.spool.writer import Job, Writer
from mailsvc.synchronous import Synchronous

CONVERSATION = "protocol, session, intake, routing, a line of the log"
TAKING = "the spool, in the reactor's thread"


def writing(count: int) -> str:
    """Return the name of the writer's figure for groups of so many messages."""
    return f"the writer's thread, groups of {count}"


_BODY = b"Subject: x\r\nFrom: <a@example.org>\r\n\r\n" + (b"y" * 70 + b"\r\n") * 141
_COMMANDS = (
    b"MAIL FROM:<sender@example.org>\r\n",
    b"RCPT TO:<bench@example.com>\r\n",
    b"DATA\r\n",
    _BODY + b".\r\n",
)


def least(work: Callable[[], object], messages: int, runs: int = 60) -> float:
    """Return the least CPU time that ``work`` took of several runs, in us per message."""
    best = float("inf")
    for _ in range(runs):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / messages * 1e6


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

    def abort(self) -> None:
        """Forget it."""


class _Nowhere:
    begin = _Forgotten


def conversation(log: TextIO) -> float:
    """Return what protocol, session, intake, router and the line of the log take."""
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
    rules = Rules(policy=Policy("mx.example.com"), intake=intake, clock=clock, timers=Timers())
    protocol = SMTPProtocol(rules, "192.0.2.1", implicit=False, gone=lambda _: None)
    protocol.makeConnection(_Deaf())  # type: ignore[no-untyped-call]
    protocol.dataReceived(b"EHLO bench.example.org\r\n")

    def work() -> None:
        for _ in range(100):
            for each in _COMMANDS:
                protocol.dataReceived(each)

    return least(work, 100)


class _Turns:
    """A reactor that does nothing by itself."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def callFromThread(self, f: Callable[..., object], *args: object) -> None:  # noqa: N802
        """Note it."""
        self.calls.append((f, args))

    def callLater(  # noqa: N802
        self, delay: float, callable: Callable[..., object], *args: object
    ) -> Any:  # noqa: ANN401
        """Note it if it is soon."""
        if not delay:
            self.calls.append((callable, args))
        return Clock().callLater(delay, callable, *args)

    def until(self, fired: Deferred[Any]) -> None:
        """Make turns until a Deferred has fired."""
        while not fired.called:
            calls, self.calls = self.calls, []
            for f, args in calls:
                f(*args)
            time.sleep(0.001)


class _Spool:
    """A spool on the disk, whose writer works when it is told to, in this thread."""

    def __init__(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self._turns = _Turns()
        limits = SpoolLimits(octets=1 << 36, low_water=0)
        self._spool = EmbeddedSpool(
            str(directory), self._turns, limits=limits, emit=lambda event: None
        )
        self._turns.until(self._spool.start())
        writer = self._spool._workshop.writer
        assert writer is not None
        self.writer: Writer = writer
        # What it has done is looked at here; nobody is told.
        self.writer._answer = lambda jobs: None  # type: ignore[method-assign]
        # Nobody delivers: the rows say that the deliveries wait.
        self._spool._claims.pause("app", "measured without")

    def take(self, count: int) -> list[Job]:
        """Take messages in; return the jobs for the writer."""
        route = Route("*@example.com", ("app",))
        for _ in range(count):
            now = time.time()
            envelope = Envelope(
                new_message_id(now),
                now,
                Address("sender", "example.org"),
                (Recipient(Address("bench", "example.com"), route),),
            )
            incoming = self._spool.begin(envelope, True)
            incoming.write(b"Received: from there by here with ESMTP id 1; today\r\n", 0)
            incoming.write(_BODY, 0)
            incoming.commit()
        jobs, self.writer._gathered = self.writer._gathered, []
        return jobs

    def connection(self) -> sqlite3.Connection:
        """Return the writer's connection."""
        return self.writer._usable()

    def stop(self) -> None:
        """End its threads."""
        del self.writer._answer
        self._turns.until(self._spool.stop())


def _serve(writer: Writer, jobs: Sequence[Job]) -> None:
    writer._serve(list(jobs))
    errors = [job.error for job in jobs if job.error]
    if errors:
        raise errors[0]


def spool(directory: Path, runs: int) -> dict[str, float]:
    """Return what the spool takes of the reactor's thread, and of the writer's by the group."""
    stored = _Spool(directory)
    found: dict[str, float] = {}

    def settle() -> None:
        for job in stored.take(100):
            job.settle()

    found[TAKING] = least(settle, 100, runs)
    writer = stored.writer
    for count in (1, 5, 20):
        found[writing(count)] = _writing(stored, count, runs)
    stored.connection().execute("PRAGMA synchronous = OFF")
    writer._segments._files.fdatasync = lambda descriptor: None  # type: ignore[method-assign]
    found[writing(20) + " without their two syncs"] = _writing(stored, 20, runs)
    stored.stop()
    return found


def _writing(stored: _Spool, count: int, runs: int) -> float:
    groups = iter([stored.take(count) for _ in range(runs * 10)])

    def write() -> None:
        for _ in range(10):
            _serve(stored.writer, next(groups))

    return least(write, count * 10, runs)


def measure(directory: Path, runs: int = 40) -> dict[str, float]:
    """Return all figures, by name."""
    with open(os.devnull, "w") as log:
        found = {CONVERSATION: conversation(log)}
    return found | spool(directory, runs)
