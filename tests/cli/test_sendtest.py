from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import TextIO
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailsvc.control.server import Control
from mailsvc.settings import Listener
from tests.cli.commands import Printed, command
from tests.control.fakes import MESSAGE, Bound, Networks, Server, entry

ACCEPTED = f"250 2.0.0 OK {MESSAGE}"


class Script:
    """An SMTP server for one connection that answers by a table.

    :ivar heard: the command lines and lines of content.
    """

    def __init__(self, listening: socket.socket, replies: Mapping[str, str]) -> None:
        self.heard: list[str] = []
        self._listening = listening
        self._replies = {
            "greeting": "220 mx.example.com",
            "EHLO": "250-mx.example.com\r\n250-SMTPUTF8\r\n250 AUTH PLAIN",
            "LHLO": "250 mx.example.com",
            "MAIL": "250 2.1.0 OK",
            "RCPT": "250 2.1.5 OK",
            "DATA": "354 go on",
            ".": ACCEPTED,
            "QUIT": "221 2.0.0 bye",
            "RSET": "250 2.0.0 OK",
            "AUTH": "235 2.7.0 OK",
            **replies,
        }
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        peer, _ = self._listening.accept()
        with peer, peer.makefile("rb") as lines:
            self._say(peer, "greeting")
            content = False
            for octets in lines:
                line = octets.decode("utf-8").rstrip("\r\n")
                self.heard.append(line)
                verb = line.split(" ")[0].upper()
                if content and line != ".":
                    continue
                content = not content and verb == "DATA" and self._replies["DATA"][0] == "3"
                self._say(peer, verb)

    def _say(self, peer: socket.socket, verb: str) -> None:
        peer.sendall(self._replies[verb].encode() + b"\r\n")


