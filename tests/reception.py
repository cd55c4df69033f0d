"""A connection for tests: real protocol, session, intake, realm and router, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from mailsvc.authentication import Authentication
from mailsvc.deadline import Deadlines
from mailsvc.dispatch.destination import Verdict
from mailsvc.errors import SpoolError
from mailsvc.events import Event
from mailsvc.intake import Intake
from mailsvc.interfaces import Claim, IIncoming, IRouter, ISpool
from mailsvc.message import Delivery, Done, Envelope, Outcome
from mailsvc.protocol import SMTPProtocol
from mailsvc.routing import Router, Rule
from mailsvc.rules import Rules, Timers
from mailsvc.smtp.policy import Policy
from mailsvc.spool.view import Answer, AnswerKey
from mailsvc.synchronous import Synchronous

P = ParamSpec("P")
T = TypeVar("T")

NOW = 1_800_000_000.0


@implementer(IIncoming)
class Incoming:
    """What one message would be stored as.

    :ivar fate: ``open``, ``committing``, ``committed`` or ``aborted``.
    """

    def __init__(self, spool: Spool, envelope: Envelope, stuffed: bool) -> None:
        self.spool = spool
        self.envelope = envelope
        self.stuffed = stuffed
        self.octets = b""
        self.fate = "open"
        self.told: Callable[[Any], None] = self._nobody

    def write(self, data: bytes | memoryview, dots: int | None = None) -> Deferred[None] | None:
        self.octets += bytes(data)
        return self.spool.pushes_back

    def commit(self) -> Deferred[str]:
        done: Deferred[str] = Deferred()
        self.store(
            lambda error: done.callback(self.envelope.id) if error is None else done.errback(error)
        )
        return done

    def store(self, told: Callable[[Any], None]) -> None:
        self.fate = "committing"
        self.told = told
        if self.spool.at_once:
            self.finish()

    def _nobody(self, error: Exception | None) -> None:
        raise AssertionError("nobody waits for this message")

    def abort(self) -> None:
        if self.fate != "committed":
            self.fate = "aborted"

    def finish(self, error: Exception | None = None) -> None:
        """Let the commit end."""
        self.fate = "committed" if error is None else "failed"
        self.told(error)


class Spool:
    """The part of a spool that receiving needs; tests decide how each commit ends.

    :ivar at_once: commits end at once, and well.
    :ivar pushes_back: what ``write`` returns.
    :ivar broken: what ``begin`` raises.
    """

    def __init__(self) -> None:
        self.messages: list[Incoming] = []
        self.at_once = True
        self.pushes_back: Deferred[None] | None = None
        self.broken: Exception | None = None

        self.pauses: dict[str, str] = {}
        self.answers: dict[AnswerKey, Answer] = {}
        self.recorded: list[tuple[str, Outcome]] = []

    def claim_message(self, message_id: str, lease: float) -> list[Claim]:
        (message,) = (each for each in self.messages if each.envelope.id == message_id)
        envelope = message.envelope
        return [
            Claim(
                Delivery(
                    f"{message_id}-{number}", envelope, each, each.route.destinations[0], 1, 10
                ),
                number,
                NOW + lease,
            )
            for number, each in enumerate(envelope.recipients, 1)
            if each.route.sync
        ]

    def record(self, claim: Claim, outcome: Outcome) -> Deferred[None]:
        self.recorded.append((claim.delivery.id, outcome))
        return succeed(None)

    def paused(self) -> dict[str, str]:
        return self.pauses

    def name_deliveries(self, ids: Mapping[str, AnswerKey], until: float) -> Deferred[None]:
        if self.broken is not None:
            return fail(self.broken)
        for name, key in ids.items():
            self.answers.setdefault(key, Answer(0, "", name, until))
        return succeed(None)

    def answer_for(self, key: AnswerKey) -> Deferred[Answer | None]:
        if self.broken is not None:
            return fail(self.broken)
        return succeed(self.answers.get(key))

    def remember_answer(
        self, key: AnswerKey, reply_text: str, code: int, until: float, delivery_id: str = ""
    ) -> Deferred[None]:
        if self.broken is not None:
            return fail(self.broken)
        self.answers[key] = Answer(code, reply_text, delivery_id, until)
        return succeed(None)

    def begin(self, envelope: Envelope, stuffed: bool) -> Incoming:
        if self.broken is not None:
            raise self.broken
        self.messages.append(Incoming(self, envelope, stuffed))
        return self.messages[-1]


class Reception:
    """One connection and all that is behind it.

    :ivar events: what was logged.
    :ivar woken: the destinations that were told of new mail.
    :ivar asked: the ids under which destinations were asked for an answer at once.
    :ivar verdict: their answer; None: it comes later, by ``verdicts``.
    """

    def __init__(
        self,
        *rules: Rule,
        policy: Policy | None = None,
        timers: Timers | None = None,
        host: str = "192.0.2.1",
        users: dict[str, str] | None = None,
        greeting_delay: float = 0,
        own_senders: bool = False,
        transport: StringTransport | None = None,
        router: IRouter | None = None,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.events: list[Event] = []
        self.woken: list[str] = []
        self.asked: list[str] = []
        self.verdict: Verdict | None = Verdict(Done())
        self.verdicts: list[Deferred[list[Verdict]]] = []
        self.spool = Spool()
        checkers = []
        if users:
            database = InMemoryUsernamePasswordDatabaseDontUse(
                **{name: word.encode() for name, word in users.items()}
            )
            checkers.append(database)

        def in_thread(
            function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
        ) -> Deferred[T]:
            return succeed(function(*args, **kwargs))

        self.intake = Intake(
            hostname="mx.example.com",
            spool=cast(ISpool, self.spool),
            router=router
            or Router(rules or (Rule(("*@example.com",), ("app",)),), "mx.example.com"),
            authentication=Authentication(
                "mx.example.com",
                checkers,
                clock=self.clock,
                in_thread=in_thread,
                emit=self.events.append,
                cleartext=True,
                own_senders=own_senders,
            ),
            synchronous=Synchronous(self.spool, self.attempt, self.clock, 120),
            emit=self.events.append,
            now=self.clock.seconds,
            wake=self._wake,
        )
        self.rules = Rules(
            policy=policy or Policy("mx.example.com"),
            intake=self.intake,
            clock=self.clock,
            timers=timers or Timers(),
            greeting_delay=greeting_delay,
        )
        self.gone = 0
        self.transport = transport or StringTransport()
        self.protocol = SMTPProtocol(
            self.rules, host, implicit=False, deadlines=Deadlines(self.clock), gone=self._gone
        )
        self.protocol.makeConnection(self.transport)

    def attempt(self, claims: Sequence[Claim]) -> Deferred[list[Verdict]]:
        self.asked += [each.delivery.id for each in claims]
        if self.verdict is None:
            self.verdicts.append(Deferred())
            return self.verdicts[-1]
        return succeed([self.verdict for _ in claims])

    def _wake(self, names: Iterable[str]) -> None:
        self.woken += sorted(names)

    def _gone(self, _: SMTPProtocol) -> None:
        self.gone += 1

    def read(self) -> list[str]:
        """Return the lines that were answered since the last call."""
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets.decode().split("\r\n")[:-1]

    def say(self, *lines: str) -> list[str]:
        """Send lines in one piece and return what is answered."""
        self.protocol.dataReceived("".join(f"{line}\r\n" for line in lines).encode())
        return self.read()

    def codes(self, *lines: str) -> list[str]:
        """Send lines and return the codes of the answers."""
        return [line[:3] for line in self.say(*lines)]

    @property
    def message(self) -> Incoming:
        """Return the last message that was begun."""
        return self.spool.messages[-1]

    def logged(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


BROKEN = SpoolError("the disk is on fire")
