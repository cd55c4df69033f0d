"""The one thread that changes the spool, a group at a time.

A group's contents are written together, and synced together while the rows are made ready; then the
rows are committed together, and all of it is answered with one call into the reactor's thread.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailsvc.errors import SpoolError, SpoolFull
from mailsvc.events import Alert, Emit, Notice
from mailsvc.spool.accepting import Accepting
from mailsvc.spool.gathering import Gathering
from mailsvc.spool.messages import Memory
from mailsvc.spool.rows import Transaction, begin
from mailsvc.spool.segments import Segments
from mailsvc.turnend import TurnEnd

T = TypeVar("T")
R = TypeVar("R")

#: Members of a group at most.
_GROUP = 512

#: Groups after which the log is copied into the database: there is time for it once a group has
#: been answered, and inside of a commit it is half a millisecond that a whole group waits.
_CHECKPOINT = 64

#: Seconds that another thread waits for the writer.
_PATIENCE = 60.0

#: What SQLite says when the disk, not the statement, is at fault (primary result codes).
_FULL = sqlite3.SQLITE_FULL


class Threads(Protocol):
    """What a thread needs of a reactor."""

    def callFromThread(self, f: Callable[..., object], *args: object) -> object:  # noqa: N802
        """Call ``f`` in the reactor's thread."""


class SpoolReactor(Threads, Protocol):
    """What the spool needs of a reactor."""

    def callLater(  # noqa: N802
        self, delay: float, callable: Callable[..., object], *args: object
    ) -> IDelayedCall:
        """Call a function later."""


class Job:
    """Something that the writer is asked to do.

    :ivar error: why it failed.
    :ivar waiting: set, in the writer's thread, once the job is durable or has failed.
    """

    error: Exception | None = None
    waiting: threading.Event | None = None

    def apply(self, transaction: Transaction) -> None:
        """Change the rows, in the writer's thread.

        It raises nothing in the ordinary course: the whole group would be done again, singly.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Answer, in the reactor's thread."""
        raise NotImplementedError


class Work(Job, Generic[T, R]):
    """A function of a transaction, and what follows from its result in the reactor's thread.

    :param then: makes, of the result, what ``answered`` fires with; what it raises, too.
    """

    def __init__(self, function: Callable[[Transaction], T], then: Callable[[T], R]) -> None:
        self._function = function
        self._then = then
        self._results: list[T] = []
        self.answered: Deferred[R] = Deferred()

    def apply(self, transaction: Transaction) -> None:
        """Call the function."""
        self._results = [self._function(transaction)]

    def settle(self) -> None:
        """Fire."""
        if self.error is not None:
            self.answered.errback(self.error)
            return
        try:
            answer = self._then(self._results[0])
        except SpoolError as error:
            self.answered.errback(error)
        else:
            self.answered.callback(answer)


class Acceptance(Job):
    """A message to accept.

    :param settled: called with this when the message is durable or has failed.
    """

    def __init__(self, message: Accepting, settled: Callable[[Acceptance], None]) -> None:
        self.message = message
        self._settled = settled

    def apply(self, transaction: Transaction) -> None:
        """Insert the rows of this message alone."""
        transaction.accept([self.message])

    def settle(self) -> None:
        """Answer."""
        self._settled(self)


