"""The outcomes of one destination that are on their way into the spool."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mailsvc.dispatch.means import Means
from mailsvc.dispatch.reasons import reason_of
from mailsvc.errors import LeaseLost
from mailsvc.events import Alert
from mailsvc.interfaces import Claim
from mailsvc.message import Outcome

#: Seconds between two tries at a spool that fails; each wait for a record is twice the one before.
TROUBLE = 1.0


class Records:
    """Records outcomes, again and again while the lease lasts: what is not recorded is repeated.

    :param trouble: is told what the spool could not do.
    """

    def __init__(self, means: Means, trouble: Callable[[str, Exception], None]) -> None:
        self._means = means
        self._trouble = trouble
        self._stopped = False
        self._sleeping: set[Deferred[None]] = set()

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped = True
        for sleep in tuple(self._sleeping):
            sleep.cancel()

    async def record(self, claim: Claim, outcome: Outcome) -> bool:
        """Record an outcome; say whether that was possible."""
        clock = self._means.clock
        name = claim.delivery.id
        wait = TROUBLE
        while True:
            try:
                await self._means.spool.record(claim, outcome)
                return True
            except LeaseLost:
                self.lost(claim, outcome)
                return False
            except Exception as error:
                problem = reason_of(error)
                again = not self._stopped and clock.seconds() + wait < claim.expires_at
                if again:
                    self._trouble(f"cannot record {name}, trying again", error)
            if not again or not await self._sleep(wait):
                self._failed(claim, outcome, problem)
                return False
            wait *= 2

    def lost(self, claim: Claim, outcome: Outcome) -> None:
        """Say that a claim was stale."""
        self._failed(claim, outcome, "another worker has it, or it left the queue")

    def _failed(self, claim: Claim, outcome: Outcome, problem: str) -> None:
        kind = type(outcome).__name__.lower()
        what = f"the outcome of {claim.delivery.id} ({kind}) is not recorded"
        self._means.emit(Alert(f"{what}: {problem}"))

    async def _sleep(self, seconds: float) -> bool:
        """Wait; say whether the wait was left to its end."""
        sleep: Deferred[None] = deferLater(self._means.clock, seconds)
        self._sleeping.add(sleep)
        try:
            await sleep
        except Exception:
            return False
        finally:
            self._sleeping.discard(sleep)
        return True
