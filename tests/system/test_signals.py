"""SIGHUP and SIGTERM, and what a restart finds."""

from __future__ import annotations

import signal
import smtplib
import socket
import ssl

from tests.system import configurations, mails
from tests.system.authority import Authority, authority
from tests.system.harness import DEADLINE, Server, SystemTestCase, maildir_files
from tests.system.receiver import Receiver

SENDER, RECIPIENT = "ann@sender.example", "bob@example.com"


class ReloadTests(SystemTestCase):
    """SIGHUP changes everything or nothing, and drops no connection."""

    def client(self, server: Server) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def accepts(self, server: Server, recipient: str) -> bool:
        client = self.client(server)
        client.mail(SENDER)
        return client.rcpt(recipient)[0] == 250

    def reload(self, server: Server, text: str, answer: str) -> None:
        self.write("mailsvc.toml", text)
        before = len(server.lines)
        server.signal(signal.SIGHUP)
        server.wait_for(answer, since=before)

    def test_a_new_route_and_an_open_connection(self) -> None:
        text = configurations.maildir(self.directory, to='"bob@example.com"')
        server = self.configured(text)
        self.assertFalse(self.accepts(server, "new@example.com"))
        open_one = self.client(server)
        open_one.mail(SENDER)
        open_one.rcpt(RECIPIENT)
        self.reload(
            server,
            configurations.maildir(self.directory, to='"bob@example.com", "new@example.com"'),
            r"\breloaded\b",
        )
        self.assertTrue(self.accepts(server, "new@example.com"))
        self.assertEqual(open_one.data(mails.simple())[0], 250)
        self.in_maildir(1)
        self.assertEqual(open_one.quit()[0], 221)

    def test_a_bad_one_changes_nothing(self) -> None:
        text = configurations.maildir(self.directory, to='"bob@example.com"')
        server = self.configured(text)
        open_one = self.client(server)
        bad = configurations.maildir(self.directory, to='"new@example.com"') + "\n[limts]\n"
        self.reload(server, bad, r"not reloaded: .*mailsvc\.toml:\d+: .*limts.*limits")
        self.assertNotIn("Traceback", server.output)
        self.assertTrue(self.accepts(server, "bob@example.com"))
        self.assertFalse(self.accepts(server, "new@example.com"))
        open_one.sendmail(SENDER, RECIPIENT, mails.simple())
        self.in_maildir(1)

    def test_connections_to_a_webhook_are_not_left_open(self) -> None:
        receiver = Receiver()
        self.addCleanup(receiver.close)
        text = configurations.webhook(self.directory, receiver.url)
        server = self.configured(text)
        self.client(server).sendmail(SENDER, RECIPIENT, mails.simple())
        receiver.wait(1)
        server.wait_for("delivered")
        self.assertEqual(receiver.open, 1)
        self.reload(server, text, r"\breloaded\b")
        receiver.wait_for_open(0)
        self.client(server).sendmail(SENDER, RECIPIENT, mails.simple())
        receiver.wait(2)

    def test_what_needs_a_restart_is_said(self) -> None:
        server = self.configured(configurations.maildir(self.directory))
        changed = configurations.maildir(self.directory, limits='parse_memory = "64 MiB"')
        changed = changed.replace("/spool", "/other") + "\n[auth]\nthreads = 1\n"
        before = len(server.lines)
        self.reload(server, changed, r"\breloaded\b")
        for key in ("the spool directory", r"\[auth\] threads", r"\[limits\] parse_memory"):
            server.wait_for(f"{key} changes only with a restart", since=before)
        self.assertTrue(self.accepts(server, RECIPIENT))

    def test_listeners_come_and_go(self) -> None:
        text = configurations.maildir(self.directory)
        server = self.configured(text)
        old = server.port
        more = configurations.maildir(
            self.directory,
            configurations.listener(),
            configurations.listener("submission").replace("interface", "backlog=51:interface"),
        )
        more += '\n[auth]\ncheckers = ["memory:alice:secret"]\ncleartext = true\n'
        before = len(server.addresses())
        self.reload(server, more, r"\breloaded\b")
        server.wait(lambda: len(server.addresses()) >= before + 2, "two listeners")
        same, new = server.ports()[before:]
        self.assertEqual(same, old)
        with smtplib.SMTP("127.0.0.1", new, timeout=DEADLINE) as client:
            client.login("alice", "secret")
            client.sendmail(SENDER, RECIPIENT, mails.simple())
        self.in_maildir(1)
        self.reload(server, text, r"\breloaded\b")
        self.assertTrue(self.accepts(server, RECIPIENT))
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", new)), 0)

    def test_a_listener_that_cannot_be_had_changes_nothing(self) -> None:
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = taken.getsockname()[1]
        text = configurations.maildir(self.directory, to='"bob@example.com"')
        server = self.configured(text)
        other = configurations.maildir(
            self.directory,
            configurations.listener(),
            configurations.listener().replace("tcp:0", f"tcp:{port}"),
            to='"new@example.com"',
        )
        self.reload(server, other, rf"not reloaded: .*{port}")
        self.assertTrue(self.accepts(server, "bob@example.com"))
        self.assertFalse(self.accepts(server, "new@example.com"))

    def serial(self, server: Server, made: Authority) -> bytes:
        """Return the certificate that the server shows."""
        context = ssl.create_default_context(cafile=str(made.trust))
        with smtplib.SMTP("localhost", server.port, timeout=DEADLINE) as client:
            client.starttls(context=context)
            assert isinstance(client.sock, ssl.SSLSocket)
            shown = client.sock.getpeercert(binary_form=True)
            assert shown is not None
            return shown

    def test_a_new_certificate(self) -> None:
        made = authority(self.directory / "tls")
        text = configurations.maildir(self.directory, configurations.listener(tls="starttls"))
        text += f'\n[tls]\ncertificates = "{made.identity}"\n'
        server = self.configured(text)
        first = self.serial(server, made)
        renewed = authority(self.directory / "tls")
        self.reload(server, text, r"\breloaded\b")
        self.assertNotEqual(self.serial(server, renewed), first)
        renewed.identity.write_text("nothing of use")
        self.reload(server, text, r"not reloaded: .*localhost\.pem")
        self.assertNotEqual(self.serial(server, renewed), first)


