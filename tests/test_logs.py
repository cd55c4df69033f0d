"""The lines of the log are the same whether they go by way of Twisted's log or not."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, cast

from twisted.logger import ILogObserver, LogLevel, textFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailsvc.events import Alert, Broke, Event, Notice, StartFailed
from mailsvc.logs import JSONLines, TextLines

NOW = 1_790_000_000.25
EVENTS: tuple[Event, ...] = (
    Notice("listening"),
    Alert("two words"),
    Broke("a part", "first\n  second\n"),
    StartFailed("no {braces} %s \xe9"),
)


def logged(event: Event) -> dict[str, object]:
    """Return what Twisted's log makes of an event."""
    return {
        "log_time": NOW,
        "log_level": LogLevel.lookupByName(event.level),
        "log_namespace": "mailsvc",
        "log_format": "{mailsvc_text}",
        "mailsvc_text": event.text(),
        "mailsvc": event,
    }


def _same(stream: io.StringIO) -> io.StringIO:
    return stream


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class Counted(io.StringIO):
    """Counts how often it was flushed."""

    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


class Counting(io.RawIOBase):
    """A file that notes what each system call would have written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, octets: Any) -> int:  # noqa: ANN401 - any buffer, as the base says
        self.written.append(bytes(octets))
        return len(octets)


class TextLinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = io.StringIO()
        self.now = NOW
        self.lines = TextLines(self.stream, lambda: self.now)

    def test_the_same_lines(self) -> None:
        """The plain twin is twistd's own observer."""
        verifyObject(ILogObserver, self.lines)
        for zone in ("UTC", "America/St_Johns"):
            self.zone(zone)
            for event in EVENTS:
                theirs, ours = io.StringIO(), io.StringIO()
                textFileLogObserver(theirs)(logged(event))
                TextLines(ours, lambda: NOW).emit(event)
                self.assertEqual(ours.getvalue(), theirs.getvalue())
                self.assertTrue(ours.getvalue().endswith("\n"))

    def zone(self, name: str) -> None:
        before = os.environ.get("TZ")

        def back() -> None:
            if before is None:
                os.environ.pop("TZ", None)
            else:
                os.environ["TZ"] = before
            time.tzset()

        self.addCleanup(back)
        os.environ["TZ"] = name
        time.tzset()

    def test_the_time_goes_on(self) -> None:
        for self.now in (NOW, NOW + 0.5, NOW + 1):
            self.lines.emit(Notice("x"))
        stamps = [line.split(" ")[0] for line in self.stream.getvalue().splitlines()]
        self.assertEqual(stamps[0], stamps[1])
        self.assertNotEqual(stamps[1], stamps[2])

    def test_the_lines_of_a_turn_go_together(self) -> None:
        """A system call for each line cost a twentieth of accepting a message."""
        stream = Counted()
        soon: list[Callable[[], None]] = []
        lines = TextLines(stream, later=soon.append)
        for text in ("a", "b", "c"):
            lines.emit(Notice(text))
        self.assertEqual((stream.flushed, len(soon)), (0, 1))
        soon.pop()()
        self.assertEqual((stream.flushed, stream.getvalue().count("\n")), (1, 3))
        lines.emit(Notice("d"))
        self.assertEqual(len(soon), 1)

    def test_they_do_on_a_stream_without_a_buffer(self) -> None:
        """As standard output is under PYTHONUNBUFFERED."""
        file = Counting()
        soon: list[Callable[[], None]] = []
        stream = io.TextIOWrapper(cast(BinaryIO, file), write_through=True)
        lines = TextLines(stream, later=soon.append)
        for text in ("a", "b", "c"):
            lines.emit(Notice(text))
        self.assertEqual(file.written, [])
        soon.pop()()
        self.assertEqual([octets.count(b"\n") for octets in file.written], [3])

    def test_what_twisted_says_waits_for_nothing_and_overtakes_nothing(self) -> None:
        stream = Counted()
        lines = TextLines(stream, later=lambda flush: None)
        lines.emit(Notice("first"))
        lines(logged(Notice("second")))
        self.assertGreater(stream.flushed, 0)
        texts = [line.split("] ")[1] for line in stream.getvalue().splitlines()]
        self.assertEqual(texts, ["first", "second"])

    def test_nor_does_it_in_json(self) -> None:
        stream = Counted()
        lines = JSONLines(lambda: stream, later=lambda flush: None)
        lines.emit(Notice("first"))
        lines(logged(Notice("second")))
        self.assertEqual(stream.flushed, 1)
        texts = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
        self.assertEqual(texts, ["first", "second"])

    def test_what_twisted_says(self) -> None:
        event = {**logged(Notice("x")), "log_namespace": "twisted.web", "mailsvc_text": "theirs"}
        self.lines(event)
        self.assertIn("[twisted.web#info] theirs\n", self.stream.getvalue())

    def test_a_log_that_is_gone_stops_nothing(self) -> None:
        TextLines(Gone()).emit(Notice("x"))
        closed = io.StringIO()
        closed.close()
        JSONLines(lambda: closed).emit(Notice("x"))


class JSONLinesTests(SynchronousTestCase):
    def line(self, stream: io.StringIO) -> dict[str, object]:
        found: dict[str, object] = json.loads(stream.getvalue())
        return found

    def test_the_same_lines(self) -> None:
        for event in EVENTS:
            theirs, ours = io.StringIO(), io.StringIO()
            JSONLines(partial(_same, theirs))(logged(event))
            JSONLines(partial(_same, ours), lambda: NOW).emit(event)
            self.assertEqual(ours.getvalue(), theirs.getvalue())
            self.assertEqual(self.line(ours)["event"], event.name)

    def test_what_twisted_says(self) -> None:
        stream = io.StringIO()
        failure = Failure(ValueError("why"))
        lines = JSONLines(lambda: stream)
        lines(
            {
                "log_time": NOW,
                "log_level": LogLevel.critical,
                "log_format": "it {how}",
                "how": "broke",
                "log_failure": failure,
            }
        )
        line = self.line(stream)
        self.assertEqual(
            (line["event"], line["text"], line["level"]), ("log", "it broke", "critical")
        )
        self.assertIn("ValueError: why", str(line["failure"]))
