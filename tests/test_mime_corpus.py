"""Hostile mail is bounded in time and memory, and arrives all the same.

Time is counted in calls, not in seconds: the same on every machine.  The proofs run large mails in
workers, whose limits on processor time and address space are the kernel's.
"""

from __future__ import annotations

import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsvc.deliverers.webhook.formats import FORMATS
from mailsvc.mime.limits import Limits
from mailsvc.mime.mail import parse
from mailsvc.mime.parser import Parser
from mailsvc.parsed import ParsedMail
from mailsvc.turnend import TurnEnd
from tests.corpus import GENERATORS
from tests.corpus.__main__ import main
from tests.deliverers.formats.mails import body, payload
from tests.test_mime_parser import Content, in_thread


def calls(function: Callable[[], object]) -> int:
    """Return how many functions are called, Python's own included."""
    count = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


class CorpusTests(SynchronousTestCase):
    def assert_sound(self, mail: ParsedMail) -> None:
        self.assertFalse(any(error.startswith("not parsed") for error in mail.errors))
        self.assertLessEqual(len(mail.errors), 50)
        self.assertLessEqual(len(mail.headers), Limits().fields)
        self.assertLessEqual(len(mail.attachments), Limits().parts)
        self.assertLessEqual(len(mail.to), Limits().addresses)
        str(mail).encode("utf-8")

    def test_every_mail_is_parsed(self) -> None:
        for generator in GENERATORS:
            self.assert_sound(parse(generator(16_000), Limits()))

    def test_twice_the_mail_is_not_four_times_the_work(self) -> None:
        limits = Limits()
        for generator in GENERATORS:
            once, twice = generator(20_000), generator(40_000)
            parse(once, limits)
            work = calls(partial(parse, once, limits))
            more = calls(partial(parse, twice, limits))
            self.assertLess(more, 2.7 * work + 2000, generator.__name__)

    def test_every_format_takes_every_mail(self) -> None:
        for generator in GENERATORS:
            octets = generator(4_000)
            for name in FORMATS:
                self.assertTrue(body(payload(name, octets)))

    def test_corpus_as_files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            main(folder, "2000")
            files = {path.stem: path.stat().st_size for path in Path(folder).iterdir()}
        self.assertEqual(set(files), {generator.__name__ for generator in GENERATORS})
        self.assertTrue(all(files.values()))


@pytest.mark.proof
class CorpusProofs(TestCase):
    timeout = 600

    def test_memory_in_a_thread(self) -> None:
        """A mail that is parsed in a thread takes a bounded multiple of its size."""
        for generator in GENERATORS:
            octets = generator(64_000)
            tracemalloc.start()
            try:
                parse(octets, Limits())
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            self.assertLess(peak, 8 * 1024 * 1024, generator.__name__)

    async def test_large_mails_within_the_workers_limits(self) -> None:
        """No mail of 8 MiB meets the kernel's limits, or leaves fewer workers behind."""
        parser = Parser(
            IReactorProcess(reactor),
            in_thread,
            TurnEnd(IReactorTime(reactor).callLater),
            Limits(cpu=30),
            Clock(),
        )

        async def errors(octets: bytes) -> tuple[str, ...]:
            # Only the notes are kept: a mail counts against the shared memory while it lives.
            return (await parser.parse(Content(octets))).errors

        try:
            for generator in GENERATORS:
                octets = generator(8_000_000)
                pair = [Deferred.fromCoroutine(errors(octets)) for _ in range(2)]
                for notes in await gatherResults(pair, consumeErrors=True):
                    failures = [note for note in notes if note.startswith("not parsed")]
                    self.assertEqual(failures, [], generator.__name__)
        finally:
            await parser.stop()
