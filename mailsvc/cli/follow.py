"""``mailsvc retry --wait``: watches what was made due get through."""

from __future__ import annotations

import time
from collections.abc import Collection

from mailsvc.cli.places import Queue
from mailsvc.cli.screen import OK, PROBLEM, Screen, plural
from mailsvc.control.protocol import QueueReport
from mailsvc.spool.view import DestinationSummary
from mailsvc.wording import printable

#: Seconds between two looks.
_LOOK = 0.25


def follow(queue: Queue, screen: Screen, destinations: Collection[str], count: int) -> int:
    """Show progress until nothing of these destinations is due any more; return the exit code.

    Numbers are those of the whole queues: mail that comes meanwhile counts, too.

    :param count: the deliveries that were made due.
    """
    report = queue.report()
    dead = sum(each.dead for each in _of(report, destinations))
    with screen.bar("delivering", count) as show:
        while True:
            left = sum(each.waiting + each.delivering for each in _of(report, destinations))
            show(count - min(count, left))
            hindered = _hindered(screen, report, destinations)
            if hindered or not _under_way(screen, report, destinations):
                break
            time.sleep(_LOOK)
            report = queue.report()
    died = sum(each.dead for each in _of(report, destinations)) - dead
    screen.line(
        f"{plural(max(0, count - left - max(0, died)), 'delivery', 'deliveries')} done,"
        f" {left} waiting, {max(0, died)} dead since"
    )
    for text in hindered:
        screen.line(text)
    return PROBLEM if left or died > 0 else OK


def _of(report: QueueReport, names: Collection[str]) -> list[DestinationSummary]:
    return [each for each in report.summary.destinations if each.destination in names]


def _under_way(screen: Screen, report: QueueReport, names: Collection[str]) -> bool:
    """Say whether something is being delivered, or is due and going to be."""
    now = screen.now()
    return any(
        each.delivering or (each.next_due is not None and each.next_due <= now)
        for each in _of(report, names)
        if each.paused is None
    )


def _hindered(screen: Screen, report: QueueReport, names: Collection[str]) -> list[str]:
    """Return what keeps the queues from getting through soon."""
    found = []
    states = report.destinations or {}
    for each in _of(report, names):
        name = printable(each.destination)
        state = states.get(each.destination)
        if not each.waiting or each.paused is not None:
            continue
        if state is None:
            found.append(f"{name} is not configured")
        elif state.open_until is not None:
            found.append(
                f"{name} fails; it is left alone, and tried again {screen.until(state.open_until)}"
            )
    return found
