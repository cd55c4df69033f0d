"""The spool's threads, as the reactor's thread sees them: every answer is a Deferred there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from mailsvc.errors import SpoolError
from mailsvc.spool.rows import Transaction
from mailsvc.spool.writer import Job, SpoolReactor, Work, Writer

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

#: Threads for content files and questions.
_THREADS = 4


class Workshop:
    """Threads that block, and the writer's thread.

    :ivar executor: for whatever answers by other means than a Deferred.
    :ivar writer: None before the spool has started and after it has stopped.
    """

    def __init__(self, reactor: SpoolReactor) -> None:
        self._reactor = reactor
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="mailsvc-spool")
        self.writer: Writer | None = None

    def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that blocks."""
        deferred: Deferred[T] = Deferred()
        call = self._reactor.callFromThread

        def work() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException:
                call(deferred.errback, Failure())
            else:
                call(deferred.callback, result)

        try:
            self.executor.submit(work)
        except RuntimeError:  # it was shut down
            return fail(SpoolError("the spool has stopped"))
        return deferred

    def submit(self, job: Job) -> None:
        """Hand a job to the writer."""
        writer = self.writer
        if writer is None:
            job.error = SpoolError("the spool does not run")
            self._reactor.callFromThread(job.settle)
        else:
            writer.submit(job)

    def close(self) -> None:
        """Let the threads end once what they do is done."""
        self.executor.shutdown(wait=False)

    def change(self, function: Callable[[Transaction], T]) -> Deferred[T]:
        """Call a function in the writer's next transaction."""
        return self.change_then(function, _same)

    def change_then(
        self, function: Callable[[Transaction], T], then: Callable[[T], R]
    ) -> Deferred[R]:
        """Call a function in the writer's next transaction, and another with its result here."""
        work = Work(function, then)
        self.submit(work)
        return work.answered

    def perform(self, function: Callable[[Transaction], object]) -> None:
        """Call a function in the writer's next transaction, and wait: for other threads.

        :raises SpoolError: it was not done.
        """
        writer = self.writer
        if writer is None:
            raise SpoolError("the spool does not run")
        writer.perform(function)


def _same(result: T) -> T:
    return result
