"""Where mails are parsed: threads, worker processes, and the memory they share."""

from __future__ import annotations

import gc
import io
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from threading import get_ident
from typing import BinaryIO, ParamSpec, TypeVar
from unittest import mock

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorProcess, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailsvc.errors import SpoolError, TransientFailure
from mailsvc.interfaces import IContent
from mailsvc.mime import mail as mail_module
from mailsvc.mime import pool, worker
from mailsvc.mime.allowance import Allowance
from mailsvc.mime.limits import Limits
from mailsvc.mime.parser import Parser
from mailsvc.parsed import ParsedMail
from mailsvc.threads import InThread
from mailsvc.turnend import TurnEnd

P = ParamSpec("P")
T = TypeVar("T")

SMALL = b"Subject: small\r\n\r\ntext\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 78 + b"\r\n" * 40_000


@implementer(IContent)
class Content:
    """Octets in memory.

    :param missing: octets that the content claims to have, and has not.
    """

    def __init__(self, octets: bytes, missing: int = 0) -> None:
        self.octets = octets
        self.size = len(octets) + missing

    def open(self) -> BinaryIO:
        return io.BytesIO(self.octets)


@implementer(IContent)
class Damaged:
    size = 100_000

    def open(self) -> BinaryIO:
        raise SpoolError("damaged")


@implementer(IReactorFromThreads)
class Threads:
    """Calls from threads wait until the test wants them."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def callFromThread(
        self, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        self.calls.append(lambda: callable(*args, **kwargs))

    def callInThread(
        self, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        raise NotImplementedError

    def getThreadPool(self) -> object:
        raise NotImplementedError

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class AllowanceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads = Threads()
        self.allowance = Allowance(self.threads, 100)

    def take(self, octets: int, owner: str = "") -> Deferred[int]:
        return Deferred.fromCoroutine(self.allowance.take(octets, owner))

    def test_at_once(self) -> None:
        self.assertEqual(self.successResultOf(self.take(60)), 60)
        self.assertEqual(self.allowance.free, 40)

    def test_wait_in_turn(self) -> None:
        self.take(60)
        large, small = self.take(50), self.take(10)
        self.assertNoResult(large)
        self.assertNoResult(small)
        self.allowance.give(60)
        self.threads.run()
        self.assertEqual(self.successResultOf(large), 50)
        self.assertEqual(self.successResultOf(small), 10)
        self.assertEqual(self.allowance.free, 40)

    def test_more_than_all_is_all(self) -> None:
        self.assertEqual(self.successResultOf(self.take(1000)), 100)
        self.allowance.give(100)
        self.assertEqual(self.allowance.free, 100)

    def test_who_gave_up_holds_up_nobody(self) -> None:
        self.take(60)
        large, small = self.take(50), self.take(10)
        large.cancel()
        self.failureResultOf(large, CancelledError)
        self.threads.run()
        self.assertEqual(self.successResultOf(small), 10)

    def test_an_owner_leaves_some_to_the_others(self) -> None:
        """A dead destination that holds large mails holds up nobody else's."""
        for _ in range(2):
            self.successResultOf(self.take(25, "dead"))
        more = [self.take(25, "dead") for _ in range(9)]
        self.assertEqual(self.successResultOf(self.take(25, "live")), 25)
        self.assertEqual(self.successResultOf(self.take(25, "other")), 25)
        for each in more:
            self.assertNoResult(each)
        self.allowance.give(25, "dead")
        self.threads.run()
        self.assertEqual([each.called for each in more], [True] + [False] * 8)

    def test_one_mail_may_be_larger_than_a_share(self) -> None:
        self.assertEqual(self.successResultOf(self.take(90, "app")), 90)
        second = self.take(90, "app")
        self.assertNoResult(second)
        self.allowance.give(90, "app")
        self.threads.run()
        self.assertEqual(self.successResultOf(second), 90)

    def test_a_large_one_is_not_passed_by(self) -> None:
        """By others than those whose turn it is: small ones behind it wait, whoever's they are."""
        self.successResultOf(self.take(50, "a"))
        large = self.take(60, "b")
        small = [self.take(10, each) for each in ("b", "c")]
        self.assertEqual([each.called for each in (large, *small)], [False] * 3)
        self.allowance.give(50, "a")
        self.threads.run()
        self.assertEqual(self.successResultOf(large), 60)
        self.assertEqual([each.called for each in small], [False, True])

    def test_given_back_just_before_the_wait(self) -> None:
        self.take(60)
        self.allowance.give(60)
        self.assertEqual(self.successResultOf(self.take(100)), 100)


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return await deferToThread(function, *args, **kwargs)


