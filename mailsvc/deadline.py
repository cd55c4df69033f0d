"""One deadline that is moved often and passes seldom."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """A deadline on a clock.

    Putting it off costs an assignment: the delayed call behind it is moved only when the deadline
    comes nearer, and finds out by itself that it was put off.

    :param passed: called when the deadline has passed; it may set another.
    """

    __slots__ = (
        "_at",
        "_call",
        "_clock",
        "_looks",
        "_passed",
    )

    def __init__(self, clock: IReactorTime, passed: Callable[[], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._at = 0.0
        self._call: IDelayedCall | None = None
        #: When the delayed call looks.
        self._looks = inf

    def set(self, at: float) -> None:
        """Let it pass at ``at``, in seconds of the clock."""
        self._at = at
        if at < self._looks:
            self._looks = at
            delay = max(0.0, at - self._clock.seconds())
            if self._call is None:
                self._call = self._clock.callLater(delay, self._look)
            else:
                self._call.reset(delay)

    def clear(self) -> None:
        """Let it never pass."""
        if self._call is not None:
            self._call.cancel()
        self._call = None
        self._looks = inf

    def _look(self) -> None:
        self._call = None
        self._looks = inf
        if self._clock.seconds() < self._at:
            self.set(self._at)
        else:
            self._passed()
