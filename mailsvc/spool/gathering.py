"""What is to be the writer's next group, until there is enough of it.

A group costs two syncs, about 160 us of CPU, however many are in it; a message 20 us more.  So jobs
gather while the writer is busy, and then for as long as each turn of the reactor brings more of
them, or more from peers.  A turn that brings nothing ends it, but where the last group was larger:
then peers may be about to say more that have no core at the moment, and it goes on for as long as
that group took to store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall

J = TypeVar("J")

#: Seconds for which jobs gather at most that could be stored: in turns that bring more, and in
#: those that bring nothing.
_GATHER = 0.005
_LULL = 0.002


class Gathering(Generic[J]):
    """Gathers jobs, in the reactor's thread.

    :param call_later: the reactor's.
    :param at_turn_end: calls at the end of this turn of the reactor.
    :param now: seconds since whenever.
    :param arriving: counts what has come from peers so far.
    :param hand_over: gives a group to the writer, which then is busy with it.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], IDelayedCall],
        at_turn_end: Callable[[Callable[[], None]], None],
        now: Callable[[], float],
        arriving: Callable[[], int],
        hand_over: Callable[[list[J]], None],
    ) -> None:
        self._call_later = call_later
        self._at_turn_end = at_turn_end
        self._now = now
        self._arriving = arriving
        self._hand_over = hand_over
        self._jobs: list[J] = []
        # How much had come a turn ago; whether a turn's end is awaited; the end of a lull, if it is
        # that.
        self._before = 0
        self._awaited = False
        self._lull: IDelayedCall | None = None
        # Whether the writer is busy; since when it could begin, or is busy; how many jobs its last
        # group had, and how many seconds it took.
        self._busy = False
        self._since = 0.0
        self._last = 0
        self._took = 0.0

    def add(self, job: J) -> None:
        """Have a job in the next group."""
        jobs = self._jobs
        jobs.append(job)
        if self._lull is not None:
            if len(jobs) >= self._last:
                self._lull.reset(0)
                self._lull = None
        elif not self._awaited and not self._busy:
            self._begin()

    def done(self) -> None:
        """Go on: the writer is done with a group; what came meanwhile is next."""
        if self._busy:
            self._busy = False
            self._took = self._now() - self._since
        if self._jobs and not self._awaited:
            self._begin()

    def take(self) -> list[J]:
        """Return what has gathered, for nobody stores it any more."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def _begin(self) -> None:
        """Look again at the end of this turn of the reactor."""
        self._before = -1
        self._since = self._now()
        self._awaited = True
        self._at_turn_end(self._turned)

    def _turned(self) -> None:
        """Hand the jobs over, unless this turn brought some and so the next may, too."""
        self._lull = None
        count = len(self._jobs) + self._arriving()
        now = self._now()
        waited = now - self._since
        # A clock may be set back.
        if waited >= 0:
            if count != self._before and waited < _GATHER:
                self._before = count
                self._at_turn_end(self._turned)
                return
            left = min(self._took, _LULL) - waited
            if len(self._jobs) < self._last and left > 0:
                self._lull = self._call_later(left, self._turned)
                return
        self._awaited = False
        self._busy = True
        self._since = now
        group = self.take()
        self._last = len(group)
        self._hand_over(group)
