"""``mailsvc retry``, ``drop``, ``pause`` and ``resume``: what an operator changes in the queue."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence

from mailsvc.cli.follow import follow
from mailsvc.cli.places import Queue, queue_of
from mailsvc.cli.queue import entries_table, of_destination
from mailsvc.cli.screen import OK, PROBLEM, USAGE, CommandError, Screen, plural
from mailsvc.control.protocol import PAGE, QueueReport
from mailsvc.spool.view import QueueEntry, State
from mailsvc.wording import printable

#: Deliveries that one request of a command for many changes: small enough to show progress.
_CHUNK = 200


def add_commands(add: Callable[..., ArgumentParser]) -> None:
    """Add the commands of this module."""
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
    made.add_argument("--wait", action="store_true", help="show how they get through")
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


def _pages(queue: Queue, destination: str | None, state: State | None) -> Iterator[QueueEntry]:
    """Return all deliveries of a destination, or of all."""
    after = None
    while True:
        page = queue.entries(destination, state, PAGE, after)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].id


def retry(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc retry``."""
    named = [bool(arguments.ids), arguments.destination is not None, arguments.all]
    if sum(named) != 1:
        arguments.fail("name either IDs, or --destination NAME, or --all")
    if arguments.dead and arguments.ids:
        arguments.fail("--dead goes with --destination or --all")
    with queue_of(arguments) as queue:
        report = queue.report()
        of_destination(report, arguments.destination)
        if arguments.ids:
            count, missing = _retry_named(queue, arguments, screen.now())
        else:
            missing = []
            count = _retry_many(queue, arguments, screen)
        status = OK if count and not missing else PROBLEM
        if count:
            destinations = (
                [each.destination for each in report.summary.destinations]
                if arguments.destination is None
                else [arguments.destination]
            )
            queue.hasten(destinations)
            due = "is due now" if count == 1 else "are due now"
            screen.line(f"{plural(count, 'delivery', 'deliveries')} {due}")
            _remind(screen, arguments.destination, report)
            if arguments.wait and queue.running:
                status = max(status, follow(queue, screen, destinations, count))
            elif arguments.wait:
                # Nothing gets through until a server runs.
                status = PROBLEM
    screen.value({"retried": count, "missing": missing})
    for each in missing:
        screen.complain(f"{printable(each)}: nothing waits or is dead under this id")
    if not count and not missing:
        screen.complain("nothing waits and nothing is dead")
    return status


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
    entries_table(screen, found)
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
