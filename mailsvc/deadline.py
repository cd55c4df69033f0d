"""One deadline that is moved often and passes seldom."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """A deadline on a clock.

    Putting it off costs an assignment: the delayed call behind it is moved only when the deadline
    comes nearer, and finds out by itself that it was put off.

    :param passed: called when the deadline has passed; it may set another.
    """

    def __init__(self, clock: IReactorTime, passed: Callable[[], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._at = 0.0
        self._call: IDelayedCall | None = None

    def set(self, at: float) -> None:
        """Let it pass at ``at``, in seconds of the clock."""
        self._at = at
        call = self._call
        if call is None or not call.active():
            self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._look)
        elif call.getTime() > at:
            call.reset(max(0.0, at - self._clock.seconds()))

    def clear(self) -> None:
        """Let it never pass."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _look(self) -> None:
        if self._clock.seconds() < self._at:
            self.set(self._at)
        else:
            self._passed()
