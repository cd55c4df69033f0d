"""What the reactor does at the end of a turn, and what it does when it has time.

Half a dozen parts put something off to the end of a turn: input, output, a group for the spool,
outcomes, the log.  A delayed call of the reactor's for each costs 2 to 4 us, so they share one.

Deliveries are put off further, until the spool's writer is at work: the sessions whose mail it
stores have nothing to say meanwhile, and have been answered when the next deliveries begin.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

_log = Logger(namespace="mailsvc")


class TurnEnd:
    """Calls functions at the end of a turn, or when there is time, in the order of their coming.

    As with a delayed call, what one raises is logged, and keeps no other from being called.

    :param call_later: the reactor's: what it is to call in 0 seconds, it calls after the sockets
        that are ready now.
    :param at_most: seconds for which anything is put off; 0 where nobody says when there is time.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], IDelayedCall],
        at_most: float = 0.001,
    ) -> None:
        self._call_later = call_later
        self._at_most = at_most
        self._calls: list[Callable[[], object]] = []
        self._put_off: list[Callable[[], object]] = []
        self._timer: IDelayedCall | None = None

    def add(self, call: Callable[[], object]) -> None:
        """Have ``call`` called; added by one that is called, at the end of the next turn."""
        self._calls.append(call)
        if len(self._calls) == 1:
            self._call_later(0, self._turn)

    def put_off(self, call: Callable[[], object]) -> None:
        """Have ``call`` called at the end of a turn soon: see :meth:`there_is_time`."""
        self._put_off.append(call)
        if self._timer is None:
            self._timer = self._call_later(self._at_most, self._late)

    def there_is_time(self) -> None:
        """Say that another thread has taken work over: what was put off has the next turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._late()

    def _late(self) -> None:
        self._timer = None
        calls, self._put_off = self._put_off, []
        for call in calls:
            self.add(call)

    def _turn(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception:
                _log.failure("at the end of a turn")
