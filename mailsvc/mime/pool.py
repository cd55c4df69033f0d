"""Worker processes that parse large and suspicious mails, and can be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from signal import SIGXCPU
from threading import Lock

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from typing_extensions import override

from mailsvc.interfaces import IContent
from mailsvc.mime.limits import Limits
from mailsvc.mime.worker import LENGTH, Answer, unpacked
from mailsvc.parsed import ParsedMail
from mailsvc.threads import InThread

_CHUNK = 1024 * 1024
#: Mails that a worker parses before another takes its place: what it may have leaked goes with it.
_TURNS = 1000
#: Seconds after which a worker without work ends.
_IDLE = 60.0
#: Octets of a worker's last words that are kept.
_LAST_WORDS = 4096


class WorkerDied(Exception):
    """A worker ended, or was killed, before it answered; the text says how."""


class _Worker(ProcessProtocol):
    """One process, and the parent's ends of its pipes.

    The pipes are written and read in a thread, so that a large mail does not pass through the
    reactor; the process is started, watched and killed by the reactor.  Whoever of the two is last
    closes the pipes: a descriptor closed under a thread may by then be somebody else's.
    """

    def __init__(self, limits: Limits, buried: Callable[[_Worker], None]) -> None:
        self._limits = limits
        self._buried = buried
        self._last_words = b""
        self._killed = ""
        self._lock = Lock()
        self._in_use = False
        self._pipes: list[int] = []
        self._epitaph = ""
        self._mourners: list[Deferred[None]] = []
        self.alive = True
        self.turns = 0
        self.pid = 0

    def start(self, reactor: IReactorProcess) -> None:
        """Start the process.

        :raises OSError: there is no room for another.
        """
        requests = os.pipe()
        self._pipes = [requests[1]]
        theirs = [requests[0]]
        try:
            answers = os.pipe()
            self._pipes.append(answers[0])
            theirs.append(answers[1])
            process = reactor.spawnProcess(
                self,
                sys.executable,
                # -P: nothing is imported from the working directory unless it is on the path.
                [sys.executable, "-P", "-m", "mailsvc.mime.worker", self._arguments()],
                env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                childFDs={0: theirs[0], 1: theirs[1], 2: "r"},
            )
            self.pid = process.pid
        except BaseException:
            self.alive = False
            self._close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def _arguments(self) -> str:
        return msgspec.json.encode(self._limits).decode("ascii")

    @override
    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the end of what the process says on standard error."""
        self._last_words = (self._last_words + data)[-_LAST_WORDS:]

    @override
    def processEnded(self, reason: Failure) -> None:
        """Tell those who wait that the process is gone, and why."""
        with self._lock:
            self.alive = False
            if not self._in_use:
                self._close()
        self._epitaph = self._cause(reason)
        self._buried(self)
        mourners, self._mourners = self._mourners, []
        for mourner in mourners:
            mourner.callback(None)

    async def gone(self) -> str:
        """Wait until the process is gone; return why."""
        if self.alive:
            mourner: Deferred[None] = Deferred()
            self._mourners.append(mourner)
            await mourner
        return self._epitaph

    def _cause(self, reason: Failure) -> str:
        if self._killed:
            return self._killed
        if b"MemoryError" in self._last_words:
            return "it took more memory than a mail may"
        if getattr(reason.value, "signal", None) == SIGXCPU:
            return "it took more processor time than a mail may"
        return "the parser failed"

    def kill(self, why: str) -> None:
        """End the process now, in the reactor's thread; its thread comes back by that."""
        self._killed = self._killed or why
        if self.alive and self.transport is not None:
            try:
                self.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                pass

    @property
    def fit(self) -> bool:
        """Say whether the process can take another mail."""
        return self.alive and not self._killed and self.turns < _TURNS

    def retire(self) -> None:
        """Let the process end by itself, unless it is at work: there is no more to do."""
        with self._lock:
            if not self._in_use:
                self._close()

    def exchange(self, content: IContent) -> ParsedMail:
        """Send a mail and return it parsed; blocking.

        :raises EOFError: the process ended.
        """
        with self._lock:
            if not self._pipes:
                raise EOFError
            self._in_use = True
            requests, answers = self._pipes
        self.turns += 1
        try:
            _send(requests, content)
            (size,) = LENGTH.unpack(_receive(answers, LENGTH.size))
            return unpacked(_DECODER.decode(_receive(answers, size)))
        except BrokenPipeError:
            raise EOFError from None
        finally:
            with self._lock:
                self._in_use = False
                if not self.alive:
                    self._close()

    def _close(self) -> None:
        while self._pipes:
            os.close(self._pipes.pop())


