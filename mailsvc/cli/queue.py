"""The commands about what waits, is dead or is paused."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

from mailsvc.cli.places import Queue, queue_of
from mailsvc.cli.screen import OK, PROBLEM, USAGE, CommandError, Screen, octets, plural
from mailsvc.control.protocol import PAGE, DestinationReport, QueueReport
from mailsvc.events import printable
from mailsvc.spool.view import DestinationSummary, QueueEntry, State

#: Deliveries that one request of a command for many changes: small enough to show progress.
_CHUNK = 200


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
    made = add("retry", retry, "send deliveries again, now: those that wait and dead letters")
    made.add_argument("ids", nargs="*", metavar="ID", help="of deliveries or messages")
    made.add_argument("--destination", metavar="NAME", help="all that this destination has")
    made.add_argument("--all", action="store_true", help="all that there is")
    made.add_argument("--dead", action="store_true", help="only dead letters")
    made.add_argument(
        "--fresh-id",
        action="store_true",
        help="under new ids, so that a receiver does not take them for repeats",
    )
    made = add("drop", drop, "remove deliveries for good")
    made.add_argument("ids", nargs="+", metavar="ID", help="of deliveries or messages")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made = add("pause", pause, "keep what a destination gets, but send it nothing")
    made.add_argument("destination", metavar="DESTINATION")
    made.add_argument(
        "--reason", default="paused by an operator", metavar="TEXT", help="shown by mailsvc queue"
    )
    made = add("resume", resume, "end a pause: what waited is due at once")
    made.add_argument("destination", metavar="DESTINATION")


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 1_000_000:
        raise ValueError("out of range")
    return number


def _pages(queue: Queue, destination: str | None, state: State | None) -> Iterator[QueueEntry]:
    """Return all deliveries of a destination, or of all."""
    after = None
    while True:
        page = queue.entries(destination, state, PAGE, after)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


# Looking


def show_queue(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc queue``."""
    with queue_of(arguments) as queue:
        report = queue.report()
        wanted = [
            each
            for each in _with_configured(report)
            if arguments.destination in (None, each.destination)
        ]
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
    if arguments.destination is not None and not wanted:
        raise CommandError(f"there is no destination {arguments.destination!r}")
    _destinations_table(screen, wanted, report)
    # Without a server nobody knows the limit that the configuration sets.
    limit = "" if report.destinations is None else f" of {octets(report.summary.limit)}"
    screen.line(
        f"{plural(report.summary.messages, 'message', 'messages')} in the spool,"
        f" {octets(report.summary.octets)}{limit}"
    )
    if entries:
        screen.line()
        _entries_table(screen, entries)
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


def _with_configured(report: QueueReport) -> list[DestinationSummary]:
    """Return all destinations by name: those with deliveries, those paused, those configured."""
    found = {each.destination: each for each in report.summary.destinations}
    for name in report.destinations or ():
        found.setdefault(name, DestinationSummary(name, 0, 0, 0, None, None, None))
    return [found[name] for name in sorted(found)]


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


def _entries_table(screen: Screen, entries: Iterable[QueueEntry]) -> None:
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
        _entries_table(screen, detail.entries)
    return OK


# Changing


