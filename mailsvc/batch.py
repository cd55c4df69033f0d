"""What all connections say in one turn of the reactor, and what they are told, done together.

The reactor reads from one socket, runs its protocol, and goes to the next.  So much Python and so
much of the kernel lie between two commands of the same kind that neither finds its caches warm: in
a service a command costs three times what it costs alone.  Here a turn first reads from all
sockets, then runs all sessions, then writes to all sockets.
"""

from __future__ import annotations

from collections.abc import Callable

from mailsvc.turnend import TurnEnd


class Batch:
    """The work of one turn of the reactor, for all connections that share it.

    :ivar inputs: how often there was input to take.
    """

    def __init__(self, turn_end: TurnEnd) -> None:
        self._turn_end = turn_end
        self.inputs = 0
        self._awaited = False
        self._takers: list[Callable[[], None]] = []
        self._senders: list[Callable[[], None]] = []

    def take(self, taker: Callable[[], None]) -> None:
        """Have input taken, once this turn has read from all that is ready."""
        self.inputs += 1
        self._takers.append(taker)
        self._await()

    def send(self, sender: Callable[[], None]) -> None:
        """Have output sent, once all input of this turn was taken."""
        self._senders.append(sender)
        self._await()

    def _await(self) -> None:
        if not self._awaited:
            self._awaited = True
            self._turn_end.add(self._turn)

    def _turn(self) -> None:
        # What is begun from here on has the next turn, or this one's sending.
        takers, self._takers = self._takers, []
        for take in takers:
            take()
        senders, self._senders = self._senders, []
        for send in senders:
            send()
        self._awaited = False
        if self._takers or self._senders:
            self._await()
