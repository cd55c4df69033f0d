"""A service that is started as root: low ports, another user, files for nobody else."""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from tests.system import mails
from tests.system.harness import DEADLINE, SystemTestCase, until

FIRST = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def low_port() -> int:
    """Return a port that only root may bind, and that nobody has."""
    for port in range(1023, 600, -1):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no low port is free")


class PrivilegeTests(SystemTestCase):
    """Requirement 46."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0 or int(FIRST.read_text()) < 1024:
            pytest.skip("needs root, and ports that only root may bind")
        # Where nobody may go: the test's own directory is root's.
        self.home = Path(tempfile.mkdtemp(prefix="mailsvc-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.nobody = pwd.getpwnam("nobody")
        os.chown(self.home, self.nobody.pw_uid, self.nobody.pw_gid)

    def test_bound_as_root_and_run_as_another(self) -> None:
        port = low_port()
        server = self.server(
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
            *("--spool", f"{self.home}/spool", "--maildir", f"{self.home}/maildir"),
        )
        server.options = ("--uid", "nobody", "--gid", "nogroup")
        before = os.umask(0)
        try:
            server.start()
        finally:
            os.umask(before)
        self.assertEqual(server.port, port)
        status = Path(f"/proc/{server.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        user, group = self.nobody.pw_uid, self.nobody.pw_gid
        self.assertEqual(fields["Uid"].split(), [str(user)] * 4)
        self.assertEqual(fields["Gid"].split(), [str(group)] * 4)
        self.assertEqual(fields["Umask"], "0077")
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE) as client:
            client.sendmail("ann@sender.example", "bob@example.com", mails.simple())
        new = self.home / "maildir" / "new"
        until(lambda: new.is_dir() and bool(list(new.iterdir())), "the mail")
        seen = 0
        for place in (self.home / "spool", self.home / "maildir"):
            for path in (place, *place.rglob("*")):
                found = path.lstat()
                self.assertEqual((found.st_uid, found.st_gid), (user, group), path)
                self.assertEqual(stat.S_IMODE(found.st_mode) & 0o077, 0, path)
                seen += 1
        self.assertGreater(seen, 6)
