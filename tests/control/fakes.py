"""A server as its control socket sees it, with a queue in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mailsvc.dispatch import QueueState
from mailsvc.errors import ConfigError, SpoolError
from mailsvc.events import Event
from mailsvc.message import Address, Client, Envelope, Recipient, Route
from mailsvc.routing import Router, Rule
from mailsvc.settings import Listener, Settings
from mailsvc.spool.view import (
    DestinationSummary,
    MessageDetail,
    QueueEntry,
    QueueSummary,
    State,
)
from mailsvc.units import Networks

MESSAGE = "0199e3b2a00" + "00ff00ff00ff00ff"


def entry(
    number: int, state: State = "waiting", destination: str = "app", message: str = MESSAGE
) -> QueueEntry:
    """Return a delivery."""
    return QueueEntry(
        id=f"{message}-{number}",
        message_id=message,
        state=state,
        destination=destination,
        attempts=2,
        due=2_000_000_000.0,
        received_at=1_000_000_000.0,
        size=1234,
        reverse_path="",
        recipient="né\x1b@example.com",
        reason="503 Service\nUnavailable" if state == "dead" else "",
    )


class QueueInMemory:
    """The deliveries of a spool, without content."""

    def __init__(self, *entries: QueueEntry) -> None:
        self.rows = {each.id: each for each in entries}
        self.paused: dict[str, str] = {}
        self.calls: list[tuple[object, ...]] = []
        self.broken: Exception | None = None

    async def summary(self) -> QueueSummary:
        """Count."""
        if self.broken is not None:
            raise self.broken
        names = sorted({each.destination for each in self.rows.values()} | set(self.paused))
        return QueueSummary(tuple(map(self._destination, names)), 3, 4096, 1 << 30)

    def _destination(self, name: str) -> DestinationSummary:
        here = [each for each in self.rows.values() if each.destination == name]
        states = [each.state for each in here]
        return DestinationSummary(
            name,
            states.count("waiting"),
            states.count("delivering"),
            states.count("dead"),
            1_000_000_000.0 if states else None,
            min((each.due for each in here if each.state == "waiting"), default=None),
            self.paused.get(name),
            5000,
        )

    async def entries(
        self,
        destination: str | None = None,
        state: State | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> tuple[QueueEntry, ...]:
        """Return a page."""
        self.calls.append(("entries", destination, state, limit, after))
        order = list(self.rows)
        start = order.index(after) + 1 if after is not None else 0
        return tuple(
            each
            for each in (self.rows[name] for name in order[start:])
            if destination in (None, each.destination) and state in (None, each.state)
        )[:limit]

    async def show(self, id_: str) -> MessageDetail | None:
        """Return a message."""
        found = tuple(each for each in self.rows.values() if id_ in (each.id, each.message_id))
        if not found:
            return None
        recipient = Recipient(Address("a", "example.com"), Route("*@example.com", ("app",)))
        envelope = Envelope(
            found[0].message_id, 1_000_000_000.0, None, (recipient,), Client("192.0.2.1", "x")
        )
        whole = tuple(each for each in self.rows.values() if each.message_id == found[0].message_id)
        return MessageDetail(envelope, 1234, "segments/0000000001 at 4096", whole)

    def _named(self, ids: Iterable[str]) -> list[str]:
        named = list(ids)
        return [
            each.id
            for each in self.rows.values()
            if (each.id in named or each.message_id in named) and each.state != "delivering"
        ]

    async def retry(
        self,
        ids: Iterable[str] | None = None,
        destination: str | None = None,
        fresh_id: bool = False,
    ) -> int:
        """Make due."""
        assert ids is not None
        named = self._named(ids)
        self.calls.append(("retry", len(named), fresh_id))
        for name in named:
            self.rows[name] = replace(self.rows[name], state="waiting", due=0.0)
        return len(named)

    async def drop(self, ids: Iterable[str]) -> int:
        """Remove."""
        named = self._named(ids)
        for name in named:
            del self.rows[name]
        return len(named)

    async def pause(self, destination: str, reason: str) -> None:
        """Pause."""
        self.paused[destination] = reason

    async def resume(self, destination: str) -> bool:
        """Resume."""
        return self.paused.pop(destination, None) is not None


class Dispatch:
    """What was asked of the dispatcher."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.resumed: list[str] = []
        self.known = {
            "app": QueueState(1, 12, 1_000_000_060.0, None),
            "archive": QueueState(0, 0, None, None),
        }

    def states(self) -> dict[str, QueueState]:
        """Return the queues."""
        return self.known

    def wake(self, names: Iterable[str]) -> None:
        """Note the names."""
        self.woken.extend(names)

    def resume(self, name: str) -> None:
        """Note the name."""
        self.resumed.append(name)


@dataclass
class Machine:
    """Reactor and log."""

    reactor: Any
    events: list[Event] = field(default_factory=list)

    @property
    def emit(self) -> Callable[[Event], None]:
        """Return the log."""
        return self.events.append


@dataclass
class Composition:
    """The configuration in force."""

    settings: Settings
    router: Router


@dataclass
class Bound:
    """A listener."""

    where: str
    listener: Listener


class Server:
    """A running server."""

    def __init__(self, reactor: Any, directory: str, *entries: QueueEntry) -> None:  # noqa: ANN401
        self.machine = Machine(reactor)
        self.spool = QueueInMemory(*entries)
        self.dispatcher = Dispatch()
        rule = Rule(patterns=("*@example.com",), destinations=("app", "archive"))
        self.composition = Composition(
            Settings(hostname="mx.example.com", spool=directory),
            Router([rule], "mx.example.com", kinds={"app": "webhook", "archive": "maildir"}),
        )
        self.bound: Sequence[Bound] = [
            Bound("127.0.0.1:25", Listener("tcp:25")),
            Bound("0.0.0.0:465", Listener("tcp:465", role="submission", tls="implicit")),
        ]
        self.problems: tuple[str, ...] = ()

    def reload(self) -> Awaitable[None]:
        """Fail with :attr:`problems`, if any."""

        async def work() -> None:
            if self.problems == ("io",):
                raise SpoolError("io")
            if self.problems:
                raise ConfigError(*self.problems)

        return work()


__all__ = ["MESSAGE", "Bound", "Listener", "Networks", "QueueInMemory", "Server", "entry"]
