"""``mailsvc queue`` and ``mailsvc show``: what waits, is dead or is paused."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from typing import get_args

from mailsvc.cli.places import Queue, queue_of
from mailsvc.cli.screen import OK, CommandError, Screen, octets, plural
from mailsvc.control.protocol import PAGE, DestinationReport, QueueReport
from mailsvc.spool.view import DestinationSummary, QueueEntry, State
from mailsvc.wording import printable


def add_commands(add: Callable[..., ArgumentParser]) -> None:
    """Add the commands of this module."""
    made = add("queue", show_queue, "show what waits, what is dead and what is paused")
    made.add_argument("--destination", metavar="NAME", help="only what this destination has")
    made.add_argument("--state", choices=get_args(State), help="only deliveries in this state")
    made.add_argument(
        "--limit", type=_count, default=50, metavar="N", help="list N deliveries (default: 50)"
    )
    made = add("show", show_message, "show one message and its deliveries")
    made.add_argument("id", metavar="ID", help="of a message or of a delivery")


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise ArgumentTypeError(f"{text!r} is no number from 0 to 999999")
    return int(text)


def show_queue(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc queue``."""
    with queue_of(arguments) as queue:
        report = queue.report()
        wanted = of_destination(report, arguments.destination)
        entries = _first(queue, arguments.destination, arguments.state, arguments.limit)
    screen.value(
        {
            "running": report.destinations is not None,
            "messages": report.summary.messages,
            "octets": report.summary.octets,
            "limit": None if report.destinations is None else report.summary.limit,
            "destinations": [_destination_value(each, report) for each in wanted],
            "entries": entries,
        }
    )
    if report.destinations is None:
        screen.line("No server runs: nothing is delivered.")
    _destinations_table(screen, wanted, report)
    # Without a server nobody knows the limit that the configuration sets.
    limit = "" if report.destinations is None else f" of {octets(report.summary.limit)}"
    screen.line(
        f"{plural(report.summary.messages, 'message', 'messages')} in the spool,"
        f" {octets(report.summary.octets)}{limit}"
    )
    dead = [printable(each.destination) for each in wanted if each.dead]
    if dead:
        which = f"--destination {dead[0]}" if len(dead) == 1 else "--all"
        screen.line(f"to send dead letters again: mailsvc retry --dead {which}")
    if entries:
        screen.line()
        entries_table(screen, entries)
        total = sum(_counted(each, arguments.state) for each in wanted)
        if total > len(entries):
            screen.line(f"and {total - len(entries)} more (--limit N)")
    return OK


def _first(
    queue: Queue, destination: str | None, state: State | None, limit: int
) -> list[QueueEntry]:
    entries: list[QueueEntry] = []
    while len(entries) < limit:
        size = min(PAGE, limit - len(entries))
        page = queue.entries(destination, state, size, entries[-1].id if entries else None)
        entries.extend(page)
        if len(page) < size:
            break
    return entries


def _counted(summary: DestinationSummary, state: State | None) -> int:
    counts: dict[State, int] = {
        "waiting": summary.waiting,
        "delivering": summary.delivering,
        "dead": summary.dead,
    }
    return sum(counts.values()) if state is None else counts[state]


def of_destination(report: QueueReport, name: str | None) -> list[DestinationSummary]:
    """Return the destination of a name, or all by name: with deliveries, paused or configured.

    :raises CommandError: there is none of this name.
    """
    found = {each.destination: each for each in report.summary.destinations}
    for each in report.destinations or ():
        found.setdefault(each, DestinationSummary(each, 0, 0, 0, None, None, None))
    if name is not None and name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise CommandError(f"there is no destination {name!r}; there are: {there}")
    return [found[each] for each in sorted(found) if name in (None, each)]


def _destination_value(summary: DestinationSummary, report: QueueReport) -> dict[str, object]:
    """Return what programs read of a destination."""
    state = (report.destinations or {}).get(summary.destination)
    return {
        "destination": summary.destination,
        "waiting": summary.waiting,
        "delivering": summary.delivering,
        "dead": summary.dead,
        "oldest": summary.oldest,
        "next_due": summary.next_due,
        "octets": summary.octets,
        "paused": summary.paused,
        "configured": None if report.destinations is None else state is not None,
        "open_until": state.open_until if state else None,
        "held_until": state.held_until if state else None,
    }


def _destinations_table(
    screen: Screen, summaries: Iterable[DestinationSummary], report: QueueReport
) -> None:
    screen.table(
        ("DESTINATION", "WAITING", "DELIVERING", "DEAD", "SIZE", "OLDEST", "NEXT", "STATE"),
        [
            (
                each.destination,
                each.waiting,
                each.delivering,
                each.dead,
                octets(each.octets),
                screen.since(each.oldest) if each.oldest is not None else "-",
                "-"
                if each.next_due is None or each.paused is not None
                else screen.until(each.next_due),
                _condition(screen, each, report),
            )
            for each in summaries
        ],
    )


def _condition(screen: Screen, summary: DestinationSummary, report: QueueReport) -> str:
    """Return how a destination fares, for people."""
    if summary.paused is not None:
        return f"paused: {summary.paused} (mailsvc resume {summary.destination})"
    if report.destinations is None:
        return "-"
    state: DestinationReport | None = report.destinations.get(summary.destination)
    if state is None:
        return "not configured: its mail is kept"
    if state.open_until is not None:
        return (
            f"left alone after {plural(state.failures, 'failure', 'failures')} in a row,"
            f" tried again {screen.until(state.open_until)}"
        )
    if state.held_until is not None:
        return f"asked to be left alone, tried again {screen.until(state.held_until)}"
    return "ok"


def entries_table(screen: Screen, entries: Iterable[QueueEntry]) -> None:
    """Print deliveries."""
    screen.table(
        ("ID", "STATE", "TRIES", "NEXT", "AGE", "SIZE", "DESTINATION", "FROM", "TO", "REASON"),
        [
            (
                each.id,
                each.state,
                each.attempts,
                "-" if each.state != "waiting" else screen.until(each.due),
                screen.since(each.received_at),
                octets(each.size),
                each.destination,
                f"<{each.reverse_path}>",
                each.recipient,
                each.reason or "-",
            )
            for each in entries
        ],
    )


def show_message(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc show``."""
    with queue_of(arguments) as queue:
        detail = queue.show(arguments.id)
    if detail is None:
        raise CommandError(f"there is no message or delivery {arguments.id!r} in the spool")
    screen.value(detail)
    envelope = detail.envelope
    client = envelope.client
    facts = [
        ("id", envelope.id),
        ("received", f"{screen.since(envelope.received_at)} ago"),
        ("from", f"<{envelope.reverse_path or ''}>"),
        *(("to", f"<{each.address}> by route {each.route.name}") for each in envelope.recipients),
        ("client", f"{client.host or 'local'} as {client.helo or '-'} with {client.protocol}"),
        ("user", client.user or "-"),
        ("TLS", f"{client.tls_version} {client.tls_cipher}".strip() or "-"),
        ("size", octets(detail.size)),
        ("stored", detail.place),
    ]
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        screen.line(f"{name.ljust(width)}  {printable(text)}")
    if detail.entries:
        screen.line()
        entries_table(screen, detail.entries)
    return OK
