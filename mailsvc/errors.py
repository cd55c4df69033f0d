"""The error taxonomy: everything that mailsvc raises on purpose.

A peer's bad input is a :class:`~mailsvc.message.Reply`, never an exception that leaves the
protocol; these classes are for the code between the floors.  The message of an error may be shown
to the operator; what may be shown to an SMTP peer is only ever a ``Reply``.
"""

from __future__ import annotations

from mailsvc.message import Reply


class MailsvcError(Exception):
    """The base of every error of this package."""


class ConfigError(MailsvcError):
    """The configuration cannot be used.

    :ivar problems: one line for each problem, complete with file, line and key where known.
    :ivar readable: the settings as far as they could be read, or None: only for a look at what
        else is wrong.
    """

    def __init__(self, *problems: str, readable: object = None) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.readable = readable


class Refused(MailsvcError):
    """A question of the session is answered with a refusal.

    :ivar reply: what the peer is told; the exception's text is the private cause.
    """

    def __init__(self, reply: Reply, cause: str = "") -> None:
        super().__init__(cause or str(reply))
        self.reply = reply


class SpoolError(MailsvcError):
    """The spool could not store or read: the peer is told 451 and tries again later."""


class SpoolFull(SpoolError):
    """The disk or the configured limit leaves no room: the peer is told 452 4.3.1."""


class LeaseLost(SpoolError):
    """The claim is stale: another worker may hold the delivery; nothing was changed."""


class DeliveryFailed(MailsvcError):
    """A deliverer says that the attempt failed; one of its subclasses says what follows."""


class TransientFailure(DeliveryFailed):
    """Try again.

    :ivar retry_after: seconds before which the destination does not want to be tried, or None to
        follow the destination's backoff schedule.
    :ivar code: of the reply of a synchronous route; 4xx.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, code: int = 451) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.code = code


class PermanentFailure(DeliveryFailed):
    """Do not try again by yourself: the delivery becomes a dead letter, held for a person.

    :ivar reply: what a synchronous route tells the SMTP client, if the destination worded it.
    :ivar code: of that reply; 5xx.
    """

    def __init__(self, reason: str, *, reply: str = "", code: int = 550) -> None:
        super().__init__(reason)
        self.reply = reply
        self.code = code


class DestinationPaused(DeliveryFailed):
    """The destination wants nothing more until a person resumes it; its queue is kept."""
