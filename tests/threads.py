"""Stands in for a thread pool: runs at once, or when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A pool whose work is done in the caller's thread.

    :ivar used: how many functions were called.
    """

    def __init__(self) -> None:
        self.used = 0
        self._held: list[Callable[[], object]] | None = None

    def __call__(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call ``function`` as ``deferToThreadPool`` would."""
        self.used += 1
        if self._held is None:
            return maybeDeferred(function, *args, **kwargs)
        result: Deferred[T] = Deferred()
        self._held.append(lambda: maybeDeferred(function, *args, **kwargs).chainDeferred(result))
        return result

    def hold(self) -> None:
        """Keep what is to be called until :meth:`release`."""
        self._held = []

    def release(self) -> None:
        """Call what was kept, and from now on at once."""
        held, self._held = self._held or [], None
        for call in held:
            call()
