"""A spool on a real disk, with a clock that tests turn and system calls that they let fail."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailsvc.errors import SpoolError
from mailsvc.events import Event
from mailsvc.interfaces import Claim
from mailsvc.message import Address, Envelope, Recipient, Route
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.files import Files
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import SpoolLimits

reactor: Any = installed_reactor

EPOCH = 1_700_000_000.0
MAIL = b"Subject: x\r\n\r\nx\r\n"
#: Segments of tests are small, so that making them costs nothing and a few mails fill one.
SEGMENT = 1 << 18
ROOMY = SpoolLimits(low_water=0)


class Rounds:
    """The reactor that a spool gets: threads answer in the real one, time is the test's.

    :ivar clock: seconds since it was made; the spool's upkeep goes by it.
    """

    def __init__(self) -> None:
        self.clock = Clock()

    def callFromThread(self, f: Callable[..., object], *args: object) -> object:  # noqa: N802
        """Call in the real reactor's thread."""
        return reactor.callFromThread(f, *args)

    def callLater(  # noqa: N802
        self, delay: float, callable: Callable[..., object], *args: object
    ) -> IDelayedCall:
        """Call when the test's clock says so; what the next turn has, in the real reactor's."""
        if not delay:
            turn: IDelayedCall = reactor.callLater(0, callable, *args)
            return turn
        return self.clock.callLater(delay, callable, *args)

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return EPOCH + self.clock.seconds()


class Connection(sqlite3.Connection):
    """A connection whose statements can be made to fail."""

    files: FaultyFiles

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401
        """Execute, or fail; a commit may do both."""
        if sql == "COMMIT" and self.files.committing:
            super().execute(sql)
        self.files.call("sql", sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:  # noqa: ANN401
        """Execute, or fail."""
        self.files.call("sql", sql)
        return super().executemany(sql, parameters)


class FaultyFiles(Files):
    """System calls that are noted, and that fail where they are told to.

    :ivar calls: what was called, each as the name and what it was for: a statement, or a path from
        the spool's directory on.
    :ivar room: what the disk says that it has left, in place of the truth.
    :ivar committing: a commit that fails has been made all the same.
    :ivar timeout: seconds that a connection waits for another's lock.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.calls: list[tuple[str, str]] = []
        self.paths: dict[int, str] = {}
        self._faults: list[tuple[str, str, Exception, int]] = []
        self.room: int | None = None
        self.committing = False
        self.timeout = 10.0

    def fail(
        self, name: str, part: str = "", error: Exception | None = None, skip: int = 0
    ) -> None:
        """Let the next call of ``name`` fail whose path has ``part`` in it.

        :param skip: so many such calls still work.
        """
        error = error or OSError(errno.EIO, os.strerror(errno.EIO))
        self._faults.append((name, part, error, skip))

    def heal(self) -> None:
        """Let everything work again."""
        self._faults.clear()

    def call(self, name: str, path: str) -> None:
        """Note a call, or let it fail."""
        if name != "sql":
            path = os.path.relpath(path, self._directory)
        self.calls.append((name, path))
        for index, (wanted, part, error, skip) in enumerate(self._faults):
            if wanted == name and part in path:
                if skip:
                    self._faults[index] = (wanted, part, error, skip - 1)
                    return
                del self._faults[index]
                raise error

    def create(self, path: str) -> int:
        """See :class:`Files`."""
        self.call("create", path)
        descriptor = super().create(path)
        self.paths[descriptor] = path
        return descriptor

    def open(self, path: str, *, write: bool = False) -> int:
        """See :class:`Files`."""
        self.call("open", path)
        descriptor = super().open(path, write=write)
        self.paths[descriptor] = path
        return descriptor

    def pwritev(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """See :class:`Files`."""
        self.call("pwritev", self.paths[descriptor])
        return super().pwritev(descriptor, buffers, offset)

    def fsync(self, descriptor: int) -> None:
        """See :class:`Files`."""
        self.call("fsync", self.paths[descriptor])
        super().fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        """See :class:`Files`."""
        self.call("fdatasync", self.paths[descriptor])
        super().fdatasync(descriptor)

    def rename(self, source: str, target: str) -> None:
        """See :class:`Files`."""
        self.call("rename", target)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        """See :class:`Files`."""
        self.call("unlink", path)
        super().unlink(path)

    def free(self, path: str) -> int:
        """See :class:`Files`."""
        return super().free(path) if self.room is None else self.room

    def connect(self, path: str) -> sqlite3.Connection:
        """See :class:`Files`."""
        self.call("connect", path)
        connection = sqlite3.connect(
            path,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
        connection.files = self
        return connection


class SpoolTestCase(TestCase):
    """A test with a directory for a spool."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.directory = os.path.abspath(self.mktemp())
        self.rounds = Rounds()
        self.files = FaultyFiles(self.directory)
        self.events: list[Event] = []
        self._open: list[EmbeddedSpool] = []
        self.addCleanup(self._stop_all)

    async def _stop_all(self) -> None:
        while self._open:
            await self._open.pop().stop()

    async def opened(
        self, limits: SpoolLimits = ROOMY, *, segment: int = SEGMENT, spill: int = 1 << 15
    ) -> EmbeddedSpool:
        """Return a started spool, which ends with the test."""
        spool = EmbeddedSpool(
            self.directory,
            self.rounds,
            limits=limits,
            emit=self.events.append,
            now=self.rounds.now,
            files=self.files,
            segment_size=segment,
            spill_above=spill,
        )
        await spool.start()
        self._open.append(spool)
        return spool

    async def stopped(self, spool: EmbeddedSpool) -> None:
        """Stop a spool before the test's end."""
        self._open.remove(spool)
        await spool.stop()

    def envelope(self, *destinations: str, sync: bool = False, recipients: int = 1) -> Envelope:
        """Return an envelope with an id of its own."""
        route = Route("*", destinations or ("app",), sync=sync)
        to = tuple(Recipient(Address(f"u{n}", "example.com"), route) for n in range(recipients))
        now = self.rounds.now()
        return Envelope(new_message_id(now), now, None, to)

    async def store(
        self, spool: EmbeddedSpool, *destinations: str, octets: bytes = MAIL, sync: bool = False
    ) -> str:
        """Store a message and return its id."""
        incoming = spool.begin(self.envelope(*destinations, sync=sync), False)
        incoming.write(octets)
        message_id: str = await incoming.commit()
        return message_id

    async def octets_of(self, spool: EmbeddedSpool, message_id: str) -> bytes:
        """Return a message's content."""
        content = await spool.open(message_id)

        def octets() -> bytes:
            with content.open() as reader:
                return reader.read()

        return await deferToThread(octets)

    async def claimed(self, spool: EmbeddedSpool, destination: str = "app") -> list[Claim]:
        """Claim until nothing more is due."""
        claims: list[Claim] = []
        for _ in range(1000):
            more = await spool.claim(destination, 100, 300.0)
            if not more:
                return claims
            claims += more
        self.fail("there is no end of claims")

    async def refused(self, awaitable: Awaitable[object]) -> SpoolError:
        """Return the error with which something fails."""
        try:
            await awaitable
        except SpoolError as error:
            return error
        self.fail("it did not fail")

    async def upkeep(self, spool: EmbeddedSpool, seconds: float = 1.0) -> None:
        """Let time pass, and wait until the round of upkeep that falls due is over."""
        self.rounds.clock.advance(seconds)
        for _ in range(2000):
            if not spool._rounds.under_way:
                return
            await self.breath()
        self.fail("the upkeep does not end")

    async def breath(self) -> None:
        """Let the reactor do what it has to."""
        waiting: Deferred[None] = Deferred()
        reactor.callLater(0.001, waiting.callback, None)
        await waiting

    def logged(self) -> str:
        """Return what was logged."""
        return "\n".join(str(each) for each in self.events)
