"""How long a peer may take: the one deadline of a connection, by what its session waits for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from mailsvc.deadline import Deadline
from mailsvc.message import Reply
from mailsvc.rules import Timers
from mailsvc.smtp.session import Phase, Session

#: RFC 5321 section 4.5.3.2; a peer that was too slow is told for what.
_LATE = {
    Phase.COMMAND: Reply(421, "Timeout: no whole command came, closing connection", "4.4.2"),
    Phase.AUTHENTICATION: Reply(421, "Timeout: no response came, closing connection", "4.4.2"),
    Phase.CONTENT: Reply(421, "Timeout: no more content came, closing connection", "4.4.2"),
}
_TOO_LONG = Reply(421, "Timeout: the message took too long, closing connection", "4.4.2")


class Timing:
    """The deadline of one connection (requirement 41).

    :param expired: called when what was waited for did not come in time.
    """

    __slots__ = (
        "_clock",
        "_content_deadline",
        "_deadline",
        "_phase",
        "_timed",
        "_timers",
    )

    def __init__(self, timers: Timers, clock: IReactorTime, expired: Callable[[], None]) -> None:
        self._timers = timers
        self._clock = clock
        self._deadline = Deadline(clock, expired)
        self._content_deadline = 0.0
        self._phase = Phase.CLOSED
        self._timed = -1

    def handshake(self) -> None:
        """Wait for the TLS handshake."""
        self._set(self._timers.handshake)

    def reading(self) -> None:
        """Wait for the peer to read what it was told."""
        self._set(self._timers.write)

    def read(self) -> None:
        """Note that the peer has read: what is listened for next has its time from then."""
        self._timed = -1

    def answering(self) -> None:
        """Look again later: the answer that is awaited is ours, so the peer is not to blame."""
        self._set(self._timers.command)

    def content_started(self) -> None:
        """Give the whole content of a message its time, from now."""
        self._content_deadline = self._clock.seconds() + self._timers.content

    def listening(self, session: Session, busy: Callable[[], bool]) -> None:
        """Wait for what the session waits for.

        Octets alone do not put the deadline off: a command, or a response of AUTH, has to be
        complete.

        :param busy: says that a message is under way, so its content has its time already.
        """
        timers = self._timers
        phase = session.phase
        if phase is Phase.CONTENT:
            if self._phase is not Phase.CONTENT and not busy():
                # A refused chunk of BDAT, which is read all the same, has its time, too.
                self.content_started()
            idle = self._clock.seconds() + timers.idle
            self._deadline.set(min(idle, self._content_deadline))
        elif phase is not self._phase or session.commands != self._timed:
            seconds = timers.auth if phase is Phase.AUTHENTICATION else timers.command
            self._deadline.set(self._clock.seconds() + seconds)
        self._phase = phase
        self._timed = session.commands

    def late(self, session: Session) -> Reply:
        """Return what a peer is told that did not send in time what the session waits for."""
        if session.phase is Phase.CONTENT and self._clock.seconds() >= self._content_deadline:
            return _TOO_LONG
        return _LATE[session.phase]

    def clear(self) -> None:
        """Wait for nothing more."""
        self._deadline.clear()

    def _set(self, seconds: float) -> None:
        self._deadline.set(self._clock.seconds() + seconds)
