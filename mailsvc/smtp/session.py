"""The ESMTP session: octets in, questions and octets out; no socket, no clock, no file.

The owner feeds :meth:`Session.receive`, calls :meth:`Session.next` until it returns None, answers
the questions that need it, and writes :meth:`Session.output`.
"""

from __future__ import annotations

import enum

from mailsvc.message import Reply
from mailsvc.smtp.policy import Policy
from mailsvc.smtp.questions import Answer, Question

__all__ = ["Phase", "Policy", "Session"]


class Phase(enum.Enum):
    """What the session waits for: tells the owner which timer applies."""

    COMMAND = "command"
    CONTENT = "content"
    AUTHENTICATION = "authentication"
    TLS = "tls"
    CLOSED = "closed"


class Session:
    """One side of one SMTP or LMTP connection, from the greeting to STARTTLS or the end."""

    def __init__(self, policy: Policy, *, secure: bool = False) -> None:
        self.policy = policy
        self.secure = secure
        self.authenticated = False
        self.helo = ""
        self.extended = False
        self.utf8 = False
        self.phase = Phase.COMMAND

    def greet(self) -> None:
        """Queue the greeting (220)."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Take octets from the peer, in chunks of any size."""
        raise NotImplementedError

    def next(self) -> Question | None:
        """Return the next question; None if input or an answer is awaited."""
        raise NotImplementedError

    def answer(self, answer: Answer) -> None:
        """Answer the outstanding question."""
        raise NotImplementedError

    def output(self) -> bytes:
        """Return, once, all that is to be written now."""
        raise NotImplementedError

    def limit(self, octets: int) -> None:
        """Lower the size limit of the content that is about to start (552 5.2.3 beyond it)."""
        raise NotImplementedError

    def shut(self, reply: Reply) -> None:
        """Queue ``reply`` and end the session: for timeouts and shutdown."""
        raise NotImplementedError