def new_parser(in_thread: InThread, limits: Limits, clock: Clock) -> Parser:
    """Return a parser with the real reactor, but with the test's time."""
    turn_end = TurnEnd(IReactorTime(reactor).callLater)
    return Parser(IReactorProcess(reactor), in_thread, turn_end, limits, clock)


class ParserTests(TestCase):
    """With real threads and processes; time is the test's."""

    timeout = 60

    def setUp(self) -> None:
        self.clock = Clock()
        self.use(Limits())

    def use(self, limits: Limits) -> None:
        self.limits = limits
        self.parser = new_parser(in_thread, limits, self.clock)
        self.addCleanup(self.clean, self.parser)

    def clean(self, parser: Parser) -> Deferred[None]:
        return Deferred.fromCoroutine(parser.stop()).addCallback(self.assert_no_timers)

    def assert_no_timers(self, _: None) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def open_files(self) -> int:
        """Count the descriptors, once the reactor and its threads have theirs."""
        await in_thread(int)
        return len(os.listdir("/proc/self/fd"))

    def process(self) -> int:
        (process,) = self.parser.pool.processes
        return process

    async def test_small_mail_in_a_thread(self) -> None:
        mail = await self.parser.parse(Content(SMALL))
        self.assertEqual((mail.subject, mail.text), ("small", "text\n"))
        self.assertEqual(self.parser.pool.processes, frozenset())

    async def test_no_more_threads_than_allowed(self) -> None:
        now = most = 0

        async def counted(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await in_thread(function, *args, **kwargs)
            finally:
                now -= 1

        self.parser = new_parser(counted, self.limits, self.clock)
        for mails, threads in ((10, 1), (100, 2)):
            most = 0
            waiting = [self.started(Content(SMALL)) for _ in range(mails)]
            for parsed in waiting:
                self.assertEqual((await parsed).subject, "small")
            self.assertEqual((now, most), (0, threads))

    async def test_what_is_made_of_a_mail_is_made_in_the_thread_that_parses_it(self) -> None:
        hops = 0

        async def counted(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
            nonlocal hops
            hops += 1
            return await in_thread(function, *args, **kwargs)

        self.parser = new_parser(counted, self.limits, self.clock)
        self.addCleanup(self.clean, self.parser)
        made = await self.parser.parsed(Content(SMALL), lambda mail: (mail.subject, get_ident()))
        self.assertEqual((made[0], hops), ("small", 1))
        self.assertNotEqual(made[1], get_ident())
        # A worker's mail takes a hop of its own.
        made = await self.parser.parsed(Content(LARGE), lambda mail: (mail.subject, get_ident()))
        self.assertEqual((made[0], hops), ("large", 3))
        self.assertNotEqual(made[1], get_ident())

    async def test_who_makes_nothing_of_a_mail_gives_its_memory_back(self) -> None:
        for content in (Content(SMALL), Content(LARGE)):
            making = Deferred.fromCoroutine(self.parser.parsed(content, lambda mail: 1 // 0))
            await self.assertFailure(making, ZeroDivisionError)
            del making
            await deferToThread(gc.collect)
            self.assertEqual(self.parser.allowance.free, self.limits.memory)

    async def test_large_mail_in_a_worker_that_stays(self) -> None:
        processes = set()
        for _ in range(3):
            mail = await self.parser.parse(Content(LARGE))
            self.assertEqual((mail.subject, mail.errors), ("large", ()))
            self.assertEqual(len(mail.text), 78 + 40_000)
            processes.add(self.process())
        self.assertEqual(len(processes), 1)

    async def test_long_header_in_a_worker(self) -> None:
        self.use(replace(self.limits, small_header=10))
        self.assertEqual((await self.parser.parse(Content(SMALL))).subject, "small")
        self.assertTrue(self.process())

    async def test_no_more_workers_than_allowed(self) -> None:
        waiting = [Deferred.fromCoroutine(self.parser.parse(Content(LARGE))) for _ in range(6)]
        processes: set[int] = set()
        for parsed in waiting:
            self.assertEqual((await parsed).subject, "large")
            processes.update(self.parser.pool.processes)
        self.assertEqual(len(processes), 2)

    async def test_memory_is_taken_as_long_as_the_mail_lives(self) -> None:
        mail = await self.parser.parse(Content(SMALL))
        taken = self.limits.memory - self.parser.allowance.free
        self.assertGreaterEqual(taken, 4 * len(SMALL))
        del mail
        # An awaited Deferred keeps its result until the next one.
        await deferToThread(gc.collect)
        self.assertEqual(self.parser.allowance.free, self.limits.memory)

    async def test_memory_bounds_the_mails_at_a_time(self) -> None:
        self.use(replace(self.limits, memory=50_000))
        first = await self.parser.parse(Content(SMALL))
        second = Deferred.fromCoroutine(self.parser.parse(Content(SMALL)))
        await deferToThread(gc.collect)
        self.assertFalse(second.called)
        self.assertEqual(first.subject, "small")
        del first
        self.assertEqual((await second).subject, "small")

    async def test_damaged_content_is_the_callers_to_know(self) -> None:
        await self.assertFailure(Deferred.fromCoroutine(self.parser.parse(Damaged())), SpoolError)
        self.assertEqual(self.parser.allowance.free, self.limits.memory)
        # The worker had been promised a mail; another one serves from here.
        self.assertEqual((await self.parser.parse(Content(LARGE))).subject, "large")

    async def test_fault_of_the_parser(self) -> None:
        with mock.patch("mailsvc.mime.mail.ParsedMail", side_effect=RecursionError):
            mail = await self.parser.parse(Content(SMALL))
        self.assertEqual(mail, ParsedMail(errors=("not parsed: RecursionError in the parser",)))

    def started(self, content: IContent) -> Deferred[ParsedMail]:
        return Deferred.fromCoroutine(self.parser.parse(content))

    async def test_deadline(self) -> None:
        # The worker waits for octets that never come, as it would loop in one that does not end.
        before = await self.open_files()
        parsed = self.started(Content(LARGE, missing=1))
        self.clock.advance(self.limits.deadline)
        mail = await parsed
        self.assertEqual(mail.errors, ("not parsed: it took longer than 60 seconds",))
        self.assertEqual(mail.headers, ())
        self.assertEqual(await self.open_files(), before)
        self.assertEqual((await self.parser.parse(Content(LARGE))).subject, "large")

    async def test_killed_from_outside(self) -> None:
        parsed = self.started(Content(LARGE, missing=1))
        os.kill(self.process(), signal.SIGTERM)
        self.assertEqual((await parsed).errors, ("not parsed: the parser failed",))

    async def test_killed_while_idle(self) -> None:
        await self.parser.parse(Content(LARGE))
        os.kill(self.process(), signal.SIGKILL)
        await self.all_gone()
        self.assertEqual((await self.parser.parse(Content(LARGE))).subject, "large")

    async def all_gone(self) -> None:
        while self.parser.pool.processes:
            await in_thread(int)

    async def test_cancelled(self) -> None:
        before = await self.open_files()
        parsed = self.started(Content(LARGE, missing=1))
        parsed.cancel()
        await self.assertFailure(parsed, CancelledError)
        self.assertEqual(self.parser.allowance.free, self.limits.memory)
        await self.parser.stop()
        while await self.open_files() > before:
            pass

    async def test_cancelled_while_waiting_for_a_worker(self) -> None:
        busy = [self.started(Content(LARGE, missing=1)) for _ in range(2)]
        waiting, last = self.started(Content(LARGE)), self.started(Content(LARGE))
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.clock.advance(self.limits.deadline)
        self.assertEqual((await last).subject, "large")
        for parsed in busy:
            self.assertTrue((await parsed).errors)

    async def test_idle_worker_ends(self) -> None:
        await self.parser.parse(Content(LARGE))
        self.clock.advance(60)
        await self.all_gone()
        self.assertEqual((await self.parser.parse(Content(LARGE))).subject, "large")

    async def test_worker_is_replaced_after_its_turns(self) -> None:
        self.patch(pool, "_TURNS", 1)
        await self.parser.parse(Content(LARGE))
        first = self.parser.pool.processes
        await self.all_gone()
        self.assertEqual((await self.parser.parse(Content(LARGE))).subject, "large")
        self.assertFalse(first & self.parser.pool.processes)

    async def test_too_much_processor_time(self) -> None:
        # No time at all: the kernel counts whole seconds, and start-up has used a part of one.
        self.use(replace(self.limits, cpu=-1))
        mail = await self.parser.parse(Content(b"Subject: x\r\n\r\n" + b"> x\r\n" * 2_000_000))
        self.assertEqual(mail.errors, ("not parsed: it took more processor time than a mail may",))

    async def test_too_much_memory(self) -> None:
        octets = LARGE * 100
        # The mail has room in memory, and nothing that is made of it.
        self.use(replace(self.limits, room=-9 * len(octets)))
        mail = await self.parser.parse(Content(octets))
        self.assertEqual(mail.errors, ("not parsed: it took more memory than a mail may",))

    async def test_stopped(self) -> None:
        parsed = self.started(Content(LARGE, missing=1))
        waiting = [self.started(Content(LARGE, missing=1)) for _ in range(5)]
        await self.parser.stop()
        await self.assertFailure(parsed, TransientFailure)
        for later in waiting:
            await self.assertFailure(later, TransientFailure)
        await self.assertFailure(self.started(Content(LARGE)), TransientFailure)

    async def test_process_that_does_not_start(self) -> None:
        before = await self.open_files()
        with mock.patch.object(reactor, "spawnProcess", side_effect=OSError("no room")):
            await self.assertFailure(self.started(Content(LARGE)), OSError)
        self.assertEqual(await self.open_files(), before)
        busy = [self.started(Content(LARGE, missing=1)) for _ in range(2)]
        waiting = [self.started(Content(LARGE)) for _ in range(3)]
        with mock.patch.object(reactor, "spawnProcess", side_effect=OSError("no room")):
            self.clock.advance(self.limits.deadline)
            for parsed in busy:
                self.assertTrue((await parsed).errors)
            for parsed in waiting:
                await self.assertFailure(parsed, OSError)
        with mock.patch("os.pipe", side_effect=OSError("no room")):
            await self.assertFailure(self.started(Content(LARGE)), OSError)
        self.assertEqual((await self.parser.parse(Content(LARGE))).subject, "large")


class WorkerTests(SynchronousTestCase):
    """The worker's own loop."""

    def setUp(self) -> None:
        # The limits are a process's own: they are not to be this one's.
        self.confined: list[tuple[int, int]] = []
        self.patch(worker, "confine", lambda size, limits: self.confined.append((size, limits.cpu)))

    def request(self, octets: bytes) -> bytes:
        return struct.pack(">Q", len(octets)) + octets

    def test_mails_until_the_end(self) -> None:
        answers = io.BytesIO()
        requests = io.BytesIO(self.request(SMALL) + self.request(b""))
        worker.serve(requests, answers, Limits(cpu=7))
        self.assertEqual(self.confined, [(len(SMALL), 7), (0, 7)])
        answers.seek(0)
        (size,) = struct.unpack(">Q", answers.read(8))
        mail = worker.unpacked(msgspec.msgpack.decode(answers.read(size), type=worker.Answer))
        self.assertEqual(mail, mail_module.parse(SMALL, Limits()))

    def test_end_within_a_mail(self) -> None:
        self.assertRaises(
            EOFError,
            worker.serve,
            io.BytesIO(self.request(SMALL)[:-1]),
            io.BytesIO(),
            Limits(),
        )

    def test_as_a_process(self) -> None:
        limits = msgspec.json.encode(Limits()).decode("ascii")
        answer = subprocess.run(
            [sys.executable, "-m", "mailsvc.mime.worker", limits],
            input=self.request(SMALL),
            capture_output=True,
            check=True,
        ).stdout
        self.assertEqual(
            worker.unpacked(msgspec.msgpack.decode(answer[8:], type=worker.Answer)),
            mail_module.parse(SMALL, Limits()),
        )

    def test_worker_needs_no_twisted(self) -> None:
        program = (
            "import sys, mailsvc.mime.worker;"
            "sys.exit(any(name.startswith('twisted') for name in sys.modules))"
        )
        subprocess.run([sys.executable, "-c", program], check=True)


class ConfinementTests(SynchronousTestCase):
    def test_limits_of_a_mail(self) -> None:
        set_limits: dict[int, tuple[int, int]] = {}
        self.patch(resource, "setrlimit", set_limits.__setitem__)
        self.patch(resource, "getrlimit", lambda which: (5, resource.RLIM_INFINITY))
        worker.confine(1000, Limits(cpu=7, room=10_000_000))
        spent, hard = set_limits[resource.RLIMIT_CPU]
        self.assertGreaterEqual(spent, 8)
        self.assertEqual(hard, resource.RLIM_INFINITY)
        self.assertGreater(set_limits[resource.RLIMIT_AS][0], 10_010_000)

    def test_without_proc(self) -> None:
        set_limits: dict[int, tuple[int, int]] = {}
        self.patch(resource, "setrlimit", set_limits.__setitem__)
        with mock.patch("builtins.open", side_effect=FileNotFoundError):
            worker.confine(1000, Limits())
        self.assertEqual(set(set_limits), {resource.RLIMIT_CPU})

    def test_never_above_what_the_process_may(self) -> None:
        set_limits: dict[int, tuple[int, int]] = {}
        self.patch(resource, "setrlimit", set_limits.__setitem__)
        self.patch(resource, "getrlimit", lambda which: (5, 6))
        worker.confine(1000, Limits())
        self.assertEqual(set_limits[resource.RLIMIT_AS], (6, 6))
