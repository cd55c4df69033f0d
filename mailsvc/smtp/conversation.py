"""The state of one connection's conversation, and the few moves that commands are made of."""

from __future__ import annotations

from collections.abc import Callable

from mailsvc.message import Reply
from mailsvc.smtp import replies
from mailsvc.smtp.content import Chunk, Content
from mailsvc.smtp.policy import Policy
from mailsvc.smtp.questions import (
    Answer,
    AuthenticationEnded,
    CloseAsked,
    ContentDropped,
    Question,
    TLSAsked,
    TransactionReset,
)
from mailsvc.smtp.states import NEXT, Move, Phase, State


class Conversation:
    """What commands read and change.  The owner of a session uses :class:`Session` only.

    :ivar secure: TLS is in use.
    :ivar authenticated: AUTH succeeded.
    :ivar helo: the name that the peer gave, checked; empty before.
    :ivar extended: it was given with EHLO or LHLO.
    :ivar utf8: the transaction's MAIL had SMTPUTF8.
    :ivar phase: what the octets on the wire are.
    :ivar state: how far the mail transaction is.
    :ivar recipients: accepted ones of this transaction.
    :ivar commands: complete lines outside content, those of AUTH exchanges included.
    :ivar transactions: accepted MAIL commands of this connection.
    :ivar errors: bad commands since the last accepted message.
    :ivar failures: refused authentications.
    :ivar refused: addresses that the owner refused for good since the last accepted message.
    :ivar body: the BODY of this transaction.
    :ivar ceiling: octets that every recipient of this transaction takes.
    :ivar content: what is being received, from the answer to ContentStarted to its end.
    :ivar chunk: the BDAT command under way.
    :ivar mechanism: the SASL mechanism of the exchange under way.
    :ivar data: the chunk of input that is being read, from index ``at``; ``held`` comes after it.
    """

    __slots__ = (
        "_events",
        "_out",
        "_then",
        "at",
        "authenticated",
        "body",
        "ceiling",
        "chunk",
        "commands",
        "content",
        "data",
        "errors",
        "extended",
        "failures",
        "held",
        "helo",
        "mechanism",
        "phase",
        "policy",
        "recipients",
        "refused",
        "secure",
        "state",
        "transactions",
        "utf8",
    )

    def __init__(self, policy: Policy, *, secure: bool = False) -> None:
        self.policy = policy
        self.secure = secure
        self.authenticated = False
        self.helo = ""
        self.extended = False
        self.utf8 = False
        self.phase = Phase.COMMAND
        self.state = State.START
        self.recipients = 0
        self.commands = 0
        self.transactions = 0
        self.errors = 0
        self.failures = 0
        self.refused = 0
        self.body = "7BIT"
        self.ceiling = policy.message_size
        self.content: Content | None = None
        self.chunk: Chunk | None = None
        self.mechanism = ""
        self.data = b""
        self.at = 0
        self.held: bytes | bytearray = b""
        # None as long as there is nothing: most connections have nothing most of the time.
        self._events: list[Question] | None = None
        self._out: list[bytes] | None = None
        self._then: Callable[[Conversation, Answer], None] | None = None

    # What goes out

    def send(self, octets: bytes) -> None:
        """Queue a reply that is encoded already."""
        if self._out is None:
            self._out = [octets]
        else:
            self._out.append(octets)

    def say(self, reply: Reply) -> None:
        """Queue a reply; 421 is the last one (RFC 5321 section 3.8).

        Under SMTPUTF8 it may hold UTF-8 (RFC 6531 section 3.7.4.1).
        """
        octets = replies.octets(reply, utf8=self.utf8)
        if reply.code == 421:
            self.end(octets)
        else:
            self.send(octets)

    def send_each(self, octets: bytes) -> None:
        """Queue the reply to a content: LMTP has one for each recipient (RFC 2033 section 4.2)."""
        self.send(octets * self.recipients if self.policy.role == "lmtp" else octets)

    def error(self, octets: bytes) -> None:
        """Queue the reply to a bad command; after too many, 421 and the end."""
        self.errors += 1
        if self.errors > self.policy.bad_commands:
            self.end(replies.TOO_MANY_ERRORS)
        else:
            self.send(octets)

    def guessed(self) -> bool:
        """Count an address that the owner refuses for good; say whether it was one too many.

        Then the reply is 421 and the session ends: somebody is looking for addresses.
        """
        self.refused += 1
        most = self.policy.refused_recipients
        if not most or self.refused <= most:
            return False
        self.end(replies.TOO_MANY_REFUSED)
        return True

    # What the owner is told and asked

    def tell(self, event: Question) -> None:
        """Queue what needs no answer."""
        if self._events is None:
            self._events = [event]
        else:
            self._events.append(event)

    def ask(self, question: Question, then: Callable[[Conversation, Answer], None]) -> None:
        """Queue a question; ``then`` gets its answer, and nothing is read before."""
        self.tell(question)
        self._then = then

    # What changes the state

    def move(self, move: Move) -> None:
        """Follow the table of transitions."""
        self.state = NEXT[self.state, move]

    def finish(self) -> None:
        """Forget all that belongs to the transaction: it is over."""
        self.state = NEXT[self.state, Move.OVER]
        self.recipients = 0
        self.utf8 = False
        self.body = "7BIT"
        self.ceiling = self.policy.message_size
        self.content = None

    def reset(self) -> None:
        """End the transaction, if there is one, without content."""
        if self.state > State.READY:
            self.drop_content()
            self.tell(TransactionReset())
            self.finish()

    def drop_content(self) -> None:
        """Let the owner forget the content, if there is one and it has not been told yet."""
        if self.content is not None and not self.content.dropped:
            self.content.dropped = True
            self.tell(ContentDropped(self.content.fault() or b""))

    def has_output(self) -> bool:
        """Say whether there is something to be written."""
        return self._out is not None

    def has_input(self) -> bool:
        """Say whether octets are held that were not read yet."""
        return self.at < len(self.data) or bool(self.held)

    def start_tls(self) -> None:
        """Hand the connection over to TLS: nothing more is read here."""
        self.send(replies.TLS_READY)
        self.phase = Phase.TLS
        self.tell(TLSAsked())

    def refuse_residue(self) -> None:
        """Octets came after STARTTLS and before TLS: whoever put them there gets nothing."""
        if self.phase is Phase.TLS:
            # It is the last reply, and not written yet.
            assert self._out is not None
            self._out.remove(replies.TLS_READY)
            self._events = None
        self.end(replies.RESIDUE)

    def end(self, octets: bytes) -> None:
        """Queue a last reply and close."""
        self.send(octets)
        self.drop_content()
        if self.phase is Phase.AUTHENTICATION:
            self.tell(AuthenticationEnded())
        self.content = None
        self.chunk = None
        self.phase = Phase.CLOSED
        self.data, self.at, self.held = b"", 0, b""
        self._then = None
        self.tell(CloseAsked())
