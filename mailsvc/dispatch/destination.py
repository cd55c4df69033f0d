"""What dispatch knows of a destination, and what it says about its queue and its attempts."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailsvc.breaker import BreakerPolicy
from mailsvc.interfaces import IDeliverer, IGroupDeliverer
from mailsvc.message import Outcome
from mailsvc.retry import SCHEDULE


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination of the configuration.

    :ivar concurrency: attempts under way at the same time, at most.
    :ivar rate: attempts begun per second, at most; None for no limit.
    :ivar schedule: seconds to wait after the first failed attempt, the second, and so on; after
        them all a dead letter.
    :ivar timeout: seconds after which an attempt is cancelled and counts as failed.
    :ivar takes_groups: the deliverer is an :class:`~mailsvc.interfaces.IGroupDeliverer`.
    """

    name: str
    deliverer: IDeliverer
    concurrency: int = 10
    rate: float | None = None
    schedule: tuple[float, ...] = SCHEDULE
    timeout: float = 300.0
    breaker: BreakerPolicy = BreakerPolicy()
    takes_groups: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_groups", IGroupDeliverer.providedBy(self.deliverer))


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a destination's queue is worked on at this moment.

    :ivar running: attempts under way.
    :ivar failures: failures in a row.
    :ivar open_until: when the circuit breaker lets the next attempt through, or None.
    :ivar held_until: until when the destination asked to be left alone, or None.
    """

    running: int
    failures: int
    open_until: float | None
    held_until: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one attempt came to, for who waits for it.

    :ivar reply: the SMTP reply text that the destination worded, or empty.
    :ivar code: that of the SMTP reply, or 0 where the failure names none.
    """

    outcome: Outcome
    reply: str = ""
    code: int = 0
