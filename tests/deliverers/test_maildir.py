import ctypes
import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar
from unittest import mock

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import threads
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsvc.deliverers import maildir, stable
from mailsvc.deliverers.maildir import Maildir
from mailsvc.deliverers.options import MaildirOptions
from mailsvc.errors import SpoolError, TransientFailure
from mailsvc.interfaces import IContent, IDeliverer
from mailsvc.message import Address, Delivery
from mailsvc.testing import (
    MAIL,
    DamagedContent,
    FakeContext,
    GroupDelivererContract,
    MemoryContent,
    make_delivery,
    started,
)

P = ParamSpec("P")
T = TypeVar("T")


def files(directory: str) -> list[str]:
    return sorted(os.listdir(directory))


class Threads(FakeContext):
    """A context whose threads are under the test's control."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        ended: Deferred[T] = Deferred()
        self.waiting.append((ended, lambda: function(*args, **kwargs)))
        return await ended

    def run(self) -> None:
        ended, call = self.waiting.pop(0)
        ended.callback(call())


class MaildirTests(SynchronousTestCase):
    """What is in the directory when a delivery has returned."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())

    def deliverer(self, **options: object) -> Maildir:
        section = {"path": self.directory, **options}
        return Maildir(msgspec.convert(section, MaildirOptions), FakeContext())

    def deliver(
        self, deliverer: Maildir, delivery: Delivery, content: IContent | None = None
    ) -> None:
        content = MemoryContent() if content is None else content
        self.successResultOf(started(deliverer.deliver(delivery, content)))

    def failure(self, deliverer: Maildir, delivery: Delivery, content: IContent) -> BaseException:
        attempt = started(deliverer.deliver(delivery, content))
        error: BaseException = self.failureResultOf(attempt).value
        return error

    def only_file(self, folder: str = "new") -> bytes:
        (name,) = files(f"{self.directory}/{folder}")
        with open(f"{self.directory}/{folder}/{name}", "rb") as file:
            return file.read()

    def test_a_place_that_cannot_be_written_to(self) -> None:
        """It is said when the deliverer is made; the mail waits, as with any fault of the disk."""
        for path in ("/dev/null/mail", "/dev/null/{user}/mail"):
            context = FakeContext()
            Maildir(MaildirOptions(path=path), context)
            [event] = context.events
            self.assertIn("/dev/null is not a directory", event.text())
        context = FakeContext()
        Maildir(MaildirOptions(path=self.mktemp()), context)
        self.assertEqual(context.events, [])

    def test_a_directory_is_made_where_nothing_can_be_read(self) -> None:
        """To make one in it, a directory has to be writable; to be used, readable as well."""
        directory = self.mktemp()
        os.mkdir(directory)
        # Asked in place of the system, as root may do everything.
        self.patch(os, "access", lambda path, mode: not mode & os.R_OK)
        self.assertEqual(stable.obstacle(os.path.join(directory, "new")), "")
        self.assertEqual(stable.obstacle(directory), f"{directory} cannot be written to")

    def test_a_group_leaves_open_what_others_opened_between_its_files(self) -> None:
        """Files with numbers in a row are closed together, and no other is."""
        others: list[int] = []

        class Opening(MemoryContent):
            def open(self) -> BinaryIO:
                others.append(os.open("/dev/null", os.O_RDONLY))
                return super().open()

        contents = [MemoryContent, MemoryContent, Opening, MemoryContent, Opening, Opening]
        group = [
            (make_delivery(id=f"m{number}-1"), content()) for number, content in enumerate(contents)
        ]
        before = set(os.listdir("/proc/self/fd"))
        outcomes = self.successResultOf(started(self.deliverer().deliver_group(group)))
        self.assertEqual(outcomes, [None] * len(group))
        self.assertEqual(set(os.listdir("/proc/self/fd")), before | {str(each) for each in others})
        for each in others:
            os.close(each)
        self.assertEqual(len(files(f"{self.directory}/new")), len(group))

    def test_one_file_with_line_feeds(self) -> None:
        """Requirement 19: Return-Path comes first at final delivery."""
        self.deliver(self.deliverer(), make_delivery())
        expected = b"Return-Path: <ada@example.org>\n" + MAIL.replace(b"\r\n", b"\n")
        self.assertEqual(self.only_file(), expected)
        self.assertEqual(files(self.directory), ["cur", "new", "tmp"])
        self.assertEqual(files(f"{self.directory}/tmp"), [])
        self.assertEqual(files(f"{self.directory}/new"), ["1700000000.0001HZX9-1.mx.example.com"])

    @given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"x"])), st.booleans())
    def test_line_ends_of_any_content(self, octets: list[bytes], paired: bool) -> None:
        """Those of BINARYMIME need not be in pairs."""
        data = b"".join([each for each in octets if not paired or each not in (b"\r", b"\n")])
        self.assertEqual(maildir.with_line_feeds(data), data.replace(b"\r\n", b"\n"))

    def test_crlf_is_byte_for_byte(self) -> None:
        self.deliver(self.deliverer(line_ending="crlf"), make_delivery())
        self.assertEqual(self.only_file(), b"Return-Path: <ada@example.org>\r\n" + MAIL)

    def test_null_reverse_path(self) -> None:
        self.deliver(self.deliverer(), make_delivery(reverse_path=None))
        self.assertTrue(self.only_file().startswith(b"Return-Path: <>\n"))

    def test_delivered_to(self) -> None:
        self.deliver(
            self.deliverer(delivered_to=True), make_delivery(Address("jörg", "example.com"))
        )
        head = "Return-Path: <ada@example.org>\nDelivered-To: jörg@example.com\n".encode()
        self.assertTrue(self.only_file().startswith(head))

    def test_modes_let_nobody_else_in(self) -> None:
        """Requirement 46: whatever the umask is."""
        before = os.umask(0)
        try:
            self.deliver(self.deliverer(path=f"{self.directory}/a/b"), make_delivery())
        finally:
            os.umask(before)
        for path, _, names in os.walk(self.directory):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
            for name in names:
                self.assertEqual(stat.S_IMODE(os.stat(f"{path}/{name}").st_mode), 0o600)

    def test_a_repeat_replaces(self) -> None:
        """Requirement 38: the same id on each attempt gives the same file."""
        deliverer = self.deliverer()
        self.deliver(deliverer, make_delivery(attempt=1))
        self.deliver(deliverer, make_delivery(attempt=2))
        self.assertEqual(len(files(f"{self.directory}/new")), 1)

    def test_line_ends_across_chunks(self) -> None:
        """Wherever a chunk ends, the octets are the same; bare ones stay."""
        octets = b"a\r\nb\rc\nd\r\r\n\r\n" * 5 + b"\r"
        for size in range(1, 20):
            self.patch(maildir, "_CHUNK", size)
            self.directory = os.path.abspath(self.mktemp())
            self.deliver(self.deliverer(), make_delivery(), MemoryContent(octets))
            expected = b"Return-Path: <ada@example.org>\n" + octets.replace(b"\r\n", b"\n")
            self.assertEqual(self.only_file(), expected)

    def test_directories_are_made_once(self) -> None:
        deliverer = self.deliverer(path=f"{self.directory}/{{domain}}/{{user}}")
        with mock.patch.object(maildir, "make_directories", wraps=stable.make_directories) as made:
            for number in range(5):
                self.deliver(deliverer, make_delivery(id=f"m{number}-1"))
        self.assertEqual(made.call_count, 3)

    def test_forgotten_directories_are_made_again(self) -> None:
        self.patch(maildir, "_REMEMBERED", 2)
        deliverer = self.deliverer(path=f"{self.directory}/{{user}}")
        for number in range(7):
            delivery = make_delivery(Address(f"u{number % 4}", "example.com"), id=f"m{number}-1")
            self.deliver(deliverer, delivery)
        self.assertEqual(sum(len(files(f"{self.directory}/u{n}/new")) for n in range(4)), 7)

    def test_a_removed_maildir_is_made_again(self) -> None:
        deliverer = self.deliverer()
        self.deliver(deliverer, make_delivery())
        os.rename(self.directory, self.directory + ".moved")
        self.deliver(deliverer, make_delivery(id="other-1"))
        self.assertEqual(len(files(f"{self.directory}/new")), 1)

    def test_stale_temporaries_are_removed(self) -> None:
        """Requirement 40: those of ours only, and only after 36 hours."""
        os.makedirs(f"{self.directory}/tmp")
        ours = "1700000000.a-1.mx.example.com.mailsvc-0123456789abcdef"
        for name, age in ((ours, 37), (ours[:-1] + "e", 35), ("1700000000.somebody.else", 99)):
            with open(f"{self.directory}/tmp/{name}", "wb"):
                pass
            seconds = time.time() - age * 3600
            os.utime(f"{self.directory}/tmp/{name}", (seconds, seconds))
        self.deliver(self.deliverer(), make_delivery())
        self.assertEqual(
            set(files(f"{self.directory}/tmp")), {"1700000000.somebody.else", ours[:-1] + "e"}
        )

    def test_a_file_where_the_maildir_belongs(self) -> None:
        with open(self.directory, "wb"):
            pass
        error = self.failure(self.deliverer(), make_delivery(), MemoryContent())
        self.assertIsInstance(error, TransientFailure)
        self.assertIn("the maildir cannot be written: ", str(error))

    def test_a_file_where_new_belongs(self) -> None:
        os.makedirs(self.directory)
        with open(f"{self.directory}/new", "wb"):
            pass
        error = self.failure(self.deliverer(), make_delivery(), MemoryContent())
        self.assertIsInstance(error, TransientFailure)

    def test_damaged_content_leaves_nothing(self) -> None:
        error = self.failure(self.deliverer(), make_delivery(), DamagedContent())
        self.assertIsInstance(error, SpoolError)
        self.assertEqual(files(f"{self.directory}/tmp") + files(f"{self.directory}/new"), [])

    def test_a_fault_of_ours_is_not_disguised(self) -> None:
        content = MemoryContent()
        self.patch(content, "open", lambda: 1 / 0)
        error = self.failure(self.deliverer(), make_delivery(), content)
        self.assertIsInstance(error, ZeroDivisionError)

    def disk_error(self, module: object, name: str) -> None:
        """Requirement 35: a disk's failure is temporary, and no file is left."""
        deliverer = self.deliverer()
        fault = OSError(errno.EIO, "Input/output error")
        with mock.patch.object(module, name, side_effect=fault):
            error = self.failure(deliverer, make_delivery(), MemoryContent())
        self.assertIsInstance(error, TransientFailure)
        self.assertEqual(str(error), "the maildir cannot be written: Input/output error")
        self.assertEqual(files(f"{self.directory}/tmp"), [])
        self.deliver(deliverer, make_delivery())
        self.assertEqual(len(files(f"{self.directory}/new")), 1)

    def test_a_failing_sync(self) -> None:
        self.disk_error(maildir, "sync_files")
        self.assertEqual(len(files(f"{self.directory}/new")), 1)

    def test_a_failing_rename(self) -> None:
        self.disk_error(os, "rename")

    def test_a_failing_sync_of_the_directory(self) -> None:
        self.deliver(self.deliverer(), make_delivery(id="first-1"))
        os.unlink(f"{self.directory}/new/1700000000.first-1.mx.example.com")
        deliverer = self.deliverer()
        real = stable.sync_directory

        def failing(path: str) -> None:
            if path.endswith("/new"):
                raise OSError(errno.EIO, "Input/output error")
            real(path)

        with mock.patch.object(maildir, "sync_directory", failing):
            error = self.failure(deliverer, make_delivery(), MemoryContent())
        self.assertIsInstance(error, TransientFailure)

    def test_the_order_of_system_calls(self) -> None:
        """Requirement 36: content is synced before it has its name, the name before it counts."""
        deliverer = self.deliverer()
        self.deliver(deliverer, make_delivery(id="first-1"))
        calls: list[str] = []
        real_rename, real_fsync = os.rename, os.fsync

        def rename(source: str, target: str) -> None:
            calls.append("rename")
            real_rename(source, target)

        def fsync(descriptor: int) -> None:
            directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            calls.append("sync new" if directory else "sync file")
            real_fsync(descriptor)

        self.patch(os, "rename", rename)
        self.patch(os, "fsync", fsync)
        self.deliver(deliverer, make_delivery(id="second-1"))
        self.assertEqual(calls, ["sync file", "rename", "sync new"])


