"""What the queues of a dispatcher share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mailsvc.dispatch.destination import Verdict
from mailsvc.dispatch.reasons import traceback_of
from mailsvc.eager import eager
from mailsvc.events import AttemptBroke, Emit
from mailsvc.interfaces import Claim, ISpool
from mailsvc.message import Outcome
from mailsvc.turnend import TurnEnd

#: Makes durable what the sender is to be told of an outcome; is given the claim, the outcome, the
#: reply that the destination worded (empty if it refused without one, None if it did not refuse),
#: and the destination's schedule.  It never raises.
Tell = Callable[[Claim, Outcome, str | None, tuple[float, ...]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Means:
    """What the queues of a dispatcher share.

    :ivar turn_end: where what can wait for the end of the reactor's turn is done.
    :ivar lease: seconds for which deliveries are claimed.
    :ivar watchers: who waits for the verdict of an attempt, by the key of its claim.
    :ivar tell: tells senders, or None.
    """

    spool: ISpool
    clock: IReactorTime
    emit: Emit
    random: Random
    lease: float
    turn_end: TurnEnd
    watchers: dict[tuple[str, int], Deferred[Verdict]]
    tell: Tell | None = None

    def run(
        self, coroutine: Coroutine[Deferred[Any], Any, None], subject: str, destination: str
    ) -> Deferred[None] | None:
        """Run a coroutine; return what to cancel if it has to wait.

        It keeps what a deliverer or the spool raises to itself; should it raise all the same, that
        is logged with ``subject``, the delivery's id.
        """
        try:
            work = eager(coroutine)
        except Exception as error:
            self.broke(error, subject, destination)
            return None
        return None if work is None else work.addErrback(self._failed, subject, destination)

    def _failed(self, failure: Failure, subject: str, destination: str) -> None:
        self.broke(failure.value, subject, destination)

    def broke(self, error: BaseException | None, subject: str, destination: str) -> None:
        """Log what a delivery's attempt raised that nobody was to see."""
        text = traceback_of(error) if isinstance(error, Exception) else repr(error)
        self.emit(AttemptBroke(subject, destination, text))