class StopTests(SystemTestCase):
    """SIGTERM ends in good order."""

    def test_a_message_in_flight_is_finished(self) -> None:
        server = self.quick()
        client = smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE)
        self.addCleanup(client.close)
        client.ehlo()
        client.mail(SENDER)
        client.rcpt(RECIPIENT)
        self.assertEqual(client.docmd("DATA")[0], 354)
        client.send(b"Subject: in flight\r\n\r\nfirst half\r\n")
        idle = smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE)
        self.addCleanup(idle.close)
        server.signal(signal.SIGTERM)
        # The idle connection is told, so from here on the service is stopping.
        self.assertEqual(idle.getreply()[0], 421)
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", server.port)), 0)
        client.send(b"second half\r\n.\r\n")
        self.assertEqual(client.getreply()[0], 250)
        server.has_stopped()
        if not list(maildir_files(self.directory / "maildir")):
            server.start()
        (filed,) = self.in_maildir(1)
        self.assertIn(b"first half\nsecond half\n", filed)

    def test_what_waits_is_delivered_after_a_restart(self) -> None:
        receiver = Receiver(lambda request: 500)
        self.addCleanup(receiver.close)
        text = configurations.webhook(
            self.directory, receiver.url, 'schedule = ["1 s", "1 s", "1 s", "1 s", "1 s", "1 s"]'
        )
        server = self.configured(text)
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            client.sendmail(SENDER, RECIPIENT, mails.simple())
        (first,) = receiver.wait(1)[:1]
        server.wait_for("deferred ")
        server.stop()
        receiver.answer = lambda request: 204
        seen = len(receiver.requests)
        server.start()
        again = receiver.wait(seen + 1)[seen]
        self.assertEqual(again.headers["webhook-id"], first.headers["webhook-id"])
        server.wait_for("delivered ")
