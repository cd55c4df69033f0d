"""Answers the questions of SMTP sessions: who may send, where mail goes, and is it safe now.

:class:`Intake` is what all connections share; each has a :class:`Conversation`, which holds the
transaction.  What flows back to the session is a return value; what flows on is a message in the
spool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from twisted.internet.defer import Deferred

from mailsvc.authentication import Authentication, LoginExchange, Peer
from mailsvc.eager import deferred, eager
from mailsvc.errors import Refused, SpoolError, SpoolFull
from mailsvc.events import CommandRefused, Emit
from mailsvc.interfaces import IRouter, ISender, ISpool
from mailsvc.message import Address, Envelope, Recipient, Reply, Route
from mailsvc.smtp.grammar import parse_mailbox
from mailsvc.smtp.questions import (
    Answer,
    Authenticated,
    AuthenticationAsked,
    Challenge,
    ContentReceived,
    Declined,
    RecipientAsked,
    SenderAsked,
    VerifyAsked,
)
from mailsvc.spool.ids import new_message_id
from mailsvc.synchronous import Ruling, Synchronous
from mailsvc.trace import client_of, received
from mailsvc.transaction import Transaction

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

    :param host: the peer's IP address; empty for a Unix socket.
    :param reply_each: the content is answered for each recipient, as in LMTP.
    """

    __slots__ = (
        "_exchange",
        "_intake",
        "_logout",
        "_peer",
        "_reply_each",
        "_sender",
        "_transaction",
        "host",
    )

    def __init__(self, intake: Intake, host: str, *, reply_each: bool = False) -> None:
        self._intake = intake
        self.host = host
        self._reply_each = reply_each
        #: None until somebody asks: most that connect neither speak TLS nor log in.
        self._peer: Peer | None = None
        self._sender: ISender | None = None
        self._logout: Callable[[], None] | None = None
        self._exchange: LoginExchange | None = None
        self._transaction: Transaction | None = None

    def start(self) -> None:
        """Log the anonymous sender in."""
        self._sender, self._logout = self._intake.authentication.anonymous()

    @property
    def peer(self) -> Peer:
        """What authentication knows of the connection."""
        if self._peer is None:
            self._peer = Peer(self.host)
        return self._peer

    def _who(self) -> ISender:
        assert self._sender is not None, "start() comes first"
        return self._sender

    @property
    def limit(self) -> int | None:
        """The smallest size that a recipient's route takes, or None."""
        return None if self._transaction is None else self._transaction.limit

    def busy(self) -> bool:
        """Say whether a message is under way, so that a shutdown waits for it."""
        return self._transaction is not None and self._transaction.envelope is not None

    def sender(self, asked: SenderAsked) -> Answer:
        """Answer MAIL."""
        if not self._who().may_send_as(asked.reverse_path):
            return self._refuse("MAIL", asked.reverse_path, NOT_YOURS)
        self._transaction = Transaction(asked)
        return None

    def recipient(self, asked: RecipientAsked) -> Answer | Deferred[Answer]:
        """Answer RCPT."""
        try:
            route = self._intake.router.route(asked.address, self._who())
        except Refused as refused:
            return self._refuse("RCPT", asked.address, refused.reply, str(refused))
        # What isinstance costs of a Struct is a tenth of all that RCPT takes.
        if type(route) is Route:
            return self._routed(asked, route)
        return eager(self._recipient(asked, cast(Awaitable[Route], route)))

    async def _recipient(self, asked: RecipientAsked, route: Awaitable[Route]) -> Answer:
        try:
            found = await route
        except Refused as refused:
            return self._refuse("RCPT", asked.address, refused.reply, str(refused))
        return self._routed(asked, found)

    def _routed(self, asked: RecipientAsked, route: Route) -> Answer:
        """Take a recipient in, if its route and the others let it be."""
        transaction = self._transaction
        assert transaction is not None, "the session lets no RCPT precede MAIL"
        address = asked.address
        declared = transaction.asked.size
        if route.max_size is not None and declared is not None and declared > route.max_size:
            return self._refuse("RCPT", address, TOO_BIG)
        key = (address.local.casefold(), address.domain.casefold())
        recipients = transaction.recipients
        if not self._reply_each and recipients and key not in recipients:
            if route.sync or transaction.synchronous:
                return self._refuse("RCPT", address, ONE_ONLY)
        transaction.synchronous |= route.sync
        if route.max_size is not None:
            transaction.limit = min(transaction.limit or route.max_size, route.max_size)
        transaction.accepted.append(key)
        # A recipient given twice counts once; what it asked first stands.
        recipients.setdefault(key, Recipient(address, route, asked.notify, asked.orcpt))
        return None

    async def verify(self, asked: VerifyAsked) -> Answer:
        """Answer VRFY where the policy allows it (RFC 5321 section 3.5)."""
        text = asked.text.strip("<> ")
        address = parse_mailbox(text) or parse_mailbox(f"{text}@{self._intake.hostname}")
        if address is None:
            return NO_SUCH_USER
        try:
            found = self._intake.router.route(address, self._who())
            if not isinstance(found, Route):
                await found
        except Refused as refused:
            # What may change is not denied for good.
            return refused.reply if refused.reply.code < 500 else NO_SUCH_USER
        return Reply(250, f"<{address}>", "2.1.5")

    async def authentication(self, asked: AuthenticationAsked) -> Answer:
        """Answer one step of AUTH."""
        try:
            if self._exchange is None:
                self._exchange = self._intake.authentication.begin(asked.mechanism, self.peer)
            step = await self._exchange.respond(asked.response)
        except Refused as refused:
            self.forget_exchange()
            return refused.reply
        if isinstance(step, bytes):
            return Challenge(step)
        exchange, self._exchange = self._exchange, None
        self._log_out()
        self._sender, self._logout = step, exchange.close
        return Authenticated()

    def forget_exchange(self) -> None:
        """The client gave AUTH up."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    def start_content(self, helo: str, protocol: str, stuffed: bool) -> Answer:
        """Answer DATA or the first BDAT: begin a message in the spool, trace field first.

        :param helo: the name that the client gave.
        :param protocol: see :func:`~mailsvc.trace.client_of`.
        """
        transaction = self._transaction
        assert transaction is not None, "the session lets no content precede MAIL"
        intake, asked = self._intake, transaction.asked
        now = intake.now()
        user = self._who().identity
        version, cipher = ("", "") if self._peer is None else self._peer.tls
        client = client_of(self.host, helo, protocol, version, cipher, asked.smtputf8, user)
        envelope = Envelope(
            id=new_message_id(now),
            received_at=now,
            reverse_path=asked.reverse_path,
            recipients=tuple(transaction.recipients.values()),
            client=client,
            body=asked.body,
            smtputf8=asked.smtputf8,
            require_tls=asked.require_tls,
            ret=asked.ret,
            envid=asked.envid,
        )
        transaction.size = 0
        transaction.digest = sha256() if transaction.synchronous else None
        try:
            incoming = intake.spool.begin(envelope, stuffed)
        except SpoolError as error:
            return self._not_stored(transaction, envelope, error)
        incoming.write(received(envelope, intake.hostname), 0)
        transaction.incoming = incoming
        transaction.envelope = envelope
        return None

    def content(self, piece: ContentReceived) -> Deferred[Any] | None:
        """Take a piece of content; a Deferred asks to wait before the next."""
        transaction = self._transaction
        assert transaction is not None, "content belongs to a transaction"
        incoming = transaction.incoming
        assert incoming is not None, "content begins with ContentStarted"
        transaction.size += len(piece.data)
        if transaction.digest is not None:
            transaction.digest.update(piece.data)
        waiting = incoming.write(piece.data, piece.dots)
        return None if waiting is None else deferred(waiting)

    def end_content(self, ended: Callable[[Exception | None], None]) -> None:
        """Commit the message; ``ended`` is called then, with what went wrong, or None."""
        transaction = self._transaction
        assert transaction is not None, "content belongs to a transaction"
        incoming, envelope = transaction.incoming, transaction.envelope
        assert incoming is not None and envelope is not None, "content begins with ContentStarted"
        transaction.incoming = None
        if transaction.digest is None:
            incoming.store(ended)
        else:
            digest = transaction.digest.digest()
            self._intake.synchronous.store(incoming, envelope, digest, ended)

    def content_ended(self, error: Exception | None) -> Reply | Deferred[Any]:
        """Return the answer to content whose commit has ended; have its deliveries begin.

        :raises Exception: ``error``, where it is none of the spool's.
        """
        transaction = self._transaction
        assert transaction is not None and transaction.envelope is not None, "what was committed"
        envelope = transaction.envelope
        if error is not None:
            self.reset()
            if not isinstance(error, SpoolError):
                raise error
            return self._not_stored(transaction, envelope, error)
        if transaction.digest is not None:
            return Deferred.fromCoroutine(self._judged(transaction, envelope))
        destinations = _destinations(envelope.recipients)
        self._intake.wake(destinations)
        now = self._intake.now()
        self._intake.emit(transaction.taken(envelope, envelope.recipients, destinations, now))
        self.reset()
        return Reply(250, f"OK {envelope.id}", "2.0.0")

    async def _judged(
        self, transaction: Transaction, envelope: Envelope
    ) -> Reply | tuple[Reply, ...]:
        """Have the queued deliveries begin, and wait for the verdicts of the others."""
        assert transaction.digest is not None, "only what has one is judged"
        queued = [each for each in envelope.recipients if not each.route.sync]
        if queued:
            self._intake.wake(_destinations(queued))
        try:
            digest = transaction.digest.digest()
            rulings = await self._intake.synchronous.rule(envelope, digest)
            return self._ruled(transaction, envelope, rulings)
        except SpoolError as error:
            return self._not_stored(transaction, envelope, error)
        finally:
            self.reset()

    def _ruled(
        self, transaction: Transaction, envelope: Envelope, rulings: Mapping[Address, Ruling]
    ) -> Reply | tuple[Reply, ...]:
        """Return the answer to the content when some recipients' destinations have ruled on it."""
        taken = Reply(250, f"OK {envelope.id}", "2.0.0")
        replies = {address: ruling.reply for address, ruling in rulings.items()}
        good = [
            each for each in envelope.recipients if replies.get(each.address, taken).code == 250
        ]
        if good:
            now = self._intake.now()
            self._intake.emit(transaction.taken(envelope, good, _destinations(good), now))
        for address, ruling in rulings.items():
            if ruling.reply.code != 250:
                reply = f"{ruling.reply} ({ruling.reason})"
                self._refuse_content(transaction, envelope, (address,), reply)
        if not self._reply_each:
            return replies.get(envelope.recipients[0].address, taken)
        recipients = transaction.recipients
        return tuple(replies.get(recipients[key].address, taken) for key in transaction.accepted)

    def drop_content(self, fault: bytes = b"") -> None:
        """Forget the content, which the session refused with ``fault`` or the client gave up."""
        transaction = self._transaction
        if transaction is None:
            return
        self._abort()
        envelope, transaction.envelope = transaction.envelope, None
        if fault and envelope is not None:
            reply = _first_line(fault)
            self._refuse_content(transaction, envelope, envelope.addresses, reply)

    def declined(self, declined: Declined) -> None:
        """Log a MAIL or RCPT that the session refused by itself."""
        argument = declined.argument[:256].decode("utf-8", "replace").strip()
        self._tell_refused(declined.verb, argument, _first_line(declined.reply))

    def reset(self) -> None:
        """Forget the transaction."""
        self._transaction = None

    def close(self) -> None:
        """The connection is over; a commit that is under way still finishes."""
        self._abort()
        self.forget_exchange()
        self._log_out()

    def _log_out(self) -> None:
        logout, self._logout = self._logout, None
        if logout is not None:
            logout()

    def _abort(self) -> None:
        """Give up the content that is being received."""
        transaction = self._transaction
        if transaction is not None and transaction.incoming is not None:
            transaction.incoming.abort()
            transaction.incoming = None

    def _not_stored(self, transaction: Transaction, envelope: Envelope, error: SpoolError) -> Reply:
        reply = NO_ROOM if isinstance(error, SpoolFull) else NOT_STORED
        # The client is told what to do, the operator why.
        self._refuse_content(transaction, envelope, envelope.addresses, f"{reply} ({error})")
        return reply

    def _refuse_content(
        self,
        transaction: Transaction,
        envelope: Envelope,
        recipients: tuple[Address, ...],
        reply: str,
    ) -> None:
        now = self._intake.now()
        self._intake.emit(transaction.refused(envelope, recipients, reply, now))

    def _refuse(self, command: str, subject: object, reply: Reply, cause: str = "") -> Reply:
        text = str(reply)
        if cause and cause != text:
            text = f"{text} ({cause})"
        self._tell_refused(command, "<>" if subject is None else str(subject), text)
        return reply

    def _tell_refused(self, command: str, subject: str, reply: str) -> None:
        sender = None
        if command == "RCPT" and self._transaction is not None:
            sender = str(self._transaction.asked.reverse_path or "")
        host = self.host or "local"
        self._intake.emit(CommandRefused(host, command, subject, reply, sender))


def _destinations(recipients: Iterable[Recipient]) -> set[str]:
    return {name for each in recipients for name in each.route.destinations}


def _first_line(reply: bytes) -> str:
    return reply.decode("ascii", "replace").partition("\r\n")[0]
