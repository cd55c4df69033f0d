"""``python -m benchmarks.fairness``: what a dead destination's backlog does to another's latency.

In one process, over the spool that mailsvc uses and on the disk of ``--directory``: the dispatcher
delivers mails to a destination that takes them at once, first alone, then beside one that refuses
every attempt and for which ``--backlog`` deliveries wait.  Printed is the time that a mail takes
into the spool and to its delivery, of mails that come one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from random import Random
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from zope.interface import implementer

from mailsvc.breaker import BreakerPolicy
from mailsvc.dispatch import Destination, Dispatcher
from mailsvc.errors import TransientFailure
from mailsvc.events import Event
from mailsvc.interfaces import IContent, IDeliverer
from mailsvc.message import Address, Delivery, Envelope, Recipient, Route
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import SpoolLimits

reactor: Any = installed_reactor

_RECIPIENTS = 1000
_MAIL = b"From: a@example.org\r\nSubject: x\r\n\r\n" + b"0123456789abcdef" * 64 + b"\r\n"


@implementer(IDeliverer)
class Taking:
    """Takes each delivery at once."""

    def __init__(self) -> None:
        self.waiting: dict[str, Deferred[None]] = {}

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """See IDeliverer."""
        self.waiting.pop(delivery.envelope.id).callback(None)


@implementer(IDeliverer)
class Refusing:
    """Refuses each delivery at once."""

    def __init__(self) -> None:
        self.attempts = 0

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """See IDeliverer."""
        self.attempts += 1
        raise TransientFailure("503")


def _ignore(event: Event) -> None:
    """Log nothing."""


class Fairness:
    """One spool, one dispatcher, two destinations."""

    def __init__(self, directory: str, breaker: BreakerPolicy) -> None:
        self.breaker = breaker
        limits = SpoolLimits(octets=1 << 36, low_water=0)
        self.spool = EmbeddedSpool(directory, reactor, limits=limits, emit=_ignore)
        self.dispatcher = Dispatcher(self.spool, reactor, _ignore, Random(1))
        self.taking, self.refusing = Taking(), Refusing()

    async def start(self) -> None:
        """Open the spool, and deliver to the destination that works."""
        await self.spool.start()
        self.dispatcher.replace({"live": self._destination("live", self.taking)})
        self.dispatcher.start()

    def _destination(self, name: str, deliverer: IDeliverer) -> Destination:
        return Destination(
            name=name,
            deliverer=deliverer,
            schedule=(5.0,) * 100,
            breaker=self.breaker,
        )

    async def put(self, name: str, recipients: int = 1) -> None:
        """Store one message."""
        route = Route("*", (name,))
        to = tuple(Recipient(Address(f"u{n}", "example.com"), route) for n in range(recipients))
        now = reactor.seconds()
        envelope = Envelope(new_message_id(now), now, None, to)
        if name == "live":
            self.taking.waiting[envelope.id] = Deferred()
        incoming = self.spool.begin(envelope, False)
        incoming.write(_MAIL)
        await incoming.commit()
        if name == "live":
            delivered = self.taking.waiting.get(envelope.id)
            self.dispatcher.wake([name])
            if delivered is not None:
                await delivered

    async def backlog(self, size: int) -> None:
        """Let deliveries wait, then begin to attempt them."""
        for _ in range(size // _RECIPIENTS):
            await self.put("dead", _RECIPIENTS)
        self.dispatcher.replace(
            {
                "live": self._destination("live", self.taking),
                "dead": self._destination("dead", self.refusing),
            }
        )

    async def latencies(self, count: int) -> list[float]:
        """Return the milliseconds that mails took, one after the other."""
        taken = []
        for _ in range(count):
            began = reactor.seconds()
            await self.put("live")
            taken.append(1000 * (reactor.seconds() - began))
        return taken


async def _measure(directory: str, backlog: int, mails: int, breaker: BreakerPolicy) -> None:
    fairness = Fairness(directory, breaker)
    await fairness.start()
    await fairness.latencies(mails // 10)
    alone = await fairness.latencies(mails)
    await fairness.backlog(backlog)
    beside = await fairness.latencies(mails)
    attempts = fairness.refusing.attempts
    summary = {each.destination: each for each in (await fairness.spool.summary()).destinations}
    _line("alone", alone)
    _line(f"beside {summary['dead'].waiting + summary['dead'].delivering} waiting", beside)
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"median, ratio: {ratio:.2f} ({attempts} attempts at the dead destination meanwhile)")
    await fairness.dispatcher.stop(10)
    await fairness.spool.stop()


def _line(name: str, taken: list[float]) -> None:
    most = statistics.quantiles(taken, n=100)[98]
    print(f"{name}: median {statistics.median(taken):.2f} ms, 99th percentile {most:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--mails", type=int, default=1000)
    parser.add_argument("--directory", default=None, help="on the disk to measure")
    parser.add_argument(
        "--no-breaker", action="store_true", help="attempt the dead destination all the time"
    )
    arguments = parser.parse_args()
    breaker = BreakerPolicy(failures=1_000_000_000) if arguments.no_breaker else BreakerPolicy()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        react(
            lambda _: Deferred.fromCoroutine(
                _measure(directory, arguments.backlog, arguments.mails, breaker)
            )
        )


if __name__ == "__main__":
    main()
