"""The spool's parts: what it takes of the reactor's thread, and of the writer's by the group."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from benchmarks.parts.accepting import BODY
from benchmarks.parts.measuring import least
from mailsvc.message import Address, Envelope, Recipient, Route
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import SpoolLimits
from mailsvc.spool.writer import Job, Writer

TAKING = "the spool, in the reactor's thread"


def writing(count: int) -> str:
    """Return the name of the writer's figure for groups of so many messages."""
    return f"the writer's thread, groups of {count}"


#: The sizes of groups that are measured.
GROUPS = (1, 5, 20)
#: The largest, with nothing that waits for the disk.
UNSYNCED = writing(20) + " without their two syncs"


def _told(error: Exception | None) -> None:
    """Wait for nothing."""


class _Turns:
    """A reactor that does nothing by itself.

    :ivar deaf: forget what other threads ask for.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.deaf = False

    def callFromThread(self, f: Callable[..., object], *args: object) -> None:  # noqa: N802
        """Note it."""
        if not self.deaf:
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
        self._turns.deaf = True
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
            incoming.write(BODY, 0)
            incoming.store(_told)
        return self.writer._gathering.take()

    def connection(self) -> sqlite3.Connection:
        """Return the writer's connection."""
        return self.writer._usable()

    def stop(self) -> None:
        """End its threads."""
        self._turns.deaf = False
        self._turns.until(self._spool.stop())


def _serve(writer: Writer, jobs: Sequence[Job]) -> None:
    writer._serve(list(jobs))
    errors = [job.error for job in jobs if job.error]
    if errors:
        raise errors[0]


def measure(directory: Path, runs: int) -> dict[str, float]:
    """Return what the spool takes of the reactor's thread, and of the writer's by the group."""
    shutil.rmtree(directory, ignore_errors=True)
    stored = _Spool(directory)
    found: dict[str, float] = {}

    def settle() -> None:
        for job in stored.take(100):
            job.settle()

    found[TAKING] = least(settle, 100, runs)
    writer = stored.writer
    for count in GROUPS:
        found[writing(count)] = _writing(stored, count, runs)
    stored.connection().execute("PRAGMA synchronous = OFF")
    writer._segments._files.fdatasync = lambda descriptor: None  # type: ignore[method-assign]
    found[UNSYNCED] = _writing(stored, GROUPS[-1], runs)
    stored.stop()
    return found


def _writing(stored: _Spool, count: int, runs: int) -> float:
    groups = iter([stored.take(count) for _ in range(runs * 10)])

    def write() -> None:
        for _ in range(10):
            _serve(stored.writer, next(groups))

    return least(write, count * 10, runs)
