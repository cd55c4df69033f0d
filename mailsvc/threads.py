"""Blocking calls in threads, at little cost for each.

A call in a thread costs more than most of what is called: a thread is woken, the interpreter's lock
changes hands a few times, and the reactor is woken for the answer.  :class:`Threads` does it with
one queue and one wake-up for all the answers that wait; :class:`Share` keeps one user of a pool
from taking all of it; :class:`Together` lets calls of a kind that come at the same time share one
hop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from queue import SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from mailsvc.eager import deferred

P = ParamSpec("P")
T = TypeVar("T")

#: Calls that share a hop: the first waits for the last.
_TOGETHER = 16


class InThread(Protocol):
    """Calls a blocking function in a thread."""

    def __call__(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Return an awaitable of the function's result."""


class Threads:
    """A bounded pool of threads; each is started when all before it are busy.

    With 20 calls under way, one costs 4.5 us; ``deferToThreadPool`` takes 27.

    :param most: threads at most.
    """

    def __init__(self, reactor: IReactorFromThreads, most: int, name: str) -> None:
        self._reactor = reactor
        self._most = most
        self._name = name
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[tuple[Deferred[Any], Callable[[], Any]] | None] = SimpleQueue()
        #: Calls that were made and not answered.
        self._open = 0
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        #: The reactor is going to look at the answers.
        self._told = False
        self._stopped = False

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a blocking function in a thread.

        Cancelling forgets the answer; the call goes on.
        """
        if self._stopped:
            return fail(RuntimeError(f"the threads for {self._name} have ended"))
        answered: Deferred[T] = Deferred()
        self._open += 1
        if self._open > len(self._threads) < self._most:
            thread = threading.Thread(
                target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._calls.put((answered, lambda: function(*args, **kwargs)))
        return answered

    def stop(self) -> None:
        """Wait for what was asked, and end the threads."""
        self._stopped = True
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            answered, function = call
            answer: Any
            try:
                answer = function()
            except BaseException:
                answer = Failure()
            self._answers.append((answered, answer))
            # In this order: whoever clears the flag looks at the answers after that.
            if not self._told:
                self._told = True
                self._reactor.callFromThread(self._answer)
            del call, answered, function, answer

    def _answer(self) -> None:
        self._told = False
        answers = self._answers
        while answers:
            answered, answer = answers.popleft()
            self._open -= 1
            # A Failure makes callback what errback is.
            answered.callback(answer)


class _Waiting:
    """Calls that wait for a thread."""

    def __init__(self, in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._waiting: dict[Deferred[Any], Callable[[], Any]] = {}

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a blocking function in a thread.

        Cancelled in time, it is not called.
        """
        answered: Deferred[T] = Deferred(self._forget)
        self._waiting[answered] = lambda: function(*args, **kwargs)
        self._go()
        return answered

    def _forget(self, answered: Deferred[Any]) -> None:
        self._waiting.pop(answered, None)

    def _go(self) -> None:
        """Call what may be called now."""
        raise NotImplementedError


class Share(_Waiting):
    """What one user of a pool may take of it: its calls beyond that wait for each other.

    A thread that hangs is taken until it returns, whatever became of who asked.

    :param most: calls in threads at the same time.
    """

    def __init__(self, in_thread: InThread, most: int) -> None:
        super().__init__(in_thread)
        self._free = most

    def _go(self) -> None:
        while self._free and self._waiting:
            answered = next(iter(self._waiting))
            self._free -= 1
            call = deferred(self._in_thread(self._waiting.pop(answered)))
            call.addBoth(self._answer, answered)

    def _answer(self, answer: Any, answered: Deferred[Any]) -> None:  # noqa: ANN401
        self._free += 1
        self._go()
        if not answered.called:  # it was cancelled
            # A Failure makes callback what errback is.
            answered.callback(answer)


class Together(_Waiting):
    """Calls functions in a thread; what comes at the same time shares a hop.

    What comes in one turn of the reactor does, and then what comes while a hop is under way.  Its
    plain twin is ``in_thread`` itself (``tests/test_threads.py`` compares them).

    :param later: calls what it is given at the end of the reactor's turn.
    :param most: hops under way at the same time; a second one only when many calls wait.
    """

    def __init__(
        self,
        in_thread: InThread,
        later: Callable[[Callable[[], None]], object],
        most: int = 1,
    ) -> None:
        super().__init__(in_thread)
        self._later = later
        self._most = most
        self._under_way = 0
        self._turning = False

    def _go(self) -> None:
        if self._under_way:
            self._begin()
        elif not self._turning:
            self._turning = True
            self._later(self._turn)

    def _turn(self) -> None:
        self._turning = False
        self._begin()

    def _begin(self) -> None:
        waiting = self._waiting
        while waiting and (
            not self._under_way or (self._under_way < self._most and len(waiting) >= _TOGETHER)
        ):
            group = [(each, waiting.pop(each)) for each in list(waiting)[:_TOGETHER]]
            self._under_way += 1
            Deferred.fromCoroutine(self._call(group))

    async def _call(self, group: Sequence[tuple[Deferred[Any], Callable[[], Any]]]) -> None:
        answers: Sequence[Any]
        try:
            answers = await self._in_thread(_each, [function for _, function in group])
        except Exception:
            answers = [Failure()] * len(group)
        self._under_way -= 1
        for (answered, _), answer in zip(group, answers, strict=True):
            if not answered.called:  # it was cancelled
                answered.callback(answer)
        self._begin()


def _each(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call each function; return results, and Failures in place of those that failed."""
    answers: list[Any] = []
    for function in functions:
        try:
            answers.append(function())
        except Exception:
            answers.append(Failure())
    return answers