def retry(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc retry``."""
    named = [bool(arguments.ids), arguments.destination is not None, arguments.all]
    if sum(named) != 1:
        arguments.fail("name either IDs, or --destination NAME, or --all")
    if arguments.dead and arguments.ids:
        arguments.fail("--dead goes with --destination or --all")
    with queue_of(arguments) as queue:
        report = queue.report()
        if arguments.ids:
            count, missing = _retry_named(queue, arguments, screen.now())
        else:
            missing = []
            count = _retry_many(queue, arguments, screen)
        if count:
            names = [each.destination for each in report.summary.destinations]
            queue.hasten([arguments.destination] if arguments.destination is not None else names)
    screen.value({"retried": count, "missing": missing})
    for each in missing:
        screen.complain(f"{printable(each)}: nothing waits or is dead under this id")
    if not count and not missing:
        screen.complain("nothing waits and nothing is dead")
    if count:
        due = "is due now" if count == 1 else "are due now"
        screen.line(f"{plural(count, 'delivery', 'deliveries')} {due}")
        _remind(screen, arguments.destination, report)
    return OK if count and not missing else PROBLEM


def _is_due(entry: QueueEntry, now: float) -> bool:
    return entry.state == "waiting" and entry.due <= now


def _retry_named(queue: Queue, arguments: Namespace, now: float) -> tuple[int, list[str]]:
    count = 0
    missing = []
    for each in dict.fromkeys(arguments.ids):
        changed = queue.retry([each], fresh_id=arguments.fresh_id)
        if not changed:
            # A server keeps what it has just accepted in its memory, where it is due already.
            changed = sum(_is_due(entry, now) for entry in _named(queue, each))
        count += changed
        if not changed:
            missing.append(each)
    return count, missing


def _retry_many(queue: Queue, arguments: Namespace, screen: Screen) -> int:
    # First all the ids: with new ones, the queue that is read would grow as it is worked on.
    state: State | None = "dead" if arguments.dead else None
    found = [
        each for each in _pages(queue, arguments.destination, state) if each.state != "delivering"
    ]
    now = screen.now()
    ids = [each.id for each in found if arguments.fresh_id or not _is_due(each, now)]
    count = len(found) - len(ids)
    with screen.bar("sending again", len(ids)) as show:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            count += queue.retry(chunk, fresh_id=arguments.fresh_id)
            show(start + len(chunk))
    return count


def _remind(screen: Screen, destination: str | None, report: QueueReport) -> None:
    """Say why what is due will not be delivered all the same."""
    for each in report.summary.destinations:
        if each.paused is not None and destination in (None, each.destination):
            name = printable(each.destination)
            screen.line(f"{name} is paused; to send it its mail: mailsvc resume {name}")
    if report.destinations is None:
        screen.line("No server runs: they are delivered when it does.")


def drop(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc drop``."""
    with queue_of(arguments) as queue:
        found: list[QueueEntry] = []
        missing = []
        for each in dict.fromkeys(arguments.ids):
            entries = _named(queue, each)
            found.extend(entries)
            if not entries:
                missing.append(each)
        ids = list(dict.fromkeys(entry.id for entry in found))
        if ids and not arguments.yes:
            _confirm(screen, found, len(ids))
        count = queue.drop(ids) if ids else 0
    screen.value({"dropped": count, "missing": missing})
    for each in missing:
        screen.complain(f"{printable(each)}: there is no such message or delivery")
    if count < len(ids):
        screen.complain(f"{len(ids) - count} could not be dropped: they are being delivered")
    if count:
        screen.line(f"{plural(count, 'delivery', 'deliveries')} dropped")
    return OK if count and count == len(ids) and not missing else PROBLEM


def _named(queue: Queue, id_: str) -> Sequence[QueueEntry]:
    """Return the delivery of this id, or all of the message of this id."""
    detail = queue.show(id_)
    if detail is None:
        return ()
    exact = [each for each in detail.entries if each.id == id_]
    return exact or (detail.entries if detail.envelope.id == id_ else ())


def _confirm(screen: Screen, found: Sequence[QueueEntry], count: int) -> None:
    if not screen.can_ask:
        raise CommandError("nobody is here to be asked: say --yes", USAGE)
    _entries_table(screen, found)
    if not screen.ask(f"Remove {plural(count, 'delivery', 'deliveries')} for good?"):
        raise CommandError("nothing was dropped")


def pause(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc pause``."""
    name = arguments.destination
    with queue_of(arguments) as queue:
        queue.pause(name, arguments.reason)
    screen.value({"destination": name, "paused": arguments.reason})
    screen.line(f"{printable(name)} is paused; its mail is kept until: mailsvc resume {name}")
    return OK


def resume(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc resume``."""
    name = arguments.destination
    with queue_of(arguments) as queue:
        was_paused = queue.resume(name)
        running = queue.running
    screen.value({"destination": name, "was_paused": was_paused})
    if not was_paused:
        screen.complain(f"{printable(name)} was not paused")
        return PROBLEM
    then = "now" if running else "when the server runs"
    screen.line(f"{printable(name)} is resumed; what waited is delivered {then}")
    return OK
