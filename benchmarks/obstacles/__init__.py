"""What is in the way of the targets that are not met: text and tables, from figures alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.lookup import Lookup, Unmeasured
from benchmarks.obstacles import accepting, bulk, delivering, idle, scale
from benchmarks.targets import Obstacle, verdicts
from benchmarks.wording import filled

_INTRODUCTION = """\
## What is in the way

For each target that is not met: what it leaves, and what the parts that cannot be left out cost by
themselves. The parts of mailsvc were measured each alone, in one thread and with warm caches; in a
running service caches are colder and threads take turns, so their sum is the least that it can be.
"""

_PARTS: dict[Obstacle, tuple[str, Callable[[Lookup], str]]] = {
    Obstacle.RATE: ("Accepting", accepting.rate),
    Obstacle.CONNECTION: ("One message a connection", accepting.connection),
    Obstacle.LATENCY: ("p99 of accepting", accepting.latency),
    Obstacle.BULK: ("Large messages", bulk.large),
    Obstacle.STARTTLS: ("Large messages under STARTTLS", bulk.starttls),
    Obstacle.MEMORY: ("The memory of an idle connection", idle.memory),
    Obstacle.IDLE: ("The latency beside idle connections", idle.latency),
    Obstacle.MAILDIR: ("To a maildir", delivering.maildir),
    Obstacle.WEBHOOK: ("To a webhook", delivering.webhook),
    Obstacle.PROCESSES: ("Two processes", scale.processes),
}


def in_the_way(document: dict[str, Any]) -> str:
    """Return that part of the page; empty if no target is missed."""
    missed = [each for each in verdicts(document) if each.met is False]
    if not missed:
        return ""
    figures = Lookup(document)
    told: dict[Obstacle, str] = {}
    for obstacle, (heading, tell) in _PARTS.items():
        if any(each.obstacle is obstacle for each in missed):
            try:
                told[obstacle] = filled(f"### {heading}\n\n{tell(figures)}")
            except Unmeasured:
                continue
    untold = [f"{each.what}: {each.target}" for each in missed if each.obstacle not in told]
    parts = [_INTRODUCTION, *told.values()]
    if untold:
        lines = "\n".join(f"- {each}" for each in untold)
        parts.append(f"Not met, and what is in the way was not measured in this run:\n\n{lines}\n")
    return "\n".join(parts)