class SendTestTests(TestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.control = Control(Server(reactor, self.directory))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.control.stop()))

    async def serve(self, *listeners: Listener, path: str = "", **replies: str) -> None:
        """Serve the listeners, all of them at one address."""
        if path:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(path)
            where = path
        else:
            listening = socket.socket()
            listening.bind(("127.0.0.1", 0))
            where = f"0.0.0.0:{listening.getsockname()[1]}"
        listening.listen(1)
        self.addCleanup(listening.close)
        if "end" in replies:
            replies["."] = replies.pop("end")
        self.script = Script(listening, replies)
        self.server = Server(reactor, self.directory)
        self.server.bound = [Bound(where, each) for each in listeners or (Listener("tcp:1"),)]
        await self.control.stop()
        self.control = Control(self.server)
        await self.control.start()

    async def send(self, *words: str, **streams: TextIO) -> Printed:
        return await deferToThread(
            command, "send-test", *words, "--spool", self.directory, **streams
        )

    async def test_a_mail_that_is_delivered(self) -> None:
        await self.serve()
        printed = await self.send("ann@example.com")
        self.assertEqual((printed.status, printed.err), (0, ""))
        self.assertIn("MAIL FROM:<mailsvc-test@mx.example.com>: 250", printed.out)
        self.assertIn("RCPT TO:<ann@example.com>: 250", printed.out)
        self.assertIn(f"accepted as {MESSAGE} and delivered", printed.out)
        self.script.thread.join(10)
        self.assertIn("To: <ann@example.com>", self.script.heard)
        self.assertEqual(self.script.heard[-1].upper(), "QUIT")

    async def test_for_programs(self) -> None:
        await self.serve()
        value = (await self.send("ann@example.com", "--json")).json()
        self.assertTrue(value["accepted"])
        self.assertEqual((value["id"], value["delivered"]), (MESSAGE, True))
        self.assertEqual([step["code"] for step in value["steps"]], [250, 250, 250])

    async def test_the_sender(self) -> None:
        await self.serve()
        printed = await self.send("ann@example.com", "--from", "bob@example.org")
        self.assertIn("MAIL FROM:<bob@example.org>: 250", printed.out)

    async def test_the_null_sender(self) -> None:
        await self.serve()
        printed = await self.send("ann@example.com", "--from", "")
        self.assertEqual(printed.status, 0)
        self.assertIn("mail from:<>", [line.lower() for line in self.script.heard])

    async def test_an_address_in_utf_8(self) -> None:
        await self.serve()
        printed = await self.send("änn@example.com")
        self.assertEqual(printed.status, 0)
        self.script.thread.join(10)
        self.assertIn("To: <änn@example.com>", self.script.heard)
        self.assertTrue(any("SMTPUTF8" in line for line in self.script.heard))

    async def test_refusals(self) -> None:
        for verb, reply in (
            ("MAIL", "550 5.7.1 no"),
            ("RCPT", "550 5.1.1 no such mailbox"),
            ("DATA", "554 5.5.1 no"),
            ("end", "452 4.3.1 full"),
            ("greeting", "421 4.3.2 busy"),
        ):
            await self.serve(**{verb: reply})
            printed = await self.send("ann@example.com")
            self.assertEqual(printed.status, 1, verb)
            self.assertIn(reply[9:], printed.out + printed.err)
            self.assertNotIn("accepted", printed.out)

    async def test_a_refusal_for_programs(self) -> None:
        await self.serve(RCPT="550 5.1.1 no such mailbox")
        value = (await self.send("ann@example.com", "--json")).json()
        self.assertFalse(value["accepted"])
        self.assertEqual(value["steps"][-1]["reply"], "5.1.1 no such mailbox")

    async def test_a_delivery_that_failed(self) -> None:
        await self.serve()
        failed = replace(entry(1), reason="503 from the proxy")
        self.server.spool.rows[failed.id] = failed
        printed = await self.send("ann@example.com")
        self.assertEqual(printed.status, 1)
        self.assertIn(f"{failed.id} to app waiting: 503 from the proxy", printed.out)

    async def test_a_delivery_that_takes_its_time(self) -> None:
        await self.serve()
        self.server.spool.rows[entry(1).id] = entry(1, "delivering")
        printed = await self.send("ann@example.com", "--wait", "0.2")
        self.assertEqual(printed.status, 0)
        self.assertIn("not delivered yet", printed.out)
        self.assertIn("app delivering", printed.out)

    async def test_a_unix_socket(self) -> None:
        path = os.path.join(self.directory, "s")
        for role, hello in (("mx", "ehlo"), ("lmtp", "lhlo")):
            where = os.path.relpath(path + role)
            await self.serve(Listener("unix:s", role=role), path=where)  # type: ignore[arg-type]
            self.server.bound = [replace(self.server.bound[0], where=os.path.abspath(where))]
            printed = await self.send("ann@example.com")
            self.assertEqual(printed.status, 0, printed.err)
            self.assertTrue(self.script.heard[0].startswith(hello), self.script.heard)

    async def test_lmtp_over_tcp(self) -> None:
        await self.serve(Listener("tcp:1", role="lmtp"))
        self.assertEqual((await self.send("ann@example.com")).status, 0)
        self.assertTrue(self.script.heard[0].startswith("lhlo"))

    async def test_with_a_login(self) -> None:
        await self.serve(Listener("tcp:1"), Listener("tcp:1", role="submission"))
        printed = await self.send("ann@example.com", "--user", "ann", stdin=io.StringIO("secret\n"))
        self.assertEqual(printed.status, 0)
        self.assertIn("(submission", printed.out)
        self.assertIn("AUTH: 235", printed.out)
        self.assertNotIn("secret", printed.out + printed.err)

    async def test_a_login_that_fails(self) -> None:
        await self.serve(AUTH="535 5.7.8 no")
        printed = await self.send("ann@example.com", "--user", "ann", stdin=io.StringIO("secret\n"))
        self.assertEqual(printed.status, 1)
        self.assertIn("AUTH: 535 5.7.8 no", printed.out)

    async def test_a_person_is_asked_for_the_password(self) -> None:
        await self.serve()
        source = io.StringIO()
        with (
            mock.patch.object(source, "isatty", return_value=True),
            mock.patch("mailsvc.cli.screen.getpass", return_value="secret") as asked,
        ):
            printed = await self.send("ann@example.com", "--user", "ann", stdin=source)
        self.assertEqual(printed.status, 0)
        asked.assert_called_once()

    async def test_no_listener_that_can_be_used(self) -> None:
        await self.serve(Listener("tcp:1", proxy=Networks([ip_network("10.0.0.0/8")])))
        printed = await self.send("ann@example.com")
        self.assertEqual(printed.status, 1)
        self.assertIn("no listener", printed.err)

    async def test_nobody_listens(self) -> None:
        await self.serve()
        self.server.bound = [Bound("127.0.0.1:1", Listener("tcp:1"))]
        printed = await self.send("ann@example.com")
        self.assertEqual(printed.status, 1)
        self.assertIn("127.0.0.1:1: ", printed.err)

    async def test_no_server(self) -> None:
        printed = await self.send("ann@example.com")
        self.assertEqual(printed.status, 1)
        self.assertIn("no server runs on the spool", printed.err)

    async def test_what_is_no_address(self) -> None:
        printed = await self.send("ann@example.com>\r\nRSET")
        self.assertEqual(printed.status, 1)
        self.assertIn("is no address", printed.err)
