"""How many attempts a destination may begin now: concurrency, rate, breaker and "slow down".

Plain arithmetic: the time is passed in, so that it is the same on every run.
"""

from __future__ import annotations

from mailsvc.breaker import Breaker, BreakerPolicy

#: The longest that one "slow down" holds a whole destination, in seconds; the message that was
#: answered with it waits as long as was asked, the others begin one by one after this.
LONGEST_HOLD = 300.0


class Pace:
    """The pace of one destination.

    The number of attempts at a time is a window: "slow down" halves it, every success widens it by
    a part of one, up to ``concurrency``.

    :ivar breaker: the circuit breaker.
    :ivar held_until: no attempt begins before; 0 when nothing is held.
    """

    def __init__(
        self, concurrency: int, rate: float | None, breaker: BreakerPolicy, now: float
    ) -> None:
        self.breaker = Breaker(breaker)
        self.held_until = 0.0
        self._concurrency = concurrency
        self._window = float(concurrency)
        self._rate = rate
        self._tokens = self._burst = max(1.0, rate or 1.0)
        self._filled_at = now

    def adjust(self, concurrency: int, rate: float | None, breaker: BreakerPolicy) -> None:
        """Take over changed settings, at full pace: the change may be the repair."""
        self.breaker = Breaker(breaker)
        self.held_until = 0.0
        self._concurrency = concurrency
        self._window = float(concurrency)
        self._rate = rate
        self._burst = max(1.0, rate or 1.0)
        self._tokens = self._burst

    def room(self, now: float, running: int) -> tuple[int, float | None]:
        """Return how many attempts may begin now and, when time alone forbids more, until when.

        :param running: attempts that are under way.
        """
        until = self.breaker.until
        if until is not None:
            if now < until:
                return 0, until
            # Half open: one probe, and nothing beside it.
            return (1, None) if running == 0 else (0, None)
        if now < self.held_until:
            return 0, self.held_until
        free = int(self._window) - running
        if free <= 0:
            return 0, None
        if self._rate is None:
            return free, None
        self._fill(now, self._rate)
        if self._tokens < 1:
            return 0, now + (1 - self._tokens) / self._rate
        return min(free, int(self._tokens)), None

    def allows(self, now: float, running: int) -> bool:
        """Say whether an attempt may begin for somebody who waits, whatever the window is."""
        until = self.breaker.until
        if until is not None:
            return now >= until and running == 0
        if now < self.held_until:
            return False
        if self._rate is not None:
            self._fill(now, self._rate)
            return self._tokens >= 1
        return True

    def began(self, count: int, now: float) -> None:
        """Note that ``count`` attempts begin."""
        if self._rate is not None:
            self._fill(now, self._rate)
            self._tokens -= count

    def succeeded(self) -> bool:
        """Note that the destination answered as it should; say whether this closed the circuit."""
        if self._window < self._concurrency:
            self._window = min(self._window + 1 / self._window, float(self._concurrency))
        return self.breaker.succeeded()

    def failed(self, now: float) -> float | None:
        """Note a failure; return the seconds that the circuit is open for if this opened it."""
        return self.breaker.failed(now)

    def slow_down(self, now: float, seconds: float) -> None:
        """Note that the destination asked for ``seconds`` without attempts."""
        if now >= self.held_until:
            # Several answers of one moment are one request to slow down.
            self._window = max(1.0, self._window / 2)
        self.held_until = max(self.held_until, now + min(seconds, LONGEST_HOLD))

    def forget(self) -> None:
        """Begin at full pace again: a person says that the destination is well."""
        self.breaker.succeeded()
        self.held_until = 0.0
        self._window = float(self._concurrency)

    def _fill(self, now: float, rate: float) -> None:
        if now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * rate)
            # Rounding must not leave a hair's breadth less than a whole token at the time
            # that room() named.
            if abs(self._tokens - round(self._tokens)) < 1e-6:
                self._tokens = float(round(self._tokens))
        self._filled_at = now
