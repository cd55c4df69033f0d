"""The ESMTP session: octets in, questions and octets out; no socket, no clock, no file.

The owner feeds :meth:`Session.receive`, calls :meth:`Session.next` until it returns None, answers
the questions that need it, and writes :meth:`Session.output`.  :mod:`mailsvc.smtp.states` has the
state machine.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from mailsvc.message import Reply
from mailsvc.smtp import login, replies, transfer
from mailsvc.smtp.commands import COMMANDS, HTTP_VERBS
from mailsvc.smtp.conversation import Conversation
from mailsvc.smtp.policy import Policy
from mailsvc.smtp.questions import Answer, Question
from mailsvc.smtp.states import Phase

__all__ = ["Phase", "Policy", "Session"]

#: Octets of a command line with its CRLF.  RFC 5321 section 4.5.3.1.4 asks for 512, the parameters
#: of MAIL and RCPT for more.
LINE = 2_048
#: The same for AUTH and the lines of its exchange (RFC 4954 section 4).
AUTH_LINE = 12_288

#: As numbers, because ``in`` takes an octet for a tenth of what it takes for octets.
_CR: Final = 13
_LF: Final = 10


class Session(Conversation):
    """One side of one SMTP or LMTP connection, from the greeting to STARTTLS or the end.

    The owner reads :attr:`helo`, :attr:`protocol`, :attr:`secure`, :attr:`authenticated`,
    :attr:`utf8`, :attr:`commands` and :attr:`phase`, and calls the methods of this class; what the
    base class has is for the commands.
    """

    __slots__ = ("_line", "_overlong")

    def __init__(self, policy: Policy, *, secure: bool = False) -> None:
        """Begin.

        :param secure: this is a session under TLS.  After STARTTLS a new one is made, so that
            nothing of the old one can be left (RFC 3207 section 4.2).
        """
        super().__init__(policy, secure=secure)
        # The beginning of a line whose end has not come; of an over-long one, only a last CR.
        self._line: bytes | bytearray = b""
        self._overlong = False

    @property
    def protocol(self) -> str:
        """The keyword of RFC 3848 for what is spoken, without its suffixes."""
        if self.policy.role == "lmtp":
            return "LMTP"
        return "ESMTP" if self.extended else "SMTP"

    def greet(self) -> None:
        """Queue the greeting, 220 (RFC 5321 section 4.3.1)."""
        self.send(_greeting(self.policy.hostname, self.policy.role))

    def receive(self, data: bytes) -> None:
        """Take octets from the peer, in chunks of any size.

        What cannot be read yet is held; while an answer is outstanding the owner should not read
        more from its peer.
        """
        if self.phase is Phase.CLOSED:
            return
        if self.phase is Phase.TLS:
            # RFC 3207 section 4.2: sent before the client could know that we are ready.
            if data and self.has_output():
                self.refuse_residue()
            return
        if self.at >= len(self.data) and not self.held:
            self.data, self.at = data, 0
        elif not self.held:
            self.held = bytearray(data)
        else:
            self.held += data

    def next(self) -> Question | None:
        """Return the next question; None if input or an answer is awaited."""
        while self._events is None:
            if self._then is not None:
                return None
            if self.at >= len(self.data):
                if not self.held:
                    # What was read is not kept while nothing comes.
                    self.data, self.at = b"", 0
                    return None
                self.data, self.at, self.held = bytes(self.held), 0, b""
            phase = self.phase
            if phase is Phase.CONTENT:
                transfer.read(self)
            elif phase is Phase.COMMAND or phase is Phase.AUTHENTICATION:
                self._read_line()
            else:
                return None
        events = self._events
        question = events.pop(0)
        if not events:
            self._events = None
        return question

    def answer(self, answer: Answer) -> None:
        """Answer the outstanding question; after the end of the session an answer is ignored.

        :raises RuntimeError: there is no outstanding question.
        """
        then = self._then
        if then is None:
            if self.phase is Phase.CLOSED:
                return
            raise RuntimeError("there is no question to answer")
        self._then = None
        then(self, answer)

    def output(self) -> bytes:
        """Return all that is to be written now, once; empty if there is nothing."""
        out, self._out = self._out, None
        if out is None:
            return b""
        return out[0] if len(out) == 1 else b"".join(out)

    def limit(self, octets: int) -> None:
        """Lower the size limit of this transaction's content: beyond it 552 5.2.3.

        To be called before :class:`~mailsvc.smtp.questions.ContentStarted` is answered.
        """
        self.ceiling = min(self.ceiling, octets)

    def shut(self, reply: Reply) -> None:
        """Queue ``reply`` and end the session: for timeouts and shutdown.

        What was begun is given up: questions that were not taken yet are withdrawn, and the answer
        to one that was taken is ignored.
        """
        if self.phase is Phase.CLOSED:
            return
        taken = self._then is not None and self._events is None
        self._events = None
        if taken and self.content is not None and self.content.complete:
            # The owner is about to decide on it: whatever that will be, it is not dropped any more.
            self.content.dropped = True
        self.end(replies.octets(reply))

    # Lines

    def _read_line(self) -> None:
        data, at = self.data, self.at
        feed = data.find(_LF, at)
        if feed < 0:
            self.at = len(data)
            self._keep(data[at:])
            return
        self.at = feed + 1
        self.commands += 1
        line = data[at : feed + 1]
        overlong = self._overlong
        if self._line:
            line = bytes(self._line) + line
            self._line = b""
        self._overlong = False
        length = len(line)
        if not line.endswith(b"\r\n") or _CR in line[:-2]:
            # Requirement 3: only CRLF ends a line; what such a line is, nobody knows for sure.
            self.end(replies.BARE_NEWLINE)
        elif overlong or (length > LINE and length > self._longest(line)):
            self._refuse_length()
        elif self.phase is Phase.AUTHENTICATION:
            login.respond(self, line[:-2])
        else:
            line = line[:-2]
            self._run(line.rstrip(b" \t") if line[-1:] in (b" ", b"\t") else line)

    def _keep(self, part: bytes) -> None:
        """Keep the beginning of a line: never more than the longest line that is allowed."""
        if b"\r" in part[:-1] or self._line[-1:] == b"\r":
            self.end(replies.BARE_NEWLINE)
            return
        if not self._overlong:
            if self._line:
                self._line += part
            else:
                self._line = bytearray(part)
            length = len(self._line)
            self._overlong = length > LINE and length > self._longest(self._line)
        if self._overlong:
            self._line = part[-1:] if part.endswith(b"\r") else b""

    def _longest(self, line: bytes | bytearray) -> int:
        if self.phase is Phase.AUTHENTICATION or line[:5].upper() == b"AUTH ":
            return AUTH_LINE
        return LINE

    def _refuse_length(self) -> None:
        if self.phase is Phase.AUTHENTICATION:
            login.abandon(self, replies.RESPONSE_TOO_LONG)
        else:
            self.error(replies.LINE_TOO_LONG)

    def _run(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        command = COMMANDS.get(verb)
        if command is None:
            verb = verb.upper()
            command = COMMANDS.get(verb)
        if command is None:
            if verb in HTTP_VERBS:
                self.end(replies.HTTP)
            else:
                self.error(replies.UNKNOWN_COMMAND)
            return
        refusal = command.order[self.state]
        if refusal is not None and verb != b"BDAT":
            self.error(refusal)
        else:
            command.run(self, argument)


@lru_cache(maxsize=16)
def _greeting(hostname: str, role: str) -> bytes:
    protocol = "LMTP" if role == "lmtp" else "ESMTP"
    return Reply(220, f"{hostname} {protocol} mailsvc").encode()
