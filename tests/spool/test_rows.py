"""Statements for many rows do what a statement for each would: the plain twins."""

from __future__ import annotations

import os
import sqlite3
from itertools import product

from msgspec.structs import replace

from mailsvc.interfaces import Claim
from mailsvc.message import Done, Retry
from mailsvc.spool import claims as claims_module
from mailsvc.spool import messages, rows
from mailsvc.spool.embedded import EmbeddedSpool
from tests.spool.house import FaultyFiles, SpoolTestCase

TABLES = {
    "messages": "SELECT id, segment, file IS NULL, length, size FROM messages ORDER BY id",
    "deliveries": (
        "SELECT m.id, key & 0xfffff, state, attempts, d.due, owner IS NULL, token IS NULL"
        " FROM deliveries d JOIN messages m ON seq = key >> 20 ORDER BY m.id, key"
    ),
    "destinations": "SELECT name, octets FROM destinations ORDER BY name",
    "segments": "SELECT id, live, octets FROM segments WHERE live > 0",
    "files": "SELECT octets FROM files",
}


def moved(transaction: rows.Transaction) -> None:
    """Let the content of a message lie in another segment than the others."""
    for statement in (
        "INSERT INTO segments (id, owner, size, live, octets) VALUES (77, 0, 9, 1, 105)",
        "UPDATE segments SET live = live - 1, octets = octets - 105 WHERE id != 77",
        "UPDATE messages SET segment = 77 WHERE id = 'm5'",
    ):
        transaction.connection.execute(statement)


class RowsTestCase(SpoolTestCase):
    async def filled(self) -> EmbeddedSpool:
        """Return a spool in a directory of its own, with messages of all kinds."""
        self.directory = os.path.abspath(self.mktemp())
        self.files = FaultyFiles(self.directory)
        spool = await self.opened()
        for number in range(70):
            names = ("a", "b") if number % 3 else ("a",)
            envelope = replace(self.envelope(*names, recipients=1 + number % 2), id=f"m{number}")
            incoming = spool.begin(envelope, False)
            incoming.write(b"x" * (40_000 if number % 20 == 7 else 100 + number))
            await incoming.commit()
        return spool

    def tables(self) -> dict[str, list[tuple[object, ...]]]:
        database = sqlite3.connect(os.path.join(self.directory, "queue.db"))
        self.addCleanup(database.close)
        return {name: database.execute(query).fetchall() for name, query in TABLES.items()}


class FinishTests(RowsTestCase):
    async def finished(self, many: int, *, stale: bool) -> object:
        """Finish most of a spool's deliveries, and return what is left in the tables."""
        self.patch(messages, "_ROWS", many)
        spool = await self.filled()
        claims = sorted(
            [*await self.claimed(spool, "a"), *await self.claimed(spool, "b")],
            key=lambda claim: claim.delivery.id,
        )
        await spool.retain("m3", self.rounds.now() + 1000)
        await spool.retain("m4", self.rounds.now() - 1)
        lost: list[str] = []
        if stale:
            lost = ["m5", "m6", "m27"]
            for message_id in lost:
                await spool.quarantine(message_id, "unwanted")
        kept = {"m10-1", "m11-2", "m40-1"}
        done = [claim for claim in claims if claim.delivery.id not in kept]
        found = await spool.finish(done)
        self.assertEqual({claim.delivery.envelope.id for claim in found}, {*lost})
        tables = self.tables()
        left = {"m3", "m10", "m11", "m40", *lost}
        self.assertEqual({row[0] for row in tables["messages"]}, left)
        own = os.listdir(os.path.join(self.directory, "content"))
        await self.stopped(spool)
        return tables, len(own)

    async def test_finish(self) -> None:
        for stale in (False, True):
            plain = await self.finished(1, stale=stale)
            for many in (32, 4):
                self.assertEqual(await self.finished(many, stale=stale), plain)


class FinishSpanTests(RowsTestCase):
    """Deliveries between which nothing else lies."""

    async def finished(self, span: int, done: slice, fault: str) -> tuple[bool, object]:
        """Finish some; return whether that was done in a span, and what is left."""
        self.patch(rows, "_SPAN", span)
        self.directory = os.path.abspath(self.mktemp())
        self.files = FaultyFiles(self.directory)
        spool = await self.opened()
        for number in range(20):
            names = ("a", "b") if fault == "another" and number == 5 else ("a",)
            envelope = replace(self.envelope(*names, recipients=1 + number % 3), id=f"m{number}")
            incoming = spool.begin(envelope, False)
            incoming.write(b"x" * (40_000 if fault == "file" and number == 5 else 100 + number))
            await incoming.commit()
        await spool.retain("m3", self.rounds.now() + 1000)
        await spool.retain("m4", self.rounds.now() - 1)
        if fault == "segments":
            await spool._workshop.change(moved)
        claims = await self.claimed(spool, "a")
        if fault == "stale":
            await spool.quarantine("m5", "unwanted")
        if fault == "order":
            claims[5], claims[6] = claims[6], claims[5]
        if fault == "twice":
            claims[6] = claims[5]
        self.files.calls.clear()
        found = await spool.finish(claims[done])
        spanned = ("sql", "DELETE FROM deliveries WHERE key BETWEEN ? AND ?") in self.files.calls
        tables = self.tables()
        await self.stopped(spool)
        left = sorted(claim.delivery.id for claim in found)
        return spanned, (left, tables)

    async def test_it_does_what_others_do(self) -> None:
        faults = ("", "another", "file", "segments", "stale", "order", "twice")
        for fault, part in product(faults, ((0, 39), (6, 18), (5, 17), (7, 8), (12, 12))):
            plain, expected = await self.finished(-1, slice(*part), fault)
            spanned, found = await self.finished(1024, slice(*part), fault)
            self.assertEqual(found, expected, (fault, part))
            self.assertFalse(plain)
            self.assertEqual(spanned, not fault and part in ((0, 39), (6, 18)), (fault, part))


class ClaimTests(RowsTestCase):
    async def taken(self, rows: int) -> object:
        """Claim what waits in the rows, one of which cannot be read; return what is said of it."""
        self.patch(messages, "_ROWS", rows)
        self.patch(claims_module, "FRESH", 0)
        spool = await self.filled()
        await spool._workshop.change(
            lambda transaction: transaction.connection.execute(
                "UPDATE messages SET envelope = '{' WHERE id = 'm9'"
            )
        )
        claims: list[Claim] = []
        for limit in (1, 50, 300):
            claims += await spool.claim("a", limit, 300.0)
        self.assertEqual(len({claim.token for claim in claims}), len(claims))
        tables = self.tables()
        ids = sorted(claim.delivery.id for claim in claims)
        self.assertEqual(len(ids), 103)
        for claim in claims[:5]:
            await spool.record(claim, Retry(self.rounds.now() + 60, "busy"))
        self.assertEqual(list(await spool.finish(claims[5:])), [])
        for claim in claims:
            await self.refused(spool.record(claim, Done()))
        await self.stopped(spool)
        deliveries = [row[:4] + row[5:] for row in tables["deliveries"]]
        return ids, deliveries, tables["destinations"]

    async def test_claim(self) -> None:
        self.assertEqual(await self.taken(32), await self.taken(1))
