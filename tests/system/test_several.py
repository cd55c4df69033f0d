"""Several processes on one spool and one port, as systemd starts them."""

from __future__ import annotations

import signal
import smtplib
import socket
import sys
import threading

from tests.system import configurations
from tests.system.harness import DEADLINE, Server, SystemTestCase, maildir_files, until
from tests.system.test_kill import SIZES, TOKEN, numbered

#: Hands a listening socket over as systemd does (sd_listen_fds(3)), then becomes the service.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="smtp")
os.execv(sys.argv[2], sys.argv[2:])
"""

#: Sessions with each process, and the mails of each.
SESSIONS = 3
MAILS = 25


class SeveralTests(SystemTestCase):
    """Requirements 36 and 40: what one of several processes accepted outlives it."""

    def setUp(self) -> None:
        super().setUp()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.port: int = self.listening.getsockname()[1]
        listener = '[[listener]]\nendpoint = "systemd:domain=INET:name=smtp"\nrole = "mx"\n'
        self.write("mailsvc.toml", configurations.maildir(self.directory, listener))
        self.sent: dict[str, bytes] = {}
        self.accepted: set[str] = set()
        self.refused: list[str] = []
        self.news = threading.Condition()

    def process(self) -> Server:
        """Return one more process that is not started yet."""
        server = self.server("--config", str(self.directory / "mailsvc.toml"))
        server.descriptors = (self.listening.fileno(),)
        return server

    def activate(self, server: Server) -> Server:
        """Start a process on the shared socket."""
        prefix = (sys.executable, "-c", ACTIVATE, str(self.listening.fileno()))
        return server.start(prefix=prefix)

    def connect(self, other: Server) -> list[smtplib.SMTP]:
        """Open sessions that ``other`` does not get."""
        other.signal(signal.SIGSTOP)
        try:
            return [smtplib.SMTP("127.0.0.1", self.port, timeout=DEADLINE) for _ in range(SESSIONS)]
        finally:
            other.signal(signal.SIGCONT)

    def send(self, client: smtplib.SMTP, session: int) -> None:
        """Send mails until all are sent or the process is gone."""
        try:
            for number in range(MAILS):
                token = f"r0-s{session}-n{number}"
                mail = numbered(token, SIZES[(session + number) % len(SIZES)])
                with self.news:
                    self.sent[token] = mail
                client.sendmail("ann@sender.example", "bob@example.com", mail)
                with self.news:
                    self.accepted.add(token)
                    self.news.notify_all()
            client.quit()
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            pass
        except smtplib.SMTPException as error:
            self.refused.append(str(error))

    def by_session(self, session: int) -> int:
        """Return how many mails of a session were accepted."""
        return sum(f"-s{session}-" in token for token in self.accepted)

    def arrived(self) -> list[str]:
        """Return the tokens of what was filed, each of them whole."""
        tokens = []
        for path in maildir_files(self.directory / "maildir"):
            content = path.read_bytes()
            found = TOKEN.search(content)
            assert found is not None, f"{path} holds no mail: {content[:300]!r}"
            tokens.append(found[1].decode())
            sent = self.sent[tokens[-1]].replace(b"\r\n", b"\n")
            assert content.endswith(b"\n" + sent), f"{tokens[-1]} is not what was sent"
        return tokens

    def test_one_of_two_is_killed(self) -> None:
        first, second = self.activate(self.process()), self.activate(self.process())
        clients = [*self.connect(second), *self.connect(first)]
        threads = [
            threading.Thread(target=self.send, args=(client, session))
            for session, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        with self.news:
            came = self.news.wait_for(lambda: self.by_session(0) >= 5, DEADLINE)
        first.kill()
        for thread in threads:
            thread.join()
        self.assertTrue(came, first.output)
        self.assertEqual(self.refused, [])
        # The other one went on as if nothing had happened.
        for session in range(SESSIONS, 2 * SESSIONS):
            self.assertEqual(self.by_session(session), MAILS, second.output)
        # As systemd does; what waited in the first one's hands is taken over.
        self.activate(first)
        until(lambda: self.accepted <= set(self.arrived()), "every accepted mail to be delivered")
        for server in (first, second):
            server.stop()
        tokens = self.arrived()
        self.assertEqual(len(tokens), len(set(tokens)), "a mail was filed twice")
