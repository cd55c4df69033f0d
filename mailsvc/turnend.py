"""What is done at the end of a turn of the reactor.

Half a dozen parts put something off to there: input, output, a group for the spool, claims,
outcomes, the log.  A delayed call of the reactor's for each costs 2 to 4 us, so they share one.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

_log = Logger(namespace="mailsvc")


class TurnEnd:
    """Calls functions at the end of the turn, in the order in which they were added.

    :param call_later: the reactor's: what it is to call in 0 seconds, it calls after the sockets
        that are ready now.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._calls: list[Callable[[], object]] = []

    def add(self, call: Callable[[], object]) -> None:
        """Have ``call`` called; added by one that is called, at the end of the next turn.

        As with a delayed call, what it raises is logged, and keeps nothing else from its turn.
        """
        self._calls.append(call)
        if len(self._calls) == 1:
            self._call_later(0, self._turn)

    def _turn(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception:
                _log.failure("at the end of a turn")