class Writer:
    """Owns the connection that writes, and the segments.

    :param connect: makes that connection, again after a failure.
    :param remove: removes content files, by name, whose messages are gone.
    :param arriving: counts what has come from peers so far.
    """

    def __init__(
        self,
        reactor: SpoolReactor,
        connect: Callable[[], sqlite3.Connection],
        segments: Segments,
        memory: Memory,
        now: Callable[[], float],
        emit: Emit,
        remove: Callable[[Sequence[str]], None],
        arriving: Callable[[], int],
        turn_end: TurnEnd,
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._segments = segments
        self._memory = memory
        self._now = now
        self._emit = emit
        self._remove = remove
        self._turn_end = turn_end
        #: For the writer's thread; None ends it.
        self._groups: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        #: For the reactor's thread.
        self._gathering: Gathering[Job] = Gathering(
            reactor.callLater, turn_end.add, now, arriving, self._hand_over
        )
        self._connection: sqlite3.Connection | None = None
        #: Groups since the last checkpoint.
        self._logged = 0
        #: Ids of messages whose commit failed, until their absence is confirmed; None: no failure.
        self._unconfirmed: set[str] | None = None
        self._ended = False
        self._worker = threading.Thread(target=self._run, name="mailsvc-spool", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._worker.start()

    # The reactor's thread

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._gathering.add(job)
        if self._ended:
            self._refuse()

    def _hand_over(self, group: list[Job]) -> None:
        """Let the thread store a group."""
        self._groups.put(group)
        self._turn_end.there_is_time()
        if self._ended:
            self._refuse()

    def _settle(self, group: Sequence[Job]) -> None:
        """Answer a group; what came meanwhile is next."""
        self._gathering.done()
        for job in group:
            job.settle()

    def _refuse(self) -> None:
        """Answer jobs that came too late."""
        late = self._gathering.take()
        while True:
            try:
                late += self._groups.get_nowait() or []
            except queue.Empty:
                break
        if late:
            for job in late:
                job.error = SpoolError("the spool has stopped")
            self._answer(late)

    # Other threads

    def perform(self, function: Callable[[Transaction], object]) -> None:
        """Have a function done, and wait for it; neither in the reactor's nor in our own thread.

        :raises SpoolError: it was not done.
        """
        job = Work(function, lambda _: None)
        job.answered.addErrback(lambda _: None)
        job.waiting = threading.Event()
        self._reactor.callFromThread(self.submit, job)
        if not job.waiting.wait(_PATIENCE):
            raise SpoolError("the spool is too slow")
        if job.error is not None:
            raise job.error

    def stop(self) -> None:
        """Finish what was handed over, and end; blocks."""
        self._groups.put(None)
        self._worker.join()

    def _answer(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.waiting is not None:
                job.waiting.set()
        self._reactor.callFromThread(self._settle, jobs)

    # The writer's thread

    def _run(self) -> None:
        while (jobs := self._groups.get()) is not None:
            for start in range(0, len(jobs), _GROUP):
                self._serve(jobs[start : start + _GROUP])
        self._segments.close()
        if self._connection is not None:
            self._connection.close()
        self._ended = True
        self._reactor.callFromThread(self._refuse)

    def _serve(self, group: list[Job]) -> None:
        # Messages first: settled in this order, they come before what was asked after them.
        group.sort(key=_is_work)
        try:
            connection = self._usable()
        except (sqlite3.Error, SpoolError) as error:
            for job in group:
                job.error = SpoolError(f"the spool's database cannot be used: {error}")
        else:
            self._store(connection, group)
            self._commit(connection, group)
        self._answer(group)
        if self._connection is not None:
            self._segments.look_ahead(self._connection)
            self._logged += 1
            if self._logged >= _CHECKPOINT:
                self._checkpoint(self._connection)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        self._logged = 0
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self._failed([], error)

    def _store(self, connection: sqlite3.Connection, group: Sequence[Job]) -> None:
        messages = [
            job.message for job in group if isinstance(job, Acceptance) and job.message.file is None
        ]
        if messages:
            self._segments.store(connection, messages)

    def _commit(self, connection: sqlite3.Connection, group: Sequence[Job]) -> None:
        """Commit all jobs in one transaction; if one cannot be, each in its own.

        But for the messages whose content is not stored, as far as that is known by now.
        """
        for job in group:
            if isinstance(job, Acceptance):
                job.error = job.message.error
        jobs = [job for job in group if job.error is None]
        if not jobs:
            return
        try:
            freed = self._transact(connection, jobs)
        except sqlite3.Error as error:
            self._failed(jobs, error)
            return
        except Exception as error:
            # A job is at fault, not the disk: the others must not suffer.
            connection.rollback()
            if len(jobs) == 1:
                jobs[0].error = error
            else:
                for job in jobs:
                    if self._connection is None:
                        job.error = SpoolError("the spool's database failed")
                    else:
                        self._commit(connection, [job])
            return
        if freed is None:
            self._commit(connection, jobs)
        elif freed:
            self._remove(freed)

    def _transact(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[str] | None:
        """Return the files to remove; None: contents could not be synced, nothing is committed."""
        begin(connection)
        transaction = Transaction(connection, self._memory, self._now())
        messages = [job.message for job in jobs if isinstance(job, Acceptance)]
        try:
            if messages:
                transaction.accept(messages)
            for job in jobs[len(messages) :]:
                job.apply(transaction)
            transaction.flush()
        except sqlite3.IntegrityError as error:
            raise SpoolError(f"the spool refuses a row: {error}") from error
        # The contents, which the disk began with before the rows: no row may come before them.
        if not self._segments.sync(connection):
            return None
        connection.execute("COMMIT")
        transaction.committed()
        return transaction.freed

    def _failed(self, jobs: Sequence[Job], error: sqlite3.Error) -> None:
        """Answer a group whose transaction failed; nothing of it may come back."""
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == _FULL
        wrapped = (SpoolFull if full else SpoolError)(f"the spool's database: {error}")
        unconfirmed = self._unconfirmed or set()
        for job in jobs:
            job.error = wrapped
            if isinstance(job, Acceptance):
                unconfirmed.add(job.message.message_id)
        self._unconfirmed = unconfirmed
        self._emit(Alert(f"spool: the database failed and is opened again: {error}"))
        self._forget_connection()
        try:
            self._usable()
        except (sqlite3.Error, SpoolError) as again:
            self._emit(Alert(f"spool: the database cannot be opened: {again}"))

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._memory.destinations.clear()
        if connection is None:
            return
        # Each whatever became of the other: what stays open would lock the database for ever.
        for end in (connection.rollback, connection.close):
            try:
                end()
            except sqlite3.Error as error:
                self._emit(Notice(f"spool: closing the failed database: {error}"))

    def _usable(self) -> sqlite3.Connection:
        """Return the connection; a new one is used once nothing of a failed group is in it."""
        connection = self._connection
        if connection is None:
            connection = self._connect()
            try:
                if self._unconfirmed is not None:
                    self._confirm_absence(connection, self._unconfirmed)
                    self._unconfirmed = None
                connection.execute("PRAGMA busy_timeout = 0")  # begin() waits
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return connection

    def _confirm_absence(self, connection: sqlite3.Connection, message_ids: Iterable[str]) -> None:
        """Delete what a failed commit left after all.

        The write-ahead log that could not be synced ends here: it is copied into the database,
        which has a sync of its own, and begun anew from nothing.
        """
        connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(connection, self._memory, self._now())
        for message_id in message_ids:
            seq = transaction.seq_of(message_id)
            if seq is not None:
                transaction.delete_message(seq)
        transaction.flush()
        connection.execute("COMMIT")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise SpoolError("another process reads the log of the spool's database")


def _is_work(job: Job) -> bool:
    return not isinstance(job, Acceptance)
