"""The spool against a plain model of it, over long random lives with restarts and failing disks."""

from __future__ import annotations

import contextlib
import errno
from random import Random

from mailsvc.errors import LeaseLost, SpoolError
from mailsvc.interfaces import Claim
from mailsvc.message import Dead, Done, Retry
from mailsvc.spool.embedded import EmbeddedSpool
from tests.spool.house import SpoolTestCase

DESTINATIONS = ("app", "archive")


class Model:
    """What is owed: by delivery id its state, when it is due, and who may say what became of it."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.waiting: dict[str, tuple[str, float]] = {}
        self.claimed: dict[str, Claim] = {}
        self.dead: dict[str, str] = {}
        self.paused: set[str] = set()

    def due(self, destination: str, now: float) -> set[str]:
        """Return the ids of the deliveries that may be claimed."""
        if destination in self.paused:
            return set()
        return {
            each for each, (name, at) in self.waiting.items() if name == destination and at <= now
        }

    def release(self, now: float) -> None:
        """End the leases whose time is over."""
        for each, claim in list(self.claimed.items()):
            if claim.expires_at <= now:
                del self.claimed[each]
                self.waiting[each] = (claim.delivery.destination, now)


class ModelTests(SpoolTestCase):
    """Every delivery is where the model says, whatever happened before."""

    async def live(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.model = model = Model()
        self.stale: list[Claim] = []
        spool = await self.opened(segment=1 << 16, spill=1 << 12)
        steps = (self.accept, self.claim, self.outcome) * 4 + (self.pause, self.retry, self.drop)
        for _ in range(150):
            self.rounds.clock.advance(random.choice((0.0, 0.5, 3.0, 15.0)))
            chosen = random.random()
            if chosen < 0.04:
                self.files.heal()
                await self.stopped(spool)
                spool = await self.opened(segment=1 << 16, spill=1 << 12)
                for each, claim in model.claimed.items():
                    model.waiting[each] = (claim.delivery.destination, 0.0)
                self.stale += model.claimed.values()
                model.claimed.clear()
            elif chosen < 0.10:
                await self.upkeep(spool, random.choice((1.0, 11.0, 700.0)))
            elif chosen < 0.14:
                name, part = random.choice((("pwritev", "segments"), ("fsync", "tmp")))
                self.files.fail(name, part, OSError(errno.ENOSPC, "no space"))
            else:
                await random.choice(steps)(spool)
        self.files.heal()
        await self.compare(spool)
        await self.stopped(spool)

    async def accept(self, spool: EmbeddedSpool) -> None:
        octets = self.random.randbytes(self.random.choice((0, 50, 3000, 9000)))
        names = self.random.choice((("app",), ("archive",), DESTINATIONS))
        with contextlib.suppress(SpoolError):
            message_id = await self.store(spool, *names, octets=octets)
            self.model.contents[message_id] = octets
            for number, name in enumerate(names, 1):
                self.model.waiting[f"{message_id}-{number}"] = (name, self.rounds.now())

    async def claim(self, spool: EmbeddedSpool) -> None:
        name = self.random.choice(DESTINATIONS)
        model, now = self.model, self.rounds.now()
        expired = [each for each in model.claimed.values() if each.expires_at <= now]
        self.stale += expired
        model.release(now)
        claims = await spool.claim(name, self.random.randint(1, 8), self.random.choice((5.0, 60.0)))
        due = model.due(name, now)
        self.assertEqual(bool(claims), bool(due))
        for claim in claims:
            self.assertIn(claim.delivery.id, due)
            due.remove(claim.delivery.id)
            del model.waiting[claim.delivery.id]
            model.claimed[claim.delivery.id] = claim
            message_id = claim.delivery.envelope.id
            octets = await self.octets_of(spool, message_id)
            self.assertEqual(octets, model.contents[message_id])

    async def outcome(self, spool: EmbeddedSpool) -> None:
        model, now = self.model, self.rounds.now()
        if self.stale and self.random.random() < 0.3:
            with self.assertRaises(LeaseLost):
                await spool.record(self.stale.pop(), Done())
        alive = [each for each in model.claimed.values() if each.expires_at > now]
        if not alive:
            return
        claim = self.random.choice(alive)
        outcome = self.random.choice((Done(), Done(), Dead("no"), Retry(now + 20, "busy")))
        await spool.record(claim, outcome)
        del model.claimed[claim.delivery.id]
        self.stale.append(claim)
        if isinstance(outcome, Retry):
            model.waiting[claim.delivery.id] = (claim.delivery.destination, outcome.at)
        elif isinstance(outcome, Dead):
            model.dead[claim.delivery.id] = claim.delivery.destination

    async def pause(self, spool: EmbeddedSpool) -> None:
        name = self.random.choice(DESTINATIONS)
        model, now = self.model, self.rounds.now()
        if name not in model.paused:
            await spool.pause(name, "410")
            model.paused.add(name)
        else:
            self.assertTrue(await spool.resume(name))
            model.paused.remove(name)
            for each, (destination, at) in model.waiting.items():
                if destination == name:
                    model.waiting[each] = (name, min(at, now))

    async def retry(self, spool: EmbeddedSpool) -> None:
        """Have a delivery tried now, whatever became of it."""
        model, now = self.model, self.rounds.now()
        ids = [*model.dead, *model.waiting, *model.claimed]
        if not ids:
            return
        chosen = self.random.choice(ids)
        await spool.retry([chosen])
        if chosen in model.dead:
            model.waiting[chosen] = (model.dead.pop(chosen), now)
        elif chosen in model.waiting:
            name, at = model.waiting[chosen]
            model.waiting[chosen] = (name, min(at, now))

    async def drop(self, spool: EmbeddedSpool) -> None:
        """Delete a delivery; one that is attempted stays."""
        model, now = self.model, self.rounds.now()
        held = [each for each, claim in model.claimed.items() if claim.expires_at > now]
        ids = [*model.dead, *held]
        if not ids:
            return
        chosen = self.random.choice(ids)
        self.assertEqual(await spool.drop([chosen]), int(chosen in model.dead))
        model.dead.pop(chosen, None)

    async def compare(self, spool: EmbeddedSpool) -> None:
        """Look at all rows, then have everything delivered."""
        entries = {each.id: each for each in await spool.entries(limit=10_000)}
        model = self.model
        self.assertEqual(set(entries), {*model.waiting, *model.claimed, *model.dead})
        for each in model.dead:
            self.assertEqual(entries[each].state, "dead")
        self.assertEqual(set(spool.paused()), model.paused)
        for name in model.paused:
            await spool.resume(name)
        await spool.retry()
        self.rounds.clock.advance(1000)
        owed = set(entries)
        for name in DESTINATIONS:
            for claim in await self.claimed(spool, name):
                owed.remove(claim.delivery.id)
                message_id = claim.delivery.envelope.id
                octets = await self.octets_of(spool, message_id)
                self.assertEqual(octets, model.contents[message_id])
                await spool.record(claim, Done())
        self.assertEqual(owed, set())
        self.assertEqual((await spool.summary()).messages, 0)

    async def test_lives(self) -> None:
        for seed in range(8):
            await self.live(seed)
