"""The body of a request on its way out, and the clock that it runs against (requirement 51).

A connection has 10 seconds to come about, the upload 30 seconds for each step forward, and the
answer 30 seconds from the upload's last octet to its own end.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from mailsvc.deadline import Deadlines
from mailsvc.deliverers.webhook.payload import Stream
from mailsvc.interfaces import IContent

CONNECT_SECONDS = 10.0
UPLOAD_SECONDS = 30.0
ANSWER_SECONDS = 30.0

_STILL = f"the upload stood still for {UPLOAD_SECONDS:.0f} s"
_SILENT = f"no answer within {ANSWER_SECONDS:.0f} s"

#: Octets written in one piece; the transport says when it has enough.
CHUNK = 65_536


class Watch:
    """Ends a request that stands still.

    :ivar cancel: what ends it; called at most once.
    :ivar expired: why it was ended, in words; empty while it was not.
    """

    def __init__(self, deadlines: Deadlines[Watch]) -> None:
        self._deadlines = deadlines
        self._reason = ""
        self._uploaded = False
        self._ended = False
        self.cancel: Callable[[], None] | None = None
        self.expired = ""

    def start(self, cancel: Callable[[], None]) -> None:
        """Begin with the time for the connection, unless the upload has begun already."""
        self.cancel = cancel
        if not self._reason:
            self._wait(CONNECT_SECONDS, f"no connection within {CONNECT_SECONDS:.0f} s")

    def moved(self) -> None:
        """Note that the upload went forward."""
        if not self._uploaded:
            self._wait(UPLOAD_SECONDS, _STILL)

    def uploaded(self) -> None:
        """Note that the upload's last octet is written."""
        self._uploaded = True
        self._wait(ANSWER_SECONDS, _SILENT)

    def stop(self) -> None:
        """End the watch."""
        self._ended = True
        self._deadlines.remove(self)
        self.cancel = None

    def overdue(self) -> None:
        """End the request."""
        self._ended = True
        self.expired = self._reason
        if self.cancel is not None:
            self.cancel()

    def _wait(self, seconds: float, reason: str) -> None:
        self._reason = reason
        if not self._ended:
            self._deadlines.set_in(self, seconds)


#: Runs a blocking function in a thread: ``IDelivererContext.in_thread``.
InThread = Callable[..., Awaitable[Any]]


class Body(Struct, frozen=True):
    """What is sent: octets at hand, or a stream that is read in threads as it goes out."""

    content: bytes | Stream
    in_thread: InThread

    @property
    def size(self) -> int:
        """Return the octets in all."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size


class _Reader:
    """A content's octets, chunk by chunk, for threads that may come one upon the other.

    Cancelling an upload does not end the thread that reads for it, so closing waits for that one.
    """

    def __init__(self, content: IContent) -> None:
        self._content = content
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._closed = False
        self._owed = content.size

    def read(self) -> bytes:
        """Return the next chunk, or nothing at the end.

        The file is closed with the last chunk: once that is sent, the answer may come at any
        moment, and nothing is open any more for it to find.
        """
        with self._lock:
            if self._closed:
                return b""
            if self._file is None:
                self._file = self._content.open()
            chunk = self._file.read(CHUNK)
            self._owed -= len(chunk)
            if not chunk or self._owed <= 0:
                self._closed = True
                self._file.close()
            return chunk

    def close(self) -> None:
        """Close the file; what is read later is nothing."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()


async def _close(reader: _Reader, in_thread: InThread) -> None:
    await in_thread(reader.close)


@implementer(IBodyProducer)
class Upload:
    """Produces a body's octets as fast as the connection takes them, and tells the watch."""

    def __init__(self, body: Body, watch: Watch) -> None:
        self.length = body.size
        self._body = body
        self._watch = watch
        self._paused = False
        self._resumed: Deferred[None] | None = None
        self._running: Deferred[None] | None = None
        self._stopped = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the body to ``consumer``; the Deferred fires when all is written."""
        content = self._body.content
        if isinstance(content, bytes) and len(content) <= CHUNK:
            consumer.write(content)
            self._watch.uploaded()
            return succeed(None)
        self._watch.moved()
        done: Deferred[None] = Deferred(lambda _: self.stopProducing())
        if isinstance(content, bytes):
            self._running = Deferred.fromCoroutine(self._send(content, consumer))
        else:
            self._running = Deferred.fromCoroutine(self._send_stream(content, consumer))

        def ended(result: object) -> None:
            # Stopped, the peer is gone: IBodyProducer forbids to fire then.
            if self._stopped or done.called:
                return
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(None)

        self._running.addBoth(ended)
        return done

    def pauseProducing(self) -> None:
        """Write no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on: the connection has taken what was written."""
        self._watch.moved()
        self._paused = False
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Write nothing ever again."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def _send(self, content: bytes, consumer: IConsumer) -> None:
        view = memoryview(content)
        for start in range(0, len(view), CHUNK):
            await self._write(bytes(view[start : start + CHUNK]), consumer)
        await self._taken()
        self._watch.uploaded()

    async def _send_stream(self, stream: Stream, consumer: IConsumer) -> None:
        if stream.prefix:
            await self._write(stream.prefix, consumer)
        in_thread = self._body.in_thread
        reader = _Reader(stream.content)
        owed = stream.content.size
        try:
            while owed > 0 and (chunk := await in_thread(reader.read)):
                owed -= len(chunk)
                await self._write(chunk, consumer)
        finally:
            if owed > 0:
                # Not awaited: whoever cancelled this does not wait for the disk.
                Deferred.fromCoroutine(_close(reader, in_thread)).addErrback(lambda _: None)
        await self._taken()
        self._watch.uploaded()

    async def _taken(self) -> None:
        """Wait until the connection has taken what was written."""
        while self._paused:
            self._resumed = Deferred()
            await self._resumed

    async def _write(self, chunk: bytes, consumer: IConsumer) -> None:
        await self._taken()
        if self._stopped:
            raise CancelledError
        consumer.write(chunk)
        self._watch.moved()
