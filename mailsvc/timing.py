"""How long a peer may take: the one deadline of a connection, by what its session waits for."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mailsvc.deadline import Deadlines
from mailsvc.intake import Conversation
from mailsvc.message import Reply
from mailsvc.rules import Rules
from mailsvc.smtp.session import Phase, Session

#: RFC 5321 section 4.5.3.2; a peer that was too slow is told for what.
_LATE = {
    Phase.COMMAND: Reply(421, "Timeout: no whole command came, closing connection", "4.4.2"),
    Phase.AUTHENTICATION: Reply(421, "Timeout: no response came, closing connection", "4.4.2"),
    Phase.CONTENT: Reply(421, "Timeout: no more content came, closing connection", "4.4.2"),
}
_TOO_LONG = Reply(421, "Timeout: the message took too long, closing connection", "4.4.2")


class Timed(ABC):
    """A connection whose peer may take only so long (requirement 41).

    :param rules: they have the times and the clock.
    :param deadlines: those of all connections; this one is put among them.
    """

    __slots__ = ("_content_deadline", "_deadlines", "_phase", "_rules", "_timed")

    def __init__(self, rules: Rules, deadlines: Deadlines[Timed]) -> None:
        self._rules = rules
        self._deadlines = deadlines
        self._content_deadline = 0.0
        self._phase = Phase.CLOSED
        self._timed = -1
        deadlines.set(self)

    @abstractmethod
    def overdue(self) -> None:
        """Act: what was waited for did not come in time."""

    def _await_handshake(self) -> None:
        """Wait for the TLS handshake."""
        self._due_in(self._rules.timers.handshake)

    def _await_reading(self) -> None:
        """Wait for the peer to read what it was told."""
        self._due_in(self._rules.timers.write)

    def _await_answer(self) -> None:
        """Look again later: the answer that is awaited is ours, so the peer is not to blame."""
        self._due_in(self._rules.timers.command)

    def _has_read(self) -> None:
        """Note that the peer has read: what is listened for next has its time from then."""
        self._timed = -1

    def _content_started(self) -> None:
        """Give the whole content of a message its time, from now."""
        rules = self._rules
        self._content_deadline = rules.clock.seconds() + rules.timers.content

    def _listen(self, session: Session, conversation: Conversation) -> None:
        """Wait for what the session waits for.

        Octets alone do not put the deadline off: a command, or a response of AUTH, has to be
        complete.

        :param conversation: while a message is under way in it, its content has its time already.
        """
        phase = session.phase
        if phase is Phase.CONTENT:
            if self._phase is not Phase.CONTENT and not conversation.busy():
                # A refused chunk of BDAT, which is read all the same, has its time, too.
                self._content_started()
            rules = self._rules
            idle = rules.clock.seconds() + rules.timers.idle
            self._deadlines.set(self, min(idle, self._content_deadline))
        elif phase is not self._phase or session.commands != self._timed:
            timers = self._rules.timers
            self._due_in(timers.auth if phase is Phase.AUTHENTICATION else timers.command)
        self._phase = phase
        self._timed = session.commands

    def _too_late(self, session: Session) -> Reply:
        """Return what a peer is told that did not send in time what the session waits for."""
        late = self._rules.clock.seconds() >= self._content_deadline
        return _TOO_LONG if late and session.phase is Phase.CONTENT else _LATE[session.phase]

    def _due_in(self, seconds: float) -> None:
        self._deadlines.set_in(self, seconds)
