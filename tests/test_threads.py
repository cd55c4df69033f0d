import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsvc import threads
from mailsvc.threads import Share, Threads, Together
from tests import threads as fakes

P = ParamSpec("P")
T = TypeVar("T")

reactor: Any = installed_reactor


class Refused(Exception):
    """What a call raises."""


def refuse() -> None:
    raise Refused


class ThreadsTests(TestCase):
    """With real threads."""

    timeout = 30

    def make(self, most: int = 4) -> Threads:
        pool = Threads(reactor, most, "test")
        self.addCleanup(pool.stop)
        return pool

    async def test_a_result_and_a_failure(self) -> None:
        pool = self.make()
        self.assertEqual(await pool.run(divmod, 7, 2), (3, 1))
        self.assertEqual(await pool.run(sorted, [1, 2], reverse=True), [2, 1])
        await self.assertFailure(pool.run(refuse), Refused)

    async def test_neither_in_the_reactors_thread_nor_in_more_than_allowed(self) -> None:
        pool = self.make(most=3)
        barrier = threading.Barrier(3)
        calls = [pool.run(lambda: (barrier.wait(10), threading.get_ident())[1]) for _ in range(9)]
        used = set(await gatherResults(calls))
        self.assertEqual(len(used), 3)
        self.assertNotIn(threading.get_ident(), used)

    async def test_one_after_the_other_needs_one_thread(self) -> None:
        pool = self.make()
        used = {await pool.run(threading.get_ident) for _ in range(20)}
        self.assertEqual(len(used), 1)

    async def test_a_call_that_hangs_holds_up_no_other(self) -> None:
        pool = self.make(most=2)
        release = threading.Event()
        hanging = pool.run(release.wait, 10)
        for number in range(5):
            self.assertEqual(await pool.run(int, number), number)
        self.assertFalse(hanging.called)
        release.set()
        self.assertTrue(await hanging)

    async def test_an_answer_that_nobody_waits_for(self) -> None:
        pool = self.make(most=1)
        release = threading.Event()
        forgotten = pool.run(release.wait, 10)
        forgotten.cancel()
        await self.assertFailure(forgotten, CancelledError)
        release.set()
        self.assertEqual(await pool.run(int, 3), 3)

    async def test_stop_waits_for_what_was_asked(self) -> None:
        pool = Threads(reactor, 1, "test")
        done: list[int] = []
        calls = [pool.run(done.append, number) for number in range(10)]
        pool.stop()
        self.assertEqual(done, list(range(10)))
        await gatherResults(calls)
        await self.assertFailure(pool.run(int), RuntimeError)


class TogetherTests(SynchronousTestCase):
    """Calls that share hops."""

    def setUp(self) -> None:
        self.hops = fakes.Threads()
        self.clock = Clock()
        self.called: list[int] = []

    def together(self, most: int = 1) -> Together:
        return Together(self.hops, partial(self.clock.callLater, 0), most)

    def function(self, number: int) -> int:
        self.called.append(number)
        if number % 5 == 3:
            raise Refused
        return number * 2

    def call(self, together: Together, *numbers: int) -> list[Deferred[int]]:
        """Call in one turn of the reactor."""
        calls = [together.run(self.function, number) for number in numbers]
        self.clock.advance(0)
        return calls

    def test_what_comes_in_a_turn_shares_a_hop(self) -> None:
        together = self.together()
        for turn in (1, 2):
            calls = self.call(together, 0, 1, 2)
            self.assertEqual([self.successResultOf(call) for call in calls], [0, 2, 4])
            self.assertEqual(self.hops.used, turn)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_comes_meanwhile_shares_a_hop(self) -> None:
        together = self.together()
        self.hops.hold()
        calls = [call for number in (0, 1, 2, 4) for call in self.call(together, number)]
        self.assertEqual(self.hops.used, 1)
        self.hops.release()
        self.assertEqual([self.successResultOf(call) for call in calls], [0, 2, 4, 8])
        self.assertEqual(self.hops.used, 2)

    def test_a_group_is_bounded(self) -> None:
        self.patch(threads, "_TOGETHER", 3)
        calls = self.call(self.together(), *[0] * (3 + 3 + 2))
        self.assertEqual(self.hops.used, 3)
        for call in calls:
            self.successResultOf(call)

    def test_a_second_hop_beside_the_first_when_many_wait(self) -> None:
        self.patch(threads, "_TOGETHER", 3)
        together = self.together(2)
        self.hops.hold()
        for calls, hops in ((1, 1), (2, 1), (1, 2), (9, 2)):
            self.call(together, *[0] * calls)
            self.assertEqual(self.hops.used, hops)

    def test_the_same_as_one_by_one(self) -> None:
        """The plain twin: a hop for each."""

        def outcomes(run: Callable[..., Deferred[int]]) -> list[object]:
            self.hops.hold()
            calls = [run(self.function, number) for number in range(40)]
            self.clock.advance(0)
            self.hops.release()
            ended: list[object] = []
            for call in calls:
                call.addErrback(lambda failure: failure.type).addCallback(ended.append)
            return ended

        plain = outcomes(self.hops)
        self.assertEqual(outcomes(self.together().run), plain)
        self.assertEqual(self.called, [*range(40), *range(40)])

    def test_cancelled_in_time_it_is_not_called(self) -> None:
        together = self.together()
        self.hops.hold()
        (first,) = self.call(together, 0)
        second, third = self.call(together, 1, 2)
        first.cancel()
        second.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(second, CancelledError)
        self.hops.release()
        self.assertEqual(self.called, [0, 2])
        self.assertEqual(self.successResultOf(third), 4)

    def test_cancelled_in_its_turn(self) -> None:
        together = self.together()
        call = together.run(self.function, 1)
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.clock.advance(0)
        self.assertEqual((self.called, self.hops.used), ([], 0))

    def test_a_hop_that_fails_fails_its_calls(self) -> None:
        async def broken(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
            raise Refused

        together = Together(broken, partial(self.clock.callLater, 0))
        for _ in range(2):
            for call in self.call(together, 1, 2):
                self.failureResultOf(call, Refused)


class ShareTests(SynchronousTestCase):
    """One user of a pool that hangs leaves the rest of it to the others."""

    def setUp(self) -> None:
        self.called: list[str] = []
        self.calls: list[Deferred[Any]] = []
        self.share = Share(self.in_thread, 2)

    def in_thread(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """Call at once, and answer when the test says so."""
        call: Deferred[T] = Deferred()
        result = function(*args, **kwargs)
        call.addCallback(lambda _: result)
        self.calls.append(call)
        return call

    def ask(self, name: str) -> Deferred[None]:
        return self.share.run(self.called.append, name)

    def test_no_more_than_its_share(self) -> None:
        asked = [self.ask(name) for name in "abcd"]
        self.assertEqual(self.called, ["a", "b"])
        self.calls[1].callback(None)
        self.assertEqual(self.called, ["a", "b", "c"])
        self.successResultOf(asked[1])
        self.assertNoResult(asked[0])

    def test_a_thread_that_hangs_is_taken_though_nobody_waits(self) -> None:
        asked = [self.ask(name) for name in "abcd"]
        for each in asked[:3]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.called, ["a", "b"])
        self.calls[0].callback(None)
        self.assertEqual(self.called, ["a", "b", "d"])
        self.calls[2].callback(None)
        self.successResultOf(asked[3])

    def test_a_failure(self) -> None:
        asked = self.ask("a")
        self.calls[0].errback(Refused())
        self.failureResultOf(asked, Refused)
