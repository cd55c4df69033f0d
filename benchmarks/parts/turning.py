"""What work costs to be noticed: a turn of the reactor, and a thread that waits for another."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from twisted.internet.epollreactor import EPollReactor

from benchmarks.parts.measuring import least

TURN = "a turn of the reactor, woken by a thread"
WAIT = "a thread that waits, and is woken by another"
_TIMES = 200


def measure(runs: int) -> dict[str, float]:
    """Return what they take, by name."""
    return {TURN: _turn(runs), WAIT: _wait(runs)}


def _turn(runs: int) -> float:
    reactor = EPollReactor()
    done: list[None] = []

    def turns() -> None:
        for _ in range(_TIMES):
            reactor.callFromThread(done.append, None)
            reactor.runUntilCurrent()
            reactor.doIteration(0)

    found = least(turns, _TIMES, runs)
    for each in reactor.removeAll():
        each.connectionLost(None)
    return found


def _wait(runs: int) -> float:
    """Return the CPU us of one of the two waits in a message and its answer."""
    asked: SimpleQueue[bool] = SimpleQueue()
    answered: SimpleQueue[bool] = SimpleQueue()

    def answer() -> None:
        while asked.get():
            answered.put(True)

    thread = threading.Thread(target=answer)
    thread.start()

    def ask() -> None:
        for _ in range(_TIMES):
            asked.put(True)
            answered.get()

    found = least(ask, 2 * _TIMES, runs)
    asked.put(False)
    thread.join()
    return found
