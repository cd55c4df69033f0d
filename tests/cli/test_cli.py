from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsvc import passwords
from mailsvc.cli.command import compiled
from mailsvc.cli.screen import Screen, ago, octets
from mailsvc.control.server import Control
from mailsvc.dispatch import QueueState
from mailsvc.smtp import session
from mailsvc.spool.view import QueueEntry
from tests.cli.commands import Printed, Terminal, command
from tests.control.fakes import MESSAGE, Server, entry


class ServedTestCase(TestCase):
    """Commands beside a server that runs."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)

    async def serve(self, *entries: QueueEntry) -> Server:
        server = Server(reactor, self.directory, *entries)
        control = Control(server)
        await control.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(control.stop()))
        return server

    async def run_command(self, *words: str, **streams: TextIO | None) -> Printed:
        return await deferToThread(command, *words, "--spool", self.directory, **streams)


class LookingTests(ServedTestCase):
    async def test_queue(self) -> None:
        server = await self.serve(entry(1), entry(2, "dead"), entry(3, "delivering", "gone"))
        server.spool.paused["archive"] = "410 Gone"
        printed = await self.run_command("queue")
        self.assertEqual((printed.status, printed.err), (0, ""))
        lines = printed.out.splitlines()
        head = lines[0].split()
        self.assertEqual(head[:4], ["DESTINATION", "WAITING", "DELIVERING", "DEAD"])
        self.assertEqual(lines[1].split()[:4], ["app", "1", "0", "1"])
        self.assertIn("left alone after 12 failures in a row", lines[1])
        self.assertIn("paused: 410 Gone (mailsvc resume archive)", lines[2])
        self.assertIn("not configured: its mail is kept", lines[3])
        self.assertIn("3 messages in the spool, 4.0 KiB of 1.0 GiB", lines[4])
        self.assertIn(f"{MESSAGE}-2", printed.out)
        self.assertIn("503 Service\\nUnavailable", printed.out)
        self.assertNotIn("\x1b", printed.out)

    async def test_columns_are_aligned(self) -> None:
        await self.serve(entry(1), entry(2, "dead", "a-long-name"))
        printed = await self.run_command("queue")
        lines = printed.out.splitlines()
        place = lines[0].index("STATE")
        self.assertTrue(all(line[place - 1] == " " for line in lines[1:4]), lines)

    async def test_queue_of_one_destination_and_state(self) -> None:
        await self.serve(entry(1), entry(2, "dead"), entry(3, "dead", "archive"))
        printed = await self.run_command("queue", "--destination", "app", "--state", "dead")
        self.assertIn(f"{MESSAGE}-2", printed.out)
        self.assertNotIn(f"{MESSAGE}-1", printed.out)
        self.assertNotIn("archive", printed.out)
        self.assertNotIn("more", printed.out)
        printed = await self.run_command("queue", "--destination", "nope")
        self.assertEqual(printed.status, 1)
        self.assertIn("there is no destination 'nope'", printed.err)

    async def test_long_queues_are_cut_and_counted(self) -> None:
        await self.serve(*(entry(number) for number in range(1, 1501)))
        printed = await self.run_command("queue", "--limit", "3")
        self.assertIn("and 1497 more (--limit N)", printed.out)
        printed = await self.run_command("queue", "--limit", "1200", "--json")
        self.assertEqual(len(printed.json()["entries"]), 1200)
        printed = await self.run_command("queue", "--limit", "-1")
        self.assertEqual(printed.status, 2)

    async def test_queue_for_programs(self) -> None:
        await self.serve(entry(1), entry(2, "dead", "gone"))
        value = (await self.run_command("queue", "--json")).json()
        self.assertTrue(value["running"])
        self.assertEqual(
            [(each["destination"], each["configured"]) for each in value["destinations"]],
            [("app", True), ("archive", True), ("gone", False)],
        )
        self.assertEqual(value["destinations"][0]["open_until"], 1_000_000_060.0)
        self.assertEqual(value["entries"][1]["reason"], "503 Service\nUnavailable")

    async def test_an_empty_queue(self) -> None:
        server = await self.serve()
        server.dispatcher.known["app"] = server.dispatcher.known["archive"]
        printed = await self.run_command("queue")
        self.assertEqual(printed.status, 0)
        self.assertTrue(printed.out.splitlines()[1].endswith(" ok"), printed.out)

    async def test_a_terminal_is_not_overrun(self) -> None:
        await self.serve(entry(1, "dead"))
        with mock.patch.dict(os.environ, {"COLUMNS": "70"}):
            printed = await self.run_command("queue", stdout=Terminal())
        lines = printed.out.splitlines()
        self.assertLessEqual(max(map(len, lines)), 70)
        # Nothing is lost: what does not fit is below.
        wide = (await self.run_command("queue")).out
        self.assertEqual(printed.out.split(), wide.split())
        (number,) = [n for n, line in enumerate(lines) if line.startswith(f"{MESSAGE}-1 ")]
        self.assertTrue(lines[number + 1].startswith("    "), lines)

    async def test_a_narrow_terminal(self) -> None:
        """Even then all is there, in order."""
        await self.serve(entry(1, "dead"), entry(2))
        wide = "".join((await self.run_command("queue")).out.split())
        for columns in ("20", "33", "79", "80"):
            with mock.patch.dict(os.environ, {"COLUMNS": columns}):
                printed = await self.run_command("queue", stdout=Terminal())
            self.assertEqual("".join(printed.out.split()), wide, columns)

    async def test_show(self) -> None:
        await self.serve(entry(1), entry(2, "dead"))
        printed = await self.run_command("show", MESSAGE)
        self.assertEqual(printed.status, 0)
        for text in (MESSAGE, "192.0.2.1", "*@example.com", "segments/0000000001", "dead"):
            self.assertIn(text, printed.out)
        value = (await self.run_command("show", f"{MESSAGE}-1", "--json")).json()
        self.assertEqual(value["envelope"]["id"], MESSAGE)
        self.assertEqual(len(value["entries"]), 2)

    async def test_show_nothing(self) -> None:
        await self.serve()
        printed = await self.run_command("show", "no\x1bne")
        self.assertEqual((printed.status, printed.out), (1, ""))
        self.assertIn("no\\x1bne", printed.err)

    async def test_route(self) -> None:
        await self.serve()
        printed = await self.run_command("route", "ann@example.com")
        self.assertEqual(printed.status, 0)
        self.assertIn("delivered to app (webhook)", printed.out)
        printed = await self.run_command("route", "ann@elsewhere.example")
        self.assertEqual(printed.status, 1)
        self.assertIn("550", printed.out)

    async def test_reload(self) -> None:
        server = await self.serve()
        printed = await self.run_command("reload")
        self.assertEqual((printed.status, printed.out), (0, "reloaded\n"))
        server.problems = ("mailsvc.toml:3: hostnme: unknown key",)
        printed = await self.run_command("reload")
        self.assertEqual(printed.status, 1)
        self.assertIn("mailsvc.toml:3: hostnme", printed.out)
        self.assertIn("the old configuration stays in force", printed.out)
        value = (await self.run_command("reload", "--json")).json()
        self.assertEqual(value, {"problems": list(server.problems)})

    async def test_reload_without_a_server(self) -> None:
        printed = await self.run_command("reload")
        self.assertEqual(printed.status, 1)
        self.assertIn("no server runs", printed.err)


class ChangingTests(ServedTestCase):
    async def test_retry_named_deliveries_and_messages(self) -> None:
        server = await self.serve(entry(1), entry(2, "dead"), entry(3, "delivering"))
        printed = await self.run_command("retry", f"{MESSAGE}-2", f"{MESSAGE}-2")
        self.assertEqual((printed.status, printed.err), (0, ""))
        self.assertIn("1 delivery is due now", printed.out)
        self.assertEqual(server.spool.rows[f"{MESSAGE}-2"].state, "waiting")
        printed = await self.run_command("retry", MESSAGE, "--fresh-id")
        self.assertIn("2 deliveries are due now", printed.out)
        self.assertEqual(server.spool.calls[-1], ("retry", 2, True))
        self.assertEqual(server.dispatcher.resumed, ["app", "app"])

    async def test_what_is_due_already_is_no_failure(self) -> None:
        """A server keeps what it has just accepted in memory, and changes nothing about it."""
        server = await self.serve(replace(entry(1), due=0.0), entry(2))

        async def retry(ids: object, destination: object = None, fresh_id: bool = False) -> int:
            return 0

        with mock.patch.object(server.spool, "retry", retry):
            printed = await self.run_command("retry", f"{MESSAGE}-1")
            self.assertEqual((printed.status, printed.err), (0, ""))
            self.assertIn("1 delivery is due now", printed.out)
            self.assertEqual((await self.run_command("retry", f"{MESSAGE}-2")).status, 1)
        printed = await self.run_command("retry", "--all")
        self.assertIn("2 deliveries are due now", printed.out)
        self.assertEqual(server.spool.calls[-1], ("retry", 1, False))

    async def test_what_cannot_be_retried_is_named(self) -> None:
        await self.serve(entry(1), entry(2, "delivering"))
        printed = await self.run_command("retry", f"{MESSAGE}-1", f"{MESSAGE}-2", "x")
        self.assertEqual(printed.status, 1)
        self.assertIn(f"{MESSAGE}-2: nothing waits or is dead under this id", printed.err)
        self.assertIn("x: nothing", printed.err)
        self.assertIn("1 delivery is due now", printed.out)
        printed = await self.run_command("retry", "x", "--json")
        self.assertEqual(printed.json(), {"retried": 0, "missing": ["x"]})

    async def test_retry_all_of_a_destination_in_pieces(self) -> None:
        server = await self.serve(
            *(entry(number, "dead") for number in range(1, 1302)),
            entry(9001, "dead", "archive"),
        )
        printed = await self.run_command("retry", "--destination", "app", stderr=Terminal())
        self.assertEqual(printed.status, 0)
        self.assertIn("1301 deliveries are due now", printed.out)
        sizes = [call[1] for call in server.spool.calls if call[0] == "retry"]
        self.assertEqual(sizes, [200] * 6 + [101])
        self.assertIn("] 0/1301", printed.err)
        self.assertIn("] 1301/1301", printed.err)
        self.assertEqual(server.dispatcher.resumed, ["app"])

    async def test_no_bar_where_nobody_looks(self) -> None:
        await self.serve(entry(1, "dead"))
        printed = await self.run_command("retry", "--all")
        self.assertEqual((printed.status, printed.err), (0, ""))

    async def test_retry_only_the_dead(self) -> None:
        server = await self.serve(entry(1), entry(2, "dead"), entry(3, "dead", "archive"))
        printed = await self.run_command("retry", "--all", "--dead", "--json")
        self.assertEqual(printed.json(), {"retried": 2, "missing": []})
        self.assertEqual(server.spool.rows[f"{MESSAGE}-1"].due, 2_000_000_000.0)

    async def test_retry_of_nothing(self) -> None:
        await self.serve(entry(1, "delivering"))
        printed = await self.run_command("retry", "--all")
        self.assertEqual(printed.status, 1)
        self.assertIn("nothing waits and nothing is dead", printed.err)
        printed = await self.run_command("retry", "--destination", "nope")
        self.assertEqual(printed.status, 1)
        self.assertIn("there is no destination 'nope'; there are: ", printed.err)

    async def test_retry_says_that_a_pause_is_in_the_way(self) -> None:
        server = await self.serve(entry(1, "dead"))
        server.spool.paused["app"] = "410"
        printed = await self.run_command("retry", "--all")
        self.assertIn("mailsvc resume app", printed.out)

    async def test_retry_of_what(self) -> None:
        for words in ((), ("x", "--all"), ("x", "--dead")):
            printed = await self.run_command("retry", *words)
            self.assertEqual(printed.status, 2, words)

    async def test_drop(self) -> None:
        server = await self.serve(entry(1), entry(2, "dead"), entry(3, "dead"))
        printed = await self.run_command("drop", f"{MESSAGE}-2", "--yes")
        self.assertEqual((printed.status, printed.err), (0, ""))
        self.assertIn("1 delivery dropped", printed.out)
        self.assertEqual(list(server.spool.rows), [f"{MESSAGE}-1", f"{MESSAGE}-3"])
        printed = await self.run_command("drop", MESSAGE, "--yes")
        self.assertIn("2 deliveries dropped", printed.out)
        printed = await self.run_command("drop", MESSAGE, "--yes", "--json")
        self.assertEqual(printed.status, 1)
        self.assertEqual(printed.json(), {"dropped": 0, "missing": [MESSAGE]})

    async def test_drop_asks(self) -> None:
        server = await self.serve(entry(1), entry(2, "dead"))
        for answer, status, left in (("\n", 1, 2), ("no\n", 1, 2), ("", 1, 2), ("y\n", 0, 0)):
            printed = await self.run_command("drop", MESSAGE, stdin=Terminal(answer))
            self.assertEqual((printed.status, len(server.spool.rows)), (status, left), answer)
            self.assertIn("Remove 2 deliveries for good? [y/N]", printed.err)
            self.assertIn(f"{MESSAGE}-1", printed.out)

    async def test_drop_does_not_guess_where_nobody_is(self) -> None:
        server = await self.serve(entry(1))
        printed = await self.run_command("drop", MESSAGE)
        self.assertEqual(printed.status, 2)
        self.assertIn("--yes", printed.err)
        self.assertEqual(len(server.spool.rows), 1)

    async def test_what_is_being_delivered_is_not_dropped(self) -> None:
        await self.serve(entry(1, "delivering"))
        printed = await self.run_command("drop", MESSAGE, "--yes")
        self.assertEqual(printed.status, 1)
        self.assertIn("1 could not be dropped", printed.err)

    async def test_pause_and_resume(self) -> None:
        server = await self.serve(entry(1))
        printed = await self.run_command("pause", "app", "--reason", "we move")
        self.assertEqual(printed.status, 0)
        self.assertEqual(server.spool.paused, {"app": "we move"})
        printed = await self.run_command("resume", "app")
        self.assertEqual(printed.status, 0)
        self.assertIn("app is resumed; what waited is delivered now", printed.out)
        printed = await self.run_command("resume", "app")
        self.assertEqual((printed.status, printed.out), (1, ""))
        self.assertIn("app was not paused", printed.err)
        printed = await self.run_command("pause", "ap")
        self.assertEqual(printed.status, 1)
        self.assertIn("there is no destination 'ap'; there are: app, archive", printed.err)

    async def test_every_server_of_a_spool_hears_of_a_resumption(self) -> None:
        first, second = await self.serve(entry(1)), await self.serve(entry(1))
        first.spool.paused["app"] = "410"
        printed = await self.run_command("resume", "app")
        self.assertEqual(printed.status, 0)
        self.assertEqual((first.dispatcher.resumed, second.dispatcher.resumed), (["app"],) * 2)
        await self.run_command("retry", "--all")
        self.assertEqual((first.dispatcher.resumed, second.dispatcher.resumed), (["app"] * 2,) * 2)


class WaitTests(ServedTestCase):
    """``mailsvc retry --wait``: time passes when the command sleeps."""

    async def run_wait(self, server: Server, *steps: Callable[[], object]) -> Printed:
        waiting = list(steps)

        def sleep(seconds: float) -> None:
            self.assertTrue(waiting, "it waits on for nothing")
            waiting.pop(0)()

        with mock.patch("mailsvc.cli.follow.time.sleep", sleep):
            printed = await self.run_command("retry", "--all", "--wait", stderr=Terminal())
        self.assertEqual(waiting, [])
        return printed

    def done(self, server: Server, *numbers: int) -> Callable[[], None]:
        def work() -> None:
            for number in numbers:
                del server.spool.rows[f"{MESSAGE}-{number}"]

        return work

    async def start(self, count: int) -> Server:
        server = await self.serve(*(entry(number, "dead") for number in range(1, count + 1)))
        server.dispatcher.known = {"app": QueueState(1, 0, None, None)}
        return server

    async def test_all_get_through(self) -> None:
        server = await self.start(4)
        printed = await self.run_wait(
            server, self.done(server, 1), lambda: None, self.done(server, 2, 3, 4)
        )
        self.assertEqual(printed.status, 0)
        self.assertEqual(
            printed.out.splitlines(),
            ["4 deliveries are due now", "4 deliveries done, 0 waiting, 0 dead since"],
        )
        bar = printed.err.split("delivering", 1)[1]
        for text in ("] 0/4", "] 1/4", "] 4/4"):
            self.assertIn(text, bar)

    async def test_some_fail_again(self) -> None:
        server = await self.start(3)

        def fail() -> None:
            rows = server.spool.rows
            del rows[f"{MESSAGE}-1"]
            rows[f"{MESSAGE}-2"] = entry(2)
            rows[f"{MESSAGE}-3"] = entry(3, "dead")

        printed = await self.run_wait(server, fail)
        self.assertEqual(printed.status, 1)
        self.assertIn("1 delivery done, 1 waiting, 1 dead since", printed.out)

    async def test_the_destination_fails_still(self) -> None:
        server = await self.start(2)

        def fail() -> None:
            server.dispatcher.known["app"] = QueueState(0, 10, 2e9, None)

        printed = await self.run_wait(server, fail)
        self.assertEqual(printed.status, 1)
        self.assertIn("0 deliveries done, 2 waiting", printed.out)
        self.assertIn("app fails; it is left alone", printed.out)

    async def test_a_paused_destination_is_not_waited_for(self) -> None:
        server = await self.start(1)
        server.spool.paused["app"] = "410"
        printed = await self.run_wait(server)
        self.assertEqual(printed.status, 1)
        self.assertIn("mailsvc resume app", printed.out)

    async def test_a_destination_that_is_gone_is_not_waited_for(self) -> None:
        server = await self.start(1)
        server.dispatcher.known = {}
        printed = await self.run_wait(server)
        self.assertEqual(printed.status, 1)
        self.assertIn("app is not configured", printed.out)


class FileTestCase(SynchronousTestCase):
    """Commands about a configuration file."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "mailsvc.toml")

    def write(self, text: str) -> None:
        with open(self.path, "w") as file:
            file.write(text)

    def good(self) -> str:
        return (
            'hostname = "mx.example.com"\n'
            f'spool = "{self.directory}/spool"\n'
            '[[listener]]\nendpoint = "tcp:2525:interface=127.0.0.1"\nrole = "mx"\n'
            f'[destination.archive]\nkind = "maildir"\npath = "{self.directory}/mail"\n'
            '[[route]]\nto = "*@example.com"\ndeliver = ["archive"]\n'
        )

    def run_command(self, *words: str, **streams: TextIO) -> Printed:
        return command(*words, "--config", self.path, **streams)


