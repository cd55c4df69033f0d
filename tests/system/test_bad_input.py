"""Bad input gets a clear answer and loses nothing."""

from __future__ import annotations

import smtplib
import socket

from tests.system import configurations, mails
from tests.system.harness import PROGRAMS, Server, SystemTestCase, maildir_files

SENDER, RECIPIENT = "ann@sender.example", "bob@example.com"


class RefusalTests(SystemTestCase):
    """What an SMTP client is told."""

    def run_with(self, limits: str = "", to: str = '"bob@example.com"') -> Server:
        return self.configured(configurations.maildir(self.directory, limits=limits, to=to))

    def client(self, server: Server) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", server.port, timeout=60)
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def refusals(self, client: smtplib.SMTP, *recipients: str) -> set[tuple[int, str]]:
        answers = set()
        for recipient in recipients:
            client.mail(SENDER)
            code, text = client.docmd("RCPT", f"TO:<{recipient}>")
            answers.add((code, text.split(b" ")[0].decode()))
            client.rset()
        return answers

    def hand_in(self, client: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
        """Return the last reply: the first refusal, or the one to the content."""
        for code, text in (
            client.mail(SENDER),
            client.rcpt(RECIPIENT),
        ):
            if code != 250:
                return code, text
        try:
            return client.data(content)
        except smtplib.SMTPDataError as error:
            words = error.smtp_error
            return error.smtp_code, words.encode() if isinstance(words, str) else words

    def test_unknown_recipient(self) -> None:
        client = self.client(self.run_with())
        self.assertEqual(self.refusals(client, "nobody@example.com"), {(550, "5.1.1")})
        client.sendmail(SENDER, RECIPIENT, mails.simple())
        self.in_maildir(1)

    def test_never_an_open_relay(self) -> None:
        """Requirement 15."""
        client = self.client(self.run_with())
        self.assertEqual(
            self.refusals(
                client,
                "bob@elsewhere.example",
                "bob%elsewhere.example@example.com",
                "elsewhere.example!bob@example.com",
                '"bob@elsewhere.example"@example.com',
                "@example.com:bob@elsewhere.example",
            ),
            {(550, "5.7.1")},
        )

    def test_announced_size_too_large(self) -> None:
        """Requirement 12."""
        client = self.client(self.run_with('message_size = "64 KiB"'))
        self.assertEqual(client.esmtp_features["size"], "65536")
        code, text = client.mail(SENDER, ["SIZE=65537"])
        self.assertEqual((code, text[:5]), (552, b"5.3.4"))

    def test_actual_size_too_large(self) -> None:
        """Requirements 5 and 12."""
        client = self.client(self.run_with('message_size = "64 KiB"'))
        client.mail(SENDER)
        client.rcpt(RECIPIENT)
        code, text = client.data(mails.large(3_000_000))
        self.assertEqual((code, text[:5]), (552, b"5.3.4"))
        client.sendmail(SENDER, RECIPIENT, mails.simple())
        (filed,) = self.in_maildir(1)
        self.assertIn(b"Subject: Hello", filed)

    def test_full_spool(self) -> None:
        """Requirements 35 and 42: 452, and what was accepted before is kept and delivered."""
        blocked = self.write("blocked", "a file where the maildir's parent should be")
        text = configurations.maildir(self.directory, limits='spool = "2 MiB"').replace(
            f"{self.directory}/maildir", f"{blocked}/maildir"
        )
        server = self.configured(text)
        client = self.client(server)
        accepted = 0
        content = mails.large(300_000)
        for _ in range(40):
            code, reason = self.hand_in(client, content)
            if code != 250:
                break
            accepted += 1
        else:
            self.fail("40 mails fit into a spool of 2 MiB")
        self.assertEqual(code, 452)
        self.assertTrue(reason.startswith(b"4.3.1"), reason)
        self.assertGreater(accepted, 0)
        blocked.unlink()
        self.mailsvc("retry", "--config", str(self.directory / "mailsvc.toml"), "--all")
        self.in_maildir(accepted, blocked / "maildir")
        # What is filed has its room until that is recorded.
        server.wait_for(r"\] delivered ", accepted)
        self.client(server).sendmail(SENDER, RECIPIENT, content)
        self.in_maildir(accepted + 1, blocked / "maildir")

    def test_disconnect_before_the_end(self) -> None:
        """Requirement 37: nothing is delivered of a message that was not finished."""
        server = self.run_with()
        with socket.create_connection(("127.0.0.1", server.port), 60) as peer:
            peer.sendall(
                b"EHLO client.example\r\nMAIL FROM:<%b>\r\nRCPT TO:<%b>\r\nDATA\r\n"
                % (SENDER.encode(), RECIPIENT.encode())
            )
            answers = peer.makefile("rb")
            while not answers.readline().startswith(b"354"):
                pass
            peer.sendall(b"Subject: half\r\n\r\nof it\r\n.")
            answers.close()
        self.client(server).sendmail(SENDER, RECIPIENT, mails.simple("whole"))
        (filed,) = self.in_maildir(1)
        self.assertIn(b"Subject: whole", filed)
        server.stop()
        self.assertEqual(len(list(maildir_files(self.directory / "maildir"))), 1)

    def test_a_browser(self) -> None:
        """Requirement 44."""
        server = self.run_with()
        with socket.create_connection(("127.0.0.1", server.port), 60) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nMAIL FROM:<a@b.example>\r\n\r\n")
            peer.settimeout(60)
            answer = b""
            while data := peer.recv(4096):
                answer += data
        self.assertTrue(answer.splitlines()[-1].startswith(b"421 "), answer)


class StartTests(SystemTestCase):
    """A start that cannot work: an exit status and an explanation, never a traceback."""

    def ended(self, spool: str) -> str:
        twistd = str(PROGRAMS / "twistd")
        listen = "tcp:0:interface=127.0.0.1"
        return self.run_program(
            *(twistd, "-n", "--pidfile=", "mailsvc", "--listen", listen, "--spool", spool), status=1
        )

    def test_a_file_where_the_spool_is_to_be(self) -> None:
        printed = self.ended(str(self.write("spool", "a file")))
        self.assertIn("cannot start: the spool", printed)
        self.assertNotIn("Traceback", printed)
        self.assertNotIn("listening on", printed)

    def test_a_spool_that_cannot_be_read(self) -> None:
        (self.directory / "spool").mkdir()
        self.write("spool/queue.db", "no database")
        printed = self.ended(str(self.directory / "spool"))
        self.assertIn("cannot start: the spool", printed)
        self.assertIn("not a database", printed)
        self.assertNotIn("Traceback", printed)


class ConfigurationTests(SystemTestCase):
    """A configuration that cannot work: an exit status and an explanation."""

    def check(self, text: str, *wanted: str) -> None:
        path = self.write("mailsvc.toml", text)
        for command in (
            [str(PROGRAMS / "mailsvc"), "check", "--config", str(path)],
            [str(PROGRAMS / "twistd"), "-n", "--pidfile=", "mailsvc", "--config", str(path)],
        ):
            printed = self.run_program(*command, status=None)
            self.assertNotIn("Traceback", printed)
            for part in (str(path), *wanted):
                self.assertIn(part, printed)
            ended = self.run_program("bash", "-c", '"$@"; echo "status $?"', "-", *command)
            self.assertNotIn("status 0\n", ended[-20:])

    def good(self) -> str:
        return configurations.maildir(self.directory)

    def line(self, text: str, beginning: str) -> int:
        return 1 + [line.startswith(beginning) for line in text.splitlines()].index(True)

    def test_a_misspelt_key(self) -> None:
        text = self.good().replace("hostname =", "hostnme =")
        self.check(text, ":1:", "hostnme", "did you mean", "hostname")

    def test_a_misspelt_kind(self) -> None:
        text = self.good().replace('"maildir"', '"maildri"')
        self.check(text, f":{self.line(text, 'kind')}:", "maildri", "maildir", "archive")

    def test_a_dangling_destination(self) -> None:
        text = self.good().replace('deliver = ["archive"]', 'deliver = ["archiv"]')
        self.check(text, f":{self.line(text, 'deliver')}:", "archiv", "archive")

    def test_not_toml(self) -> None:
        self.check(self.good() + "\n[limits\n", ":")

    def test_every_section_is_reported(self) -> None:
        text = self.good().replace('role = "mx"', 'role = "mxx"').replace("path =", "pth =")
        self.check(text, "mxx", "pth")

    def test_no_such_file(self) -> None:
        path = self.directory / "absent.toml"
        printed = self.run_program(
            str(PROGRAMS / "mailsvc"), "check", "--config", str(path), status=1
        )
        self.assertIn(str(path), printed)
        self.assertNotIn("Traceback", printed)

    def test_a_good_one(self) -> None:
        path = self.write("mailsvc.toml", self.good())
        self.mailsvc("check", "--config", str(path))

    def test_a_port_in_use(self) -> None:
        first = self.quick()
        second = self.server(
            "--listen", f"tcp:{first.port}:interface=127.0.0.1", "--spool", "other"
        ).launch()
        self.assertNotEqual(second.join(), 0)
        self.assertIn(str(first.port), second.output)
        self.assertNotIn("Traceback", second.output)
