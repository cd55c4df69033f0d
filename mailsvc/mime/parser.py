"""Where a mail is parsed: a small one in a thread, any other in a worker that can be killed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from twisted.internet.interfaces import IReactorFromThreads, IReactorProcess, IReactorTime

from mailsvc.errors import TransientFailure
from mailsvc.interfaces import IContent
from mailsvc.mime.allowance import Allowance
from mailsvc.mime.limits import Limits
from mailsvc.mime.mail import parse
from mailsvc.mime.parts import header_ends
from mailsvc.mime.pool import WorkerDied, WorkerPool
from mailsvc.parsed import ParsedMail
from mailsvc.threads import InThread, Together
from mailsvc.turnend import TurnEnd

T = TypeVar("T")

#: Octets that a mail takes while it is parsed and delivered, for each of its own: the mail, its
#: decoded parts, the payload made of them.
_FACTOR = 4
_OVERHEAD = 32 * 1024


class Parser:
    """Parses contents, bounded in time and memory.

    A parsed mail counts against ``limits.memory`` for as long as it lives: a deliverer keeps it
    until its request is done.

    :param reactor: provides IReactorProcess, IReactorFromThreads and IReactorTime.
    :param in_thread: runs a blocking function in a thread; a worker's mail takes one while it is
        parsed.
    :param turn_end: the reactor's.
    :param clock: for timers, in place of the reactor.
    :ivar pool: the workers.
    :ivar allowance: the memory that is left.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        in_thread: InThread,
        turn_end: TurnEnd,
        limits: Limits | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._in_thread = in_thread
        self.pool = WorkerPool(clock or IReactorTime(reactor), reactor, in_thread, self._limits)
        self._small = Together(in_thread, turn_end.add, self._limits.threads)
        self._stopped = False
        self.allowance = Allowance(IReactorFromThreads(reactor), self._limits.memory)

    async def parse(self, content: IContent, owner: str = "") -> ParsedMail:
        """Return the parsed mail; whatever it holds, this does not fail for it.

        :param owner: the destination that it is for: see :class:`Allowance`.
        :raises mailsvc.errors.SpoolError: the content is damaged.
        :raises mailsvc.errors.TransientFailure: the service stops.
        :raises OSError: the content could not be read, or a process not be started.
        """
        return await self.parsed(content, _same, owner)

    async def parsed(
        self, content: IContent, function: Callable[[ParsedMail], T], owner: str = ""
    ) -> T:
        """Return what ``function`` makes of the parsed mail, called in a thread.

        A small mail is parsed in that thread just before, which saves a hop.  Parameters and errors
        are those of :meth:`parse`, and what ``function`` raises.
        """
        octets = await self.allowance.take(_FACTOR * content.size + _OVERHEAD, owner)
        share = _Share(self.allowance, octets, owner)
        try:
            if content.size <= self._limits.small:
                made = await self._small.run(self._quickly, content, function, share)
                if made is not None:
                    return made[0]
            mail = await self._slowly(content)
            share.goes_with(mail)
            return await self._in_thread(function, mail)
        except BaseException:
            share.give()
            raise

    async def stop(self) -> None:
        """End the workers, and no mail is given to any again."""
        self._stopped = True
        await self.pool.stop()

    async def _slowly(self, content: IContent) -> ParsedMail:
        """Have a worker parse a mail."""
        try:
            return await self.pool.parse(content)
        except WorkerDied as death:
            if self._stopped:
                raise TransientFailure("the service stopped before the mail was parsed") from None
            return ParsedMail(errors=(f"not parsed: {death}",))

    def _quickly(
        self, content: IContent, function: Callable[[ParsedMail], T], share: _Share
    ) -> tuple[T] | None:
        """Parse a small mail, or return None if its header is beyond what a thread may do."""
        with content.open() as file:
            octets = _read(file)
        if header_ends(octets) > self._limits.small_header:
            return None
        try:
            mail = parse(octets, self._limits)
        except Exception as error:  # A fault of ours: the mail is delivered all the same.
            mail = ParsedMail(errors=(f"not parsed: {type(error).__name__} in the parser",))
        share.goes_with(mail)
        return (function(mail),)


class _Share:
    """What a mail takes of an allowance, given back once."""

    def __init__(self, allowance: Allowance, octets: int, owner: str) -> None:
        self._allowance = allowance
        self._octets = octets
        self._owner = owner
        self._mail: weakref.ref[ParsedMail] | None = None

    def goes_with(self, mail: ParsedMail) -> None:
        """Give it back when ``mail`` is no more; in any thread."""
        # Less than half of what weakref.finalize costs.
        self._mail = weakref.ref(mail, self._gone)
        _LENT.add(self)

    def _gone(self, _: object) -> None:
        _LENT.discard(self)
        self.give()

    def give(self) -> None:
        """Give it back; in any thread."""
        octets, self._octets = self._octets, 0
        if octets:
            self._allowance.give(octets, self._owner)


#: The shares that go with a mail, so that they live as long as it.
_LENT: set[_Share] = set()


def _same(mail: ParsedMail) -> ParsedMail:
    return mail


def _read(file: BinaryIO) -> bytes:
    chunks = []
    while chunk := file.read(65536):
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
