"""The memory that mails may take while they are parsed and delivered parsed."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads


@dataclass(slots=True)
class _Waiter:
    """Somebody who waits for octets."""

    octets: int
    owner: str
    told: Deferred[None]


class Allowance:
    """A semaphore on octets: first come, first served, but that no owner keeps others waiting.

    An owner that has some gets more only up to half of all.  A destination that takes its time over
    its mails, or is dead, therefore leaves memory for those of the others.

    What was taken may be given back from any thread, even by the garbage collector.

    :ivar total: octets in all; whoever wants more takes all of them, and so is alone.
    """

    def __init__(self, reactor: IReactorFromThreads, total: int) -> None:
        self.total = total
        self._reactor = reactor
        self._free = total
        self._held: Counter[str] = Counter()
        self._returned: deque[tuple[int, str]] = deque()
        self._waiting: deque[_Waiter] = deque()

    @property
    def free(self) -> int:
        """Return the octets that can be had now."""
        self._collect()
        return self._free

    async def take(self, octets: int, owner: str = "") -> int:
        """Wait until ``octets`` can be had; return how many to give back.

        :param owner: whose they are; empty: nobody's, who is served as all others together.
        """
        wanted = min(octets, self.total)
        self._collect()
        if not (self._waiting or self._has_its_share(wanted, owner) or wanted > self._free):
            self._grant(wanted, owner)
            return wanted
        waiter = _Waiter(wanted, owner, Deferred(self._forget))
        self._waiting.append(waiter)
        self._wake()
        await waiter.told
        return wanted

    def give(self, octets: int, owner: str = "") -> None:
        """Give back what :meth:`take` returned."""
        self._returned.append((octets, owner))
        if self._waiting:
            self._reactor.callFromThread(self._wake)

    def _collect(self) -> None:
        while self._returned:
            octets, owner = self._returned.popleft()
            self._free += octets
            if owner:
                self._held[owner] -= octets
                if not self._held[owner]:
                    del self._held[owner]

    def _wake(self) -> None:
        self._collect()
        granted = []
        passed: deque[_Waiter] = deque()
        while self._waiting:
            waiter = self._waiting.popleft()
            if self._has_its_share(waiter.octets, waiter.owner):
                passed.append(waiter)
                continue
            if waiter.octets > self._free:
                # Those behind it are not served first, or one that is large would wait for ever.
                self._waiting.appendleft(waiter)
                break
            self._grant(waiter.octets, waiter.owner)
            granted.append(waiter.told)
        self._waiting.extendleft(reversed(passed))
        for told in granted:
            told.callback(None)

    def _grant(self, octets: int, owner: str) -> None:
        self._free -= octets
        if owner:
            self._held[owner] += octets

    def _has_its_share(self, octets: int, owner: str) -> bool:
        held = self._held.get(owner, 0)
        return held > 0 and held + octets > self.total // 2

    def _forget(self, told: Deferred[None]) -> None:
        self._waiting = deque(each for each in self._waiting if each.told is not told)
        self._reactor.callFromThread(self._wake)
