"""The memory that mails may take while they are parsed and delivered parsed."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads


class Allowance:
    """A semaphore on octets, first come, first served.

    What was taken may be given back from any thread, even by the garbage collector.

    :ivar total: octets in all; whoever wants more takes all of them, and so is alone.
    """

    def __init__(self, reactor: IReactorFromThreads, total: int) -> None:
        self.total = total
        self._reactor = reactor
        self._free = total
        self._returned: deque[int] = deque()
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    @property
    def free(self) -> int:
        """Return the octets that can be had now."""
        self._collect()
        return self._free

    async def take(self, octets: int) -> int:
        """Wait until ``octets`` can be had; return how many to give back."""
        wanted = min(octets, self.total)
        self._collect()
        if self._waiting or self._free < wanted:
            waiter: Deferred[None] = Deferred(self._forget)
            self._waiting.append((wanted, waiter))
            # What came back before the waiter was in sight woke nobody.
            self._wake()
            await waiter
        else:
            self._free -= wanted
        return wanted

    def give(self, octets: int) -> None:
        """Give back what :meth:`take` returned."""
        self._returned.append(octets)
        if self._waiting:
            self._reactor.callFromThread(self._wake)

    def _collect(self) -> None:
        while self._returned:
            self._free += self._returned.popleft()

    def _wake(self) -> None:
        self._collect()
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, waiter = self._waiting.popleft()
            self._free -= wanted
            waiter.callback(None)

    def _forget(self, waiter: Deferred[None]) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not waiter)
        self._reactor.callFromThread(self._wake)
