"""How the connections of a round are shared by the processes of a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks import accounting
from benchmarks.check import CheckFailed
from benchmarks.servers.server import Server

T = TypeVar("T")

#: Seconds from one look to the next.
_LOOK = 0.05
#: What each process has of an equal share at least, where connections are spread evenly.
_LEAST = 2 / 3
_ATTEMPTS = 6


class Watch:
    """Looks, while it is entered, until each of so many connections is with a process.

    :ivar shares: how many each process has.
    """

    def __init__(self, server: Server, sessions: int) -> None:
        self.shares: list[int] = []
        self._server = server
        self._sessions = sessions
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK):
            self.shares = accounting.connections(self._server.pids, self._server.port)
            if sum(self.shares) >= self._sessions:
                return


def even(shares: Sequence[int]) -> bool:
    """Say whether each process has its share, or nearly."""
    return bool(shares) and min(shares) * len(shares) >= _LEAST * sum(shares) > 0


def evenly(turn: Callable[[], tuple[T, Sequence[int]]], seen: list[str]) -> T:
    """Take a turn again until the connections were spread evenly.

    :param turn: returns what it measured, and the share of each process.
    :param seen: gets the shares of each turn, in words.
    :raises CheckFailed: they never were.
    """
    for _ in range(_ATTEMPTS):
        result, shares = turn()
        seen.append(" + ".join(map(str, shares)) + ("" if even(shares) else " (left out)"))
        if even(shares):
            return result
    raise CheckFailed(f"one process had most of the connections: {', '.join(seen)}")
