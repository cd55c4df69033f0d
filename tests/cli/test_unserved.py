from __future__ import annotations

import os
import socket
from typing import Any, TextIO

from twisted.internet import reactor as installed_reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailsvc.control import protocol as wire
from mailsvc.events import Event
from mailsvc.message import Address, Dead, Envelope, Recipient, Retry, Route
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.ids import new_message_id
from mailsvc.spool.view import SpoolLimits
from tests.cli.commands import Printed, Terminal, command

reactor: Any = installed_reactor


class UnservedTests(TestCase):
    """Commands about a spool that no server has open."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.events: list[Event] = []

    def open(self) -> EmbeddedSpool:
        return EmbeddedSpool(self.directory, reactor, limits=SpoolLimits(), emit=self.events.append)

    async def fill(self) -> list[str]:
        """Leave three messages behind: one new, one to be tried tomorrow, one dead."""
        spool = self.open()
        await spool.start()
        ids = []
        for _ in range(3):
            recipient = Recipient(Address("ann", "example.com"), Route("*", ("app",)))
            now = reactor.seconds()
            incoming = spool.begin(Envelope(new_message_id(now), now, None, (recipient,)), False)
            incoming.write(b"Subject: x\r\n\r\nx\r\n")
            ids.append(await incoming.commit())
        claims = {claim.delivery.envelope.id: claim for claim in await spool.claim("app", 3, 60)}
        await spool.record(claims[ids[0]], Retry(now, "not attempted", spent=False))
        await spool.record(claims[ids[1]], Retry(now + 86400, "503"))
        await spool.record(claims[ids[2]], Dead("422"))
        await spool.stop()
        return ids

    def run_command(self, *words: str, **streams: TextIO) -> Printed:
        return command(*words, "--spool", self.directory, **streams)

    async def test_looking(self) -> None:
        ids = await self.fill()
        printed = self.run_command("queue")
        self.assertEqual((printed.status, printed.err), (0, ""))
        lines = printed.out.splitlines()
        self.assertEqual(lines[0], "No server runs: nothing is delivered.")
        self.assertEqual(lines[2].split()[:4], ["app", "2", "0", "1"])
        self.assertIn("3 messages in the spool", lines[3])
        for text in (*ids, "503", "422", "ann@example.com"):
            self.assertIn(text, printed.out)
        value = self.run_command("queue", "--json").json()
        self.assertFalse(value["running"])
        self.assertIsNone(value["destinations"][0]["configured"])
        self.assertIsNone(value["limit"])
        printed = self.run_command("show", f"{ids[2]}-1")
        self.assertEqual(printed.status, 0)
        self.assertIn("422", printed.out)
        self.assertEqual(self.run_command("show", "nothing").status, 1)

    async def test_retry(self) -> None:
        ids = await self.fill()
        # Who waits wants to know that nothing got through.
        self.assertEqual(self.run_command("retry", "--all", "--wait").status, 1)
        printed = self.run_command("retry", "--all")
        self.assertEqual((printed.status, printed.err), (0, ""))
        self.assertIn("3 deliveries are due now", printed.out)
        self.assertIn("No server runs: they are delivered when it does.", printed.out)
        entries = self.run_command("queue", "--json").json()["entries"]
        self.assertEqual([each["state"] for each in entries], ["waiting"] * 3)
        self.assertTrue(all(each["due"] <= reactor.seconds() for each in entries))
        spool = self.open()
        await spool.start()
        claims = await spool.claim("app", 10, 60)
        self.assertEqual({claim.delivery.envelope.id for claim in claims}, set(ids))
        await spool.stop()

    async def test_retry_under_a_fresh_id(self) -> None:
        ids = await self.fill()
        self.assertEqual(self.run_command("retry", f"{ids[2]}-1", "--fresh-id").status, 0)
        self.assertEqual(
            self.run_command("show", f"{ids[2]}-1", "--json").json()["entries"][0]["id"],
            f"{ids[2]}-2",
        )
        self.assertEqual(self.run_command("retry", f"{ids[2]}-1").status, 1)

    async def test_drop(self) -> None:
        ids = await self.fill()
        printed = self.run_command("drop", ids[0], f"{ids[2]}-1", stdin=Terminal("y\n"))
        self.assertEqual(printed.status, 0)
        self.assertIn("2 deliveries dropped", printed.out)
        value = self.run_command("queue", "--json").json()
        self.assertEqual([each["message_id"] for each in value["entries"]], [ids[1]])
        self.assertEqual(value["messages"], 1)

    async def test_pause_and_resume(self) -> None:
        await self.fill()
        self.assertEqual(self.run_command("pause", "app", "--reason", "we move").status, 0)
        self.assertIn("paused: we move", self.run_command("queue").out)
        printed = self.run_command("retry", "--all")
        self.assertIn("mailsvc resume app", printed.out)
        spool = self.open()
        await spool.start()
        self.assertEqual(list(await spool.claim("app", 10, 60)), [])
        await spool.stop()
        printed = self.run_command("resume", "app")
        self.assertEqual(printed.status, 0)
        self.assertIn("delivered when the server runs", printed.out)
        self.assertEqual(self.run_command("resume", "app").status, 1)

    async def test_a_directory_that_is_no_spool(self) -> None:
        os.mkdir(self.directory)
        printed = self.run_command("queue")
        self.assertEqual(printed.status, 1)
        self.assertIn("there is no spool", printed.err)
        self.assertEqual(os.listdir(self.directory), [])

    async def test_a_server_that_does_not_answer(self) -> None:
        spool = self.open()
        await spool.start()
        with socket.socket(socket.AF_UNIX) as dead:
            with wire.address_of(self.directory, "control-1-aa.sock") as address:
                dead.bind(address)
        printed = await deferToThread(self.run_command, "queue")
        self.assertEqual(printed.status, 1)
        self.assertIn("does not answer", printed.err)
        await spool.stop()
        self.assertEqual(self.run_command("queue").status, 0)