_DECODER = msgspec.msgpack.Decoder(Answer)


def _send(descriptor: int, content: IContent) -> None:
    os.write(descriptor, LENGTH.pack(content.size))
    with content.open() as file:
        while chunk := file.read(_CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]


def _receive(descriptor: int, size: int) -> bytearray:
    octets = bytearray()
    while len(octets) < size:
        chunk = os.read(descriptor, min(_CHUNK, size - len(octets)))
        if not chunk:
            raise EOFError
        octets += chunk
    return octets


class WorkerPool:
    """At most so many workers, kept for a while when there is nothing to do.

    :param in_thread: runs a blocking function in a thread.
    """

    def __init__(
        self,
        clock: IReactorTime,
        reactor: IReactorProcess,
        in_thread: InThread,
        limits: Limits,
    ) -> None:
        self._clock = clock
        self._reactor = reactor
        self._in_thread = in_thread
        self._limits = limits
        self._alive: set[_Worker] = set()
        self._lent: set[_Worker] = set()
        self._idle: dict[_Worker, IDelayedCall] = {}
        self._waiting: list[Deferred[None]] = []
        self._stopped = False

    async def parse(self, content: IContent) -> ParsedMail:
        """Return the mail as a worker parsed it.

        Cancelling kills the worker.

        :raises WorkerDied: it did not survive that.
        :raises OSError: no worker could be started, or the content not be read.
        """
        worker = await self._lend()
        seconds = self._limits.deadline
        timer = self._clock.callLater(
            seconds, worker.kill, f"it took longer than {seconds:g} seconds"
        )
        try:
            return await self._in_thread(worker.exchange, content)
        except (EOFError, msgspec.MsgspecError):
            worker.retire()
            raise WorkerDied(await worker.gone()) from None
        except BaseException:
            # The content could not be read, or nobody waits any more: half a mail is in the pipe.
            worker.kill("the mail was not sent in full")
            raise
        finally:
            if timer.active():
                timer.cancel()
            self._take_back(worker)

    @property
    def processes(self) -> frozenset[int]:
        """Return the ids of the workers' processes."""
        return frozenset(worker.pid for worker in self._alive)

    async def stop(self) -> None:
        """End every worker, and wait until they are gone; there will be no others."""
        self._stopped = True
        workers = tuple(self._alive)
        for worker in workers:
            worker.kill("the service stops")
        for worker in workers:
            await worker.gone()

    async def _lend(self) -> _Worker:
        while not self._idle and len(self._lent) >= self._limits.workers:
            waiter: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiter)
            await waiter
        try:
            worker = self._worker()
        except BaseException:
            # The turn that was not taken is the next one's.
            self._wake()
            raise
        self._lent.add(worker)
        return worker

    def _worker(self) -> _Worker:
        if self._stopped:
            raise WorkerDied("the service stops")
        if self._idle:
            worker, timer = self._idle.popitem()
            timer.cancel()
        else:
            worker = _Worker(self._limits, self._buried)
            worker.start(self._reactor)
            self._alive.add(worker)
        return worker

    def _take_back(self, worker: _Worker) -> None:
        self._lent.discard(worker)
        if worker.fit:
            self._idle[worker] = self._clock.callLater(_IDLE, worker.retire)
        else:
            worker.retire()
        self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.pop(0).callback(None)

    def _buried(self, worker: _Worker) -> None:
        self._alive.discard(worker)
        timer = self._idle.pop(worker, None)
        if timer is not None and timer.active():
            timer.cancel()
