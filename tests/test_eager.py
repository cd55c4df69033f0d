"""Coroutines that run in place as far as they go without waiting."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.eager import _rest, deferred, eager


class EagerTests(SynchronousTestCase):
    def test_at_once(self) -> None:
        """What need not wait is no Deferred."""

        async def work() -> int:
            ready: Deferred[int] = Deferred()
            ready.callback(6)
            return 1 + await ready

        self.assertEqual(eager(work()), 7)

    def test_raised_at_once(self) -> None:
        async def work() -> int:
            raise ValueError("no")

        self.assertRaises(ValueError, eager, work())

    def test_waits(self) -> None:
        """What waits, even several times, comes in the end."""
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()

        async def work() -> int:
            return await first + await second

        result = eager(work())
        assert isinstance(result, Deferred)
        first.callback(1)
        self.assertNoResult(result)
        second.callback(2)
        self.assertEqual(self.successResultOf(result), 3)

    def test_failures_reach_the_coroutine(self) -> None:
        """It may catch what it waited for, or let it pass."""
        for caught in (True, False):
            waited: Deferred[int] = Deferred()

            async def work(waited: Deferred[int] = waited, caught: bool = caught) -> int:
                try:
                    return await waited
                except ValueError:
                    if caught:
                        return -1
                    raise

            result = eager(work())
            assert isinstance(result, Deferred)
            waited.errback(ValueError("no"))
            if caught:
                self.assertEqual(self.successResultOf(result), -1)
            else:
                self.failureResultOf(result, ValueError)

    def test_forgotten(self) -> None:
        """One that is collected as garbage ends quietly, too."""
        ended: list[str] = []

        async def work() -> None:
            try:
                await Deferred()
            finally:
                ended.append("ended")

        coroutine = work()
        rest = _rest(coroutine, coroutine.send(None))
        rest.send(None)
        rest.close()
        self.assertEqual(ended, ["ended"])

    def test_given_up(self) -> None:
        """One that nobody waits for any more is closed, so what it holds is let go."""
        ended: list[str] = []

        async def work() -> None:
            try:
                await Deferred()
            finally:
                ended.append("ended")

        result = eager(work())
        assert isinstance(result, Deferred)
        result.addErrback(lambda _: None)
        result.cancel()
        self.assertEqual(ended, ["ended"])


class DeferredTests(SynchronousTestCase):
    """A spool may give a Deferred or any other awaitable to wait for."""

    def test_a_deferred_is_one_already(self) -> None:
        waiting: Deferred[int] = Deferred()
        self.assertIs(deferred(waiting), waiting)

    def test_a_coroutine(self) -> None:
        waiting: Deferred[int] = Deferred()

        async def work() -> int:
            return 1 + await waiting

        result = deferred(work())
        self.assertNoResult(result)
        waiting.callback(6)
        self.assertEqual(self.successResultOf(result), 7)
