"""A circuit breaker: a destination that keeps failing is left alone, and tried with one at a time.

::

    closed ──(so many failures in a row)──> open ──(its time is over)──> half open
       ^                                      ^                             │
       └──────────── any success ─────────────┴───── the probe fails ───────┘

While it is open no attempt is made, so none is spent.  Each opening in a row lasts twice as long as
the one before, up to a limit.  Times are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    :ivar failures: so many in a row open it; 0: none do.
    :ivar first: seconds that it stays open the first time.
    :ivar longest: seconds that it stays open at most.
    """

    failures: int = 10
    first: float = 30.0
    longest: float = 300.0


class Breaker:
    """The state of one destination's circuit.

    :ivar until: when the present opening ends, or None while the circuit is closed.
    :ivar failures: failures in a row.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._next = policy.first
        self.until: float | None = None
        self.failures = 0

    def succeeded(self) -> bool:
        """Note a success; say whether it closed the circuit."""
        was_open = self.until is not None
        self.until = None
        self.failures = 0
        self._next = self._policy.first
        return was_open

    def failed(self, now: float) -> float | None:
        """Note a failure; return the seconds that the circuit is open for if this opened it.

        A failure while it is open is a late one of an attempt that began before: it changes
        nothing.
        """
        self.failures += 1
        if self.until is None:
            if not 0 < self._policy.failures <= self.failures:
                return None
        elif now < self.until:
            return None
        seconds = self._next
        self.until = now + seconds
        self._next = min(seconds * 2, max(self._policy.first, self._policy.longest))
        return seconds
