"""Content on its way in: kept in memory while it is small, else streamed to a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor

from twisted.internet.defer import Deferred
from zope.interface import classImplements

from mailsvc.errors import SpoolError, SpoolFull
from mailsvc.interfaces import IIncoming
from mailsvc.message import Envelope
from mailsvc.spool.accepting import Accepting, Planned
from mailsvc.spool.extent import DotCounter
from mailsvc.spool.files import Files
from mailsvc.spool.records import encode_envelope
from mailsvc.spool.schema import Layout, process_name
from mailsvc.spool.spill import Spill
from mailsvc.spool.usage import Usage
from mailsvc.spool.writer import Acceptance, Threads

#: Pieces below this are joined: a message may come one octet at a time.
_PIECE = 1024
#: A view that pins at most this much more than it shows is not worth a copy; below it always is.
_COPIED = 16_384
#: Octets that may wait for a file of its own before the peer is paused, and before it goes on.
_HIGH, _LOW = 1 << 19, 1 << 18


class ContentMemory:
    """Counts the content that waits in memory, and spills the largest when it is too much.

    :ivar limit: octets over all messages.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        #: Octets on their way out, to the writer or to a file.
        self._leaving = 0
        self._relieving = False
        #: Messages in memory by the bit length of their size: the last that is not empty has the
        #: largest, to within a factor of two.
        self._resident: list[dict[Incoming, None]] = [{} for _ in range(65)]
        self._waiting: list[Deferred[None]] = []

    @property
    def full(self) -> bool:
        """Whether there is more than the limit."""
        return self.total > self.limit

    def grew(self, incoming: Incoming, before: int, after: int) -> None:
        """Count a message in memory that grew."""
        self.total += after - before
        old, new = before.bit_length(), after.bit_length()
        if old != new:
            self._resident[old].pop(incoming, None)
            self._resident[new][incoming] = None

    def left(self, incoming: Incoming, size: int) -> None:
        """Count a message no longer as one that could be spilled: it is leaving."""
        self._resident[size.bit_length()].pop(incoming, None)
        self._leaving += size

    def leaving(self, size: int) -> None:
        """Count octets that come and leave at once."""
        self.total += size
        self._leaving += size

    def gone(self, size: int) -> None:
        """Count octets that have left."""
        self.total -= size
        self._leaving -= size
        self.relieve()

    def relieve(self) -> None:
        """Have the largest message spilled if too much waits and nothing leaves by itself."""
        if self._relieving:
            return
        self._relieving = True
        while self.full and not self._leaving:
            for size_class in reversed(self._resident):
                if size_class:
                    next(iter(size_class)).spill()
                    break
            else:
                break
        self._relieving = False
        if not self.full and self._waiting:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def wait(self) -> Deferred[None]:
        """Return what fires when there is room again."""
        deferred: Deferred[None] = Deferred()
        self._waiting.append(deferred)
        return deferred


class Reception:
    """Takes messages in for one spool.

    :param submit: hands an acceptance to the writer.
    :param accepted: called in the reactor's thread with a message that is durable.
    :param failed: called there with one that is not, and will not be.
    :param spill_above: octets of content that go to a file of its own.
    """

    def __init__(
        self,
        layout: Layout,
        files: Files,
        process: int,
        executor: Executor,
        threads: Threads,
        usage: Usage,
        submit: Callable[[Acceptance], None],
        accepted: Callable[[Accepting, Envelope], None],
        failed: Callable[[Accepting], None],
        spill_above: int,
    ) -> None:
        self.layout = layout
        self.files = files
        self.executor = executor
        self.threads = threads
        self.usage = usage
        self.submit = submit
        self.accepted = accepted
        self.failed = failed
        self.spill_above = spill_above
        self.memory = ContentMemory(usage.limits.content_memory)
        self._prefix = process_name(process)

    def file_name(self, message_id: str) -> str:
        """Return the name of the file for a message's content."""
        return f"{self._prefix}-{message_id}"


