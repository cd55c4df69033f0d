"""The examples of the pages run, as they stand in their files."""

from __future__ import annotations

import re
import smtplib
import socket
import subprocess
import sys
import threading

from tests.floors import ROOT
from tests.system import mails
from tests.system.harness import DEADLINE, SystemTestCase, until

EXAMPLES = ROOT / "docs" / "examples"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Say whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ReceiverTests(SystemTestCase):
    """``docs/examples/receiver.py``, the first one in the README."""

    def test_it_prints_what_comes(self) -> None:
        port = free_port()
        source = (EXAMPLES / "receiver.py").read_text("utf-8")
        self.assertEqual(source.count("3000"), 1)
        program = self.write("receiver.py", source.replace("3000", str(port)))
        server = self.quick("--webhook", f"http://127.0.0.1:{port}/inbound")
        secret = re.search(r"whsec_[A-Za-z0-9+/=]+", server.wait_for("whsec_")[0])
        assert secret is not None
        receiver = subprocess.Popen(
            [sys.executable, str(program), secret[0]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(receiver.wait)
        self.addCleanup(receiver.kill)
        watchdog = threading.Timer(DEADLINE, receiver.kill)
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        until(lambda: answers(port), "the receiver to listen")
        with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as client:
            client.sendmail("a@sender.example", "b@example.com", mails.simple("A first mail"))
        assert receiver.stdout is not None
        with receiver.stdout as printed:
            self.assertEqual(printed.readline(), "A first mail\n")
            # Its own log goes there, too, before it has answered: it must not find the pipe closed.
            server.wait_for("delivered ")
