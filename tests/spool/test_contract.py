"""The embedded spool keeps the contract of all spools."""

from __future__ import annotations

from mailsvc.interfaces import ISpool
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.view import SpoolLimits
from mailsvc.testing import SpoolContract
from tests.spool.house import SpoolTestCase


class EmbeddedSpoolContract(SpoolTestCase, SpoolContract):
    async def open_spool(self) -> ISpool:
        spool: ISpool = await self.opened()
        return spool

    async def close_spool(self, spool: ISpool) -> None:
        assert isinstance(spool, EmbeddedSpool)
        await self.stopped(spool)

    def fill(self, spool: ISpool) -> bool:
        assert isinstance(spool, EmbeddedSpool)
        spool.change_limits(SpoolLimits(octets=1, low_water=0))
        return True

    def advance(self, seconds: float) -> None:
        self.rounds.clock.advance(seconds)

    def seconds(self) -> float:
        return self.rounds.now()
