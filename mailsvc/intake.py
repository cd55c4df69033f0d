"""Answers the questions of SMTP sessions: who may send, where mail goes, and is it safe now.

:class:`Intake` is what all connections share; each has a :class:`Conversation`, which holds the
transaction.  What flows back to the session is a return value; what flows on is a message in the
spool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailsvc.eager import deferred, eager
from mailsvc.errors import Refused, SpoolError, SpoolFull
from mailsvc.events import CommandRefused, Emit, MessageAccepted, MessageRefused
from mailsvc.interfaces import IIncoming, IRouter, ISender, ISpool
from mailsvc.message import Address, Envelope, Recipient, Reply
from mailsvc.realm import Authentication, Login, LoginExchange, Peer
from mailsvc.smtp.grammar import parse_mailbox
from mailsvc.smtp.questions import (
    Answer,
    Authenticated,
    AuthenticationAsked,
    Challenge,
    ContentEnded,
    ContentReceived,
    Declined,
    RecipientAsked,
    SenderAsked,
    VerifyAsked,
)
from mailsvc.spool.ids import new_message_id
from mailsvc.synchronous import Ruling, Synchronous
from mailsvc.trace import Greeting, client_of, received

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

#: RFC 5321 section 4.2.4 and RFC 3463: ours to mend, so the sender is to try again.
NOT_STORED = Reply(451, "Cannot store the message now, try again later", "4.3.0")
NO_ROOM = Reply(452, "No room for the message now, try again later", "4.3.1")
NOT_YOURS = Reply(553, "You may not send as this address", "5.7.1")
TOO_BIG = Reply(552, "Message exceeds the size limit of this recipient", "5.2.3")
ONE_ONLY = Reply(452, "This recipient takes a message of its own, send it separately", "4.5.3")
NO_SUCH_USER = Reply(550, "No such mailbox", "5.1.1")


@dataclass(frozen=True, slots=True)
class Intake:
    """What every conversation of a service uses.

    :ivar hostname: the name in the Received field.
    :ivar synchronous: asks the destinations that decide the reply to the content.
    :ivar now: seconds since the epoch.
    :ivar wake: told the destinations that a new message owes.
    """

    hostname: str
    spool: ISpool
    router: IRouter
    authentication: Authentication
    synchronous: Synchronous
    emit: Emit
    now: Callable[[], float]
    wake: Callable[[Iterable[str]], None]


class Conversation:
    """One connection's share of the intake: its sender, its transaction, its content.

    :param reply_each: the content is answered for each recipient, as in LMTP.
    """

    __slots__ = (
        "_accepted",
        "_asked",
        "_digest",
        "_envelope",
        "_exchange",
        "_incoming",
        "_intake",
        "_login",
        "_peer",
        "_recipients",
        "_reply_each",
        "_size",
        "_synchronous",
        "limit",
    )

    def __init__(self, intake: Intake, peer: Peer, *, reply_each: bool = False) -> None:
        self._intake = intake
        self._peer = peer
        self._reply_each = reply_each
        self._login: Login | None = None
        self._exchange: LoginExchange | None = None
        self._asked: SenderAsked | None = None
        self._recipients: dict[tuple[str, str], Recipient] = {}
        #: The keys of the recipients for each RCPT that was answered 250, in order.
        self._accepted: list[tuple[str, str]] = []
        #: A recipient's destination decides the reply to the content.
        self._synchronous = False
        #: The digest of what a synchronous recipient's destination is asked about.
        self._digest: Digest | None = None
        #: The smallest size that a recipient's route takes, or None.
        self.limit: int | None = None
        self._incoming: IIncoming | None = None
        self._envelope: Envelope | None = None
        self._size = 0

    async def start(self) -> None:
        """Log the anonymous sender in."""
        self._login = await self._intake.authentication.anonymous(self._peer)

    @property
    def _sender(self) -> ISender:
        assert self._login is not None, "start() comes first"
        return self._login.sender

    def busy(self) -> bool:
        """Say whether a message is under way, so that a shutdown waits for it."""
        return self._envelope is not None

    def sender(self, asked: SenderAsked) -> Answer:
        """Answer MAIL."""
        if not self._sender.may_send_as(asked.reverse_path):
            return self._refuse("MAIL", asked.reverse_path, NOT_YOURS)
        self._asked = asked
        return None

    def recipient(self, asked: RecipientAsked) -> Answer | Deferred[Answer]:
        """Answer RCPT."""
        return eager(self._recipient(asked))

    async def _recipient(self, asked: RecipientAsked) -> Answer:
        assert self._asked is not None, "the session lets no RCPT precede MAIL"
        address = asked.address
        try:
            route = await self._intake.router.route(address, self._sender)
        except Refused as refused:
            return self._refuse("RCPT", address, refused.reply, str(refused))
        declared = self._asked.size
        if route.max_size is not None and declared is not None and declared > route.max_size:
            return self._refuse("RCPT", address, TOO_BIG)
        key = (address.local.casefold(), address.domain.casefold())
        if not self._reply_each and self._recipients and key not in self._recipients:
            if route.sync or self._synchronous:
                return self._refuse("RCPT", address, ONE_ONLY)
        self._synchronous |= route.sync
        if route.max_size is not None:
            self.limit = min(self.limit or route.max_size, route.max_size)
        self._accepted.append(key)
        # A recipient given twice counts once; what it asked first stands.
        self._recipients.setdefault(key, Recipient(address, route, asked.notify, asked.orcpt))
        return None

    async def verify(self, asked: VerifyAsked) -> Answer:
        """Answer VRFY where the policy allows it (RFC 5321 section 3.5)."""
        text = asked.text.strip("<> ")
        address = parse_mailbox(text) or parse_mailbox(f"{text}@{self._intake.hostname}")
        if address is None:
            return NO_SUCH_USER
        try:
            await self._intake.router.route(address, self._sender)
        except Refused as refused:
            # What may change is not denied for good.
            return refused.reply if refused.reply.code < 500 else NO_SUCH_USER
        return Reply(250, f"<{address}>", "2.1.5")

    async def authentication(self, asked: AuthenticationAsked) -> Answer:
        """Answer one step of AUTH."""
        try:
            if self._exchange is None:
                self._exchange = self._intake.authentication.begin(asked.mechanism, self._peer)
            step = await self._exchange.respond(asked.response)
        except Refused as refused:
            self.forget_exchange()
            return refused.reply
        if isinstance(step, bytes):
            return Challenge(step)
        exchange, self._exchange = self._exchange, None
        if self._login is not None:
            self._login.logout()
        self._login = Login(step, exchange.close)
        return Authenticated()

    def forget_exchange(self) -> None:
        """The client gave AUTH up."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    def start_content(self, greeting: Greeting, *, stuffed: bool) -> Answer:
        """Answer DATA or the first BDAT: begin a message in the spool, trace field first."""
        asked = self._asked
        assert asked is not None, "the session lets no content precede MAIL"
        intake = self._intake
        now = intake.now()
        user = self._sender.identity
        envelope = Envelope(
            id=new_message_id(now),
            received_at=now,
            reverse_path=asked.reverse_path,
            recipients=tuple(self._recipients.values()),
            client=client_of(self._peer.host, greeting, asked.smtputf8, user),
            body=asked.body,
            smtputf8=asked.smtputf8,
            require_tls=asked.require_tls,
            ret=asked.ret,
            envid=asked.envid,
        )
        self._size = 0
        self._digest = sha256() if self._synchronous else None
        try:
            incoming = intake.spool.begin(envelope, stuffed)
        except SpoolError as error:
            return self._not_stored(envelope, error)
        incoming.write(received(envelope, intake.hostname), 0)
        self._incoming = incoming
        self._envelope = envelope
        return None

    def content(self, piece: ContentReceived) -> Deferred[Any] | None:
        """Take a piece of content; a Deferred asks to wait before the next."""
        incoming = self._incoming
        assert incoming is not None, "content begins with ContentStarted"
        self._size += len(piece.data)
        if self._digest is not None:
            self._digest.update(piece.data)
        waiting = incoming.write(piece.data, piece.dots)
        return None if waiting is None else deferred(waiting)

    def end_content(self, _: ContentEnded) -> Deferred[Reply | tuple[Reply, ...]]:
        """Commit the message; what is returned is the answer to its content."""
        incoming, envelope = self._incoming, self._envelope
        assert incoming is not None and envelope is not None, "content begins with ContentStarted"
        self._incoming = None
        # Callbacks, not a coroutine: every message waits here, and they cost 10 us less.
        answer: Deferred[Any]
        if self._digest is None:
            answer = deferred(incoming.commit())
        else:
            commit = self._intake.synchronous.commit
            answer = Deferred.fromCoroutine(commit(incoming, envelope, self._digest.digest()))
        answer.addCallbacks(
            self._committed, self._failed, callbackArgs=(envelope,), errbackArgs=(envelope,)
        )
        return answer

    def _committed(self, _: str, envelope: Envelope) -> Reply | Deferred[Any]:
        """The message is durable: have its deliveries begin."""
        if self._digest is not None:
            return Deferred.fromCoroutine(self._judged(envelope, self._digest.digest()))
        destinations = _destinations(envelope.recipients)
        self._intake.wake(destinations)
        self._tell_accepted(envelope, envelope.recipients, destinations)
        self.reset()
        return Reply(250, f"OK {envelope.id}", "2.0.0")

    def _failed(self, failure: Failure, envelope: Envelope) -> Reply | Failure:
        self.reset()
        if not isinstance(failure.value, SpoolError):
            return failure
        return self._not_stored(envelope, failure.value)

    async def _judged(self, envelope: Envelope, digest: bytes) -> Reply | tuple[Reply, ...]:
        """Have the queued deliveries begin, and wait for the verdicts of the others."""
        queued = [each for each in envelope.recipients if not each.route.sync]
        if queued:
            self._intake.wake(_destinations(queued))
        try:
            rulings = await self._intake.synchronous.rule(envelope, digest)
            return self._ruled(envelope, rulings)
        except SpoolError as error:
            return self._not_stored(envelope, error)
        finally:
            self.reset()

    def _ruled(
        self, envelope: Envelope, rulings: Mapping[Address, Ruling]
    ) -> Reply | tuple[Reply, ...]:
        """Return the answer to the content when some recipients' destinations have ruled on it."""
        taken = Reply(250, f"OK {envelope.id}", "2.0.0")
        replies = {address: ruling.reply for address, ruling in rulings.items()}
        good = [
            each for each in envelope.recipients if replies.get(each.address, taken).code == 250
        ]
        if good:
            self._tell_accepted(envelope, good, _destinations(good))
        for address, ruling in rulings.items():
            if ruling.reply.code != 250:
                reply = f"{ruling.reply} ({ruling.reason})"
                self._refuse_content(envelope, (address,), reply)
        if not self._reply_each:
            return replies.get(envelope.recipients[0].address, taken)
        recipients = self._recipients
        return tuple(replies.get(recipients[key].address, taken) for key in self._accepted)

    def drop_content(self, fault: bytes = b"") -> None:
        """Forget the content, which the session refused with ``fault`` or the client gave up."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.abort()
        if fault and self._envelope is not None:
            self._refuse_content(self._envelope, self._envelope.addresses, _first_line(fault))
        self._envelope = None

    def declined(self, declined: Declined) -> None:
        """Log a MAIL or RCPT that the session refused by itself."""
        argument = declined.argument[:256].decode("utf-8", "replace").strip()
        self._tell_refused(declined.verb, argument, _first_line(declined.reply))

    def reset(self) -> None:
        """Forget the transaction."""
        self._asked = None
        self._recipients = {}
        self._accepted = []
        self._synchronous = False
        self.limit = None
        self._envelope = None

    def close(self) -> None:
        """The connection is over; a commit that is under way still finishes."""
        if self._incoming is not None:
            self._incoming.abort()
            self._incoming = None
        self.forget_exchange()
        if self._login is not None:
            self._login.logout()

    def _not_stored(self, envelope: Envelope, error: SpoolError) -> Reply:
        reply = NO_ROOM if isinstance(error, SpoolFull) else NOT_STORED
        # The client is told what to do, the operator why.
        self._refuse_content(envelope, envelope.addresses, f"{reply} ({error})")
        return reply

    def _tell_accepted(
        self, envelope: Envelope, recipients: Sequence[Recipient], destinations: set[str]
    ) -> None:
        self._intake.emit(
            MessageAccepted(
                envelope.id,
                self._peer.host or "local",
                envelope.reverse_path,
                tuple([each.address for each in recipients]),
                tuple(sorted(destinations)),
                self._size,
                self._intake.now() - envelope.received_at,
                envelope.client.user,
            )
        )

    def _refuse_content(
        self, envelope: Envelope, recipients: tuple[Address, ...], reply: str
    ) -> None:
        self._intake.emit(
            MessageRefused(
                id=envelope.id,
                client=self._peer.host or "local",
                reverse_path=envelope.reverse_path,
                recipients=recipients,
                size=self._size,
                seconds=self._intake.now() - envelope.received_at,
                reply=reply,
                user=envelope.client.user,
            )
        )

    def _refuse(self, command: str, subject: object, reply: Reply, cause: str = "") -> Reply:
        text = str(reply)
        if cause and cause != text:
            text = f"{text} ({cause})"
        self._tell_refused(command, "<>" if subject is None else str(subject), text)
        return reply

    def _tell_refused(self, command: str, subject: str, reply: str) -> None:
        asked = self._asked if command == "RCPT" else None
        sender = None if asked is None else str(asked.reverse_path or "")
        host = self._peer.host or "local"
        self._intake.emit(CommandRefused(host, command, subject, reply, sender))


def _destinations(recipients: Iterable[Recipient]) -> set[str]:
    return {name for each in recipients for name in each.route.destinations}


def _first_line(reply: bytes) -> str:
    return reply.decode("ascii", "replace").partition("\r\n")[0]
