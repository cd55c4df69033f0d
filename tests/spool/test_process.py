"""Several processes share a spool: each takes its own, and what the dead held goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from mailsvc.errors import LeaseLost
from mailsvc.message import Done, Retry
from mailsvc.spool.process import SILENT_SECONDS
from tests.spool.house import MAIL, SpoolTestCase

#: Accepts two messages, claims one, says so, and waits for its end.
CHILD = """
import os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from mailsvc.message import Address, Envelope, Recipient, Route
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import SpoolLimits

now = float(sys.argv[2])

async def work():
    spool = EmbeddedSpool(sys.argv[1], reactor, limits=SpoolLimits(low_water=0),
                          emit=lambda event: None, now=lambda: now, segment_size=1 << 18)
    await spool.start()
    for _ in range(2):
        to = Recipient(Address("a", "example.com"), Route("*", ("app",)))
        incoming = spool.begin(Envelope(new_message_id(now), now, None, (to,)), False)
        incoming.write(b"from the child")
        print(await incoming.commit(), flush=True)
    await spool.claim("app", 1, 3600)
    unfinished = spool.begin(Envelope(new_message_id(now), now, None, (to,)), False)
    unfinished.write(b"x" * 300_000)
    while not os.listdir(sys.argv[1] + "/tmp"):
        waiting = Deferred()
        reactor.callLater(0.01, waiting.callback, None)
        await waiting
    print("claimed", flush=True)

Deferred.fromCoroutine(work())
reactor.run()
"""


class ProcessTests(SpoolTestCase):
    async def test_two_processes_never_hold_the_same_delivery(self) -> None:
        one, two = await self.opened(), await self.opened()
        ids = [await self.store(each) for each in (one, two) * 10]
        # What is fresh is its process's own; queued, it is anyone's.
        for spool in (one, two):
            for claim in await self.claimed(spool):
                await spool.record(claim, Retry(self.rounds.now(), "busy"))
        self.rounds.clock.advance(2)
        seen: list[str] = []
        while True:
            more = [
                *[(one, each) for each in await one.claim("app", 3, 300.0)],
                *[(two, each) for each in await two.claim("app", 3, 300.0)],
            ]
            if not more:
                break
            seen += [claim.delivery.envelope.id for _, claim in more]
            for spool, claim in more:
                await spool.record(claim, Done())
        self.assertCountEqual(seen, ids)

    async def test_each_reads_what_the_other_took_in(self) -> None:
        one, two = await self.opened(), await self.opened()
        for octets in (MAIL, b"l" * 100_000):
            message_id = await self.store(one, octets=octets)
            self.assertEqual(await self.octets_of(two, message_id), octets)

    async def test_a_pause_reaches_the_others(self) -> None:
        one, two = await self.opened(), await self.opened()
        await self.store(two)
        await one.pause("app", "410")
        await self.upkeep(two)
        self.assertEqual(two.paused(), {"app": "410"})
        self.assertEqual(await self.claimed(two), [])
        await one.resume("app")
        await self.upkeep(two)
        self.assertEqual(len(await self.claimed(two)), 1)

    async def test_what_one_left_the_other_takes(self) -> None:
        one, two = await self.opened(), await self.opened()
        message_id = await self.store(one)
        await self.claimed(one)
        await self.stopped(one)
        self.rounds.clock.advance(2)
        [claim] = await self.claimed(two)
        self.assertEqual(claim.delivery.envelope.id, message_id)
        self.assertEqual(await self.octets_of(two, message_id), MAIL)

    async def test_a_silent_process_loses_its_deliveries(self) -> None:
        """It lives, but says nothing: others go on, and its late outcome changes nothing."""
        silent = await self.opened()
        message_id = await self.store(silent)
        [old] = await silent.claim("app", 1, 3600.0)
        silent._rounds.stop()
        awake = await self.opened()
        self.rounds.clock.advance(SILENT_SECONDS + 30)
        await self.upkeep(awake)
        [new] = await self.claimed(awake)
        self.assertEqual(new.delivery.envelope.id, message_id)
        try:
            await silent.record(old, Done())
        except LeaseLost:
            pass
        else:
            self.fail("a stale claim ended a delivery")
        # It finds out before it gives anything out again.
        self.assertEqual(await silent.claim("app", 1, 60.0), [])
        self.assertIn("silent for long", self.logged())
        await awake.record(new, Done())

    def child(self) -> tuple[subprocess.Popen[str], list[str]]:
        """Return a process that shares the spool, and the ids of what it accepted."""
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, self.directory, str(self.rounds.now())],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        assert child.stdout is not None
        self.addCleanup(child.stdout.close)
        ids: list[str] = []
        for line in child.stdout:
            if line == "claimed\n":
                return child, ids
            ids.append(line.strip())
        self.fail("the child ended early")

    def kill(self, child: subprocess.Popen[str]) -> None:
        child.send_signal(signal.SIGKILL)
        child.wait()

    async def test_what_a_killed_process_held_goes_on_at_the_next_start(self) -> None:
        """Requirement 40: start-up recovers the queue and deletes stale temporaries."""
        child, ids = self.child()
        self.kill(child)
        self.assertEqual(len(os.listdir(Path(self.directory, "tmp"))), 1)
        Path(self.directory, "processes", "no number").touch()
        Path(self.directory, "content", "0000000000ff-gone").touch()
        spool = await self.opened()
        self.assertIn("2 deliveries were under way", self.logged())
        found = [each.delivery.envelope.id for each in await self.claimed(spool)]
        self.assertCountEqual(found, ids)
        for id_ in ids:
            self.assertEqual(await self.octets_of(spool, id_), b"from the child")
        self.assertEqual(os.listdir(Path(self.directory, "tmp")), [])
        for _ in range(1000):
            if not os.listdir(Path(self.directory, "content")):
                break
            await self.breath()
        self.assertEqual(os.listdir(Path(self.directory, "content")), [])

    async def test_what_a_killed_process_held_goes_on_where_another_lives(self) -> None:
        spool = await self.opened()
        child, ids = self.child()
        await self.upkeep(spool, 30.0)
        self.assertEqual(await self.claimed(spool), [])
        self.kill(child)
        await self.upkeep(spool, 30.0)
        found = [each.delivery.envelope.id for each in await self.claimed(spool)]
        self.assertCountEqual(found, ids)
