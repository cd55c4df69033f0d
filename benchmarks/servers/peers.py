"""The other peers: smtp-sink, and programs on aiosmtpd, Twisted, nodemailer and Haraka."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.servers.server import Server, files_below, set_aside
from benchmarks.workplace import HERE, Workplace, program

_PROGRAMS = HERE / "programs"


class SmtpSink(Server):
    """Postfix's smtp-sink: C, stores nothing."""

    key, title, durable = "smtp-sink", "smtp-sink (C, stores nothing)", False

    def commands(self) -> list[list[str]]:
        """Return its command; root has to name a user."""
        address = f"127.0.0.1:{self.port}"
        return [[program("smtp-sink"), "-u", "nobody", "-m", "2000", address, "1024"]]


class TwistedCanned(Server):
    """Twisted with canned replies: what any server on it costs at the least."""

    key, title, durable = "canned", "Twisted, canned replies, stores nothing", False

    def commands(self) -> list[list[str]]:
        """Return its command."""
        script = _PROGRAMS / "canned_server.py"
        files = [str(each) for each in self.workplace.certificate()]
        return [[sys.executable, str(script), str(self.port), *files]]


class TwistedGrouping(Server):
    """The same, but that it keeps contents and rows: what any durable server costs at the least."""

    key, title, durable = "grouping", "Twisted, canned replies, stores in groups", True

    def __init__(self, workplace: Workplace) -> None:
        super().__init__(workplace)
        self._before = 0

    def commands(self) -> list[list[str]]:
        """Return its command."""
        script = _PROGRAMS / "grouping_server.py"
        return [[sys.executable, str(script), str(self.port), str(self.directory)]]

    def counted(self) -> int:
        """Count the rows."""
        return self._rows() - self._before

    def clear(self) -> None:
        """Begin to count anew."""
        self._before = self._rows()

    def _rows(self) -> int:
        with closing(sqlite3.connect(self.directory / "rows.db")) as rows:
            count: int = rows.execute("SELECT count(*) FROM messages").fetchone()[0]
        return count


class _Files(Server):
    """A server that writes a file for each message into ``mails``, and syncs it."""

    durable = True

    @property
    def mails(self) -> Path:
        """Return the directory."""
        path = self.directory / "mails"
        path.mkdir(exist_ok=True)
        return path

    def stored(self) -> Iterator[bytes]:
        """Return the files."""
        return (path.read_bytes() for path in files_below(self.mails))

    def clear(self) -> None:
        """Remove them."""
        set_aside(self.mails)


class Aiosmtpd(_Files):
    """aiosmtpd, a file and an fsync for each message, in threads."""

    key, title = "aiosmtpd", "aiosmtpd, file + fsync"

    def commands(self) -> list[list[str]]:
        """Return its command."""
        script = _PROGRAMS / "aiosmtpd_server.py"
        return [[str(self.workplace.python), str(script), str(self.port), str(self.mails)]]


class TwistedFiles(_Files):
    """Twisted's own ESMTP, a file and an fsync for each message, in threads."""

    key, title = "twisted", "Twisted ESMTP, file + fsync"

    def commands(self) -> list[list[str]]:
        """Return its command."""
        script = _PROGRAMS / "twisted_server.py"
        return [[str(self.workplace.python), str(script), str(self.port), str(self.mails)]]


class Nodemailer(_Files):
    """nodemailer's smtp-server, a file and an fsync for each message."""

    key, title = "nodemailer", "nodemailer smtp-server, write + fsync"

    def commands(self) -> list[list[str]]:
        """Return its command."""
        script = _PROGRAMS / "nodemailer_server.js"
        return [[program("node"), str(script), str(self.port), str(self.mails)]]

    def environment(self) -> dict[str, str]:
        """Say where npm put it."""
        return {"NODE_PATH": str(self.workplace.node_modules("nodemailer"))}


class AiosmtpdPosting(Server):
    """aiosmtpd that posts each message with aiohttp and then answers 250; stores nothing."""

    key, title, durable = "aiosmtpd-http", "aiosmtpd + aiohttp, posts before 250", False
    url = ""

    def commands(self) -> list[list[str]]:
        """Return its command."""
        script = _PROGRAMS / "aiosmtpd_server.py"
        return [[str(self.workplace.python), str(script), str(self.port), self.url]]


class HarakaPosting(Server):
    """Haraka with a plugin that posts each message and then answers 250."""

    key, title, durable = "haraka-http", "Haraka + HTTP plugin, posts before 250", False
    url = ""

    def commands(self) -> list[list[str]]:
        """Write its configuration."""
        modules = self.workplace.node_modules("haraka")
        own = (modules / "Haraka" / "config" / "connection.ini").read_text()
        for name in ("config", "plugins"):
            (self.directory / name).mkdir()
        config = {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\n",
            "plugins": "post\n",
            "me": "mx.example.com\n",
            "loglevel": "WARN\n",
            "log.ini": "level=WARN\n",
            "post.json": json.dumps({"url": self.url}),
            # Without the sections of its own file it greets nobody.
            "connection.ini": own.replace("bytes=26214400", "bytes=104857600"),
        }
        for name, text in config.items():
            (self.directory / "config" / name).write_text(text)
        source = (_PROGRAMS / "haraka_post.js").read_text()
        (self.directory / "plugins" / "post.js").write_text(source)
        haraka = modules / "Haraka" / "bin" / "haraka"
        return [[program("node"), str(haraka), "-c", str(self.directory)]]
