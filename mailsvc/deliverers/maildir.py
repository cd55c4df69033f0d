"""The ``maildir`` destination: one file for each delivery, durable before it answers.

Deliveries that come while others are being written are written together: they share the calls that
wait for the disk.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence

from twisted.internet.defer import Deferred
from zope.interface import classImplements

from mailsvc.deliverers.options import MaildirOptions
from mailsvc.deliverers.pathnames import PathTemplate
from mailsvc.deliverers.stable import make_directories, obstacle, sync_directory, sync_files
from mailsvc.errors import DeliveryFailed, SpoolError, TransientFailure
from mailsvc.events import Alert
from mailsvc.interfaces import IContent, IDelivererContext, IGroupDeliverer
from mailsvc.message import Delivery
from mailsvc.trace import return_path

#: Octets read and converted at a time.
_CHUNK = 262_144
#: Deliveries written together.
_TOGETHER = 64
#: Maildirs remembered as complete.
_REMEMBERED = 10_000
#: Seconds after which a file in ``tmp`` is nobody's any more, as maildir's rules say.
_STALE = 36 * 3600
_OURS = re.compile(r"[0-9]+\..+\.mailsvc-[0-9a-f]{16}")

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Job:
    """Deliveries to be written; ``done`` fires with what became of each."""

    __slots__ = ("deliveries", "done")

    def __init__(self, deliveries: Sequence[tuple[Delivery, IContent]]) -> None:
        self.deliveries = deliveries
        self.done: Deferred[Sequence[Exception | None]] = Deferred()


class Maildir:
    """Files each mail in a maildir.

    With ten deliveries at a time one costs a third more than with 64.

    :raises mailsvc.errors.ConfigError: the options cannot work.
    """

    def __init__(self, options: MaildirOptions, context: IDelivererContext) -> None:
        self.group = _TOGETHER
        self._context = context
        template = PathTemplate(options.path, context.hostname)
        fault = obstacle(template.root)
        if fault:
            # It may be there by the time that mail comes; until then the mail waits.
            context.emit(Alert(f"destination {context.name}: {fault}"))
        self._files = MaildirFiles(
            template,
            context.hostname,
            crlf=options.line_ending == "crlf",
            delivered_to=options.delivered_to,
        )
        self._waiting: list[_Job] = []
        self._running = False

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """Write one delivery; see :class:`~mailsvc.interfaces.IDeliverer`."""
        (failure,) = await self.deliver_group([(delivery, content)])
        if failure is not None:
            raise failure

    async def deliver_group(
        self, deliveries: Sequence[tuple[Delivery, IContent]]
    ) -> Sequence[Exception | None]:
        """Write several; see :class:`~mailsvc.interfaces.IGroupDeliverer`."""
        several = range(0, len(deliveries), _TOGETHER)
        jobs = [_Job(deliveries[start : start + _TOGETHER]) for start in several]
        self._waiting += jobs
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())
        try:
            return [outcome for job in jobs for outcome in await job.done]
        finally:
            self._waiting = [job for job in self._waiting if job not in jobs]

    async def _run(self) -> None:
        """Write what waits, and what comes meanwhile."""
        while self._waiting:
            jobs = self._next()
            deliveries = [each for job in jobs for each in job.deliveries]
            outcomes: Sequence[Exception | None]
            try:
                outcomes = await self._context.in_thread(self._files.store, deliveries)
            except Exception as error:
                outcomes = [error] * len(deliveries)
            start = 0
            for job in jobs:
                end = start + len(job.deliveries)
                if not job.done.called:
                    job.done.callback(outcomes[start:end])
                start = end
        self._running = False

    def _next(self) -> list[_Job]:
        """Take the jobs that are written together, as many as make a group."""
        count = files = 0
        for job in self._waiting:
            files += len(job.deliveries)
            if files > _TOGETHER:
                break
            count += 1
        jobs, self._waiting = self._waiting[:count], self._waiting[count:]
        return jobs


classImplements(Maildir, IGroupDeliverer)


class _Writing:
    """One file on its way from ``tmp`` to ``new``."""

    __slots__ = ("descriptor", "final", "maildir", "place", "temporary")

    def __init__(
        self, place: int, maildir: str, temporary: str, final: str, descriptor: int
    ) -> None:
        self.place = place
        self.maildir = maildir
        self.temporary = temporary
        self.final = final
        self.descriptor = descriptor


class MaildirFiles:
    """The files of one destination.  Everything here blocks.

    :param hostname: part of each file's name, as maildirs are shared by machines.
    :param crlf: whether lines keep the ends that they had on the wire.
    :param delivered_to: whether the recipient is noted in a Delivered-To field.
    """

    def __init__(
        self,
        template: PathTemplate,
        hostname: str,
        *,
        crlf: bool = False,
        delivered_to: bool = False,
    ) -> None:
        self._template = template
        self._suffix = re.sub(r"[^A-Za-z0-9.-]", "_", hostname)
        self._crlf = crlf
        self._delivered_to = delivered_to
        self._complete: dict[str, None] = {}
        # One random number for all: another process that writes here has another.  Of 16 digits.
        self._numbers = itertools.count(1 << 63 | secrets.randbits(62))

    def store(self, deliveries: Sequence[tuple[Delivery, IContent]]) -> list[Exception | None]:
        """Write all of ``deliveries`` durably.

        :return: for each, None or why it is not there.
        """
        outcomes: list[Exception | None] = [None] * len(deliveries)
        writings: list[_Writing] = []
        try:
            for place, (delivery, content) in enumerate(deliveries):
                try:
                    writings.append(self._write(place, delivery, content))
                except Exception as error:
                    outcomes[place] = _failure(error)
            self._finish(writings, outcomes)
        finally:
            _close([writing.descriptor for writing in writings])
        return outcomes

    def _finish(self, writings: list[_Writing], outcomes: list[Exception | None]) -> None:
        """Sync the files, give them their names, sync the directories."""
        together: dict[str, list[int]] = {}
        for writing in writings:
            together.setdefault(writing.maildir, []).append(writing.descriptor)
        try:
            sync_files(list(together.values()))
        except OSError as error:
            for writing in writings:
                _forget(writing.temporary)
                outcomes[writing.place] = _failure(error)
            return
        renamed: dict[str, list[int]] = {}
        for writing in writings:
            try:
                os.rename(writing.temporary, writing.final)
            except OSError as error:
                _forget(writing.temporary)
                outcomes[writing.place] = _failure(error)
            else:
                renamed.setdefault(writing.maildir, []).append(writing.place)
        for maildir, places in renamed.items():
            try:
                sync_directory(f"{maildir}/new")
            except OSError as error:
                for place in places:
                    outcomes[place] = _failure(error)

    def _write(self, place: int, delivery: Delivery, content: IContent) -> _Writing:
        """Write a file into ``tmp``."""
        maildir = self._template.path(delivery.recipient)
        # The same on every attempt: a repeat replaces the file that it repeats.
        name = f"{int(delivery.envelope.received_at)}.{delivery.id}.{self._suffix}"
        temporary = f"{maildir}/tmp/{name}.mailsvc-{hex(next(self._numbers))[2:]}"
        self._ensure(maildir)
        try:
            descriptor = os.open(temporary, _CREATE, 0o600)
        except FileNotFoundError:
            # Somebody removed the maildir since.
            del self._complete[maildir]
            self._ensure(maildir)
            descriptor = os.open(temporary, _CREATE, 0o600)
        try:
            for chunk in self._octets(delivery, content):
                view = memoryview(chunk)
                while view:
                    written = os.write(descriptor, view)
                    view = view[written:]
        except BaseException:
            os.close(descriptor)
            _forget(temporary)
            raise
        return _Writing(place, maildir, temporary, f"{maildir}/new/{name}", descriptor)

    def _octets(self, delivery: Delivery, content: IContent) -> Iterator[bytes]:
        """Return the file's octets in chunks."""
        head = return_path(delivery.envelope.reverse_path)
        if self._delivered_to:
            head += f"Delivered-To: {delivery.recipient.address}\r\n".encode()
        with content.open() as reader:
            if self._crlf:
                yield head
                while chunk := reader.read(_CHUNK):
                    yield chunk
                return
            # A carriage return at a chunk's end waits for what follows it.
            held = head
            while chunk := reader.read(_CHUNK):
                held += chunk
                if held.endswith(b"\r"):
                    yield with_line_feeds(held[:-1])
                    held = b"\r"
                else:
                    yield with_line_feeds(held)
                    held = b""
            if held:
                yield with_line_feeds(held)

    def _ensure(self, maildir: str) -> None:
        """Make a maildir where there is none, once."""
        if maildir in self._complete:
            return
        for name in ("tmp", "new", "cur"):
            make_directories(f"{maildir}/{name}")
        # Whoever made them may have died before they were durable.
        sync_directory(maildir)
        sync_directory(os.path.dirname(maildir))
        _remove_stale(f"{maildir}/tmp")
        if len(self._complete) >= _REMEMBERED:
            self._complete.clear()
        self._complete[maildir] = None


