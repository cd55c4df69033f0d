"""When a delivery that failed is tried again: plain functions of seconds, without a clock.

The default schedule is that of the Standard Webhooks specification.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Seconds to wait after the first failed attempt, the second, and so on.
SCHEDULE: tuple[float, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

#: The longest wait that a destination may ask for, in seconds (RFC 9110 section 10.2.3 sets none).
LONGEST_WAIT = 86400.0

#: How much longer than planned a wait may get, as a share of it, so that what failed together does
#: not come back together.
_JITTER = 0.2


def delay(schedule: Sequence[float], attempt: int, spread: float) -> float | None:
    """Return the seconds to wait after a failed attempt, or None when the schedule is exhausted.

    :param attempt: the number of the attempt that failed, 1 for the first.
    :param spread: a random number in [0, 1).
    """
    if attempt > len(schedule):
        return None
    return schedule[max(attempt, 1) - 1] * (1 + _JITTER * spread)


def asked(retry_after: float, spread: float) -> float:
    """Return the seconds to wait when the destination asked for ``retry_after`` (Retry-After).

    Never sooner than asked, but at most :data:`LONGEST_WAIT`; never less than a second, whatever
    was asked.
    """
    wait = min(max(retry_after, 1.0), LONGEST_WAIT)
    return min(wait * (1 + _JITTER * spread), max(wait, LONGEST_WAIT))


def after_failure(
    schedule: Sequence[float],
    attempt: int,
    retry_after: float | None,
    age: float,
    spread: float,
) -> float | None:
    """Return the seconds until the next attempt, or None: the delivery becomes a dead letter.

    A destination that asks for time gets it without losing mail: as long as the message is younger
    than the whole schedule, being asked to wait never exhausts it.

    :param retry_after: what the destination asked for, or None.
    :param age: seconds since the message was accepted.
    """
    planned = delay(schedule, attempt, spread)
    if retry_after is None:
        return planned
    if planned is None and age >= sum(schedule):
        return None
    return asked(retry_after, spread)
