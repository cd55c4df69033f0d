"""Turns: the logins of one address, and of one user, are checked a few at a time.

A flood of logins stands in its own line, and leaves the threads that check passwords to others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import DeferredSemaphore

T = TypeVar("T")


class Turns:
    """Lets each address and each user have a few calls under way; further ones wait in line.

    :param most: calls of one address, or of one user, under way at a time.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._lines: dict[tuple[str, str], DeferredSemaphore] = {}

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
        line = self._lines.setdefault(key, DeferredSemaphore(self._most))
        await line.acquire()
        try:
            return await call()
        finally:
            line.release()
            if line.tokens == line.limit:
                self._lines.pop(key, None)