class ConfigurationTests(FileTestCase):
    def test_a_good_file(self) -> None:
        self.write(self.good())
        printed = self.run_command("check")
        self.assertEqual((printed.status, printed.err), (0, ""))
        self.assertIn("good: 1 listener, 1 destination, 1 route", printed.out)

    def test_a_bad_file(self) -> None:
        self.write(self.good().replace("path =", "pth =").replace('"mx"\n', '"mxx"\n'))
        printed = self.run_command("check")
        self.assertEqual(printed.status, 1)
        self.assertIn(f"{self.path}:8: ", printed.out)
        self.assertIn(f"{self.path}:5: ", printed.out)
        value = self.run_command("check", "--json").json()
        self.assertEqual(len(value["problems"]), 2)

    def test_what_a_file_names(self) -> None:
        self.write(self.good() + '[auth]\nusers = "/nowhere/users"\n')
        printed = self.run_command("check")
        self.assertEqual(printed.status, 1)
        self.assertIn("/nowhere/users", printed.out)

    def test_no_file(self) -> None:
        printed = self.run_command("check")
        self.assertEqual(printed.status, 1)
        self.assertIn("cannot be read", printed.out)
        self.assertEqual(command("check").status, 2)

    def test_route_by_the_file(self) -> None:
        self.write(self.good())
        printed = self.run_command("route", "a@example.com")
        self.assertEqual(printed.status, 0)
        self.assertIn("delivered to archive (maildir)", printed.out)
        value = self.run_command("route", "a@elsewhere.example", "--json").json()
        self.assertFalse(value["accepted"])

    def test_route_without_file_and_server(self) -> None:
        printed = command("route", "a@example.com", "--spool", self.directory)
        self.assertEqual(printed.status, 1)
        self.assertIn("no server runs", printed.err)

    def test_where_the_spool_is(self) -> None:
        for text, problem in (
            ("spool = 7\n", "spool: must be a text"),
            ("spool = \n", "this is not TOML"),
            (f'spool = "{self.directory}/absent"\n[[broken', "this is not TOML"),
            (f'spool = "{self.directory}/absent"\n[broken]\n', "there is no spool"),
        ):
            self.write(text)
            printed = self.run_command("queue")
            self.assertEqual(printed.status, 1)
            self.assertIn(problem, printed.err)
        os.unlink(self.path)
        self.assertIn("cannot be read", self.run_command("queue").err)

    def test_the_default_spool(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        self.assertIn("./mailsvc-data: there is no spool", command("queue").err)


class PasswordTests(FileTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = os.path.join(self.directory, "users")
        self.write(self.good() + f'[auth]\nusers = "{self.users}"\niterations = 4096\n')

    def test_add_list_remove(self) -> None:
        secret = "correct horse\ncorrect horse\n"
        printed = self.run_command("passwd", "add", "ann", stdin=io.StringIO(secret))
        self.assertEqual((printed.status, printed.err), (0, ""))
        self.assertIn("ann added", printed.out)
        self.assertEqual(os.stat(self.users).st_mode & 0o777, 0o600)
        printed = self.run_command("passwd", "add", "ann", stdin=io.StringIO(secret))
        self.assertIn("ann has a new password", printed.out)
        with open(self.users) as file:
            stored = file.read()
        self.assertNotIn("correct", stored)
        self.assertIn("4096", stored)
        self.assertEqual(self.run_command("passwd", "list").out, "ann\n")
        self.assertEqual(self.run_command("passwd", "list", "--json").json(), ["ann"])
        self.assertEqual(self.run_command("passwd", "remove", "ann").status, 0)
        self.assertEqual(self.run_command("passwd", "list").out, "")
        printed = self.run_command("passwd", "remove", "ann")
        self.assertEqual(printed.status, 1)
        self.assertIn("has no user ann", printed.err)
        self.assertEqual(passwords.users(self.users), ())

    def test_an_absent_file_has_no_users(self) -> None:
        printed = self.run_command("passwd", "list")
        self.assertEqual((printed.status, printed.out), (0, ""))

    def test_two_lines_that_differ_and_one_line(self) -> None:
        for text, problem in (("a long one\nanother\n", "differ"), ("one\n", "two lines")):
            printed = self.run_command("passwd", "add", "ann", stdin=io.StringIO(text))
            self.assertEqual(printed.status, 1)
            self.assertIn(problem, printed.err)
        self.assertFalse(os.path.exists(self.users))

    def test_a_person_is_asked_twice(self) -> None:
        with mock.patch("mailsvc.cli.screen.getpass", side_effect=["secret one"] * 2) as asked:
            printed = self.run_command("passwd", "add", "ann", stdin=Terminal())
        self.assertEqual(printed.status, 0)
        self.assertEqual(asked.call_count, 2)

    def test_a_name_that_cannot_be_is_refused_before_the_password(self) -> None:
        printed = self.run_command("passwd", "add", "a:b", stdin=io.StringIO())
        self.assertEqual(printed.status, 1)
        self.assertNotIn("standard input", printed.err)

    def test_wrong_words(self) -> None:
        for words in (("add",), ("list", "ann"), ("rename", "ann")):
            self.assertEqual(self.run_command("passwd", *words).status, 2)
        self.assertEqual(command("passwd", "list").status, 2)

    def test_a_configuration_without_users(self) -> None:
        self.write(self.good())
        printed = self.run_command("passwd", "list")
        self.assertEqual(printed.status, 1)
        self.assertIn("[auth] users", printed.err)

    def test_the_usual_number_of_iterations(self) -> None:
        self.write(self.good() + f'[auth]\nusers = "{self.users}"\n')
        with mock.patch.object(passwords, "add", return_value=True) as add:
            self.run_command("passwd", "add", "ann", stdin=io.StringIO("s3cret s\ns3cret s\n"))
        add.assert_called_once_with(self.users, "ann", "s3cret s")


class EndTests(SynchronousTestCase):
    """Every end is an exit code and a line, never a traceback."""

    def test_no_command(self) -> None:
        printed = command()
        self.assertEqual(printed.status, 2)
        self.assertIn("COMMAND", printed.err)

    def test_version(self) -> None:
        printed = command("--version")
        self.assertEqual(printed.status, 0)
        self.assertRegex(printed.out, r"^mailsvc \d[0-9.]*, (not )?compiled$")

    def test_version_says_whether_the_service_is_compiled(self) -> None:
        """The file that the session runs from says which it is."""
        source = session.__file__.endswith(".py")
        self.assertEqual(", not compiled" in command("--version").out, source)
        self.assertFalse(compiled("mailsvc.cli.command"))
        self.assertTrue(compiled("msgspec._core"))

    def test_help_of_each_command(self) -> None:
        looking = ("check", "route", "send-test", "queue", "show")
        for name in (*looking, "retry", "drop", "pause", "resume", "reload", "passwd"):
            printed = command(name, "--help")
            self.assertEqual(printed.status, 0)
            self.assertIn("--config FILE", printed.out)
            self.assertIn("Exit codes", printed.out)

    def ended_by(self, error: BaseException) -> Printed:
        directory = self.mktemp()
        os.mkdir(directory)
        with mock.patch("mailsvc.cli.places.connect", side_effect=error):
            return command("queue", "--spool", directory)

    def test_interrupted(self) -> None:
        self.assertEqual(self.ended_by(KeyboardInterrupt()).status, 130)

    def test_nobody_reads_on(self) -> None:
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write("hostnme = 1\n")
        program = "import sys; from mailsvc.cli import main; sys.exit(main())"
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "wb") as closed:
            done = subprocess.run(
                [sys.executable, "-c", program, "check", "--config", path],
                stdout=closed,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
        self.assertEqual((done.returncode, done.stderr), (1, b""))

    def test_a_fault_of_ours(self) -> None:
        printed = self.ended_by(ZeroDivisionError("oops\x1b"))
        self.assertEqual(printed.status, 1)
        self.assertEqual(printed.err, "mailsvc: ZeroDivisionError: oops\\x1b\n")


class WordsTests(SynchronousTestCase):
    def test_ago(self) -> None:
        self.assertEqual(
            [ago(seconds) for seconds in (0.4, 1, 59, 60, 3600 * 5.5, 86400 * 3)],
            ["0s", "1s", "59s", "1m", "5h", "3d"],
        )

    def test_octets(self) -> None:
        self.assertEqual(
            [octets(number) for number in (0, 1023, 1024, 3 << 19, 1 << 40)],
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 TiB"],
        )

    def test_moments(self) -> None:
        screen = Screen(io.StringIO(), io.StringIO(), io.StringIO(), now=lambda: 1000.0)
        self.assertEqual(screen.since(400), "10m")
        self.assertEqual(screen.since(2000), "0s")
        self.assertEqual(screen.until(1000.5), "now")
        self.assertEqual(screen.until(1060), "in 1m")
