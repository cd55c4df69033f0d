"""Turns: the logins of one address, and of one user, are checked a few at a time.

A flood of logins stands in its own line, and leaves the threads that check passwords to others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class _Line:
    """Who waits for one address or user."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._waiting: deque[Deferred[None]] = deque()
        self._handing_on = False

    @property
    def idle(self) -> bool:
        """Say whether nobody has a turn or waits for one."""
        return self._free == self._most and not self._waiting

    async def acquire(self) -> None:
        """Wait for a turn."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        await turn

    def release(self) -> None:
        """Give a turn back, to the next in line.

        One whose call ends at once gives it back from within: the first loop hands it on, since
        hundreds of them would otherwise be a recursion.
        """
        self._free += 1
        if self._handing_on:
            return
        self._handing_on = True
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().callback(None)
        self._handing_on = False


class Turns:
    """Lets each address and each user have a few calls under way; further ones wait in line.

    :param most: calls of one address, or of one user, under way at a time.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._lines: dict[tuple[str, str], _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    async def take(self, address: str, user: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` returns, called when it is its turn.

        Who stands in a user's line has had the address's turn, so that an address stands there no
        more often than others.

        :param address: whose line it stands in first; empty: in none.
        :param user: the same for the line behind that.
        """
        return await self._in_line("address", address, lambda: self._in_line("user", user, call))

    async def _in_line(self, kind: str, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if not name:
            return await call()
        key = (kind, name)
        line = self._lines.setdefault(key, _Line(self._most))
        await line.acquire()
        try:
            return await call()
        finally:
            line.release()
            if line.idle:
                self._lines.pop(key, None)
