"""Segments by themselves: a group that is larger than what is left of one."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from concurrent.futures import Executor, Future
from typing import Any

from mailsvc.errors import SpoolError, SpoolFull
from mailsvc.spool.accepting import Accepting
from mailsvc.spool.schema import Layout, connect, make_database
from mailsvc.spool.segments import Segments
from mailsvc.spool.usage import Usage
from mailsvc.spool.view import SpoolLimits
from tests.spool.house import ROOMY, SpoolTestCase

SIZE = 1 << 16
CONTENT = b"c" * 15_000


class Later(Executor):
    """Does nothing until it is told to."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        """Keep the work."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self.work.append(work)
        return future

    def run(self) -> None:
        """Do what was kept."""
        while self.work:
            self.work.pop(0)()


class SegmentsTests(SpoolTestCase):
    def made(self, limits: SpoolLimits = ROOMY) -> tuple[Segments, sqlite3.Connection]:
        shutil.rmtree(self.directory, ignore_errors=True)
        layout = Layout(self.directory)
        layout.make(self.files)
        make_database(layout, self.files)
        connection = connect(layout, self.files)
        self.addCleanup(connection.close)
        self.later = Later()
        segments = Segments(
            layout, self.files, 7, self.later, Usage(limits), self.events.append, SIZE
        )
        segments.prepare(connection)
        self.addCleanup(segments.close)
        return segments, connection

    def group(self, count: int) -> list[Accepting]:
        return [
            Accepting(f"m{number}", b"{}", (), len(CONTENT), False, len(CONTENT), chunks=[CONTENT])
            for number in range(count)
        ]

    def errors(self, messages: list[Accepting]) -> list[type[Exception] | None]:
        return [None if each.error is None else type(each.error) for each in messages]

    def test_a_group_goes_on_in_the_next_segment(self) -> None:
        segments, connection = self.made()
        messages = self.group(10)
        segments.store(connection, messages)
        self.assertEqual(self.errors(messages), [None] * 10)
        self.assertEqual([each.segment for each in messages], [1] * 4 + [2] * 4 + [3] * 2)

    def test_no_next_segment(self) -> None:
        """What found its place before is kept; the rest is told why."""
        for name, part, fault, kind in (
            ("create", "tmp", OSError(errno.EMFILE, "files"), SpoolError),
            ("pwritev", "tmp", OSError(errno.ENOSPC, "space"), SpoolFull),
            ("fsync", "tmp", OSError(errno.EIO, "io"), SpoolError),
            ("rename", "segments", OSError(errno.EIO, "io"), SpoolError),
            ("fsync", "segments", OSError(errno.EIO, "io"), SpoolError),
            ("open", "segments/", OSError(errno.EMFILE, "files"), SpoolError),
            ("sql", "INSERT INTO segments", sqlite3.OperationalError("broken"), SpoolError),
        ):
            segments, connection = self.made()
            messages = self.group(6)
            self.files.fail(name, part, fault)
            segments.store(connection, messages)
            self.assertEqual(self.errors(messages), [None] * 4 + [kind] * 2, part)
            again = self.group(3)
            segments.store(connection, again)
            self.assertEqual(self.errors(again), [None] * 3, part)
            self.assertEqual(os.listdir(os.path.join(self.directory, "tmp")), [])

    def test_no_room_for_a_next_segment(self) -> None:
        segments, connection = self.made(SpoolLimits(octets=SIZE + 1000, low_water=0))
        messages = self.group(6)
        segments.store(connection, messages)
        self.assertEqual(self.errors(messages), [None] * 4 + [SpoolFull] * 2)
        # Nor is one made in advance.
        segments.look_ahead(connection)
        self.assertEqual(self.later.work, [])

    def test_a_segment_that_is_made_in_advance_is_waited_for(self) -> None:
        segments, connection = self.made()
        segments.store(connection, self.group(3))
        segments.look_ahead(connection)
        segments.look_ahead(connection)
        self.assertEqual(len(self.later.work), 1)
        self.later.run()
        messages = self.group(3)
        segments.store(connection, messages)
        self.assertEqual([each.segment for each in messages], [1, 2, 2])

    def test_a_segment_made_in_advance_that_failed_is_made_again(self) -> None:
        segments, connection = self.made()
        segments.store(connection, self.group(3))
        segments.look_ahead(connection)
        self.files.fail("fsync", "tmp", OSError(errno.EIO, "io"))
        self.later.run()
        messages = self.group(3)
        segments.store(connection, messages)
        self.assertEqual(self.errors(messages), [None] * 3)
        self.assertIn("no new segment", self.logged())
        segments.close()
        segments.close()
        segments.look_ahead(connection)
        self.assertIsNone(segments.current)
