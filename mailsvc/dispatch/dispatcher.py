"""The dispatcher: one queue for each destination, woken when there is something to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from mailsvc.dispatch.destination import Destination, QueueState, Verdict
from mailsvc.dispatch.means import Means, Tell
from mailsvc.dispatch.queue import DestinationQueue
from mailsvc.events import Emit
from mailsvc.interfaces import Claim, ISpool
from mailsvc.turnend import TurnEnd

#: Seconds for which deliveries are claimed.  The lease of a longer attempt is extended; that of a
#: process that died ends at once where the spool sees it die.
LEASE = 120.0


class Dispatcher:
    """Hands the deliveries that are due to their destinations, each in its own time.

    :param clock: the reactor's clock; its seconds are those of the epoch.
    :param random: spreads the retries.
    :param tell: is asked to tell the sender of an outcome before that is recorded.
    :param turn_end: the reactor's, shared with whoever else has one.
    :ivar lease: seconds for which deliveries are claimed.
    """

    def __init__(
        self,
        spool: ISpool,
        clock: IReactorTime,
        emit: Emit,
        random: Random,
        lease: float = LEASE,
        tell: Tell | None = None,
        turn_end: TurnEnd | None = None,
    ) -> None:
        self.lease = lease
        self._clock = clock
        self._watchers: dict[tuple[str, int], Deferred[Verdict]] = {}
        self._turn_end = turn_end or TurnEnd(clock.callLater, at_most=0)
        self._means = Means(spool, clock, emit, random, lease, self._turn_end, self._watchers, tell)
        self._queues: dict[str, DestinationQueue] = {}
        self._marked: list[DestinationQueue] = []
        self._started = False
        self._stopped = False
        self._waiting: Deferred[None] | None = None

    def replace(self, destinations: Mapping[str, Destination]) -> None:
        """Serve these destinations from now on.

        Attempts that are under way end as they began.  Nothing is claimed any more for a
        destination that is gone: what it has stays in the spool, where the operator sees it.
        """
        for name, queue in self._queues.items():
            queue.replace(destinations.get(name))
        for name, destination in destinations.items():
            if name not in self._queues:
                self._queues[name] = DestinationQueue(
                    name, destination, self._means, self._mark, self._quiet
                )
            self._mark(self._queues[name])

    def start(self) -> None:
        """Begin to claim what is due."""
        self._started = True
        for queue in self._queues.values():
            self._mark(queue)

    async def stop(self, timeout: float) -> None:
        """Claim nothing more and return when nothing is under way.

        Attempts may go on for ``timeout`` seconds; then they are cancelled and their deliveries
        released, without having spent an attempt.
        """
        self._stopped = True
        for queue in self._queues.values():
            queue.stop()
        if self._is_quiet():
            return
        limit = self._clock.callLater(timeout, self._cancel)
        self._waiting = Deferred()
        await self._waiting
        if limit.active():
            limit.cancel()

    def wake(self, names: Iterable[str]) -> None:
        """Say that deliveries of these destinations may be due; cheap, and done later."""
        queues = self._queues
        for name in names:
            queue = queues.get(name)
            if queue is not None and not queue.marked:
                self._mark(queue)

    def resume(self, name: str) -> None:
        """Begin at full pace again with a destination: a person says that it is well."""
        queue = self._queues.get(name)
        if queue is not None:
            queue.resume()

    def states(self) -> dict[str, QueueState]:
        """Return how the queue of each configured destination is worked on."""
        states = ((name, queue.state()) for name, queue in self._queues.items())
        return {name: state for name, state in states if state is not None}

    def attempt(self, claims: Sequence[Claim]) -> Deferred[list[Verdict]]:
        """Attempt deliveries now, for a caller who waits: those of synchronous routes.

        Whatever an attempt comes to, nothing is owed after it: who waits is told, and with that the
        sender, who has the mail still.

        :param claims: with a lease of :attr:`lease` seconds.
        :return: what each attempt came to, in the order of ``claims``, once that is recorded or
            cannot be; it waits for as long as the attempts may take.
        """
        return gatherResults([self._attempt(claim) for claim in claims])

    def _attempt(self, claim: Claim) -> Deferred[Verdict]:
        watcher = self._watchers[claim.key] = Deferred[Verdict]()
        queue = self._queues.get(claim.delivery.destination)
        if queue is None:
            # Its destination went with a reload since the message was accepted.
            queue = DestinationQueue(
                claim.delivery.destination, None, self._means, self._mark, self._quiet
            )
            self._queues[queue.name] = queue
        queue.attempt(claim)
        return watcher

    def _mark(self, queue: DestinationQueue) -> None:
        """Pump a queue when there is time, so that what happens until then is one claim."""
        if queue.marked or not self._started or self._stopped:
            return
        queue.marked = True
        self._marked.append(queue)
        if len(self._marked) == 1:
            self._turn_end.put_off(self._pump)

    def _pump(self) -> None:
        marked, self._marked = self._marked, []
        for queue in marked:
            queue.marked = False
            queue.pump()

    def _cancel(self) -> None:
        for queue in self._queues.values():
            queue.cancel()

    def _is_quiet(self) -> bool:
        return not any(queue.busy for queue in self._queues.values())

    def _quiet(self) -> None:
        if self._waiting is not None and self._is_quiet():
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)
