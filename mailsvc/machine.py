"""What lasts as long as the process, and what of it a deliverer is lent."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from zope.interface import implementer

from mailsvc.events import Emit
from mailsvc.interfaces import IContent, IDelivererContext, IDelivererFactory
from mailsvc.links import Links
from mailsvc.mime.limits import Limits as ParseLimits
from mailsvc.mime.parser import Parser
from mailsvc.parsed import ParsedMail
from mailsvc.penalties import Penalties, Penalty
from mailsvc.settings import Settings
from mailsvc.spool.oversight import Oversight
from mailsvc.threads import Share, Threads
from mailsvc.turnend import TurnEnd

P = ParamSpec("P")
T = TypeVar("T")

#: Threads for deliverers (disk, payloads), and how many of them one destination may take: a disk or
#: a program that hangs holds up its own mail only.
_DELIVERY_THREADS = 128
_SHARE = 16


class Retention:
    """Keeps contents in the spool, which is there later than the parts that ask for it.

    :ivar spool: set before the first delivery.
    """

    def __init__(self) -> None:
        self.spool: Oversight | None = None

    async def retain(self, message_id: str, until: float) -> bool:
        """Keep a content until a time; say whether there is such a message."""
        assert self.spool is not None
        return await self.spool.retain(message_id, until)


@dataclass(frozen=True, slots=True)
class Machine:
    """What lasts as long as the process.

    :ivar turn_end: where what can wait for the end of the reactor's turn is done.
    :ivar deliveries: threads for deliverers; ``logins`` for the checking of passwords.
    :ivar penalties: what failed logins cost; a reload changes its rules and keeps its counts.
    :ivar retention: keeps contents for the links to them.
    """

    reactor: Any
    emit: Emit
    kinds: Mapping[str, IDelivererFactory]
    turn_end: TurnEnd
    deliveries: Threads
    logins: Threads
    parser: Parser
    penalties: Penalties
    retention: Retention

    def follow(self, before: Settings, after: Settings) -> list[str]:
        """Change what can be changed while it is used; return the keys that need a restart.

        :param before: the settings that were in force.
        """
        self.penalties.change(_penalty(after), after.limits.exempt.cover)
        kept = {
            "the spool directory": (os.path.abspath(before.spool), os.path.abspath(after.spool)),
            "[auth] threads": (before.auth.threads, after.auth.threads),
            "[limits] parse_memory": (before.limits.parse_memory, after.limits.parse_memory),
        }
        return [key for key, (old, new) in kept.items() if old != new]


def machine_for(
    settings: Settings,
    reactor: Any,  # noqa: ANN401
    emit: Emit,
    kinds: Mapping[str, IDelivererFactory],
    turn_end: TurnEnd | None = None,
) -> Machine:
    """Return what lasts as long as the process; ``settings`` are those of its start."""
    turn_end = turn_end or TurnEnd(reactor.callLater)
    deliveries = Threads(reactor, _DELIVERY_THREADS, "deliveries")
    limits = settings.limits
    return Machine(
        reactor=reactor,
        emit=emit,
        kinds=kinds,
        turn_end=turn_end,
        deliveries=deliveries,
        logins=Threads(reactor, settings.auth.threads, "logins"),
        parser=Parser(
            reactor, deliveries.run, turn_end, ParseLimits(memory=int(limits.parse_memory))
        ),
        penalties=Penalties(reactor.seconds, limits.exempt.cover, _penalty(settings)),
        retention=Retention(),
    )


def _penalty(settings: Settings) -> Penalty:
    auth = settings.auth
    return Penalty(
        first=auth.delay,
        most=auth.longest_delay,
        connection=auth.failures,
        address_free=auth.address_free,
        address_most=auth.address_failures,
        user_free=auth.user_free,
        user_most=auth.user_delay,
        drain=auth.forget_after,
    )


@implementer(IDelivererContext)
class Context:
    """What a deliverer is lent."""

    def __init__(
        self, machine: Machine, settings: Settings, name: str, links: Links | None
    ) -> None:
        self.name = name
        self.hostname = settings.hostname
        self.directory = settings.spool
        self.reactor = machine.reactor
        self.emit = machine.emit
        self.links = links if settings.http.base_url else None
        self._machine = machine
        self._threads = Share(machine.deliveries.run, _SHARE)

    def in_thread(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Run a blocking function in one of this destination's threads."""
        return self._threads.run(function, *args, **kwargs)

    def parse(self, content: IContent) -> Awaitable[ParsedMail]:
        """Return the parsed mail."""
        return self._machine.parser.parse(content, self.name)

    def parsed(self, content: IContent, function: Callable[[ParsedMail], T]) -> Awaitable[T]:
        """Return what ``function`` makes of the parsed mail."""
        return self._machine.parser.parsed(content, function, self.name)
