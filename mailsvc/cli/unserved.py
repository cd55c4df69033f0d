"""The spool of a server that does not run: opened by the command itself, under the spool's lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailsvc.cli.screen import CommandError
from mailsvc.control.protocol import QueueReport
from mailsvc.spool.offline import OfflineSpool, SpoolInUse
from mailsvc.spool.view import MessageDetail, QueueEntry, State


class UnservedQueue:
    """A queue that nobody works on."""

    running = False

    def __init__(self, spool: OfflineSpool) -> None:
        self._spool = spool

    def report(self) -> QueueReport:
        """Return how much there is."""
        return QueueReport(self._spool.summary())

    def entries(
        self, destination: str | None, state: State | None, limit: int, after: str | None
    ) -> Sequence[QueueEntry]:
        """Return a page of deliveries, oldest first."""
        return self._spool.entries(destination, state, limit, after)

    def show(self, id_: str) -> MessageDetail | None:
        """Return a message by its id or that of a delivery."""
        return self._spool.show(id_)

    def retry(self, ids: Sequence[str], *, fresh_id: bool) -> int:
        """Make deliveries due now; return how many."""
        return self._spool.retry(ids, fresh_id=fresh_id)

    def hasten(self, destinations: Sequence[str]) -> None:
        """Do nothing: a server that starts is at full pace."""

    def drop(self, ids: Sequence[str]) -> int:
        """Remove deliveries for good; return how many."""
        return self._spool.drop(ids)

    def pause(self, destination: str, reason: str) -> None:
        """Keep a destination's queue, but attempt nothing."""
        self._spool.pause(destination, reason)

    def resume(self, destination: str) -> bool:
        """End a pause; say whether there was one."""
        return self._spool.resume(destination)


@contextmanager
def unserved_queue(directory: str) -> Iterator[UnservedQueue]:
    """Give the queue of a spool that no server has open.

    :raises CommandError: one has it, and does not answer on its control socket.
    """
    try:
        with OfflineSpool(directory) as spool:
            yield UnservedQueue(spool)
    except SpoolInUse:
        raise CommandError(
            f"{directory}: a server has this spool open but does not answer; it is starting or"
            " stopping, or runs on another machine: try again"
        ) from None
