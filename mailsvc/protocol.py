"""An SMTP session on a Twisted transport: octets, timers, TLS and flow control.

:class:`SMTPProtocol` carries octets between a transport and a sans-IO session, and questions
between the session and its conversation with the intake.  It knows no SMTP beyond that.

Flow control: while an answer is awaited, input is held up to a mark and then the transport is
paused; while the peer does not read, nothing more is taken from it (:mod:`mailsvc.flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from mailsvc.certificates import channel_bindings
from mailsvc.deadline import Deadlines
from mailsvc.eager import eager
from mailsvc.events import Broke, CommandRefused
from mailsvc.flow import MUCH, Flow
from mailsvc.intake import Conversation
from mailsvc.message import Reply
from mailsvc.rules import Rules
from mailsvc.smtp.questions import (
    Answer,
    AuthenticationAsked,
    AuthenticationEnded,
    CloseAsked,
    ContentDropped,
    ContentEnded,
    ContentReceived,
    ContentStarted,
    Declined,
    Question,
    RecipientAsked,
    SenderAsked,
    TLSAsked,
    TransactionReset,
    VerifyAsked,
)
from mailsvc.smtp.session import Session

BROKEN = Reply(421, "Internal error, try again later", "4.3.0")
EARLY = Reply(554, "You talked before the greeting", "5.5.1")
TOO_FAST = Reply(421, "Too many commands, slow down", "4.7.0")
STOPPING = Reply(421, "Service is stopping, try again later", "4.3.2")


class SMTPProtocol(Flow):
    """One connection.

    An idle one is this object, its session and its conversation, each as small as can be: there may
    be tens of thousands.

    :param rules: what it goes by.
    :param implicit: TLS begins before the greeting.
    :param deadlines: those of all connections; this one is put among them until it is lost.
    :param gone: called once when the connection is lost.
    """

    __slots__ = (
        "_advancing",
        "_arrived",
        "_closing",
        "_conversation",
        "_ended",
        "_gone",
        "_greeted",
        "_session",
        "_shaking",
        "_stopping",
        "_waiting",
    )

    def __init__(
        self,
        rules: Rules,
        host: str,
        *,
        implicit: bool,
        deadlines: Deadlines[Any],
        gone: Callable[[SMTPProtocol], None],
    ) -> None:
        super().__init__(rules, deadlines)
        self._gone = gone
        self._shaking = implicit
        self._greeted = False
        #: What has come in this turn of the reactor, where turns are taken as a whole.
        self._arrived: list[bytes] | None = None
        self._session = Session(rules.policy, secure=implicit)
        self._conversation = self._converse(host)
        self._waiting = False
        self._advancing = False
        self._ended = False
        self._closing = False
        self._stopping = False

    @property
    def host(self) -> str:
        """The peer's IP address; empty for a Unix socket."""
        return self._conversation.host

    # The transport's events.

    def connectionMade(self) -> None:
        """Begin: with the handshake of implicit TLS, or with the greeting."""
        if self._shaking:
            self._await_handshake()
        else:
            self._begin()

    def handshakeCompleted(self) -> None:
        """Start anew under TLS: nothing that was said before is remembered (RFC 3207, 4.2)."""
        connection = cast(SSL.Connection, self.transport.getHandle())
        store = self._rules.certificates
        policy = self._rules.policy
        peer = self._conversation.peer
        peer.secure = True
        peer.tls = connection.get_protocol_version_name(), connection.get_cipher_name() or ""
        peer.bindings = lambda: channel_bindings(connection)
        peer.certificate = None if store is None else store.client_certificate(connection)
        if peer.certificate is not None:
            # Who presented a certificate may log in by it.
            offered = self._rules.intake.authentication.mechanisms(True, certificate=True)
            policy = replace(policy, mechanisms=offered)
        self._session = Session(policy, secure=True)
        self._shaking = False
        self._begin()

    def dataReceived(self, data: bytes) -> None:
        """Take octets: at once, or with all that come in this turn (under TLS by the record)."""
        batch = self._rules.batch
        if self._arrived is not None:
            self._arrived.append(data)
        else:
            self._arrived = [data]
            if batch is not None:
                batch.take(self._take)
        if batch is None:
            self._take()

    def _take(self) -> None:
        """Take what has arrived; hold it while an answer or the greeting is awaited."""
        arrived, self._arrived = self._arrived, None
        if arrived is None or self._closing:
            return
        data = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        if not self._greeted:
            self._early()
            return
        self._session.receive(data)
        if len(data) >= MUCH:
            self._widen(len(data))
        if self._waiting:
            self._hold(len(data))
        else:
            self._proceed()

    def readConnectionLost(self) -> None:
        """The peer will send no more: answer what is complete, then close."""
        self._take()
        self._ended = True
        self._proceed()

    def writeConnectionLost(self) -> None:
        """The peer will read no more."""
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything that was not complete."""
        self._take()
        self._closing = True
        self._deadlines.remove(self)
        self._conversation.close()
        self._gone(self)

    # The beginning.

    def _begin(self) -> None:
        """Log the anonymous sender in; then greet, or after STARTTLS wait for EHLO."""
        self._conversation.start()
        if self._greeted:
            self._proceed()
        elif self._rules.greeting_delay:
            self._rules.clock.callLater(self._rules.greeting_delay, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        if not self._closing and not self._greeted:
            self._greeted = True
            self._session.greet()
            self._proceed()

    def _early(self) -> None:
        """Turn away a client that did not wait for the greeting."""
        self._greeted = True
        self._rules.intake.emit(
            CommandRefused(self.host or "local", "greeting", "early talker", str(EARLY))
        )
        self._session.shut(EARLY)
        self._proceed()

    # Questions and answers.

    def _proceed(self) -> None:
        """Answer questions until input or an answer is awaited, then write all the replies."""
        if self._advancing or self._waiting or self._full or self._shaking or self._closing:
            return
        self._advancing = True
        session = self._session
        try:
            while not self._waiting and (question := session.next()) is not None:
                _ACTIONS[type(question)](self, question)
                if self._closing or session is not self._session:
                    break
        except Exception:
            self._broken(Failure())
        finally:
            self._advancing = False
        if not self._closing and not self._shaking:
            self._settle()

    def _settle(self) -> None:
        """Write what was answered; if input is awaited, see to the timer and the transport."""
        self._flush()
        if self._waiting:
            return
        if self._stopping and not self._conversation.busy():
            self._end(STOPPING)
            return
        if self._too_fast(self._session.commands):
            self._end(TOO_FAST)
            return
        if not self._full:
            # Else it is the peer that is waited for, and how long Flow said.
            self._listen(self._session, self._conversation)
        self._release()
        if self._ended:
            self._close(None)

    def _wait(self, waiting: Deferred[Any], done: Callable[[Any], None]) -> None:
        """Ask nothing more until ``waiting`` fires; it may have fired already."""
        self._waiting = True
        waiting.addCallbacks(done, self._broken)

    def _give(self, answer: Answer | Deferred[Any]) -> None:
        """Answer the question that was just asked, now or once it is known."""
        if answer is not None and isinstance(answer, Deferred):
            self._wait(answer, self._answered)
        else:
            self._session.answer(answer)

    def _take_content(self, piece: ContentReceived) -> None:
        waiting = self._conversation.content(piece)
        if waiting is not None:
            self._wait(waiting, self._resume)

    def _resume(self, _: object) -> None:
        self._waiting = False
        self._proceed()

    def _answered(self, answer: Answer) -> None:
        self._waiting = False
        if self._closing:
            return
        self._session.answer(answer)
        self._proceed()

    def _broken(self, failure: Failure) -> None:
        """An answer failed: ours to mend, so the peer is to try again later."""
        self._waiting = False
        self._rules.intake.emit(Broke("the SMTP session", failure.getTraceback()))
        if not self._closing:
            self._conversation.drop_content()
            self._end(BROKEN)

    def _converse(self, host: str) -> Conversation:
        lmtp = self._rules.policy.role == "lmtp"
        return Conversation(self._rules.intake, host, reply_each=lmtp)

    def _start_content(self, asked: ContentStarted) -> None:
        session, conversation = self._session, self._conversation
        limit = conversation.limit
        if limit is not None:
            session.limit(limit)
        self._content_started()
        session.answer(conversation.start_content(session.helo, session.protocol, asked.stuffed))

    def _end_content(self, _: ContentEnded) -> None:
        self._waiting = True
        self._conversation.end_content(self._content_ended)

    def _content_ended(self, error: Exception | None) -> None:
        """Answer the content, which is durable if there is no ``error``; never raises."""
        try:
            answer = self._conversation.content_ended(error)
            if isinstance(answer, Deferred):
                self._wait(answer, self._answered)
            else:
                self._answered(answer)
        except Exception:
            self._broken(Failure())

    def _start_tls(self, _: TLSAsked) -> None:
        """Write the 220, then speak TLS; identity and transaction are reset (requirement 27)."""
        self._write()
        failures = self._conversation.peer.failures
        self._conversation.close()
        self._shaking = True
        self._conversation = self._converse(self.host)
        self._conversation.peer.failures = failures
        self._by_transport()
        self._await_handshake()
        self.transport.startTLS(self._rules.tls)

    # What goes out.

    def _flush(self) -> None:
        """Write what was answered: at once, or with what all the others are told in this turn."""
        batch = self._rules.batch
        if batch is None:
            self._write()
        elif self._session.has_output():
            batch.send(self._write)

    def _write(self) -> None:
        self._send(self._session.output())

    # The end.

    def stop(self) -> None:
        """End the connection; a message whose content is under way is finished first."""
        self._stopping = True
        if self._shaking or not self._greeted:
            self.abort()
        elif not self._waiting and not self._conversation.busy():
            self._end(STOPPING)

    def _end(self, reply: Reply) -> None:
        self._session.shut(reply)
        self._close(None)

    def _close(self, _: CloseAsked | None) -> None:
        """Write what is left, and close; a peer that does not read is not waited for for long."""
        self._write()
        self._closing = True
        self._lose()

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        self.transport.abortConnection()

    def overdue(self) -> None:
        """Say so to a peer that did not send in time; end one that did not read."""
        if self._closing or self._shaking or self._full:
            self.abort()
        elif self._waiting:
            self._await_answer()
        else:
            self._session.shut(self._too_late(self._session))
            self._proceed()


classImplements(SMTPProtocol, IProtocol, IHandshakeListener, IHalfCloseableProtocol)


#: Who acts on what the session asks and tells.  One table for all connections: 3 KiB less for each
#: that is idle.
_ACTIONS: Mapping[type[Question], Callable[[SMTPProtocol, Any], None]] = {
    SenderAsked: lambda here, asked: here._session.answer(here._conversation.sender(asked)),
    RecipientAsked: lambda here, asked: here._give(here._conversation.recipient(asked)),
    VerifyAsked: lambda here, asked: here._give(eager(here._conversation.verify(asked))),
    AuthenticationAsked: lambda here, asked: here._give(
        eager(here._conversation.authentication(asked))
    ),
    ContentStarted: SMTPProtocol._start_content,
    ContentReceived: SMTPProtocol._take_content,
    ContentEnded: SMTPProtocol._end_content,
    ContentDropped: lambda here, dropped: here._conversation.drop_content(dropped.fault),
    Declined: lambda here, declined: here._conversation.declined(declined),
    TransactionReset: lambda here, _: here._conversation.reset(),
    AuthenticationEnded: lambda here, _: here._conversation.forget_exchange(),
    TLSAsked: SMTPProtocol._start_tls,
    CloseAsked: SMTPProtocol._close,
}
