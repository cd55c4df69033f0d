"""What waits for one destination costs the others nothing: counted, not timed."""

from __future__ import annotations

import sqlite3
from functools import partial

import pytest

from mailsvc.message import Done, Retry
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.view import SpoolLimits
from tests.spool.house import MAIL, FaultyFiles, SpoolTestCase

#: Deliveries that wait for the dead destination, and recipients of each of their messages.
FEW, MANY, RECIPIENTS = 1_000, 100_000, 1_000


class CountingFiles(FaultyFiles):
    """Counts the instructions of SQLite's machine, on every connection."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.instructions = 0

    def connect(self, path: str) -> sqlite3.Connection:
        """See :class:`Files`."""
        connection = super().connect(path)
        connection.set_progress_handler(self._count, 1)
        return connection

    def _count(self) -> int:
        self.instructions += 1
        return 0


class FairnessTests(SpoolTestCase):
    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.counting = CountingFiles(self.directory)
        self.files = self.counting

    async def backlog(self, spool: EmbeddedSpool, size: int) -> None:
        """Let deliveries for ``dead`` wait, all of them due."""
        for _ in range(size // RECIPIENTS):
            incoming = spool.begin(self.envelope("dead", recipients=RECIPIENTS), False)
            incoming.write(MAIL)
            await incoming.commit()

    async def cost(self, spool: EmbeddedSpool) -> int:
        """Return what it takes to bring ten mails to another destination, one at a time."""
        before = self.counting.instructions
        for _ in range(10):
            message_id = await self.store(spool, "live")
            [claim] = await spool.claim("live", 10, 60.0)
            self.assertEqual(claim.delivery.envelope.id, message_id)
            # The first attempt fails, so that the second one is found in the rows.
            await spool.record(claim, Retry(self.rounds.now(), "busy"))
            [claim] = await spool.claim("live", 10, 60.0)
            self.assertEqual(claim.delivery.attempt, 2)
            await spool.record(claim, Done())
            self.assertIsNone(await spool.next_due("live"))
        return self.counting.instructions - before

    @pytest.mark.proof
    async def test_a_hundred_thousand_that_wait_elsewhere(self) -> None:
        spool = await self.opened(SpoolLimits(octets=1 << 34, low_water=0))
        await self.backlog(spool, FEW)
        few = await self.cost(spool)
        await self.backlog(spool, MANY - FEW)
        # The dead destination is asked too, and never has fewer due for it.
        for claim in await spool.claim("dead", 10, 60.0):
            await spool.record(claim, Retry(self.rounds.now() + 5, "no answer"))
        many = await self.cost(spool)
        summary = {each.destination: each for each in (await spool.summary()).destinations}
        self.assertEqual(summary["dead"].waiting, MANY)
        self.assertGreater(few, 0)
        # A tree of a hundred times the rows is a level or two deeper; nothing else grows.
        self.assertLess(many, 1.25 * few, (few, many))

    @pytest.mark.proof
    async def test_its_own_queue_costs_a_destination_the_same_at_any_length(self) -> None:
        spool = await self.opened(SpoolLimits(octets=1 << 34, low_water=0))
        await self.backlog(spool, 2 * FEW)
        costs = []
        for size in (2 * FEW, 30 * FEW):
            await self.backlog(spool, size - 2 * FEW)
            before = self.counting.instructions
            for _ in range(20):
                claims = await spool.claim("dead", 10, 60.0)
                self.assertTrue(claims)
                for claim in claims:
                    await spool.record(claim, Retry(self.rounds.now() + 500, "no answer"))
            costs.append(self.counting.instructions - before)
        self.assertLess(costs[1], 1.5 * costs[0], costs)

    async def test_the_questions_of_a_claim_go_by_an_index(self) -> None:
        spool = await self.opened()
        await self.store(spool, "live")
        statements = (
            "SELECT key FROM deliveries WHERE state = 0 AND destination = 1 AND due <= 2"
            " ORDER BY due DESC LIMIT 3",
            "SELECT key FROM deliveries WHERE state = 0 AND destination = 1 AND due <= 2"
            " ORDER BY due ASC LIMIT 3",
            "SELECT min(due) FROM deliveries WHERE state = 0 AND destination = 1",
        )
        for statement in statements:
            plan = await spool.ask(partial(_plan, statement))
            self.assertIn("INDEX deliveries_due", plan)
            self.assertNotIn("SCAN", plan)
            self.assertNotIn("TEMP B-TREE", plan)


def _plan(statement: str, connection: sqlite3.Connection) -> str:
    return str([row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")])
