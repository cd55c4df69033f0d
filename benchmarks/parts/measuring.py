"""How a part is measured: the least of many short runs, which other load disturbs least."""

from __future__ import annotations

import time
from collections.abc import Callable


def least(work: Callable[[], object], messages: int, runs: int = 60) -> float:
    """Return the least CPU time that ``work`` took of several runs, in us per message."""
    best = float("inf")
    for _ in range(runs):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / messages * 1e6
