"""The words for what went wrong, and what follows a failure."""

from __future__ import annotations

from traceback import TracebackException

from mailsvc.errors import MailsvcError, TransientFailure
from mailsvc.message import Dead, Delivery, Outcome, Retry
from mailsvc.retry import after_failure

#: Characters of a reason that are kept in the spool.
_REASON = 500


class Stopped(MailsvcError):
    """The service ends before the attempt did: the delivery is released, nothing is spent."""


def reason_of(error: Exception) -> str:
    """Return the words for people, bounded."""
    text = str(error)
    if not isinstance(error, MailsvcError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= _REASON else text[: _REASON - 3] + "..."


def traceback_of(error: Exception) -> str:
    """Return the innermost frames and the error, bounded."""
    return "".join(TracebackException.from_exception(error, limit=-10).format())[-4000:]


def after(
    delivery: Delivery, schedule: tuple[float, ...], error: Exception, now: float, spread: float
) -> Outcome:
    """Return what follows a transient failure: another attempt, or a dead letter.

    :param spread: a random number in [0, 1).
    """
    reason = reason_of(error)
    wait = after_failure(
        schedule,
        delivery.attempt,
        error.retry_after if isinstance(error, TransientFailure) else None,
        now - delivery.envelope.received_at,
        spread,
    )
    if wait is None:
        times = "1 attempt" if delivery.attempt == 1 else f"{delivery.attempt} attempts"
        return Dead(f"given up after {times}: {reason}")
    return Retry(now + wait, reason)