def with_line_feeds(data: bytes) -> bytes:
    """Return ``data`` with LF in place of CRLF.

    To search for two octets takes eight times as long as for one.  Where all CR and LF are pairs,
    as they are in mail, they come back when each LF that is left is made CRLF again.
    """
    found = data.replace(b"\r", b"")
    if found.replace(b"\n", b"\r\n") == data:
        return found
    return data.replace(b"\r\n", b"\n")


def _remove_stale(directory: str) -> None:
    """Remove what deliveries that were cut off long ago left in a ``tmp``."""
    oldest = time.time() - _STALE
    with os.scandir(directory) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                _forget(entry.path)


def _close(descriptors: list[int]) -> None:
    """Close files that are synced, those with numbers in a row by one call.

    Each call lets go of the interpreter's lock, and under load has to wait for it again.
    """
    ordered = sorted(descriptors)
    while ordered:
        count = 1
        while count < len(ordered) and ordered[count] == ordered[0] + count:
            count += 1
        os.closerange(ordered[0], ordered[0] + count)
        del ordered[:count]


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        # It is gone, or it will be stale one day.
        pass


def _failure(error: Exception) -> Exception:
    """Return what the delivery fails with; a failing disk is not the mail's fault."""
    if isinstance(error, (DeliveryFailed, SpoolError)):
        return error
    if isinstance(error, OSError):
        return TransientFailure(f"the maildir cannot be written: {error.strerror or error}")
    return error