class Incoming:
    """One message on its way in.

    :param plan: decides at the commit which deliveries there will be.
    :param destinations: the names of all destinations of the envelope.
    """

    __slots__ = (
        "_chunks",
        "_destinations",
        "_dots",
        "_ended",
        "_envelope",
        "_error",
        "_length",
        "_plan",
        "_reception",
        "_small",
        "_spill",
        "_told",
    )

    def __init__(
        self,
        reception: Reception,
        envelope: Envelope,
        stuffed: bool,
        destinations: Collection[str],
        plan: Callable[[Envelope], Sequence[Planned]],
    ) -> None:
        self._reception = reception
        self._envelope = envelope
        self._destinations = destinations
        self._plan = plan
        self._chunks: list[bytes | memoryview] = []
        self._small = bytearray()
        self._length = 0
        self._dots = DotCounter() if stuffed else None
        self._spill: Spill | None = None
        self._ended = False
        self._error: SpoolError | None = None
        self._told: Callable[[Exception | None], None] | None = None

    def write(self, data: bytes | memoryview, dots: int | None = None) -> Deferred[None] | None:
        """Append octets; see :class:`mailsvc.interfaces.IIncoming`."""
        if self._ended or self._error is not None:
            return None
        if isinstance(data, memoryview):
            data = self._lasting(data)
        if self._dots is not None:
            self._dots.add(data, dots)
        reception = self._reception
        memory = reception.memory
        before = self._length
        self._length += len(data)
        if self._spill is not None:
            memory.leaving(len(data))
            self._stream(self._spill, [data], len(data))
        else:
            if len(data) < _PIECE:
                self._small += data
            else:
                self._join()
                self._chunks.append(data)
            memory.grew(self, before, self._length)
            if self._length > reception.spill_above:
                self.spill()
            elif memory.full:
                memory.relieve()
        if self._spill is not None and self._spill.pending > _HIGH:
            return self._spill.below(_LOW)
        return memory.wait() if memory.full else None

    def _lasting(self, view: memoryview) -> bytes | memoryview:
        """Return what may be kept: it pins no memory that is not counted."""
        whole = view.obj
        if isinstance(whole, bytes) and len(whole) == len(view):
            return whole
        if len(view) <= _COPIED:
            return bytes(view)
        return view

    def _join(self) -> None:
        if self._small:
            self._chunks.append(bytes(self._small))
            self._small = bytearray()

    def spill(self) -> None:
        """Stream to a file of its own from now on."""
        reception = self._reception
        self._join()
        chunks, self._chunks = self._chunks, []
        reception.memory.left(self, self._length)
        self._spill = Spill(
            reception.layout,
            reception.files,
            reception.file_name(self._envelope.id),
            reception.executor,
            reception.threads,
            reception.memory.gone,
        )
        self._stream(self._spill, chunks, self._length)

    def _stream(self, spill: Spill, chunks: Sequence[bytes | memoryview], size: int) -> None:
        """Write octets that memory counts as leaving."""
        try:
            self._reception.usage.writing(size)
        except SpoolFull as error:
            self._error = error
            self._length -= size
            self._discard()
            self._reception.memory.gone(size)
        else:
            spill.write(chunks, size)

    def commit(self) -> Deferred[str]:
        """Store durably; see :class:`mailsvc.interfaces.IIncoming`."""
        deferred: Deferred[str] = Deferred()
        message_id = self._envelope.id

        def told(error: Exception | None) -> None:
            if error is None:
                deferred.callback(message_id)
            else:
                deferred.errback(error)

        self.store(told)
        return deferred

    def store(self, told: Callable[[Exception | None], None]) -> None:
        """Store durably; see :class:`mailsvc.interfaces.IIncoming`."""
        reception = self._reception
        if self._ended:
            told(SpoolError("the message has ended already"))
            return
        try:
            if self._error is not None:
                raise self._error
            placed = self._spill is not None
            reception.usage.check(self._destinations, self._length, placed=placed)
            message = self._accepting()
        except SpoolError as error:
            self.abort()
            told(error)
            return
        self._ended = True
        self._told = told
        acceptance = Acceptance(message, self._settled)
        if self._spill is None:
            reception.memory.left(self, self._length)
            reception.submit(acceptance)
        else:
            self._spill.finish(lambda error, crc: self._filed(acceptance, error, crc))

    def _accepting(self) -> Accepting:
        self._join()
        envelope = self._envelope
        dots = self._dots.count if self._dots is not None else 0
        try:
            encoded = encode_envelope(envelope)
        except ValueError as error:
            raise SpoolError(f"the envelope cannot be stored: {error}") from error
        # Content in which no dot is stuffed is the same either way.
        stuffed = dots > 0
        size = self._length - dots
        plan = self._plan(envelope)
        return Accepting(envelope.id, encoded, plan, self._length, stuffed, size, self._chunks)

    def _filed(self, acceptance: Acceptance, error: SpoolError | None, crc: int) -> None:
        """Go on to the rows: the file is durable (in the spill's thread)."""
        if error is not None:
            acceptance.error = error
            self._reception.threads.callFromThread(acceptance.settle)
            return
        message = acceptance.message
        message.crc = crc
        message.file = self._reception.file_name(message.message_id)
        reception = self._reception
        reception.threads.callFromThread(reception.submit, acceptance)

    def _settled(self, acceptance: Acceptance) -> None:
        reception = self._reception
        message = acceptance.message
        error = acceptance.error
        if self._spill is None:
            reception.memory.gone(self._length)
        else:
            reception.usage.written(self._length, kept=error is None)
        told = self._told
        assert told is not None, "only what is to be stored is settled"
        if error is not None:
            if message.file is not None:
                self._remove(message)
            reception.failed(message)
        else:
            if self._spill is None:
                reception.usage.stored(self._length)
            reception.accepted(message, self._envelope)
        self._chunks = message.chunks = []
        told(error)

    def _remove(self, message: Accepting) -> None:
        reception = self._reception
        assert message.file is not None
        reception.executor.submit(reception.files.remove, reception.layout.own_file(message.file))

    def abort(self) -> None:
        """Forget the message; once ``commit`` was called it is too late."""
        if not self._ended:
            self._ended = True
            self._discard()

    def _discard(self) -> None:
        """Let go of what was taken in; what still comes is not kept."""
        reception = self._reception
        self._chunks = []
        self._small = bytearray()
        if self._spill is None:
            reception.memory.left(self, self._length)
            reception.memory.gone(self._length)
        else:
            reception.usage.written(self._length, kept=False)
            self._spill.discard()
        self._length = 0


classImplements(Incoming, IIncoming)
