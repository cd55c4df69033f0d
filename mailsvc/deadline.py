"""Deadlines that are moved often and pass seldom, on one delayed call for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds of rest after a look, for each that was looked at: looking is never more than a few
#: thousandths of what there is to do.
_REST = 25e-6


class Due(Protocol):
    """What may have a deadline."""

    def overdue(self) -> None:
        """Do what is to be done when it has passed; another may be set."""


T = TypeVar("T", bound=Due)


class Deadlines(Generic[T]):
    """Those that are there, and when each of them is due.

    Putting one off costs an assignment: the delayed call comes when the earliest was due, looks at
    all, and finds out by itself what was put off.  A thousand connections with a delayed call each
    would take half a MiB, and every new one two changes of the clock's list.

    :param clock: what the times are of.
    """

    __slots__ = ("_at", "_call", "_clock", "_looks")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._at: dict[T, float] = {}
        self._call: IDelayedCall | None = None
        #: When the delayed call looks.
        self._looks = inf

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[T]:
        """Iterate over all that are there now; they may leave meanwhile."""
        return iter(tuple(self._at))

    def set(self, one: T, at: float = inf) -> None:
        """Let ``one`` be due at ``at``, in seconds of the clock; never, if that is not given."""
        self._at[one] = at
        if at < self._looks:
            self._look_at(at)

    def set_in(self, one: T, seconds: float) -> None:
        """Let ``one`` be due in so many seconds."""
        self.set(one, self._clock.seconds() + seconds)

    def remove(self, one: T) -> None:
        """Forget ``one``, if it is there."""
        self._at.pop(one, None)
        if not self._at and self._call is not None:
            self._call.cancel()
            self._call, self._looks = None, inf

    def _look_at(self, at: float) -> None:
        self._looks = at
        delay = max(0.0, at - self._clock.seconds())
        if self._call is None:
            self._call = self._clock.callLater(delay, self._look)
        else:
            self._call.reset(delay)

    def _look(self) -> None:
        self._call, self._looks = None, inf
        now = self._clock.seconds()
        passed = [one for one, at in self._at.items() if at <= now]
        try:
            for one in passed:
                # One before it may have put it off, or removed it.
                if self._at.get(one, inf) <= now:
                    self._at[one] = inf
                    one.overdue()
        finally:
            looks = max(min(self._at.values(), default=inf), now + _REST * len(self._at))
            if looks < self._looks:
                self._look_at(looks)
