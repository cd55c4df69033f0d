"""Requirement 51: what is sent goes out as it is taken, and nothing stands still for ever."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsvc.deadline import Deadlines
from mailsvc.deliverers.webhook.payload import Stream
from mailsvc.deliverers.webhook.upload import CHUNK, Body, Upload, Watch, _Reader
from mailsvc.errors import SpoolError
from mailsvc.testing import DamagedContent, MemoryContent
from tests.threads import Threads


@implementer(IConsumer)
class Consumer:
    """Takes what is written, and pauses its producer after so many writes."""

    def __init__(self, pause_after: int = 0) -> None:
        self.chunks: list[bytes] = []
        self.upload: Upload | None = None
        self._pause_after = pause_after

    def write(self, data: bytes) -> None:
        self.chunks.append(data)
        if self._pause_after and len(self.chunks) % self._pause_after == 0:
            assert self.upload is not None
            self.upload.pauseProducing()

    def registerProducer(
        self,
        producer: IProducer,
        streaming: bool,
    ) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError


OCTETS = bytes(range(256)) * 2048


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.watch = Watch(Deadlines(self.clock))
        self.consumer = Consumer()
        self.cancelled = 0

    def upload(self, content: bytes | Stream) -> Upload:
        upload = Upload(Body(content, self.threads), self.watch)
        self.consumer.upload = upload
        self.watch.start(self.cancel)
        return upload

    def cancel(self) -> None:
        self.cancelled += 1

    def contents(self) -> tuple[bytes | Stream, ...]:
        content = MemoryContent(OCTETS[1000:])
        return OCTETS, Stream(OCTETS[:1000], content), Stream(b"", MemoryContent(OCTETS))

    def test_small_octets_go_at_once(self) -> None:
        for octets in (b"", b"x", b"x" * CHUNK):
            upload = self.upload(octets)
            self.assertEqual(upload.length, len(octets))
            self.assertIsNone(self.successResultOf(upload.startProducing(self.consumer)))
            self.assertEqual(self.consumer.chunks.pop(), octets)
        self.assertEqual(self.threads.used, 0)

    def test_large_ones_in_chunks(self) -> None:
        for content in self.contents():
            self.consumer.chunks.clear()
            upload = self.upload(content)
            self.assertEqual(upload.length, len(OCTETS))
            self.assertIsNone(self.successResultOf(upload.startProducing(self.consumer)))
            self.assertEqual(b"".join(self.consumer.chunks), OCTETS)
            self.assertLessEqual(max(map(len, self.consumer.chunks)), CHUNK)

    def test_streams_are_closed(self) -> None:
        content = MemoryContent(OCTETS)
        self.upload(Stream(b"", content)).startProducing(self.consumer)
        self.assertEqual([reader.closed for reader in content.readers], [True])

    def test_a_stream_is_closed_before_its_last_octets_go_out(self) -> None:
        """An answer that comes at once ends the attempt, and with it all that may be open."""
        for octets in (OCTETS, OCTETS[:-1], OCTETS[: CHUNK + 1], b"x"):
            content = MemoryContent(octets)
            written = 0

            def write(data: bytes, content: MemoryContent = content) -> None:
                nonlocal written
                written += len(data)
                closed = [reader.closed for reader in content.readers]
                self.assertEqual(closed, [written == content.size])

            self.patch(self.consumer, "write", write)
            done = self.upload(Stream(b"", content)).startProducing(self.consumer)
            self.assertIsNone(self.successResultOf(done))
            self.assertEqual(written, len(octets))

    def test_an_empty_stream(self) -> None:
        done = self.upload(Stream(b"", MemoryContent(b""))).startProducing(self.consumer)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(self.consumer.chunks, [])

    def test_it_waits_while_it_is_paused(self) -> None:
        for content in self.contents():
            self.consumer = Consumer(pause_after=2)
            upload = self.upload(content)
            done = upload.startProducing(self.consumer)
            for written in (2, 4, 6):
                self.assertNoResult(done)
                self.assertEqual(len(self.consumer.chunks), written)
                upload.resumeProducing()
            upload.resumeProducing()
            self.successResultOf(done)
            self.assertEqual(b"".join(self.consumer.chunks), OCTETS)

    def test_the_last_octets_are_out_once_they_are_taken(self) -> None:
        """The time for the answer begins when the connection has taken them all."""
        for content in self.contents():
            self.consumer = Consumer(pause_after=1)
            self.watch = Watch(Deadlines(self.clock))
            upload = self.upload(content)
            upload.startProducing(self.consumer)
            while len(b"".join(self.consumer.chunks)) < len(OCTETS):
                upload.resumeProducing()
            self.clock.advance(29)
            self.assertEqual(self.watch.expired, "")
            upload.resumeProducing()
            self.clock.advance(29)
            self.assertEqual(self.watch.expired, "")
            self.clock.advance(1)
            self.assertEqual(self.watch.expired, "no answer within 30 s")

    def test_resuming_twice_is_one_resume(self) -> None:
        self.consumer = Consumer(pause_after=1)
        upload = self.upload(OCTETS)
        upload.startProducing(self.consumer)
        upload.resumeProducing()
        upload.pauseProducing()
        upload.resumeProducing()
        self.assertEqual(len(self.consumer.chunks), 3)

    def test_stopped_it_writes_no_more_and_fires_no_more(self) -> None:
        for content in self.contents():
            self.consumer = Consumer(pause_after=1)
            upload = self.upload(content)
            done = upload.startProducing(self.consumer)
            upload.stopProducing()
            upload.resumeProducing()
            self.assertNoResult(done)
            self.assertEqual(len(self.consumer.chunks), 1)

    def test_stopped_while_a_thread_reads(self) -> None:
        content = MemoryContent(OCTETS)
        upload = self.upload(Stream(b"", content))
        self.threads.hold()
        done = upload.startProducing(self.consumer)
        upload.stopProducing()
        self.threads.release()
        self.assertNoResult(done)
        self.assertEqual(self.consumer.chunks, [])
        self.assertTrue(all(reader.closed for reader in content.readers))

    def test_a_reader_that_was_closed_first(self) -> None:
        """Threads may come in any order."""
        content = MemoryContent(OCTETS)
        reader = _Reader(content)
        reader.close()
        self.assertEqual(reader.read(), b"")
        self.assertEqual(content.readers, [])

    def test_stopped_before_it_began(self) -> None:
        self.upload(OCTETS).stopProducing()
        self.assertEqual(self.consumer.chunks, [])

    def test_cancelled(self) -> None:
        self.consumer = Consumer(pause_after=1)
        done = self.upload(OCTETS).startProducing(self.consumer)
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def test_stopped_by_the_consumer_in_a_write(self) -> None:
        upload = self.upload(OCTETS)
        self.patch(self.consumer, "write", lambda data: upload.stopProducing())
        self.assertNoResult(upload.startProducing(self.consumer))

    def test_damaged_content_fails_the_upload(self) -> None:
        done = self.upload(Stream(b"", DamagedContent())).startProducing(self.consumer)
        self.failureResultOf(done, SpoolError)


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Watch(Deadlines(self.clock))
        self.ended: Deferred[None] = Deferred()

    def start(self) -> None:
        self.watch.start(lambda: self.ended.callback(None))

    def assert_expires(self, seconds: float, reason: str) -> None:
        self.clock.advance(seconds - 0.01)
        self.assertEqual(self.watch.expired, "")
        self.assertNoResult(self.ended)
        self.clock.advance(0.02)
        self.assertEqual(self.watch.expired, reason)
        self.successResultOf(self.ended)
        self.watch.stop()

    def test_ten_seconds_to_connect(self) -> None:
        self.start()
        self.assert_expires(10, "no connection within 10 s")

    def test_thirty_seconds_without_progress(self) -> None:
        self.start()
        for _ in range(5):
            self.clock.advance(9)
            self.watch.moved()
        self.assert_expires(30, "the upload stood still for 30 s")

    def test_thirty_seconds_for_the_answer(self) -> None:
        self.start()
        self.watch.moved()
        self.clock.advance(29)
        self.watch.uploaded()
        self.clock.advance(20)
        self.watch.moved()
        self.assert_expires(10, "no answer within 30 s")

    def test_an_upload_that_began_first(self) -> None:
        self.watch.uploaded()
        self.start()
        self.assert_expires(30, "no answer within 30 s")

    def test_stopped(self) -> None:
        self.watch.stop()
        self.start()
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.watch.moved()
        self.watch.uploaded()
        self.clock.advance(100)
        self.assertNoResult(self.ended)
        self.assertEqual(self.watch.expired, "")

    def test_nobody_to_tell(self) -> None:
        self.watch.uploaded()
        self.clock.advance(31)
        self.assertEqual(self.watch.expired, "no answer within 30 s")


class WatchesTests(SynchronousTestCase):
    """Watches of several requests share a delayed call."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines: Deadlines[Watch] = Deadlines(self.clock)
        self.ended: list[tuple[str, float]] = []

    def watch(self, name: str) -> Watch:
        watch = Watch(self.deadlines)

        def cancel() -> None:
            self.ended.append((name, self.clock.seconds()))
            watch.stop()

        watch.start(cancel)
        return watch

    def pass_time(self) -> None:
        for _ in range(200):
            self.clock.advance(0.5)

    def test_each_in_its_time(self) -> None:
        self.watch("connecting")
        self.clock.advance(1)
        self.watch("answering").uploaded()
        self.clock.advance(1)
        self.watch("uploading").moved()
        self.clock.advance(1)
        self.watch("connecting later")
        self.pass_time()
        self.assertEqual(
            self.ended,
            [("connecting", 10), ("connecting later", 13), ("answering", 31), ("uploading", 32)],
        )
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))
