"""A connection for tests: real protocol, session, intake, realm and router, without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar, cast

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from mailsvc.errors import SpoolError
from mailsvc.events import Event
from mailsvc.intake import Intake
from mailsvc.interfaces import IIncoming, IRouter, ISpool
from mailsvc.message import Envelope
from mailsvc.protocol import SMTPProtocol
from mailsvc.realm import Authentication
from mailsvc.routing import Router, Rule
from mailsvc.rules import Rules, Timers
from mailsvc.smtp.policy import Policy

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
        self.done: Deferred[str] = Deferred()

    def write(self, data: bytes | memoryview) -> Deferred[None] | None:
        self.octets += bytes(data)
        return self.spool.pushes_back

    def commit(self) -> Deferred[str]:
        self.fate = "committing"
        if self.spool.at_once:
            self.finish()
        return self.done

    def abort(self) -> None:
        if self.fate != "committed":
            self.fate = "aborted"

    def finish(self, error: Exception | None = None) -> None:
        """Let the commit end."""
        if error is not None:
            self.fate = "failed"
            self.done.errback(error)
        else:
            self.fate = "committed"
            self.done.callback(self.envelope.id)


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

    def begin(self, envelope: Envelope, stuffed: bool) -> Incoming:
        if self.broken is not None:
            raise self.broken
        self.messages.append(Incoming(self, envelope, stuffed))
        return self.messages[-1]


class Reception:
    """One connection and all that is behind it.

    :ivar events: what was logged.
    :ivar woken: the destinations that were told of new mail.
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
        self.protocol = SMTPProtocol(self.rules, host, implicit=False, gone=self._gone)
        self.protocol.transport = self.transport
        self.protocol.connected = 1
        self.protocol.connectionMade()

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