class TogetherTests(SynchronousTestCase):
    """Deliveries that come while others are written are written together."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.context = Threads()
        self.deliverer = Maildir(MaildirOptions(path=f"{self.directory}/{{user}}"), self.context)

    def start(self, number: int, content: IContent | None = None) -> Deferred[None]:
        delivery = make_delivery(Address(f"u{number % 3}", "example.com"), id=f"m{number}-1")
        content = MemoryContent() if content is None else content
        return started(self.deliverer.deliver(delivery, content))

    def test_groups(self) -> None:
        attempts = [self.start(number) for number in range(1 + maildir._TOGETHER + 4)]
        self.assertEqual(len(self.context.waiting), 1)
        for expected in (1, 1 + maildir._TOGETHER, len(attempts)):
            self.context.run()
            self.assertEqual(sum(attempt.called for attempt in attempts), expected)
        self.assertEqual(self.context.waiting, [])
        count = sum(len(files(f"{self.directory}/u{n}/new")) for n in range(3))
        self.assertEqual(count, len(attempts))
        for attempt in attempts:
            self.successResultOf(attempt)

    def test_a_group_that_comes_as_one_is_written_as_fast(self) -> None:
        """With what else waits, but never with more open files than a group has."""
        for size, hops in ((3, 1), (maildir._TOGETHER, 1), (2 * maildir._TOGETHER + 1, 3)):
            group = [(make_delivery(id=f"s{n}-{size}"), MemoryContent()) for n in range(size)]
            written = started(self.deliverer.deliver_group(group))
            for _ in range(hops):
                self.assertNoResult(written)
                self.context.run()
            self.assertEqual(self.successResultOf(written), [None] * size)
        self.start(0)
        several = [(make_delivery(id=f"t{n}-1"), MemoryContent()) for n in range(5)]
        groups = [started(self.deliverer.deliver_group(several[:n])) for n in (2, 5, 3)]
        self.context.run()
        self.context.run()
        self.assertEqual([len(self.successResultOf(each)) for each in groups], [2, 5, 3])
        self.assertEqual(self.context.waiting, [])

    def test_the_same_files_one_by_one(self) -> None:
        """The plain twin: a ``deliver`` for each."""
        trees = []
        for together in (True, False):
            directory = os.path.abspath(self.mktemp())
            options = MaildirOptions(path=f"{directory}/{{user}}", delivered_to=True)
            deliverer = Maildir(options, FakeContext())
            group: list[tuple[Delivery, IContent]] = [
                (
                    make_delivery(Address(f"u{n % 3}", "example.com"), id=f"m{n}-1"),
                    DamagedContent() if n % 7 == 5 else MemoryContent(MAIL * n),
                )
                for n in range(20)
            ]
            if together:
                outcomes = self.successResultOf(started(deliverer.deliver_group(group)))
            else:
                outcomes = []
                for each in group:
                    attempt = started(deliverer.deliver(*each))
                    attempt.addErrback(lambda failure: failure.value)
                    attempt.addCallback(outcomes.append)
            failed = [n for n, outcome in enumerate(outcomes) if outcome is not None]
            self.assertEqual(failed, [5, 12, 19])
            found = (path for path in Path(directory).rglob("*") if path.is_file())
            trees.append({str(path.relative_to(directory)): path.read_bytes() for path in found})
        self.assertEqual(len(trees[0]), 17)
        self.assertEqual(trees[0], trees[1])

    def test_a_group_has_one_sync(self) -> None:
        synced: list[int] = []
        self.patch(stable, "_syncfs", synced.append)
        for number in range(10):
            self.start(number)
        self.context.run()
        self.assertEqual(synced, [])
        self.context.run()
        self.assertEqual(len(synced), 1)

    def test_one_failure_is_one_delivery_s(self) -> None:
        self.start(0)
        attempts = [self.start(1), self.start(2, DamagedContent()), self.start(3)]
        self.context.run()
        self.context.run()
        self.successResultOf(attempts[0])
        self.failureResultOf(attempts[1], SpoolError)
        self.successResultOf(attempts[2])

    def test_what_is_cancelled_while_it_waits_is_not_written(self) -> None:
        first, second = self.start(0), self.start(1)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.context.run()
        self.successResultOf(first)
        self.assertEqual(self.context.waiting, [])
        self.assertEqual(files(self.directory), ["u0"])

    def test_what_is_cancelled_while_it_is_written(self) -> None:
        first, second = self.start(0), self.start(1)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.context.run()
        self.context.run()
        self.successResultOf(second)

    def test_a_thread_that_fails_fails_its_group(self) -> None:
        attempts = [self.start(0), self.start(1)]
        self.context.waiting.pop(0)[0].errback(RuntimeError("the pool is closed"))
        self.failureResultOf(attempts[0], RuntimeError)
        self.context.run()
        self.successResultOf(attempts[1])


class StableTests(SynchronousTestCase):
    def test_parents_are_made_and_synced(self) -> None:
        base = os.path.abspath(self.mktemp())
        os.mkdir(base)
        synced: list[str] = []
        self.patch(stable, "sync_directory", synced.append)
        stable.make_directories(f"{base}/a/b/c")
        self.assertEqual(synced, [base, f"{base}/a", f"{base}/a/b"])
        stable.make_directories(f"{base}/a/b/c")
        self.assertEqual(len(synced), 3)

    def test_syncfs_is_for_systems_that_report_its_errors(self) -> None:
        class Name:
            sysname = "Linux"
            release = "5.8.0-1-amd64"

        self.patch(os, "uname", lambda: Name)
        syncfs = stable._linux_syncfs()
        assert syncfs is not None
        with open(self.mktemp(), "wb") as file:
            syncfs(file.fileno())
            descriptor = file.fileno()
        error = self.assertRaises(OSError, syncfs, descriptor)
        self.assertEqual(error.errno, errno.EBADF)
        for release, system in (
            ("5.7.19", "Linux"),
            ("4.19", "Linux"),
            ("odd", "Linux"),
            ("14.0", "FreeBSD"),
        ):
            Name.release, Name.sysname = release, system
            self.assertIsNone(stable._linux_syncfs())
        Name.release, Name.sysname = "6.1", "Linux"
        self.patch(ctypes, "CDLL", lambda name, use_errno: object())
        self.assertIsNone(stable._linux_syncfs())

    def test_the_file_that_was_opened_first_is_asked_for_the_errors(self) -> None:
        """It knows of every write that has failed since."""
        synced: list[int] = []
        self.patch(stable, "_syncfs", synced.append)
        with open(self.mktemp(), "wb") as one, open(self.mktemp(), "wb") as two:
            stable.sync_files([[one.fileno(), 7, 8], [two.fileno()]])
            self.assertEqual(synced, [one.fileno()])

    def test_without_syncfs_each_file_is_synced(self) -> None:
        synced: list[int] = []
        self.patch(stable, "_syncfs", None)
        self.patch(os, "fsync", synced.append)
        stable.sync_files([[7, 8], [9]])
        self.assertEqual(synced, [7, 8, 9])


class ContractTests(GroupDelivererContract, TestCase):
    """The maildir keeps the promises of every deliverer, with real threads."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())

    def make_deliverer(self) -> IDeliverer:
        context = FakeContext()
        self.patch(context, "in_thread", threads.deferToThread)
        return Maildir(MaildirOptions(path=f"{self.directory}/{{domain}}/{{user}}"), context)

    def break_destination(self) -> bool:
        os.rename(self.directory, self.directory + ".gone")
        with open(self.directory, "wb"):
            pass
        return True

    async def test_every_delivery_is_a_file_of_its_own(self) -> None:
        deliverer = self.make_deliverer()
        await gatherResults(
            [
                started(deliverer.deliver(make_delivery(id=f"m{n}-1"), MemoryContent()))
                for n in range(150)
            ]
        )
        self.assertEqual(len(files(f"{self.directory}/example.com/support/new")), 150)
