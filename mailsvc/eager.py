"""Run a coroutine as far as it goes without waiting.

Most questions of a session are answered from memory.  A Deferred for each of them would cost more
than the answer, so a coroutine is first run to its end in place; only one that really waits becomes
a Deferred.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


def eager(coroutine: Coroutine[Deferred[Any], Any, T]) -> T | Deferred[T]:
    """Return the coroutine's result, or a Deferred of it if it has to wait.

    :raises Exception: what the coroutine raises before it first waits.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    return Deferred.fromCoroutine(_rest(coroutine, awaited))


async def _rest(coroutine: Coroutine[Deferred[Any], Any, T], awaited: Deferred[Any]) -> T:
    while True:
        failure: BaseException | None = None
        value = None
        try:
            value = await awaited
        except GeneratorExit:
            # Nobody waits for it any more.
            coroutine.close()
            raise
        except BaseException as error:
            failure = error
        try:
            awaited = coroutine.send(value) if failure is None else coroutine.throw(failure)
        except StopIteration as stop:
            result: T = stop.value
            return result


def deferred(awaitable: Awaitable[T]) -> Deferred[T]:
    """Return an awaitable as a Deferred, which it often is already."""
    if isinstance(awaitable, Deferred):
        return awaitable
    return Deferred.fromCoroutine(_wait(awaitable))


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable
