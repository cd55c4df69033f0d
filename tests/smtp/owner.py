"""An owner of a session for tests: it answers by a script and notes what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mailsvc.message import Address, Reply
from mailsvc.smtp.questions import (
    Answer,
    Authenticated,
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
from mailsvc.smtp.session import Policy, Session
from mailsvc.spool.extent import DotCounter


def path(address: Address | None) -> str:
    return f"<{address}>" if address is not None else "<>"


@dataclass
class Script:
    """What the owner answers; the keys are what the peer said."""

    senders: dict[str, Reply] = field(default_factory=dict)
    recipients: dict[str, Reply] = field(default_factory=dict)
    starts: list[Reply | None] = field(default_factory=list)
    contents: list[Reply | tuple[Reply, ...] | None] = field(default_factory=list)
    verified: dict[str, Reply] = field(default_factory=dict)
    logins: dict[tuple[str, bytes | None], Answer] = field(default_factory=dict)
    ceiling: int | None = None


class Owner:
    """Drives a session.

    :ivar told: one line for each question, the content joined.
    :ivar contents: the contents that were accepted.
    """

    def __init__(
        self, policy: Policy | None = None, script: Script | None = None, *, secure: bool = False
    ) -> None:
        self.session = Session(policy or Policy("mx.example.com"), secure=secure)
        self.script = script or Script()
        self.told: list[str] = []
        #: What the session refused by itself: verb, argument and reply.
        self.declined: list[tuple[str, bytes, bytes]] = []
        self.contents: list[bytes] = []
        self.output = b""
        self.closed = False
        self.tls = False
        self._content: bytearray | None = None
        self._stuffed = False
        self._dots: int | None = 0
        self._answers: dict[type, Callable[[Question], None]] = {
            SenderAsked: self._sender,
            RecipientAsked: self._recipient,
            VerifyAsked: self._verify,
            AuthenticationAsked: self._authenticate,
            AuthenticationEnded: lambda question: self.told.append("login ended"),
            ContentStarted: self._started,
            ContentReceived: self._received,
            ContentEnded: self._ended,
            ContentDropped: self._dropped,
            Declined: self._declined,
            TransactionReset: lambda question: self.told.append("reset"),
            TLSAsked: self._tls,
            CloseAsked: self._close,
        }

    def greet(self) -> None:
        self.session.greet()
        self.output += self.session.output()

    def feed(self, segments: Iterable[bytes]) -> None:
        """Give each segment to the session, and take what it says after each."""
        for segment in segments:
            self.session.receive(segment)
            self.run()

    def run(self) -> None:
        while (question := self.session.next()) is not None:
            self._answers[type(question)](question)
        self.output += self.session.output()

    def say(self, text: str | bytes) -> str:
        """Send ``text`` in one piece and return the replies to it."""
        self.output = b""
        self.feed([text if isinstance(text, bytes) else text.encode()])
        return self.output.decode()

    def _sender(self, question: Question) -> None:
        assert isinstance(question, SenderAsked)
        words = ["sender", path(question.reverse_path)]
        if question.size is not None:
            words.append(f"size={question.size}")
        if question.body != "7BIT":
            words.append(f"body={question.body}")
        words += ["smtputf8"] * question.smtputf8 + ["requiretls"] * question.require_tls
        for name in ("ret", "envid", "auth"):
            value = getattr(question, name)
            if value:
                words.append(f"{name}={value}")
        self.told.append(" ".join(words))
        self.session.answer(self.script.senders.get(path(question.reverse_path)))

    def _recipient(self, question: Question) -> None:
        assert isinstance(question, RecipientAsked)
        words = ["recipient", path(question.address)]
        if question.notify:
            words.append("notify=" + ",".join(question.notify))
        if question.orcpt:
            words.append(f"orcpt={question.orcpt}")
        self.told.append(" ".join(words))
        if self.script.ceiling is not None:
            self.session.limit(self.script.ceiling)
        self.session.answer(self.script.recipients.get(path(question.address)))

    def _verify(self, question: Question) -> None:
        assert isinstance(question, VerifyAsked)
        self.told.append(f"verify {question.text}")
        default = Reply(550, "No such mailbox", "5.1.1")
        self.session.answer(self.script.verified.get(question.text, default))

    def _authenticate(self, question: Question) -> None:
        assert isinstance(question, AuthenticationAsked)
        self.told.append(f"login {question.mechanism} {question.response!r}")
        key = (question.mechanism, question.response)
        default = Reply(535, "Authentication failed", "5.7.8")
        answer = self.script.logins.get(key, default)
        if isinstance(answer, Authenticated):
            self.told.append("login done")
        self.session.answer(answer)

    def _started(self, question: Question) -> None:
        assert isinstance(question, ContentStarted)
        answer = self.script.starts.pop(0) if self.script.starts else None
        self.told.append("content stuffed" if question.stuffed else "content")
        if answer is None:
            assert self._content is None
            self._content = bytearray()
            self._stuffed = question.stuffed
            self._dots = 0
        self.session.answer(answer)

    def _received(self, question: Question) -> None:
        assert isinstance(question, ContentReceived)
        assert self._content is not None and len(question.data)
        self._content += question.data
        if question.dots is None:
            self._dots = None
        elif self._dots is not None:
            self._dots += question.dots

    def _ended(self, question: Question) -> None:
        assert self._content is not None
        if self._stuffed and self._dots is not None:
            # However the content was cut, the dots are counted as the spool would count them.
            counter = DotCounter()
            counter.add(bytes(self._content))
            assert self._dots == counter.count, (self._dots, counter.count, self._content)
        self.contents.append(bytes(self._content))
        self.told.append(f"content is {bytes(self._content)!r}")
        self._content = None
        self.session.answer(self.script.contents.pop(0) if self.script.contents else None)

    def _dropped(self, question: Question) -> None:
        assert self._content is not None
        self._content = None
        self.told.append("content dropped")

    def _declined(self, question: Question) -> None:
        assert isinstance(question, Declined)
        self.declined.append((question.verb, question.argument, question.reply))

    def _tls(self, question: Question) -> None:
        self.tls = True
        self.told.append("tls")

    def _close(self, question: Question) -> None:
        assert not self.closed
        self.closed = True
        self.told.append("close")
