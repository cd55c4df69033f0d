"""The ``mailsvc`` command beside a real server, and without one."""

from __future__ import annotations

import json
import re
import smtplib
from typing import Any

from tests.system import configurations, mails
from tests.system.authority import authority
from tests.system.harness import DEADLINE, Server, SystemTestCase, until
from tests.system.receiver import Receiver, Request

SENDER, RECIPIENT = "ann@sender.example", "bob@example.com"


class CommandTestCase(SystemTestCase):
    """A server with a configuration file that the commands are told of."""

    def command(self, name: str, *words: str, status: int | None = 0, stdin: str = "") -> str:
        config = str(self.directory / "mailsvc.toml")
        printed = self.mailsvc(name, "--config", config, *words, status=status, stdin=stdin)
        self.assertNotIn("Traceback", printed)
        return printed

    def queue(self) -> Any:  # noqa: ANN401
        return json.loads(self.command("queue", "--json"))

    def destination(self, name: str) -> Any:  # noqa: ANN401
        (found,) = (each for each in self.queue()["destinations"] if each["destination"] == name)
        return found

    def hand_in(self, server: Server, count: int = 1) -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            for _ in range(count):
                client.sendmail(SENDER, RECIPIENT, mails.simple())


class QueueTests(CommandTestCase):
    """What waits, is dead or paused, while the server runs and while it does not."""

    def setUp(self) -> None:
        super().setUp()
        self.status = 503
        self.receiver = Receiver(self.answer)
        self.addCleanup(self.receiver.close)

    def answer(self, request: Request) -> int:
        return self.status

    def webhook(self, more: str = "") -> Server:
        secret = self.write("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
        more = f'secret_file = "{secret}"\n{more}'
        return self.configured(configurations.webhook(self.directory, self.receiver.url, more))

    def test_an_outage_and_one_command_after_it(self) -> None:
        server = self.webhook("breaker = 3\nbreaker_time = '10 min'\nbreaker_longest = '1 h'")
        self.hand_in(server, 20)
        until(lambda: bool(self.destination("app")["open_until"]), "the breaker")
        state = self.destination("app")
        self.assertEqual((state["waiting"], state["dead"]), (20, 0))
        self.assertIn("left alone after", self.command("queue"))
        self.assertLessEqual(len(self.receiver.requests), 12)
        failed = {request.headers["webhook-id"] for request in self.receiver.requests}
        self.status = 204
        printed = self.command("retry", "--all", "--wait")
        self.assertIn("20 deliveries done, 0 waiting, 0 dead since", printed)
        self.assertEqual(self.queue()["messages"], 0)
        delivered = [request.headers["webhook-id"] for request in self.receiver.requests]
        self.assertEqual(len(set(delivered)), 20)
        self.assertLessEqual(failed, set(delivered[len(failed) :]))

    def test_a_dead_letter_is_looked_at_and_sent_again(self) -> None:
        self.status = 422
        server = self.webhook()
        self.hand_in(server, 2)
        until(lambda: self.destination("app")["dead"] == 2, "two dead letters")
        self.assertIn("send dead letters again: mailsvc retry --dead", self.command("queue"))
        first, second = self.queue()["entries"]
        shown = self.command("show", first["id"])
        self.assertIn("422", shown)
        self.assertIn(RECIPIENT, shown)
        self.status = 204
        self.command("retry", first["id"])
        until(lambda: self.queue()["messages"] == 1, "the first to be delivered")
        self.command("retry", second["id"], "--fresh-id")
        until(lambda: self.queue()["messages"] == 0, "the second to be delivered")
        ids = [request.headers["webhook-id"] for request in self.receiver.requests]
        self.assertEqual(ids[2], first["id"])
        self.assertNotIn(ids[3], (first["id"], second["id"]))
        self.assertTrue(ids[3].startswith(second["message_id"]))

    def test_dropping(self) -> None:
        self.status = 422
        server = self.webhook()
        self.hand_in(server)
        until(lambda: self.destination("app")["dead"] == 1, "a dead letter")
        (entry,) = self.queue()["entries"]
        self.command("drop", entry["id"], status=2)
        self.command("drop", entry["id"], "--yes")
        self.assertEqual(self.queue()["messages"], 0)
        self.command("drop", entry["id"], "--yes", status=1)

    def test_a_pause_survives_a_restart(self) -> None:
        self.status = 410
        server = self.webhook()
        self.hand_in(server)
        until(lambda: self.destination("app")["paused"] is not None, "the pause")
        server.wait_for(r"paused destination=app")
        self.hand_in(server, 2)
        server.stop()
        self.assertIn("No server runs", self.command("queue"))
        self.assertIn("mailsvc resume app", self.command("queue"))
        self.status = 204
        again = self.webhook()
        again.wait_for(r"paused destination=app until it is resumed: .*410")
        self.hand_in(again)
        state = self.destination("app")
        self.assertEqual((state["waiting"], state["delivering"]), (4, 0))
        self.assertEqual([each["attempts"] for each in self.queue()["entries"]], [0] * 4)
        self.assertIn("410", state["paused"])
        self.command("resume", "app")
        until(lambda: not self.queue()["messages"], "an empty queue")
        self.assertEqual(len(self.receiver.requests), 5)
        self.command("resume", "app", status=1)

    def test_everything_works_without_the_server_too(self) -> None:
        server = self.webhook()
        self.hand_in(server, 3)
        until(lambda: all(each["attempts"] for each in self.queue()["entries"]), "the attempts")
        server.kill()
        entries = self.queue()["entries"]
        self.assertEqual([each["state"] for each in entries], ["waiting"] * 3)
        self.command("show", entries[0]["message_id"])
        self.command("drop", entries[0]["id"], "--yes")
        self.command("retry", "--destination", "app")
        self.status = 204
        before = len(self.receiver.requests)
        self.webhook()
        requests = self.receiver.wait(before + 2)[before:]
        self.assertEqual(
            sorted(request.headers["webhook-id"] for request in requests),
            sorted(each["id"] for each in entries[1:]),
        )

    def test_a_destination_that_is_gone_is_held_in_sight(self) -> None:
        server = self.webhook()
        self.hand_in(server)
        until(lambda: all(each["attempts"] for each in self.queue()["entries"]), "the attempt")
        server.stop()
        self.configured(configurations.maildir(self.directory))
        state = self.destination("app")
        self.assertEqual((state["configured"], state["waiting"]), (False, 1))
        self.assertIn("not configured", self.command("queue"))


class SendTestTests(CommandTestCase):
    """``mailsvc send-test``."""

    def test_through_each_kind_of_listener(self) -> None:
        made = authority(self.directory / "tls")
        secure = f'[tls]\ncertificates = "{made.identity}"\n'
        for listener in (
            configurations.listener(),
            configurations.listener(tls="starttls"),
            configurations.listener(tls="implicit"),
            configurations.listener("lmtp"),
        ):
            server = self.configured(
                configurations.maildir(self.directory, listener) + ("\n" + secure)
            )
            printed = self.command("send-test", RECIPIENT)
            found = re.search(r"accepted as (\w+) and delivered", printed)
            assert found is not None, printed
            server.wait_for(f"delivered {found[1]}-1 ")
            server.stop()
        self.assertEqual(len(self.in_maildir(4)), 4)

    def test_with_a_login(self) -> None:
        made = authority(self.directory / "tls")
        text = configurations.maildir(
            self.directory, configurations.listener("submission", "starttls")
        )
        text += f'\n[tls]\ncertificates = "{made.identity}"\n'
        text += f'\n[auth]\nusers = "{self.directory}/users"\niterations = 4096\n'
        self.write("mailsvc.toml", text)
        self.command("passwd", "add", "ann", stdin="open sesame 7\nopen sesame 7\n")
        self.assertEqual(self.command("passwd", "list"), "ann\n")
        self.configured(text)
        self.command("send-test", RECIPIENT, status=1)
        printed = self.command("send-test", RECIPIENT, "--user", "ann", stdin="wrong 1\n", status=1)
        self.assertIn("535", printed)
        printed = self.command("send-test", RECIPIENT, "--user", "ann", stdin="open sesame 7\n")
        self.assertIn("and delivered", printed)
        self.assertNotIn("sesame", printed)

    def test_what_is_refused(self) -> None:
        self.configured(configurations.maildir(self.directory))
        printed = self.command("send-test", "bob@elsewhere.example", status=1)
        self.assertIn("550 5.7.1", printed)
        self.assertIn("is refused", self.command("route", "bob@elsewhere.example", status=1))
        self.assertIn("archive (maildir)", self.command("route", RECIPIENT))
        spool = str(self.directory / "spool")
        self.assertIn("archive (maildir)", self.mailsvc("route", RECIPIENT, "--spool", spool))
