"""The spool that dispatch is tested with keeps the contract of all spools."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mailsvc.interfaces import ISpool
from mailsvc.testing import SpoolContract
from tests.dispatch.fakes import HeldSpool


class HeldSpoolContract(SpoolContract, TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.spool = HeldSpool(self.clock)

    async def open_spool(self) -> ISpool:
        spool: ISpool = self.spool
        return spool

    async def close_spool(self, spool: ISpool) -> None:
        self.spool.restart()

    def fill(self, spool: ISpool) -> bool:
        self.spool.full = True
        return True

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def seconds(self) -> float:
        return self.clock.seconds()
